//! The broker's adapters, so far [`EmbeddedBroker`]: the store's outbox is the log, and a commit wakes whoever
//! waits for events. It has no threads and no tasks of its own.

mod embedded;
mod wakeup;

pub use embedded::EmbeddedBroker;
pub use wakeup::Wakeup;
