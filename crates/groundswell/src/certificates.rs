//! The certificates of the public listener, from their files and whenever these change.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gateway::{CertificateFiles, CertificateProblem, Certificates};
use metrics::gauge;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Settings;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(60);

/// The certificates that are configured; none if nothing listens for HTTPS.
pub(crate) fn load(settings: &Settings) -> Result<Option<Arc<Certificates>>, CertificateProblem> {
    if settings.server.https.is_none() {
        return Ok(None);
    }
    Certificates::load(settings.tls.certificates.clone()).map(|certificates| Some(Arc::new(certificates)))
}

/// Tells the metrics until when the certificate of each name is valid.
pub(crate) fn tell_expiries(certificates: &Certificates) {
    for (host, until) in certificates.expiries() {
        gauge!("groundswell_tls_certificate_expiry_seconds", "host" => host).set(until as f64);
    }
}

/// A time in seconds as people read it. httpdate panics past the year 9999.
pub(crate) fn date(seconds: i64) -> String {
    const LAST: u64 = 253_402_300_799;
    let seconds = u64::try_from(seconds).unwrap_or(0).min(LAST);
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Looks at the files each minute and on SIGHUP, until `draining`. Called within a runtime.
pub(crate) fn watch(
    certificates: Arc<Certificates>,
    draining: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    // From here on the signal does not end the process.
    let mut hangup = signal(SignalKind::hangup())?;
    certificates.files().iter().for_each(warn_of_open_key);
    tell_expiries(&certificates);
    Ok(tokio::spawn(async move {
        let mut minutes = tokio::time::interval_at(tokio::time::Instant::now() + EVERY, EVERY);
        minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = Vec::new();
        loop {
            let is_asked = tokio::select! {
                () = draining.cancelled() => return,
                _ = minutes.tick() => false,
                hung_up = hangup.recv() => hung_up.is_some(),
            };
            let certificates = Arc::clone(&certificates);
            let before = std::mem::take(&mut told);
            let looked = tokio::task::spawn_blocking(move || reload(&certificates, &before, is_asked)).await;
            told = looked.unwrap_or_default();
        }
    }))
}

/// Gives the problems. Those that were told before are told again only to somebody who asks.
fn reload(certificates: &Certificates, told: &[String], is_asked: bool) -> Vec<String> {
    let (changed, problems) = certificates.reload();
    for files in &changed {
        info!(certificate = %files.certificate.display(), "serving a new certificate");
        warn_of_open_key(files);
    }
    tell_expiries(certificates);
    if is_asked && changed.is_empty() && problems.is_empty() {
        info!("the certificates are as they were");
    }
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    for problem in &problems {
        if is_asked || !told.contains(problem) {
            warn!(problem, "refused a certificate; the one before stays");
        }
    }
    problems
}

fn warn_of_open_key(files: &CertificateFiles) {
    if files.has_open_key() {
        warn!(key = %files.key.display(), "every user of this machine can read a private key");
    }
}
