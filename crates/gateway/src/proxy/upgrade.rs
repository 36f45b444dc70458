//! Two sides that went on with another protocol: whatever one says, the other is told.

use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf, copy, split};
use tokio::time::sleep;
use tracing::debug;

use super::body::Reading;

/// How long the second side may go on when the first has said all that it had to say.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Joins them until both sides ended, or one and the time after it. The server has the request as long.
pub(super) async fn join(client: OnUpgrade, server: OnUpgrade, mut reading: Reading) {
    let (Ok(client), Ok(server), ()) = tokio::join!(client, server, reading.connection.upgraded()) else {
        return debug!("one side left before the protocols were switched");
    };
    let (from_client, to_client) = split(TokioIo::new(client));
    let (from_server, to_server) = split(TokioIo::new(server));
    let (sent, received) = (pass(from_client, to_server), pass(from_server, to_client));
    tokio::pin!(sent, received);
    tokio::select! {
        () = &mut sent => tokio::select! { () = received => {}, () = sleep(LAST_WORDS) => {} },
        () = &mut received => tokio::select! { () = sent => {}, () = sleep(LAST_WORDS) => {} },
    }
    drop(reading);
}

/// Passes on what one side says to its end, then ends the other's.
async fn pass(mut from: ReadHalf<TokioIo<Upgraded>>, mut to: WriteHalf<TokioIo<Upgraded>>) {
    if let Err(error) = copy(&mut from, &mut to).await {
        debug!(%error, "an upgraded connection broke");
    }
    _ = to.shutdown().await;
}
