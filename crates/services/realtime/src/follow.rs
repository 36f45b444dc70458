//! The task that takes change events from the broker and has them sent. It follows only while somebody wants
//! events: without a consumer none are written.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use contract::broker::{Broker, Subscription};
use contract::event::{ChangeEvent, Events, Interest};
use contract::store::StoreError;
use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::{error, warn};

use crate::dispatch::Dispatcher;
use crate::realtime::Shared;
use crate::resume::Resume;

/// The consumer's name at the broker.
const CONSUMER: &str = "realtime";

/// How long the broker may take to open or close a subscription.
const BROKER_DEADLINE: Duration = Duration::from_secs(5);

/// Events after which the broker is told how far we are; otherwise once a second. It is for the room that it
/// keeps: after a restart nothing is sent again.
const EVENTS_PER_ACKNOWLEDGEMENT: usize = 2_000;

/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_millis(500);

/// Why deliveries ended.
enum End {
    Draining,
    Unwanted,
    Failed(StoreError),
}

/// How far the events of a subscription are sent.
#[derive(Default)]
struct Progress {
    sent: u64,
    /// The batch of the last event.
    batch: u64,
    unacknowledged: usize,
}

/// The task's life: until the process is asked to stop. A panic costs the streams, not the service.
pub(crate) async fn run(shared: Arc<Shared>, broker: Arc<dyn Broker>, mut resumes: mpsc::Receiver<Resume>) {
    while AssertUnwindSafe(follow(&shared, &*broker, &mut resumes)).catch_unwind().await.is_err() {
        error!("realtime clients connect again after a panic");
        shared.follows.send_replace(false);
        shared.end(&shared.hub.seats_of_followers());
        sleep(PAUSE).await;
    }
}

/// Follows events whenever somebody wants them.
async fn follow(shared: &Arc<Shared>, broker: &dyn Broker, resumes: &mut mpsc::Receiver<Resume>) {
    let mut dispatcher = Dispatcher::new(shared.clone());
    // A process that was killed has left its consumer behind.
    forget(broker).await;
    while wait_until_wanted(shared).await {
        let mut progress = Progress::default();
        dispatcher.begin();
        loop {
            let end = match subscribe(broker).await {
                Ok(mut subscription) => {
                    shared.follows.send_replace(true);
                    take(shared, &mut dispatcher, &mut *subscription, &mut progress, resumes).await
                }
                Err(error) => End::Failed(error),
            };
            let End::Failed(error) = end else { break };
            warn!(%error, "change events are not followed for a moment");
            tokio::select! {
                () = shared.draining.cancelled() => break,
                () = sleep(PAUSE) => {}
            }
            if !*shared.follows.borrow() && !shared.hub.is_wanted(Duration::ZERO) {
                break;
            }
        }
        shared.follows.send_replace(false);
        forget(broker).await;
    }
}

/// Whether somebody wants events; otherwise the process is to stop.
async fn wait_until_wanted(shared: &Shared) -> bool {
    loop {
        if shared.draining.is_cancelled() {
            return false;
        }
        if shared.hub.is_wanted(Duration::ZERO) {
            return true;
        }
        tokio::select! {
            () = shared.draining.cancelled() => return false,
            () = shared.wanted.notified() => {}
        }
    }
}

async fn subscribe(broker: &dyn Broker) -> Result<Box<dyn Subscription>, StoreError> {
    timeout(BROKER_DEADLINE, broker.subscribe(CONSUMER.to_owned(), Interest::All))
        .await
        .unwrap_or(Err(StoreError::Deadline(BROKER_DEADLINE)))
}

async fn forget(broker: &dyn Broker) {
    match timeout(BROKER_DEADLINE, broker.unsubscribe(CONSUMER.to_owned())).await {
        Ok(Ok(())) | Ok(Err(StoreError::Closed)) => {}
        Ok(Err(error)) => warn!(%error, "change events are still kept for nobody"),
        Err(_) => warn!("the broker did not forget a consumer in time"),
    }
}

/// Sends what comes until nobody wants it.
async fn take(
    shared: &Shared,
    dispatcher: &mut Dispatcher,
    subscription: &mut dyn Subscription,
    progress: &mut Progress,
    resumes: &mut mpsc::Receiver<Resume>,
) -> End {
    let mut ticks =
        interval(shared.options.times.linger.clamp(Duration::from_millis(10), Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Each has its turn: neither events nor those who ask for older ones can hold up the other.
        tokio::select! {
            () = shared.draining.cancelled() => return End::Draining,
            _ = ticks.tick() => {
                if let Err(error) = progress.acknowledge(subscription).await {
                    return End::Failed(error);
                }
                let stop = || { shared.follows.send_replace(false); };
                if shared.hub.stop_unless_wanted(shared.options.times.linger, stop) {
                    return End::Unwanted;
                }
            }
            Some(resume) = resumes.recv() => dispatcher.resume(resume).await,
            events = subscription.next() => match events {
                Ok(Events::Some(events)) => {
                    send(dispatcher, events, progress).await;
                    if progress.unacknowledged >= EVENTS_PER_ACKNOWLEDGEMENT
                        && let Err(error) = progress.acknowledge(subscription).await
                    {
                        return End::Failed(error);
                    }
                }
                Ok(Events::Resync { from }) => {
                    error!(from, "change events were lost: all realtime clients connect again");
                    dispatcher.lost_events();
                    *progress = Progress { sent: from, unacknowledged: 1, ..Progress::default() };
                    if let Err(error) = progress.acknowledge(subscription).await {
                        return End::Failed(error);
                    }
                }
                Err(error) => return End::Failed(error),
            },
        }
    }
}

async fn send(dispatcher: &mut Dispatcher, events: Vec<ChangeEvent>, progress: &mut Progress) {
    let started = Instant::now();
    let count = events.len();
    let batches: Vec<u64> = events.iter().map(|event| event.batch).collect();
    for (position, event) in events.into_iter().enumerate() {
        let is_next = |other: Option<&u64>| other == Some(&event.batch);
        let is_alone = progress.batch != event.batch && !is_next(batches.get(position + 1));
        progress.batch = event.batch;
        // What was sent, and not acknowledged before a failure, comes again.
        if event.sequence > progress.sent {
            progress.sent = event.sequence;
            progress.unacknowledged += 1;
            dispatcher.event(&Arc::new(event), is_alone).await;
        }
    }
    dispatcher.flush().await;
    tracing::trace!(count, elapsed = ?started.elapsed(), "sent change events");
}

// === impl Progress ===

impl Progress {
    async fn acknowledge(&mut self, subscription: &mut dyn Subscription) -> Result<(), StoreError> {
        if self.unacknowledged == 0 {
            return Ok(());
        }
        timeout(BROKER_DEADLINE, subscription.acknowledge(self.sent))
            .await
            .unwrap_or(Err(StoreError::Deadline(BROKER_DEADLINE)))?;
        self.unacknowledged = 0;
        Ok(())
    }
}
