//! TLS on the public listener, as clients meet it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned};

use crate::app::wait_until;
use crate::server::{Response, Server, between, connect, read_response, request, run};
use crate::upstreams::echo;

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Two certificates, the first for `app.example`.
pub(crate) const TLS: &str = "
[[tls.certificates]]
certificate = \"app.pem\"
key = \"app.key\"
[[tls.certificates]]
certificate = \"wild.pem\"
key = \"wild.key\"
";

/// A server with TLS, and who asks it.
pub(crate) struct Secured {
    pub(crate) server: Server,
    /// HOST:PORT of the API over TLS.
    pub(crate) address: String,
}

/// A certificate for this name, which is its own authority, and its key, as PEM.
pub(crate) fn certificate(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

pub(crate) fn write_certificate(folder: &Path, file: &str, name: &str) {
    let (certificate, key) = certificate(name);
    fs::write(folder.join(format!("{file}.key")), key).unwrap();
    fs::write(folder.join(format!("{file}.pem")), certificate).unwrap();
}

/// The first certificate of a file.
fn der(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(&fs::read(path).unwrap()).unwrap()
}

/// A server whose configuration goes on with `config`, after the address for HTTPS.
pub(crate) fn secured(config: &str) -> Secured {
    let config = format!("[server]\nhttps = \"127.0.0.1:0\"\n{config}");
    let prepare = |folder: &Path| {
        write_certificate(folder, "app", "app.example");
        write_certificate(folder, "wild", "*.app.example");
        fs::create_dir(folder.join("gs_public")).unwrap();
        fs::write(folder.join("g.toml"), config).unwrap();
    };
    let server = Server::start_with(prepare, &["--config", "g.toml"]);
    let address = between(&server.banner, "HTTPS:      https://", "/");
    Secured { server, address }
}

impl Secured {
    /// What a client trusts: the certificates that lie in the folder now.
    pub(crate) fn trusted(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        for file in ["app.pem", "wild.pem"] {
            roots.add(der(&self.server.folder().join(file))).unwrap();
        }
        roots
    }

    fn connect(&self, name: &str) -> Stream {
        shake(&self.address, name, self.trusted(), rustls::ALL_VERSIONS).unwrap()
    }

    fn get(&self, target: &str) -> Response {
        let mut stream = self.connect("app.example");
        stream.write_all(&request("GET", target, &[])).unwrap();
        read_response(&mut stream)
    }

    /// The first bytes that the server says to a hello of this version.
    fn answer_to_hello(&self, minor: u8) -> Vec<u8> {
        let mut stream = connect(&self.address);
        stream.write_all(&hello(minor)).unwrap();
        let mut answer = vec![0; 7];
        stream.read_exact(&mut answer).unwrap();
        answer
    }

    /// The bytes that the server says to these before it closes.
    fn answer_to(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = connect(&self.address);
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }
}

/// A hello of the version 3.MINOR, which is TLS 1.(MINOR - 1): it differs in nothing else.
fn hello(minor: u8) -> Vec<u8> {
    // ECDSA, over curves of which one is 25519.
    let ciphers = [0, 6, 0xC0, 0x2B, 0xC0, 0x09, 0xCC, 0xA9];
    let groups = [0, 10, 0, 6, 0, 4, 0, 0x1D, 0, 0x17];
    let points = [0, 11, 0, 2, 1, 0];
    let signatures = [0, 13, 0, 4, 0, 2, 4, 3];
    let extensions = [&groups[..], &points, &signatures].concat();
    let no_compression = [1, 0];
    let body = [
        &[3, minor][..],
        &[7; 32],
        &[0],
        &ciphers,
        &no_compression,
        &[0, extensions.len() as u8],
        &extensions,
    ];
    let body = body.concat();
    let message = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    [&[22, 3, 1, 0, message.len() as u8][..], &message].concat()
}

/// A connection after its handshake.
fn shake(
    address: &str,
    name: &str,
    trusted: RootCertStore,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<Stream> {
    shake_over(connect(address), name, trusted, versions)
}

fn shake_over(
    stream: TcpStream,
    name: &str,
    trusted: RootCertStore,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<Stream> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

#[test]
fn requests_are_answered_over_both_versions_and_nothing_older() {
    let secured = secured(TLS);
    for (version, named) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let mut stream = shake(&secured.address, "app.example", secured.trusted(), &[version]).unwrap();
        assert_eq!(stream.conn.protocol_version(), Some(named));
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        stream.write_all(&request("GET", "/api/health", &[])).unwrap();
        assert_eq!(read_response(&mut stream).status, 200);
    }
    assert_eq!(secured.answer_to_hello(3)[..1], [22], "a handshake of TLS 1.2 goes on");
    for older in [0, 1, 2] {
        let alert = secured.answer_to_hello(older);
        // A fatal alert: protocol_version.
        assert_eq!((alert[0], &alert[5..]), (21, &[2, 70][..]), "3.{older}");
    }
    // HTTP goes on without TLS, too.
    assert_eq!(secured.server.get("/api/health").status, 200);
}

#[test]
fn the_certificate_is_the_one_of_the_name() {
    let secured = secured(TLS);
    let served = |name| secured.connect(name).conn.peer_certificates().unwrap()[0].clone().into_owned();
    let folder = secured.server.folder();
    assert_eq!(served("app.example"), der(&folder.join("app.pem")));
    assert_eq!(served("shop.app.example"), der(&folder.join("wild.pem")));
    let unknown = shake(&secured.address, "other.example", secured.trusted(), rustls::ALL_VERSIONS);
    assert!(unknown.unwrap_err().to_string().contains("not valid for name"), "the first is served");
}

#[test]
fn large_answers_and_streams_come_through() {
    const LARGE: usize = 8 << 20;
    let secured = secured(TLS);
    fs::write(secured.server.folder().join("gs_public/large.bin"), vec![7; LARGE]).unwrap();
    let answer = secured.get("/large.bin");
    assert_eq!((answer.status, answer.body.len()), (200, LARGE));
    let mut stream = secured.connect("app.example");
    stream.write_all(&request("GET", "/api/realtime", &[])).unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains("PB_CONNECT") {
        let count = stream.read(&mut buffer).unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

#[test]
fn sessions_are_resumed() {
    for version in rustls::ALL_VERSIONS {
        let secured = secured(TLS);
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(secured.trusted())
            .with_no_client_auth();
        let config = Arc::new(config);
        let kinds = [(); 2].map(|()| {
            let name = ServerName::try_from("app.example").unwrap();
            let connection = ClientConnection::new(Arc::clone(&config), name).unwrap();
            let mut stream = StreamOwned::new(connection, connect(&secured.address));
            stream.write_all(&request("GET", "/api/health", &[])).unwrap();
            assert_eq!(read_response(&mut stream).status, 200);
            stream.conn.handshake_kind().unwrap()
        });
        assert_eq!(kinds, [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed], "{version:?}");
    }
}

#[test]
fn a_certificate_is_replaced_on_sighup_while_requests_go_on() {
    let secured = secured(TLS);
    let pem = secured.server.folder().join("app.pem");
    let mut trusted = secured.trusted();
    let (certificate, key) = certificate("app.example");
    trusted.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let (is_over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut kept = secured.connect("app.example");
    let ask = |stream: &mut Stream| {
        stream.write_all(b"GET /api/health HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        let mut start = [0; 15];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.1 200 OK");
        while !stream.conn.process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() == 0) {
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        }
    };
    ask(&mut kept);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let mut stream =
                        shake(&secured.address, "app.example", trusted.clone(), rustls::ALL_VERSIONS)
                            .unwrap();
                    stream.write_all(&request("GET", "/api/health", &[])).unwrap();
                    assert_eq!(read_response(&mut stream).status, 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let more = |count| {
            let until = answered.load(Ordering::Relaxed) + count;
            wait_until("more answers", || answered.load(Ordering::Relaxed) >= until);
        };
        more(20);
        let before = der(&pem);
        let served = || {
            let stream =
                shake(&secured.address, "app.example", trusted.clone(), rustls::ALL_VERSIONS).unwrap();
            stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
        };
        // Half of it is no pair.
        fs::write(&pem, &certificate).unwrap();
        secured.server.signal("HUP");
        more(20);
        assert_eq!(served(), before);
        fs::write(secured.server.folder().join("app.key"), &key).unwrap();
        secured.server.signal("HUP");
        wait_until("the new certificate", || served() == der(&pem));
        more(20);
        is_over.store(true, Ordering::Relaxed);
    });
    ask(&mut kept);
}

#[test]
fn what_is_no_tls_is_closed_and_harms_nobody() {
    let secured = secured(TLS);
    // Handshakes that were begun, and stay so.
    let begun: Vec<TcpStream> = (0..200).map(|_| connect(&secured.address)).collect();
    for mut stream in &begun {
        stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).unwrap();
    }
    let plain = secured.answer_to(&request("GET", "/api/health", &[]));
    assert!(!plain.starts_with(b"HTTP/"), "{plain:?}");
    let garbage: Vec<u8> =
        (0..100_000_u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    assert!(secured.answer_to(&garbage).len() < 16);
    // A message of 16 MiB, of which records come as long as they are taken.
    let mut endless = vec![22, 3, 1, 0x40, 0, 1, 0xFF, 0xFF, 0xFF];
    endless.resize(5 + 0x4000, 0);
    for _ in 0..16 {
        endless.extend([22, 3, 1, 0x40, 0]);
        endless.resize(endless.len() + 0x4000, 0);
    }
    assert!(secured.answer_to(&endless).len() < 16);
    assert_eq!(secured.get("/api/health").status, 200);
    secured.server.terminate();
    assert_eq!(secured.server.wait().0, Some(0), "what has no request holds up no end");
}

#[test]
fn http_is_sent_to_https_if_so_configured() {
    let secured = secured(&format!("{TLS}[tls]\nredirect_http = true"));
    let port = secured.address.rsplit(':').next().unwrap();
    let answer = secured.server.get("/api/health?a=b");
    assert_eq!(answer.status, 308);
    assert_eq!(answer.header("location"), format!("https://test:{port}/api/health?a=b"));
    assert_eq!(secured.get("/api/health").status, 200);
    let folder = secured.server.folder().join("gs_public/.well-known/acme-challenge");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("proof"), "it is me").unwrap();
    assert_eq!(secured.server.get("/.well-known/acme-challenge/proof").text(), "it is me");
    let mut management = connect(&secured.server.management);
    management.write_all(&request("GET", "/livez", &[])).unwrap();
    assert_eq!(read_response(&mut management).status, 200);
}

#[test]
fn only_https_answers_ask_browsers_to_keep_to_it() {
    let secured = secured(&format!("{TLS}[tls]\nhsts = \"max-age=31536000\""));
    assert_eq!(secured.get("/api/health").header("strict-transport-security"), "max-age=31536000");
    assert_eq!(secured.get("/nowhere").header("strict-transport-security"), "max-age=31536000");
    assert_eq!(secured.server.get("/api/health").header("strict-transport-security"), "");
}

#[test]
fn other_servers_are_told_that_it_was_https() {
    let route = format!(
        "{TLS}[gateway.upstreams.echo]\nservers = [\"http://{}\"]\n[[gateway.routes]]\npath = \"/echo/\"\nupstream = \"echo\"",
        echo()
    );
    let secured = secured(&route);
    let protocol = |answer: Response| {
        assert_eq!(answer.status, 200, "{}", answer.text());
        between(&(answer.text() + "\n"), "x-forwarded-proto: ", "\n")
    };
    assert_eq!(protocol(secured.get("/echo/")), "https");
    assert_eq!(protocol(secured.server.get("/echo/")), "http");
}

#[test]
fn a_wrong_certificate_ends_check_and_start_with_code_2_and_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    write_certificate(folder.path(), "app", "app.example");
    write_certificate(folder.path(), "other", "app.example");
    let config = |key: &str| {
        let config = format!(
            "[server]\nhttp = \"127.0.0.1:0\"\nhttps = \"127.0.0.1:0\"\n[[tls.certificates]]\ncertificate = \"app.pem\"\nkey = \"{key}\""
        );
        fs::write(folder.path().join("g.toml"), config).unwrap();
    };
    config("other.key");
    for command in ["check", "serve"] {
        let output = run(folder.path(), &[command, "--config", "g.toml"]);
        assert_eq!(output.status.code(), Some(2));
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(complaint, "other.key is not the key of the certificate in app.pem\n");
    }
    config("app.key");
    let output = run(folder.path(), &["check", "--config", "g.toml"]);
    assert_eq!(output.status.code(), Some(0));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        told.contains("certificate: app.pem is right; every user of this machine can read its key"),
        "{told}"
    );
    assert!(told.contains("https port: 127.0.0.1:0 is free"), "{told}");
}

#[test]
fn the_word_of_a_proxy_comes_before_the_handshake() {
    let pool = format!("[gateway.upstreams.pool]\nservers = [\"http://{}\"]\n", echo());
    let route = "[[gateway.routes]]\npath = \"/\"\nupstream = \"pool\"\n";
    let secured = secured(&format!("proxy_protocol = [\"127.0.0.1\"]\n{TLS}{pool}{route}"));
    let mut stream = connect(&secured.address);
    stream.write_all(b"PROXY TCP4 192.0.2.7 127.0.0.1 4096 443\r\n").unwrap();
    let mut stream = shake_over(stream, "app.example", secured.trusted(), rustls::ALL_VERSIONS).unwrap();
    stream.write_all(&request("GET", "/", &[])).unwrap();
    let seen = read_response(&mut stream).text();
    assert!(seen.contains("x-forwarded-for: 192.0.2.7\n"), "{seen}");
    assert!(seen.contains("x-forwarded-proto: https"), "{seen}");
    // Without it the first bytes of the handshake are taken for it, and are none.
    let hello = secured.answer_to(&hello(3));
    assert!(hello.is_empty(), "{hello:?}");
}
