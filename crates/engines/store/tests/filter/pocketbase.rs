//! The real server, when the environment names its program.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use model::json::Json;

/// A running server with its data in a temporary folder; both go when this is dropped.
pub(crate) struct PocketBase {
    process: Child,
    port: u16,
    folder: PathBuf,
    pub(crate) token: String,
}

impl PocketBase {
    /// Starts one, if `POCKETBASE_BIN` says where the program is.
    pub(crate) fn start() -> Option<PocketBase> {
        let program = std::env::var_os("POCKETBASE_BIN")?;
        let folder = std::env::temp_dir().join(format!("filter-{}-{}", std::process::id(), free_port()));
        let data = folder.join("pb_data");
        std::fs::create_dir_all(&folder).unwrap();
        let made = Command::new(&program)
            .args(["superuser", "upsert", "root@example.com", "1234567890", "--dir"])
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        let port = free_port();
        let process = Command::new(&program)
            .args(["serve", "--automigrate=false", "--http", &format!("127.0.0.1:{port}"), "--dir"])
            .arg(&data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = PocketBase { process, port, folder, token: String::new() };
        server.wait();
        server.token = server.sign_in("_superusers", "root@example.com");
        Some(server)
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "the server did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join("pb_data/data.db")
    }

    pub(crate) fn sign_in(&self, collection: &str, email: &str) -> String {
        let body = format!(r#"{{"identity":"{email}","password":"1234567890"}}"#);
        let path = format!("/api/collections/{collection}/auth-with-password");
        let (status, answer) = self.call("POST", &path, "", Some(&body));
        assert_eq!(status, 200, "{answer}");
        answer.get("token").and_then(Json::as_str).unwrap().to_owned()
    }

    /// Calls as a superuser and wants a 200 or 204.
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Json {
        let (status, answer) = self.call(method, path, &self.token, body);
        assert!(status == 200 || status == 204, "{method} {path} {body:?}: {status} {answer}");
        answer
    }

    pub(crate) fn call(&self, method: &str, path: &str, token: &str, body: Option<&str>) -> (u16, Json) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let body = body.unwrap_or("");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Test: Some\r\nAuthorization: {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let split = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..split]).into_owned();
        let status = head[9..12].parse().unwrap();
        let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            joined(&answer[split + 4..])
        } else {
            answer[split + 4..].to_vec()
        };
        (status, Json::parse_first(&body).unwrap_or(Json::Null))
    }

    /// The ids that a list gives, in order, or the status of its refusal.
    pub(crate) fn list(
        &self,
        collection: &str,
        filter: &str,
        sort: &str,
        token: &str,
    ) -> Result<Vec<String>, u16> {
        let path = format!(
            "/api/collections/{collection}/records?perPage=500&skipTotal=1&fields=id&filter={}&sort={}",
            encode(filter),
            encode(sort)
        );
        let (status, answer) = self.call("GET", &path, token, None);
        if status != 200 {
            return Err(status);
        }
        let items = answer.get("items").and_then(Json::as_array).unwrap();
        Ok(items.iter().map(|item| item.get("id").and_then(Json::as_str).unwrap().to_owned()).collect())
    }
}

impl Drop for PocketBase {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn joined(chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut rest = chunks;
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap().trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
    body
}

pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
