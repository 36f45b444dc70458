//! A PocketBase of one's own, on a free port and in a folder that goes when it goes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use model::json::Json;

pub(crate) struct PocketBase {
    process: Child,
    folder: PathBuf,
    port: u16,
    token: String,
}

impl PocketBase {
    /// Starts the binary that `POCKETBASE_BIN` names, with one superuser.
    pub(crate) fn start(binary: &str, name: &str) -> PocketBase {
        let folder = std::env::temp_dir().join(format!("model-{name}-{}", std::process::id()));
        let dir = folder.join("data");
        let credentials = ["superuser", "upsert", "a@x.com", "1234567890", "--dir"];
        let upsert = Command::new(binary).args(credentials).arg(&dir).output().unwrap();
        assert!(upsert.status.success(), "{upsert:?}");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(binary)
            .args(["serve", "--http", &format!("127.0.0.1:{port}"), "--dir"])
            .arg(&dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = PocketBase { process, folder, port, token: String::new() };
        server.wait_until_it_answers();
        let path = "/api/collections/_superusers/auth-with-password";
        let (_, answer) = server.call("POST", path, r#"{"identity":"a@x.com","password":"1234567890"}"#);
        let answer = Json::parse_whole(&answer).unwrap();
        server.token = answer.get("token").and_then(Json::as_str).unwrap().to_owned();
        server
    }

    /// The status and the body of an answer.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.try_call(method, path, body).unwrap()
    }

    fn try_call(&self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let (token, length) = (&self.token, body.len());
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nAuthorization: {token}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = Vec::new();
        // The server may reset the connection after an answer that did not need the body.
        if let Err(error) = stream.read_to_end(&mut answer)
            && answer.is_empty()
        {
            return Err(error);
        }
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        Ok((status, body))
    }

    fn wait_until_it_answers(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.try_call("GET", "/api/health", "").is_err() {
            assert!(Instant::now() < deadline, "the server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for PocketBase {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
