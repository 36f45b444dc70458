//! Taking a changed configuration while the server runs, on SIGHUP and when its file changes: the routes and pools of
//! `[gateway]`. What is wrong with the new one is said, and the old one stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use gateway::Gateway;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::caller_keys::KeyKeeper;
use crate::config::{GatewaySettings, Problems, Settings};

/// How often the file is looked at. Its content is read only when its time or its size is another.
const EVERY: Duration = Duration::from_secs(1);

/// Reads the configuration of this process anew.
pub(crate) type Load = Arc<dyn Fn() -> Result<Settings, Problems> + Send + Sync>;

/// What tells one content of a file from another: its time and its length. None for a file that is not there, or
/// empty, as it is while it is being written anew.
pub(crate) type Stamp = Option<(SystemTime, u64)>;

/// That of the configuration file, if there is one.
pub(crate) fn stamp(file: Option<&Path>) -> Stamp {
    let metadata = std::fs::metadata(file?).ok()?;
    (metadata.len() > 0).then_some((metadata.modified().ok()?, metadata.len()))
}

/// Follows the configuration until it is told to stop. `known` is its file's stamp from before it was read.
pub(crate) async fn follow(
    (file, mut known): (Option<PathBuf>, Stamp),
    load: Load,
    mut current: Settings,
    (gateway, keys): (Gateway, Option<Arc<KeyKeeper>>),
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut hangups = signal(SignalKind::hangup()).context("wait for SIGHUP")?;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = known;
    loop {
        let is_asked = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = hangups.recv() => true,
            _ = ticks.tick() => false,
        };
        let found = stamp(file.as_deref());
        // What is still being written is another thing a moment later.
        let is_whole = found == std::mem::replace(&mut last, found);
        if !is_asked && (found.is_none() || found == known || !is_whole) {
            continue;
        }
        known = found;
        let load = load.clone();
        match tokio::task::spawn_blocking(move || load()).await.context("read the configuration")? {
            Ok(settings) => take(&mut current, settings, &gateway, keys.as_deref()).await,
            Err(problems) => error!(%problems, "the new configuration is refused, and the old one stays"),
        }
    }
}

async fn take(current: &mut Settings, new: Settings, gateway: &Gateway, keys: Option<&KeyKeeper>) {
    let services = current.gateway.services.clone();
    let gateway_settings = GatewaySettings { services, ..new.gateway.clone() };
    let with_new_routes = Settings { gateway: gateway_settings, ..current.clone() };
    if with_new_routes.to_string() != new.to_string() {
        warn!(
            "only what stands in [gateway] is taken from the new configuration: the rest waits for a restart"
        );
    }
    if let Some(keys) = keys
        && let Err(error) = keys.prepare(&new).await
    {
        error!(error = format!("{error:#}"), "the new configuration cannot be used, and the old one stays");
        return;
    }
    let GatewaySettings { routes, upstreams, options, .. } = new.gateway.clone();
    match gateway.replace(routes, upstreams, options) {
        Ok(()) => {
            gateway.replace_rules(new.gateway.checks.in_order());
            info!(routes = new.gateway.routes.len(), "the new configuration is in use");
            *current = with_new_routes;
        }
        Err(problem) => error!(%problem, "the new configuration is refused, and the old one stays"),
    }
}
