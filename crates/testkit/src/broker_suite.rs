//! What every adapter of the broker must do: [`contract::broker::Broker`] as cases whose names are the
//! claims. [`broker_suite!`](crate::broker_suite) makes a test of each, on one adapter.

#![allow(missing_docs, reason = "the names of the cases are the claims")]
#![allow(clippy::unwrap_used, reason = "a case that panics has failed")]

use std::any::Any;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use contract::broker::{Broker, Subscription};
use contract::event::{ChangeEvent, Events, Interest};
use contract::store::{Store, StoreError};

use crate::store_suite::Stage;
use crate::store_suite::stage::server;

const NOTES: &str = r#"{"fields": [{"name": "title", "type": "text"}]}"#;
/// How long an event may be on its way.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bounds that a few hundred events reach.
const FEW_BYTES: u64 = 64 * 1024;

/// How a case wants its broker opened; the rest is the adapter's to choose.
pub struct BrokerOptions {
    /// Rough bytes of events that are kept for consumers that are behind; none is the adapter's own bound.
    pub max_bytes: Option<u64>,
}

/// A broker over a store with nothing in it but what a fresh install holds.
pub struct OpenedBroker {
    /// The store that events come from.
    pub store: Arc<dyn Store>,
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// What must live as long as they do.
    pub keep: Box<dyn Any>,
}

/// A store with a collection `notes` and another, and a broker.
pub struct BrokerStage {
    stage: Stage,
    broker: Arc<dyn Broker>,
    _keep: Box<dyn Any>,
}

/// Makes a test of every case of the suite. `$open` names an `async fn(BrokerOptions) -> OpenedBroker` of
/// the adapter.
#[macro_export]
macro_rules! broker_suite {
    ($open:ident) => {
        $crate::broker_suite! { $open:
            every_change_is_delivered_in_order
            who_waits_is_woken_by_a_change
            a_subscription_goes_on_without_acknowledgement
            what_was_not_acknowledged_comes_again
            a_second_subscription_takes_over
            a_batch_comes_together_and_a_refused_one_never
            only_what_is_wanted_comes
            whoever_is_cut_off_is_told_to_resync_and_goes_on
            who_is_not_concerned_is_not_cut_off
            an_end_forgets_the_consumer
        }
    };
    ($open:ident: $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::broker_suite::run($open, $crate::broker_suite::$case);
            }
        )*
    };
}

/// Runs one case on a fresh broker.
pub fn run<C: Future<Output = ()>>(
    open: impl AsyncFn(BrokerOptions) -> OpenedBroker,
    case: impl FnOnce(BrokerStage) -> C,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(async {
        let opened = open(BrokerOptions { max_bytes: Some(FEW_BYTES) }).await;
        let stage = Stage::over(opened.store);
        stage.collection("notes", NOTES).await;
        stage.collection("others", NOTES).await;
        case(BrokerStage { stage, broker: opened.broker, _keep: opened.keep }).await;
    });
}

// === impl BrokerStage ===

impl BrokerStage {
    async fn subscribe(&self, consumer: &str) -> Box<dyn Subscription> {
        self.broker.subscribe(consumer.to_owned(), Interest::All).await.unwrap()
    }

    async fn create(&self, collection: &str, id: &str) {
        self.stage.create(collection, &format!(r#"{{"id": "{id}"}}"#)).await;
    }
}

async fn next(subscription: &mut dyn Subscription) -> Events {
    tokio::time::timeout(PATIENCE, subscription.next()).await.expect("an event comes").unwrap()
}

/// The next events until there are so many.
async fn take(subscription: &mut dyn Subscription, count: usize) -> Vec<ChangeEvent> {
    let mut taken = Vec::new();
    while taken.len() < count {
        match next(subscription).await {
            Events::Some(events) => taken.extend(events),
            Events::Resync { from } => panic!("told to resync from {from}"),
        }
    }
    taken
}

/// Whether there is nothing to deliver by now.
async fn is_silent(subscription: &mut dyn Subscription) -> bool {
    tokio::time::timeout(Duration::from_millis(50), subscription.next()).await.is_err()
}

/// `action id` of each.
fn said(events: &[ChangeEvent]) -> Vec<String> {
    events.iter().map(|event| format!("{} {}", event.action.as_str(), event.record)).collect()
}

// === the cases ===

pub async fn every_change_is_delivered_in_order(stage: BrokerStage) {
    let mut subscription = stage.subscribe("first").await;
    stage.create("notes", "a").await;
    stage.stage.patch("notes", "a", r#"{"title": "x"}"#).await;
    stage.stage.delete("notes", "a").await.unwrap();
    let events = take(&mut *subscription, 3).await;
    assert_eq!(said(&events), ["create a", "update a", "delete a"]);
    assert!(events.is_sorted_by(|one, next| one.sequence < next.sequence));
}

pub async fn who_waits_is_woken_by_a_change(stage: BrokerStage) {
    let mut subscription = stage.subscribe("first").await;
    for id in ["a", "b"] {
        let mut waiting = pin!(subscription.next());
        let is_waiting = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await;
        assert!(is_waiting);
        stage.create("notes", id).await;
        let events = tokio::time::timeout(PATIENCE, waiting).await.expect("an event comes").unwrap();
        assert!(matches!(events, Events::Some(events) if said(&events) == [format!("create {id}")]));
    }
}

pub async fn a_subscription_goes_on_without_acknowledgement(stage: BrokerStage) {
    let mut subscription = stage.subscribe("first").await;
    stage.create("notes", "a").await;
    assert_eq!(said(&take(&mut *subscription, 1).await), ["create a"]);
    stage.create("notes", "b").await;
    assert_eq!(said(&take(&mut *subscription, 1).await), ["create b"]);
}

pub async fn what_was_not_acknowledged_comes_again(stage: BrokerStage) {
    let mut subscription = stage.subscribe("first").await;
    for id in ["a", "b", "c"] {
        stage.create("notes", id).await;
    }
    let events = take(&mut *subscription, 3).await;
    subscription.acknowledge(events[0].sequence).await.unwrap();
    drop(subscription);
    stage.create("notes", "d").await;
    let mut again = stage.subscribe("first").await;
    assert_eq!(said(&take(&mut *again, 3).await), ["create b", "create c", "create d"]);
}

pub async fn a_second_subscription_takes_over(stage: BrokerStage) {
    let mut first = stage.subscribe("first").await;
    stage.create("notes", "a").await;
    let given = take(&mut *first, 1).await;
    let mut second = {
        let mut waiting = pin!(first.next());
        let is_waiting = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await;
        assert!(is_waiting);
        let second = stage.subscribe("first").await;
        let ended = tokio::time::timeout(PATIENCE, waiting).await.expect("it ends");
        assert_eq!(ended.unwrap_err(), StoreError::Closed);
        second
    };
    assert_eq!(first.acknowledge(given[0].sequence).await.unwrap_err(), StoreError::Closed);
    assert_eq!(first.next().await.unwrap_err(), StoreError::Closed);
    assert_eq!(said(&take(&mut *second, 1).await), ["create a"]);
}

pub async fn a_batch_comes_together_and_a_refused_one_never(stage: BrokerStage) {
    let mut subscription = stage.subscribe("first").await;
    let create = |id: String| stage.stage.create_step("notes", &format!(r#"{{"id": "{id}"}}"#), server());
    let missing = stage.stage.delete_step("notes", "missing", server());
    stage.stage.steps(vec![create("x".to_owned()), missing]).await.unwrap_err();
    stage.stage.steps((0..100).map(|number| create(format!("a{number}"))).collect()).await.unwrap();
    match next(&mut *subscription).await {
        Events::Some(events) => {
            assert_eq!(events.len(), 100);
            assert!(events.iter().all(|event| event.batch == events[0].batch && event.record != "x"));
        }
        Events::Resync { from } => panic!("told to resync from {from}"),
    }
}

pub async fn only_what_is_wanted_comes(stage: BrokerStage) {
    let notes = Interest::Collections(vec![stage.stage.find("notes").id.clone()]);
    let mut all = stage.subscribe("all").await;
    let mut some = stage.broker.subscribe("some".to_owned(), notes).await.unwrap();
    stage.create("others", "a").await;
    stage.create("notes", "b").await;
    assert_eq!(said(&take(&mut *all, 2).await), ["create a", "create b"]);
    assert_eq!(said(&take(&mut *some, 1).await), ["create b"]);
}

/// Writes never stop for a consumer that does not come back.
pub async fn whoever_is_cut_off_is_told_to_resync_and_goes_on(stage: BrokerStage) {
    drop(stage.subscribe("first").await);
    let until = tokio::time::Instant::now() + PATIENCE;
    let title = "x".repeat(1_000);
    let mut number = 0;
    // Events are cut off some time after they became too many.
    let (mut subscription, from) = loop {
        let body = format!(r#"{{"id": "r{number}", "title": "{title}"}}"#);
        stage.stage.create("notes", &body).await;
        number += 1;
        if number % 100 == 0 {
            let mut subscription = stage.subscribe("first").await;
            if let Events::Resync { from } = next(&mut *subscription).await {
                break (subscription, from);
            }
        }
        assert!(tokio::time::Instant::now() < until, "{number} events were kept");
    };
    subscription.acknowledge(from).await.unwrap();
    let mut rest = take(&mut *subscription, 1).await;
    assert_eq!(rest[0].sequence, from + 1);
    while rest.last().unwrap().record != format!("r{}", number - 1) {
        rest.extend(take(&mut *subscription, 1).await);
    }
    assert!(rest.is_sorted_by(|one, next| one.sequence + 1 == next.sequence));
    drop(subscription);
    let mut again = stage.subscribe("first").await;
    assert_eq!(take(&mut *again, 1).await[0].sequence, from + 1);
}

/// Events of others go by while it waits, more than are kept.
pub async fn who_is_not_concerned_is_not_cut_off(stage: BrokerStage) {
    let mut all = stage.subscribe("all").await;
    let notes = Interest::Collections(vec![stage.stage.find("notes").id.clone()]);
    let mut some = stage.broker.subscribe("some".to_owned(), notes).await.unwrap();
    let title = "x".repeat(1_000);
    for number in 0..300 {
        let body = format!(r#"{{"id": "r{number}", "title": "{title}"}}"#);
        stage.stage.create("others", &body).await;
        if number % 30 == 0 {
            assert!(is_silent(&mut *some).await);
            let last = take(&mut *all, 1).await.pop().unwrap();
            all.acknowledge(last.sequence).await.unwrap();
        }
    }
    stage.create("notes", "a").await;
    assert_eq!(said(&take(&mut *some, 1).await), ["create a"]);
}

pub async fn an_end_forgets_the_consumer(stage: BrokerStage) {
    let mut subscription = stage.subscribe("first").await;
    stage.create("notes", "a").await;
    stage.broker.unsubscribe("first".to_owned()).await.unwrap();
    assert_eq!(subscription.next().await.unwrap_err(), StoreError::Closed);
    stage.create("notes", "b").await;
    let mut anew = stage.subscribe("first").await;
    stage.create("notes", "c").await;
    assert_eq!(said(&take(&mut *anew, 1).await), ["create c"]);
}
