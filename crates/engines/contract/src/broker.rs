//! The broker: hands change events to those who follow the data.

use crate::event::{Events, Interest};
use crate::store::Answer;

/// Delivers change events at least once, in order for one record, those of a batch together unless it is
/// larger than a delivery may be. What a consumer has acknowledged survives an orderly stop; after a kill the
/// last of it may come again.
pub trait Broker: Send + Sync + 'static {
    /// Makes a consumer known and opens its deliveries. It starts after the newest event; one that is
    /// known already goes on where it was, with this interest from now on. One subscription of a name at
    /// a time: a second one takes over, and the calls of the first end as
    /// [`Closed`](crate::store::StoreError::Closed).
    fn subscribe(&self, consumer: String, interest: Interest) -> Answer<'_, Box<dyn Subscription>>;

    /// Forgets a consumer, so that events are no longer kept for it, and ends its subscription.
    fn unsubscribe(&self, consumer: String) -> Answer<'_, ()>;
}

/// The deliveries of one consumer.
pub trait Subscription: Send {
    /// Waits for events, and gives those after the last that it gave, also while that is not acknowledged.
    /// Dropping the future loses nothing. A subscription that is opened anew begins again after what was
    /// acknowledged. After an error the next call tries again.
    fn next(&mut self) -> Answer<'_, Events>;

    /// The consumer is done with all events up to and including `sequence`; after
    /// [`Events::Resync`] with all up to where it goes on from.
    fn acknowledge(&mut self, sequence: u64) -> Answer<'_, ()>;
}
