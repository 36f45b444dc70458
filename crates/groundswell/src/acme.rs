//! Certificates from an authority (RFC 8555): obtained for the hosts of `[tls.acme]`, kept in the store, and renewed before
//! they end.
//!
//! The account and the certificates with their keys are secrets of the store (`kept.rs`), so that a restart needs no order,
//! and a process that takes this one's place finds them with the data folder. One host is looked after at a time, by one
//! task in the background. `schedule.rs` says when; `authority.rs` talks to the authority.

mod authority;
mod kept;
mod schedule;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use contract::secrets::SecretStore;
use gateway::{Certificates, Challenges, Validity};
use metrics::counter;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::certificates;
use crate::config::AcmeSettings;
use authority::Authority;
use kept::{Kept, Place};

/// For everything about one certificate. An authority looks at a challenge within seconds, some within a minute.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(300);

/// For the look-up and the write of a secret.
const STORE_DEADLINE: Duration = Duration::from_secs(30);

/// Longest pause, so that a clock that is set is noticed.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Looks after the certificates of the hosts.
pub(crate) struct CertificateKeeper {
    settings: AcmeSettings,
    authority: Authority,
    secrets: Arc<dyn SecretStore>,
    certificates: Arc<Certificates>,
    hosts: Vec<Host>,
}

/// A host, and what is known of its certificate.
struct Host {
    name: String,
    place: Place<Kept>,
    validity: Option<Validity>,
    failures: u32,
    /// When it is looked after next, in seconds of Unix time.
    next: i64,
}

impl CertificateKeeper {
    /// Reads the roots, and the account's key if there is one; takes the certificates that are kept.
    pub(crate) async fn open(
        settings: AcmeSettings,
        secrets: Arc<dyn SecretStore>,
        certificates: Arc<Certificates>,
        challenges: Challenges,
    ) -> anyhow::Result<Self> {
        let authority = Authority::new(&settings, secrets.clone(), challenges)?;
        let mut hosts = Vec::with_capacity(settings.hosts.len());
        for name in &settings.hosts {
            let place = Place::open(&*secrets, format!("acme_certificate:{name}"));
            let place =
                timeout(STORE_DEADLINE, place).await.context("read a certificate from the store")??;
            let mut host = Host { name: name.clone(), place, validity: None, failures: 0, next: i64::MIN };
            host.take_kept(&certificates);
            host.plan(&settings, now());
            hosts.push(host);
        }
        certificates::tell_expiries(&certificates);
        Ok(Self { settings, authority, secrets, certificates, hosts })
    }

    /// Obtains and renews, until it is told to stop. What is dropped then is asked for again by the next process.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            while let Some(next) = (0..self.hosts.len()).min_by_key(|&host| self.hosts[host].next) {
                let wait = self.hosts[next].next.saturating_sub(now());
                match u64::try_from(wait) {
                    Ok(wait) if wait > 0 => sleep(Duration::from_secs(wait).min(LONGEST_PAUSE)).await,
                    _ => self.look_after(next).await,
                }
            }
        })
        .await;
    }

    async fn look_after(&mut self, host: usize) {
        let attempt = timeout(ATTEMPT_DEADLINE, self.renew(host)).await;
        let outcome = attempt.unwrap_or_else(|_| bail_late());
        let settings = &self.settings;
        let host = &mut self.hosts[host];
        match outcome {
            Ok(()) => {
                counter!("groundswell_acme_attempts_total", "outcome" => "obtained").increment(1);
                host.failures = 0;
                host.plan(settings, now());
                info!(host = host.name, until = host.until(), "an authority gave a certificate");
            }
            Err(error) => {
                counter!("groundswell_acme_attempts_total", "outcome" => "failed").increment(1);
                host.failures = host.failures.saturating_add(1);
                host.next = now() + schedule::pause(host.failures, rand::random());
                host.tell(&authority::shown(&error));
            }
        }
    }

    /// Obtains a certificate for this host, keeps it and serves it.
    async fn renew(&mut self, host: usize) -> anyhow::Result<()> {
        let account = self.authority.account().await?;
        let host = &mut self.hosts[host];
        let mut kept = host.place.value.clone().unwrap_or_default();
        if let Some(wait) = schedule::until_order(&kept.orders, now()) {
            bail!(
                "{} orders were made within an hour; the next may be in {wait} s",
                schedule::ORDERS_AN_HOUR
            );
        }
        // Noted before it is made: an authority counts those of a process that ends now, too.
        schedule::note_order(&mut kept.orders, now());
        host.place.keep(&*self.secrets, kept.clone()).await.context("note the order in the store")?;
        let obtained = self.authority.obtain(&account, &host.name).await?;
        let validity = self.certificates.take(&host.name, &obtained.chain, &obtained.key)?;
        host.validity = Some(validity);
        certificates::tell_expiries(&self.certificates);
        kept.directory = self.settings.directory.to_string();
        kept.chain = obtained.chain;
        kept.key = obtained.key;
        host.place.keep(&*self.secrets, kept).await.context("keep the certificate in the store")
    }
}

fn bail_late() -> anyhow::Result<()> {
    bail!("it took longer than {} s", ATTEMPT_DEADLINE.as_secs())
}

// === impl Host ===

impl Host {
    fn take_kept(&mut self, certificates: &Certificates) {
        let Some(kept) = self.place.value.as_ref().filter(|kept| !kept.chain.is_empty()) else { return };
        match certificates.take(&self.name, &kept.chain, &kept.key) {
            Ok(validity) => self.validity = Some(validity),
            Err(problem) => warn!(%problem, "a certificate that was kept is not served"),
        }
    }

    /// Says when its certificate is to be renewed: at once if there is none, or it is another authority's.
    fn plan(&mut self, settings: &AcmeSettings, now: i64) {
        let is_theirs =
            self.place.value.as_ref().is_some_and(|kept| kept.directory == settings.directory.to_string());
        self.next = match self.validity.filter(|_| is_theirs) {
            Some(validity) => schedule::renewal(validity, settings.renew_before, rand::random()).max(now + 1),
            None => now,
        };
    }

    /// Tells of a failure, the louder the less time is left. The pauses are short enough for once a day.
    fn tell(&self, error: &str) {
        let (host, again_in_s) = (&self.name, self.next - now());
        match self.validity {
            None => error!(host, error, again_in_s, "there is no certificate, and none could be obtained"),
            Some(validity) if schedule::is_pressing(validity, now()) => {
                error!(
                    host,
                    error,
                    again_in_s,
                    until = self.until(),
                    "a certificate near its end could not be renewed"
                );
            }
            Some(_) => warn!(host, error, again_in_s, "a certificate could not be renewed yet"),
        }
    }

    fn until(&self) -> String {
        self.validity.map(|validity| certificates::date(validity.until)).unwrap_or_default()
    }
}

fn now() -> i64 {
    kit::app::now().0 / 1_000
}
