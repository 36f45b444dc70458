//! Looks after the keys that sign what other servers are told of callers: makes them when a route first asks who calls,
//! keeps them in the store, and replaces them on their schedule.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use contract::secrets::{Secret, SecretStore};
use identity::Identity;
use identity::caller_keys::{KeySchedule, KeySet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Settings;

/// By which the store knows them.
const NAME: &str = "caller_keys";

/// Others may have kept theirs meanwhile.
const ATTEMPTS: usize = 4;

/// A day is longer than any server should remember a set.
const MOST_AHEAD: Duration = Duration::from_secs(24 * 3_600);
/// For clocks that differ.
const GRACE: Duration = Duration::from_secs(300);

/// The keys of this process, and where they are kept.
pub(crate) struct KeyKeeper {
    secrets: Arc<dyn SecretStore>,
    identity: Arc<Identity>,
    rotate_every_ms: AtomicU64,
    lifetime_ms: AtomicU64,
}

impl KeyKeeper {
    pub(crate) fn new(secrets: Arc<dyn SecretStore>, identity: Arc<Identity>) -> Self {
        Self { secrets, identity, rotate_every_ms: AtomicU64::new(0), lifetime_ms: AtomicU64::new(0) }
    }

    /// Takes the schedule of a configuration, and sees to it that there are keys if its routes want them.
    pub(crate) async fn prepare(&self, settings: &Settings) -> anyhow::Result<()> {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let tokens = &settings.gateway.tokens;
        self.rotate_every_ms.store(milliseconds(tokens.rotate_every), Ordering::Relaxed);
        self.lifetime_ms.store(milliseconds(tokens.rules.lifetime), Ordering::Relaxed);
        // Gateways on other nodes have them signed here.
        let is_wanted = settings.server.internal.is_some()
            || settings.gateway.routes.iter().any(|route| route.auth.is_some());
        if is_wanted && self.identity.caller_keys().current().is_none() {
            self.refresh().await.context("prepare the keys of callers' tokens")?;
        }
        Ok(())
    }

    /// Replaces keys when it is time, until it is told to stop.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let pause = self.rotate_every() / 16;
            let pause = pause.clamp(Duration::from_millis(100), Duration::from_secs(60));
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            if self.identity.caller_keys().current().is_none() {
                continue;
            }
            // The keys that are there go on.
            if let Err(error) = self.refresh().await {
                warn!(error = format!("{error:#}"), "the keys of callers' tokens could not be looked after");
            }
        }
    }

    /// Takes the keys that are kept, and makes and keeps those that are due.
    async fn refresh(&self) -> anyhow::Result<()> {
        for _ in 0..ATTEMPTS {
            let now = kit::app::now().0 / 1_000;
            let before = self.secrets.secret(NAME.to_owned()).await?;
            let kept = before.as_ref().map(|kept| KeySet::parse(&kept.0)).transpose()?;
            let due = match &kept {
                Some(kept) => kept.advanced(&self.schedule(), now),
                None => Some(KeySet::generate(now)),
            };
            let Some(keys) = due else {
                // Others may have replaced them.
                if let Some(kept) = kept.filter(|kept| !self.has(kept)) {
                    self.identity.caller_keys().take(kept);
                }
                return Ok(());
            };
            let secret = Secret(keys.to_text().to_string());
            if self.secrets.save_secret(NAME.to_owned(), secret, before).await? {
                info!(?keys, "callers' tokens have new keys");
                self.identity.caller_keys().take(keys);
                return Ok(());
            }
        }
        bail!("others change the keys all the time")
    }

    fn has(&self, keys: &KeySet) -> bool {
        self.identity.caller_keys().current().is_some_and(|current| current.ids().eq(keys.ids()))
    }

    fn schedule(&self) -> KeySchedule {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let lifetime = Duration::from_millis(self.lifetime_ms.load(Ordering::Relaxed));
        let rotate_every = self.rotate_every();
        KeySchedule {
            rotate_every: seconds(rotate_every),
            publish_ahead: seconds(MOST_AHEAD.min(rotate_every / 4)),
            keep_after: seconds(lifetime + GRACE),
        }
    }

    fn rotate_every(&self) -> Duration {
        Duration::from_millis(self.rotate_every_ms.load(Ordering::Relaxed))
    }
}
