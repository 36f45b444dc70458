//! A PocketBase of our own for one test: its folder, its process, its superuser.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use model::json::Json;

/// A running server; stopped and removed when dropped.
pub(crate) struct PocketBase {
    process: Child,
    folder: PathBuf,
    port: u16,
    token: String,
}

impl PocketBase {
    /// Starts the binary that `POCKETBASE_BIN` names; says why and gives nothing when it names none.
    pub(crate) fn start() -> Option<PocketBase> {
        let Some(binary) = std::env::var_os("POCKETBASE_BIN") else {
            skip();
            return None;
        };
        let binary = Path::new(&binary);
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("model-it-{}-{number}", std::process::id()));
        // The server also writes beside its data folder.
        let data = format!("--dir={}", folder.join("data").display());
        let superuser = ["superuser", "upsert", "root@example.com", "1234567890", &data];
        let status = Command::new(binary).args(superuser).stdout(Stdio::null()).status().unwrap();
        assert!(status.success());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(binary)
            .args(["serve", "--http", &format!("127.0.0.1:{port}"), &data])
            .env("TZ", "UTC")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = PocketBase { process, folder, port, token: String::new() };
        server.wait();
        let body = r#"{"identity":"root@example.com","password":"1234567890"}"#;
        let (_, answer) = server.send("POST", "/api/collections/_superusers/auth-with-password", body);
        server.token = Json::parse_whole(&answer).unwrap().get("token").unwrap().as_str().unwrap().to_owned();
        Some(server)
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "the server did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a JSON request as the superuser.
    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let token = &self.token;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head[9..12].parse().unwrap();
        let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        (status, if is_chunked { unchunk(body) } else { body.to_owned() })
    }
}

/// Says that there is nothing to compare with, which a CI run does not accept.
pub(crate) fn skip() {
    let missing = "POCKETBASE_BIN does not name a PocketBase to compare with";
    assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "{missing}");
    println!("skipped: {missing}");
}

impl Drop for PocketBase {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    whole
}
