//! Opening the access log anew when a program has moved its file away, at once where that program says so.

use std::future::Future;
use std::io;

use gateway::AccessLog;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Follows SIGUSR1 and SIGHUP until `draining`. Without an access log the first does nothing, where it would end a
/// process that does not know it.
pub(crate) fn follow(
    log: Option<AccessLog>,
    draining: CancellationToken,
) -> io::Result<impl Future<Output = ()> + Send> {
    let mut rotated = signal(SignalKind::user_defined1())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                () = draining.cancelled() => return,
                _ = rotated.recv() => {}
                _ = hung_up.recv() => {}
            }
            if let Some(log) = &log {
                log.reopen();
            }
        }
    })
}
