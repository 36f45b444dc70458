//! The servers that a name stands for, looked up again and again: each of its addresses is one, as with a headless service
//! of Kubernetes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Pool, ServerUrl};

/// How often a name is looked up.
const EVERY: Duration = Duration::from_secs(5);
/// How long that may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Most addresses of a name; more are left out.
const MAX_SERVERS: usize = 256;

/// Looks a pool's name up until it is told to stop. Ends at once where there is none. A look-up that fails changes
/// nothing: those that are known may still be there.
pub(crate) async fn follow(pool: Arc<Pool>, stop: CancellationToken) {
    let Some(name) = pool.settings.dns.clone() else { return };
    tokio::select! {
        () = stop.cancelled() => {}
        () = follow_name(&pool, &name) => {}
    }
}

async fn follow_name(pool: &Pool, name: &ServerUrl) {
    let mut known = BTreeSet::new();
    loop {
        match timeout(DEADLINE, look_up(name)).await {
            Ok(Ok(found)) if found.is_empty() => warn!(%name, "a name stands for no server"),
            Ok(Ok(found)) if found != known => {
                info!(%name, servers = found.len(), "a name stands for other servers");
                pool.set_servers(found.iter().cloned().collect());
                known = found;
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warn!(%name, %error, "a name could not be looked up"),
            Err(_) => warn!(%name, "a name could not be looked up in time"),
        }
        sleep(EVERY).await;
    }
}

async fn look_up(name: &ServerUrl) -> std::io::Result<BTreeSet<ServerUrl>> {
    let addresses = lookup_host(name.target()).await?;
    Ok(addresses.map(|address| ServerUrl::of_address(address, name)).take(MAX_SERVERS).collect())
}
