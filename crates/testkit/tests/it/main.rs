//! The kit against real servers. Skipped with a reason where they are not installed.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod pgbouncer;
mod pocketbase;
mod postgres;
mod wire;

use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

/// Connects, and drives the connection until the client is dropped.
async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn wait_until(claim: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {claim}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
