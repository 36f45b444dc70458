//! The certificates of the listener: read from files or obtained from an authority, chosen by the name that a client
//! asks for, and replaced while connections go on.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::InconsistentKeys;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use webpki::{EndEntityCert, KeyUsage};
use zeroize::Zeroizing;

/// No chain and no key is longer.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where a certificate and its key lie, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, then those that lead to an authority that clients trust.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What is wrong with a certificate or its key.
#[derive(Debug, thiserror::Error)]
pub enum CertificateProblem {
    /// A file cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file has no certificate.
    #[error("{} has no certificate in it; it must hold PEM, which begins with -----BEGIN CERTIFICATE-----", .0.display())]
    NoCertificate(PathBuf),
    /// The file has no key.
    #[error("{} has no private key in it; it must hold PEM, and the key no password", .0.display())]
    NoKey(PathBuf),
    /// What is there is not understood.
    #[error("{} holds a certificate or {} a key that cannot be used: {error}", files.certificate.display(), files.key.display())]
    Unusable {
        /// Which.
        files: CertificateFiles,
        /// Why.
        error: String,
    },
    /// They do not belong together.
    #[error("{} is not the key of the certificate in {}", .0.key.display(), .0.certificate.display())]
    OtherKey(CertificateFiles),
    /// Its time is over.
    #[error("the certificate in {} expired on {}", path.display(), date(*.at))]
    Expired {
        /// Where it lies.
        path: PathBuf,
        /// Since when.
        at: SystemTime,
    },
    /// Its time has not come.
    #[error("the certificate in {} is not valid before {}", path.display(), date(*.at))]
    NotYetValid {
        /// Where it lies.
        path: PathBuf,
        /// From when it is.
        at: SystemTime,
    },
    /// It is for no host.
    #[error("the certificate in {} names no host that clients could ask for", .0.display())]
    NamesNone(PathBuf),
    /// What an authority gave is not right.
    #[error("the certificate that was obtained for {host} cannot be used: {error}")]
    Obtained {
        /// For which name.
        host: String,
        /// Why.
        error: String,
    },
}

/// From when until when a certificate is valid, in seconds of Unix time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from: i64,
    /// The last.
    pub until: i64,
}

/// The certificates that are served.
pub struct Certificates {
    files: Vec<CertificateFiles>,
    current: ArcSwap<Choice>,
    // Held while a choice is made of the one before.
    changing: Mutex<()>,
}

/// Certificates in the order of their files, those that were obtained, each for one host, and all by their names.
#[derive(Default)]
struct Choice {
    in_order: Vec<Arc<CertifiedKey>>,
    obtained: Vec<(String, Arc<CertifiedKey>)>,
    // Lower case; a wildcard stands as it is written, `*.app.example`.
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

// === impl CertificateFiles ===

impl CertificateFiles {
    /// Whether every user of this machine may read the key.
    pub fn has_open_key(&self) -> bool {
        const OTHERS_READ: u32 = 0o004;
        let metadata = std::fs::metadata(&self.key);
        metadata.is_ok_and(|metadata| metadata.permissions().mode() & OTHERS_READ != 0)
    }

    /// Reads both, and looks whether clients could take them.
    fn load(&self) -> Result<CertifiedKey, CertificateProblem> {
        let unusable = |error: &dyn fmt::Display| CertificateProblem::Unusable {
            files: self.clone(),
            error: error.to_string(),
        };
        let pem = read(&self.certificate)?;
        let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|_| CertificateProblem::NoCertificate(self.certificate.clone()))?;
        if chain.is_empty() {
            return Err(CertificateProblem::NoCertificate(self.certificate.clone()));
        }
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|_| CertificateProblem::NoKey(self.key.clone()))?;
        let certified =
            CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    CertificateProblem::OtherKey(self.clone())
                }
                other => unusable(&other),
            })?;
        let leaf = leaf(&certified).map_err(|error| unusable(&error))?;
        self.check_time(&leaf)?;
        if !names_any(&leaf) {
            return Err(CertificateProblem::NamesNone(self.certificate.clone()));
        }
        Ok(certified)
    }

    /// Without anybody to trust the check always fails; what it looks at first is the time.
    fn check_time(&self, leaf: &EndEntityCert<'_>) -> Result<(), CertificateProblem> {
        let path = self.certificate.clone();
        match leaf.verify_for_usage(&[], &[], &[], UnixTime::now(), KeyUsage::server_auth(), None, None) {
            Err(webpki::Error::CertExpired { not_after, .. }) => {
                Err(CertificateProblem::Expired { path, at: system_time(not_after) })
            }
            Err(webpki::Error::CertNotValidYet { not_before, .. }) => {
                Err(CertificateProblem::NotYetValid { path, at: system_time(not_before) })
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

// === impl Certificates ===

impl Certificates {
    /// Reads them all; the first is for clients that ask for no name, or one that none has.
    pub fn load(files: Vec<CertificateFiles>) -> Result<Self, CertificateProblem> {
        let mut in_order = Vec::with_capacity(files.len());
        for files in &files {
            let certified = files.load()?;
            // Another than the first is found by a name alone.
            let has_name = leaf(&certified).is_ok_and(|leaf| leaf.valid_dns_names().next().is_some());
            if !in_order.is_empty() && !has_name {
                return Err(CertificateProblem::NamesNone(files.certificate.clone()));
            }
            in_order.push(Arc::new(certified));
        }
        let choice = Choice::of(in_order, Vec::new());
        Ok(Self { files, current: ArcSwap::from_pointee(choice), changing: Mutex::default() })
    }

    /// Looks at the files again. What is right is served from now on; where something is wrong, the one before stays.
    /// Gives the files that have changed, and the problems.
    pub fn reload(&self) -> (Vec<&CertificateFiles>, Vec<CertificateProblem>) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut changed, mut problems) = (Vec::new(), Vec::new());
        let current = self.current.load();
        let mut in_order = current.in_order.clone();
        for (files, current) in self.files.iter().zip(&mut in_order) {
            match files.load() {
                Ok(certified) if certified.cert == current.cert => (),
                Ok(certified) => {
                    *current = Arc::new(certified);
                    changed.push(files);
                }
                Err(problem) => problems.push(problem),
            }
        }
        if !changed.is_empty() {
            self.current.store(Arc::new(Choice::of(in_order, current.obtained.clone())));
        }
        (changed, problems)
    }

    /// Serves this chain, in PEM, for this host from now on, if clients could take it; where a file's certificate has
    /// the same name, that one stays.
    pub fn take(&self, host: &str, chain: &str, key: &str) -> Result<Validity, CertificateProblem> {
        let (certified, validity) = obtained(host, chain, key)
            .map_err(|error| CertificateProblem::Obtained { host: host.to_owned(), error })?;
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load();
        let mut all = current.obtained.clone();
        let certified = Arc::new(certified);
        match all.iter_mut().find(|(other, _)| other == host) {
            Some((_, before)) => *before = certified,
            None => all.push((host.to_owned(), certified)),
        }
        self.current.store(Arc::new(Choice::of(current.in_order.clone(), all)));
        Ok(validity)
    }

    /// The names that are served, each with the end of its certificate in seconds of Unix time.
    pub fn expiries(&self) -> Vec<(String, i64)> {
        let current = self.current.load();
        let of = |(name, certified): (&String, &Arc<CertifiedKey>)| {
            Some((name.clone(), validity(&leaf(certified).ok()?)?.until))
        };
        current.by_name.iter().filter_map(of).collect()
    }

    /// Where they lie.
    pub fn files(&self) -> &[CertificateFiles] {
        &self.files
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load().find(hello.server_name())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}

// === impl Choice ===

impl Choice {
    fn of(in_order: Vec<Arc<CertifiedKey>>, obtained: Vec<(String, Arc<CertifiedKey>)>) -> Self {
        let mut by_name = HashMap::new();
        for certified in &in_order {
            let Ok(leaf) = leaf(certified) else { continue };
            for name in leaf.valid_dns_names() {
                by_name.entry(name.to_ascii_lowercase()).or_insert_with(|| Arc::clone(certified));
            }
        }
        for (host, certified) in &obtained {
            by_name.entry(host.clone()).or_insert_with(|| Arc::clone(certified));
        }
        Self { in_order, obtained, by_name }
    }

    /// The certificate of this name, or of a wildcard in its first place, or the first: of the files, if there are any.
    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let named = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let wildcard = || self.by_name.get(&format!("*.{}", name.split_once('.')?.1));
            self.by_name.get(&name).or_else(wildcard)
        });
        let first = || self.in_order.first().or_else(|| Some(&self.obtained.first()?.1));
        named.or_else(first).cloned()
    }
}

/// What an authority gave, if it is for this host and now.
fn obtained(host: &str, chain: &str, key: &str) -> Result<(CertifiedKey, Validity), String> {
    let text = |error: &dyn fmt::Display| error.to_string();
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| text(&error))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| text(&error))?;
    let certified = CertifiedKey::from_der(chain, key, &ring::default_provider());
    let certified = certified.map_err(|error| text(&error))?;
    let leaf = leaf(&certified).map_err(|error| text(&error))?;
    let name = ServerName::try_from(host).map_err(|error| text(&error))?;
    leaf.verify_is_valid_for_subject_name(&name).map_err(|error| text(&error))?;
    let validity = validity(&leaf).ok_or("its time cannot be told")?;
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    if validity.until < now {
        return Err("its time is over".to_owned());
    }
    Ok((certified, validity))
}

/// The check of a time that is too early, and of one that is too late, tell the right ones.
fn validity(leaf: &EndEntityCert<'_>) -> Option<Validity> {
    let at = |seconds| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        leaf.verify_for_usage(&[], &[], &[], time, KeyUsage::server_auth(), None, None).err()
    };
    let seconds = |time: UnixTime| i64::try_from(time.as_secs()).ok();
    let from = match at(0)? {
        webpki::Error::CertNotValidYet { not_before, .. } => seconds(not_before)?,
        _ => 0,
    };
    match at(u64::MAX)? {
        webpki::Error::CertExpired { not_after, .. } => Some(Validity { from, until: seconds(not_after)? }),
        _ => None,
    }
}

/// The whole of a file. Its bytes are forgotten when they are dropped: they may be a key.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CertificateProblem> {
    // As large as it can become: growing would leave copies behind.
    let read = || {
        let file = File::open(path)?;
        let length = file.metadata()?.len().min(MAX_FILE_BYTES);
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1));
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| CertificateProblem::Unreadable { path: path.to_owned(), error })
}

fn leaf(certified: &CertifiedKey) -> Result<EndEntityCert<'_>, webpki::Error> {
    EndEntityCert::try_from(certified.cert.first().ok_or(webpki::Error::BadDer)?)
}

/// Whether it names a host or an address. The check of a name that nobody has tells those that there are.
fn names_any(leaf: &EndEntityCert<'_>) -> bool {
    let nobody = ServerName::try_from("nobody.invalid").expect("a name");
    match leaf.verify_is_valid_for_subject_name(&nobody) {
        Err(webpki::Error::CertNotValidForName(names)) => !names.presented.is_empty(),
        Ok(()) => true,
        Err(_) => false,
    }
}

fn system_time(time: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())
}

/// httpdate panics past the year 9999.
fn date(time: SystemTime) -> String {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    httpdate::fmt_http_date(time.min(SystemTime::UNIX_EPOCH + LAST))
}
