//! What a store on PostgreSQL does by itself.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contract::store::Commit;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::Error;
use super::{Inner, clock, jobs, outbox};

/// How often a node looks whether another one has changed what it must know, and left events.
const LOOK: Duration = Duration::from_millis(250);
/// How often while events are not settled.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// How often positions are stored and the outbox is tidied.
const TIDY: Duration = Duration::from_secs(2);

/// How long it may take.
const LONGEST_TIDY: Duration = Duration::from_secs(60);

/// The tasks of a store. They end with it.
pub(super) struct Tasks {
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Tasks {
    pub(super) fn start(inner: &Arc<Inner>) -> Tasks {
        let (stop, stopped) = watch::channel(false);
        let tasks = vec![
            tokio::spawn(until(stopped.clone(), follow_events(inner.clone()))),
            tokio::spawn(until(stopped.clone(), follow_versions(inner.clone()))),
            tokio::spawn(until(stopped, tidy(inner.clone()))),
        ];
        Tasks { stop, tasks: Mutex::new(tasks) }
    }

    pub(super) async fn stop(&self) {
        let _ = self.stop.send(true);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            let _ = task.await;
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

async fn until(mut stopped: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        _ = stopped.wait_for(|is_stopped| *is_stopped) => {}
    }
}

/// Tells observers of events when they are settled, those of other nodes too.
async fn follow_events(inner: Arc<Inner>) {
    let mut told = 0;
    let (mut pause, mut again) = (LOOK, LOOK_AGAIN);
    loop {
        let _ = tokio::time::timeout(pause, inner.event_left.notified()).await;
        pause = LOOK;
        if inner.shared.known.load().consumers.is_empty() {
            continue;
        }
        let settled = match settled(&inner).await {
            Ok(settled) => settled,
            Err(error) => {
                tracing::debug!(%error, "the events could not be looked at");
                continue;
            }
        };
        // What this node has left itself was told with its commit, if it was settled when somebody looked.
        let own = inner.newest_own_event.load(Ordering::Relaxed);
        let is_news = settled.through > outbox::end_of_batch(own).max(told);
        let was_held_up = !settled.is_behind && inner.has_held_up.swap(false, Ordering::Relaxed);
        if is_news || was_held_up {
            told = settled.through;
            inner.shared.tell(&Commit { newest_event: Some(told.unsigned_abs()), ..Commit::default() });
        }
        // A transaction that stays open, of whatever database of the server, is looked at less and less often.
        again = if settled.is_behind { (again * 2).min(LOOK) } else { LOOK_AGAIN };
        if settled.is_behind {
            pause = again;
        }
    }
}

struct Settled {
    through: i64,
    is_behind: bool,
}

async fn settled(inner: &Inner) -> Result<Settled, Error> {
    let lease = inner.pools.lease().await?;
    let session = lease.session().clone();
    let mut horizon = inner.horizon.lock().await;
    let looked = tokio::time::timeout(inner.options.read_deadline, horizon.advance(&session)).await;
    let through = looked.map_err(|_| Error::NoConnection("it did not answer".to_owned()))??;
    lease.finish();
    Ok(Settled { through, is_behind: horizon.is_behind() })
}

/// Learns of what other nodes have changed.
async fn follow_versions(inner: Arc<Inner>) {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Err(error) = look_for_versions(&inner).await {
            tracing::debug!(%error, "the versions could not be looked at");
        }
    }
}

async fn look_for_versions(inner: &Inner) -> Result<(), contract::store::StoreError> {
    let sql = super::sql::Sql::new("SELECT schema, settings, consumers FROM _gs_versions");
    let outcome = inner.run(sql).await?;
    let Some(row) = outcome.rows.first() else { return Ok(()) };
    let found = super::shared::Versions::of_row(row).map_err(Error::into_store_error)?;
    if found != inner.shared.known.load().versions { inner.refresh().await } else { Ok(()) }
}

async fn tidy(inner: Arc<Inner>) {
    loop {
        tokio::time::sleep(TIDY).await;
        inner.store_positions().await;
        match tokio::time::timeout(LONGEST_TIDY, tidy_once(&inner)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the outbox could not be tidied"),
            Err(_) => tracing::warn!("the outbox could not be tidied in time"),
        }
    }
}

async fn tidy_once(inner: &Inner) -> Result<(), Error> {
    let lease = inner.pools.lease().await?;
    let session = lease.session().clone();
    let cut = outbox::tidy(&session, inner.options.outbox, clock()).await?;
    let jobs = session.run(&jobs::count()).await?;
    lease.finish();
    if let Some(row) = jobs.rows.first() {
        inner.shared.jobs.store(row.try_get::<_, i64>(0)?.unsigned_abs(), Ordering::Relaxed);
    }
    if let Some(through) = cut {
        tracing::warn!(through, "events were cut off that a consumer had not seen");
    }
    Ok(())
}
