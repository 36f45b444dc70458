use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::handshakes::{HANDSHAKE_TIMEOUT, Place, Places};
use super::*;

/// Writes a certificate for these names, and its key.
fn write(
    folder: &Path,
    name: &str,
    names: &[&str],
    change: impl FnOnce(&mut CertificateParams),
) -> CertificateFiles {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    change(&mut params);
    let files = CertificateFiles {
        certificate: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
    };
    fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(&files.key, key.serialize_pem()).unwrap();
    files
}

fn problem(files: Vec<CertificateFiles>, folder: &TempDir) -> String {
    let error = Certificates::load(files).unwrap_err().to_string();
    error.replace(&format!("{}/", folder.path().display()), "")
}

/// The handshake of somebody who has a place.
async fn shake(handshakes: &Handshakes, server: tokio::io::DuplexStream) -> io::Result<()> {
    let place = handshakes.place(Some(IpAddr::from([127, 0, 0, 1]))).unwrap();
    handshakes.shake(server, place).await.map(drop)
}

/// Whether a client that trusts only this certificate comes through by this name.
async fn is_served(tls: &Tls, trusted: &CertificateFiles, name: &str) -> bool {
    let handshakes = tls.handshakes();
    let place = handshakes.place(None).unwrap();
    is_served_at(handshakes, place, trusted, name).await
}

async fn is_served_at(handshakes: Handshakes, place: Place, trusted: &CertificateFiles, name: &str) -> bool {
    let mut roots = RootCertStore::empty();
    let pem = fs::read(&trusted.certificate).unwrap();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (client, server) = tokio::io::duplex(64 * 1024);
    let server = tokio::spawn(async move { handshakes.shake(server, place).await.map(drop) });
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let is_through = TlsConnector::from(Arc::new(config)).connect(name, client).await.is_ok();
    let _ = server.await.unwrap();
    is_through
}

#[tokio::test]
async fn a_certificate_is_chosen_by_name_then_by_wildcard_then_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let first = write(folder.path(), "first", &["app.example", "127.0.0.1"], |_| ());
    let wild = write(folder.path(), "wild", &["*.app.example"], |_| ());
    let exact = write(folder.path(), "exact", &["API.app.example"], |_| ());
    let all = vec![first.clone(), wild.clone(), exact.clone()];
    let tls = Tls::new(Arc::new(Certificates::load(all).unwrap()), true).unwrap();
    assert!(is_served(&tls, &first, "app.example").await);
    assert!(is_served(&tls, &first, "127.0.0.1").await, "no name is sent for an address");
    assert!(is_served(&tls, &wild, "other.app.example").await);
    assert!(is_served(&tls, &exact, "api.App.example").await);
    assert!(!is_served(&tls, &wild, "a.b.app.example").await, "a wildcard is for one label");
}

#[tokio::test]
async fn what_an_authority_gave_is_served_by_its_name_and_files_come_first() {
    let folder = tempfile::tempdir().unwrap();
    let text = |path: &Path| fs::read_to_string(path).unwrap();
    let given = write(folder.path(), "given", &["app.example"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    });
    let certificates = Arc::new(Certificates::load(Vec::new()).unwrap());
    let tls = Tls::new(Arc::clone(&certificates), true).unwrap();
    assert!(!is_served(&tls, &given, "app.example").await, "there is none yet");
    let take = |host: &str, files: &CertificateFiles| {
        certificates.take(host, &text(&files.certificate), &text(&files.key))
    };
    let validity = take("app.example", &given).unwrap();
    assert_eq!(validity, Validity { from: 1_577_836_800, until: 4_102_444_800 });
    assert!(is_served(&tls, &given, "app.example").await);
    assert_eq!(certificates.expiries(), [("app.example".to_owned(), 4_102_444_800)]);
    let other = write(folder.path(), "other", &["app.example"], |_| ());
    let halves = CertificateFiles { certificate: given.certificate.clone(), key: other.key.clone() };
    let late = write(folder.path(), "late", &["app.example"], |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    });
    for (host, wrong) in [("b.example", &given), ("app.example", &halves), ("app.example", &late)] {
        assert!(matches!(take(host, wrong), Err(CertificateProblem::Obtained { .. })));
    }
    assert!(is_served(&tls, &given, "app.example").await, "the one before stays");
    let with_file = Certificates::load(vec![other.clone()]).unwrap();
    with_file.take("app.example", &text(&given.certificate), &text(&given.key)).unwrap();
    let tls = Tls::new(Arc::new(with_file), true).unwrap();
    assert!(is_served(&tls, &other, "app.example").await);
}

#[test]
fn what_is_wrong_with_a_certificate_is_told_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(folder.path(), "good", &["a.example"], |_| ());
    let other = write(folder.path(), "other", &["b.example"], |_| ());
    let of = |certificate: &str, key: &str| {
        vec![CertificateFiles { certificate: folder.path().join(certificate), key: folder.path().join(key) }]
    };
    let is = |files, expected: &str| assert_eq!(problem(files, &folder), expected);
    is(of("none.pem", "good.key"), "none.pem cannot be read: No such file or directory (os error 2)");
    is(of("good.pem", "none.key"), "none.key cannot be read: No such file or directory (os error 2)");
    is(
        of("good.key", "good.key"),
        "good.key has no certificate in it; it must hold PEM, which begins with -----BEGIN CERTIFICATE-----",
    );
    is(
        of("good.pem", "good.pem"),
        "good.pem has no private key in it; it must hold PEM, and the key no password",
    );
    is(of("good.pem", "other.key"), "other.key is not the key of the certificate in good.pem");
    let late = write(folder.path(), "late", &["a.example"], |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    });
    is(vec![late], "the certificate in late.pem expired on Thu, 02 Jan 2020 00:00:00 GMT");
    let early = write(folder.path(), "early", &["a.example"], |params| {
        params.not_before = rcgen::date_time_ymd(2999, 1, 2);
    });
    is(vec![early], "the certificate in early.pem is not valid before Wed, 02 Jan 2999 00:00:00 GMT");
    let nobody = write(folder.path(), "nobody", &[], |_| ());
    is(vec![nobody], "the certificate in nobody.pem names no host that clients could ask for");
    let address = write(folder.path(), "address", &["10.0.0.1"], |_| ());
    is(
        vec![good, address.clone()],
        "the certificate in address.pem names no host that clients could ask for",
    );
    Certificates::load(vec![address, other]).unwrap();
}

#[tokio::test]
async fn a_new_certificate_is_taken_and_a_wrong_one_leaves_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let files = write(folder.path(), "a", &["a.example"], |_| ());
    let certificates = Arc::new(Certificates::load(vec![files.clone()]).unwrap());
    let tls = Tls::new(Arc::clone(&certificates), true).unwrap();
    assert!(certificates.reload().0.is_empty(), "nothing has changed");
    let renewed = write(folder.path(), "b", &["a.example"], |_| ());
    fs::copy(&renewed.certificate, &files.certificate).unwrap();
    let (changed, problems) = certificates.reload();
    assert!(changed.is_empty());
    assert!(matches!(problems[..], [CertificateProblem::OtherKey(_)]), "{problems:?}");
    assert!(!is_served(&tls, &renewed, "a.example").await);
    fs::copy(&renewed.key, &files.key).unwrap();
    assert_eq!(certificates.reload().0, [&files]);
    assert!(is_served(&tls, &renewed, "a.example").await);
}

#[test]
fn a_key_that_every_user_reads_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let files = write(folder.path(), "a", &["a.example"], |_| ());
    for (mode, is_open) in [(0o600, false), (0o640, false), (0o644, true)] {
        fs::set_permissions(&files.key, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(files.has_open_key(), is_open, "{mode:o}");
    }
}

fn any_tls(folder: &Path) -> Tls {
    let files = write(folder, "a", &["a.example"], |_| ());
    Tls::new(Arc::new(Certificates::load(vec![files]).unwrap()), true).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_drips_is_given_up_after_ten_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let handshakes = any_tls(folder.path()).handshakes();
    let (mut client, server) = tokio::io::duplex(64);
    let dripping = tokio::spawn(async move {
        // A record of a handshake that never ends.
        let _ = client.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252]).await;
        while client.write_all(&[3]).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let begun = tokio::time::Instant::now();
    let error = shake(&handshakes, server).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(begun.elapsed(), HANDSHAKE_TIMEOUT);
    assert_eq!(handshakes.taken(), (0, 0));
    dripping.await.unwrap();
}

#[tokio::test]
async fn a_client_that_speaks_no_tls_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let handshakes = any_tls(folder.path()).handshakes();
    let (mut client, server) = tokio::io::duplex(64);
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let error = shake(&handshakes, server).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let mut alert = Vec::new();
    client.read_to_end(&mut alert).await.unwrap();
    assert_eq!(alert.first(), Some(&21), "{alert:?}");
}

/// A loop with few places: eight, and two for one address once four are taken.
fn with_few_places(files: &CertificateFiles) -> Handshakes {
    let certificates = Certificates::load(vec![files.clone()]).unwrap();
    let Tls(config) = Tls::new(Arc::new(certificates), true).unwrap();
    Handshakes::with_places(TlsAcceptor::from(config), Places { all: 8, of_one: 2 })
}

#[tokio::test]
async fn one_address_cannot_take_all_handshakes_and_others_have_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let files = write(folder.path(), "a", &["a.example"], |_| ());
    let handshakes = with_few_places(&files);
    let place = |address: &str| handshakes.place(Some(address.parse().unwrap()));
    let mut of_one: Vec<Place> = (0..4).map(|_| place("127.0.0.1").unwrap()).collect();
    assert!(place("127.0.0.1").is_none(), "half of the places are taken, and all by it");
    let other = place("127.0.0.2").unwrap();
    assert!(is_served_at(handshakes.clone(), other, &files, "a.example").await);
    of_one.pop();
    of_one.push(place("127.0.0.1").expect("less than half are taken"));
    let of_network = [place("2001:db8::1").unwrap(), place("2001:db8::2").unwrap()];
    assert!(place("2001:db8::3").is_none(), "a network of 64 bits is one address");
    let others = [place("2001:db8:0:1::1").unwrap(), place("127.0.0.3").unwrap()];
    assert!(place("127.0.0.4").is_none(), "all are taken");
    drop((of_one, of_network, others));
    assert_eq!(handshakes.taken(), (0, 0));
}

#[tokio::test]
async fn an_address_that_speaks_for_many_may_take_all_handshakes() {
    let folder = tempfile::tempdir().unwrap();
    let handshakes = with_few_places(&write(folder.path(), "a", &["a.example"], |_| ()));
    let _all: Vec<Place> = (0..8).map(|_| handshakes.place(None).unwrap()).collect();
    assert!(handshakes.place(None).is_none());
}
