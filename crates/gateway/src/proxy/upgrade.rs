//! Two sides that went on with another protocol: whatever one says, the other is told.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tracing::debug;

use super::body::Reading;

/// Joins them until one side ends. The server has the request as long.
pub(super) async fn join(client: OnUpgrade, server: OnUpgrade, reading: Reading) {
    let (Ok(client), Ok(server)) = tokio::join!(client, server) else {
        return debug!("one side left before the protocols were switched");
    };
    let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
    match copy_bidirectional(&mut client, &mut server).await {
        Ok((sent, received)) => debug!(sent, received, "an upgraded connection ended"),
        Err(error) => debug!(%error, "an upgraded connection broke"),
    }
    drop(reading);
}
