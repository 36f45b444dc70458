//! How the process is asked to stop.

use std::process;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

/// Waits for SIGTERM or SIGINT. From then on a second one ends the process at once.
pub(crate) async fn requested() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => info!(signal = "SIGTERM", "stopping"),
        _ = interrupt.recv() => info!(signal = "SIGINT", "stopping"),
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
        warn!("asked to stop a second time: stopping without draining");
        process::exit(1);
    });
    Ok(())
}
