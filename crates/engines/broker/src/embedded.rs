//! The broker on the store's outbox.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contract::broker::{Broker, Subscription};
use contract::event::{EventPage, Events, Interest};
use contract::store::{Answer, Store, StoreError};
use tokio::sync::watch;

use crate::Wakeup;

/// Events of one delivery, unless a batch has more.
const DELIVERY: usize = 500;
/// Who found nothing but what others want lets so much time pass before looking again: others may be
/// thousands of events a second.
const AFTER_OTHERS: Duration = Duration::from_millis(10);

/// Hands out the events of a store's outbox, of one node.
pub struct EmbeddedBroker {
    store: Arc<dyn Store>,
    wakeup: Arc<Wakeup>,
    /// The subscription of each consumer: to drop what stands here ends it.
    open: Mutex<HashMap<String, watch::Sender<()>>>,
}

/// One consumer's deliveries.
struct EmbeddedSubscription {
    store: Arc<dyn Store>,
    consumer: String,
    newest: watch::Receiver<u64>,
    /// Its other end is gone once the subscription is no longer the consumer's.
    is_open: watch::Receiver<()>,
    /// Everything up to here was looked at.
    through: u64,
    /// The last event that was given.
    given: u64,
    /// The last that was acknowledged.
    acknowledged: u64,
}

// === impl EmbeddedBroker ===

impl EmbeddedBroker {
    /// A broker for a store that was opened with this observer.
    pub fn new(store: Arc<dyn Store>, wakeup: Arc<Wakeup>) -> EmbeddedBroker {
        EmbeddedBroker { store, wakeup, open: Mutex::default() }
    }

    /// Makes room for a new subscription; the one that was open ends.
    fn take_over(&self, consumer: &str) -> watch::Receiver<()> {
        let (sender, receiver) = watch::channel(());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(consumer.to_owned(), sender);
        receiver
    }

    async fn open(&self, consumer: String, interest: Interest) -> Result<Box<dyn Subscription>, StoreError> {
        let is_open = self.take_over(&consumer);
        self.store.register_consumer(consumer.clone(), interest).await?;
        Ok(Box::new(EmbeddedSubscription {
            store: self.store.clone(),
            consumer,
            newest: self.wakeup.subscribe(),
            is_open,
            through: 0,
            given: 0,
            acknowledged: 0,
        }))
    }

    async fn forget(&self, consumer: String) -> Result<(), StoreError> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&consumer);
        self.store.unregister_consumer(consumer).await
    }
}

impl Broker for EmbeddedBroker {
    fn subscribe(&self, consumer: String, interest: Interest) -> Answer<'_, Box<dyn Subscription>> {
        Box::pin(self.open(consumer, interest))
    }

    fn unsubscribe(&self, consumer: String) -> Answer<'_, ()> {
        Box::pin(self.forget(consumer))
    }
}

// === impl EmbeddedSubscription ===

impl EmbeddedSubscription {
    async fn wait(&mut self) -> Result<Events, StoreError> {
        loop {
            self.check_open()?;
            // Before the read: a commit after it wakes the wait below.
            self.newest.borrow_and_update();
            let before = self.through;
            let EventPage { events, through } =
                self.store.events(self.consumer.clone(), self.through, DELIVERY).await?;
            match events {
                Events::Resync { from } => {
                    (self.through, self.given) = (from, from);
                    return Ok(events);
                }
                Events::Some(some) if some.is_empty() => {
                    self.through = through;
                    self.skip().await?;
                    self.wait_for_more(through > before).await?;
                }
                Events::Some(some) => {
                    self.through = through;
                    self.given = some.last().map_or(self.given, |last| last.sequence);
                    return Ok(Events::Some(some));
                }
            }
        }
    }

    /// The store need not keep for this consumer what it does not want.
    async fn skip(&mut self) -> Result<(), StoreError> {
        if self.acknowledged >= self.given && self.through > self.acknowledged {
            self.store.acknowledge(self.consumer.clone(), self.through).await?;
            self.acknowledged = self.through;
        }
        Ok(())
    }

    async fn wait_for_more(&mut self, has_skipped: bool) -> Result<(), StoreError> {
        let more = async {
            if has_skipped {
                tokio::time::sleep(AFTER_OTHERS).await;
            } else if self.newest.changed().await.is_err() {
                // No store is left that would tell.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = more => Ok(()),
            _ = self.is_open.changed() => Err(StoreError::Closed),
        }
    }

    async fn done(&mut self, sequence: u64) -> Result<(), StoreError> {
        self.check_open()?;
        // With the last that was given, what others wanted behind it is done too.
        let sequence = if sequence >= self.given { self.through.max(sequence) } else { sequence };
        self.store.acknowledge(self.consumer.clone(), sequence).await?;
        self.acknowledged = self.acknowledged.max(sequence);
        Ok(())
    }

    fn check_open(&self) -> Result<(), StoreError> {
        self.is_open.has_changed().map(drop).map_err(|_| StoreError::Closed)
    }
}

impl Subscription for EmbeddedSubscription {
    fn next(&mut self) -> Answer<'_, Events> {
        Box::pin(self.wait())
    }

    fn acknowledge(&mut self, sequence: u64) -> Answer<'_, ()> {
        Box::pin(self.done(sequence))
    }
}
