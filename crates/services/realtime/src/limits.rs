//! The bounds of a node, and its times.

use std::time::Duration;

/// How much a node holds for its clients.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Streams at a time.
    pub clients: usize,
    /// Streams of one address. Many people may share one, behind a proxy that is not trusted to name them.
    pub clients_per_address: usize,
    /// Topics of all clients together. An event is held against each of its collection.
    pub topics: usize,
    /// Bytes of these topics, as sent.
    pub topic_bytes: usize,
    /// Topics of the clients of one address.
    pub topics_per_address: usize,
    /// Bytes of these.
    pub topic_bytes_per_address: usize,
    /// Messages that wait for one client.
    pub waiting_messages: usize,
    /// Bytes of the messages that wait for one client. A single message may be larger.
    pub waiting_bytes: usize,
}

/// How long things last.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// A stream on which nothing was sent for so long ends.
    pub idle: Duration,
    /// A stream ends after so long.
    pub lifetime: Duration,
    /// How long events are followed after the last client that wanted any.
    pub linger: Duration,
    /// How long a client that sets its topics waits for the broker.
    pub follow: Duration,
    /// How long the store may take for what one event asks of it.
    pub judge: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            clients: 50_000,
            clients_per_address: 20_000,
            topics: 250_000,
            topic_bytes: 64 << 20,
            topics_per_address: 100_000,
            topic_bytes_per_address: 24 << 20,
            waiting_messages: 1_024,
            waiting_bytes: 1 << 20,
        }
    }
}

impl Default for Times {
    fn default() -> Times {
        Times {
            idle: Duration::from_secs(5 * 60),
            lifetime: Duration::from_secs(30 * 60),
            linger: Duration::from_secs(60),
            follow: Duration::from_secs(5),
            judge: Duration::from_secs(5),
        }
    }
}
