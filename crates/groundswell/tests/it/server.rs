//! A running server, and plain requests to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server on free ports, over a folder of its own. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// HOST:PORT of the API.
    pub(crate) address: String,
    /// HOST:PORT of the management listener.
    pub(crate) management: String,
    /// What it printed until it was ready.
    pub(crate) banner: String,
    folder: Arc<TempDir>,
}

/// A response as bytes, taken apart.
#[derive(Debug)]
pub(crate) struct Response {
    /// The status code; 0 if the connection ended without an answer.
    pub(crate) status: u16,
    /// Everything before the body, in lower case names as they came.
    pub(crate) head: String,
    /// The body.
    pub(crate) body: Vec<u8>,
}

/// A command of the binary, in a folder where nothing is configured.
pub(crate) fn groundswell(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_groundswell"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// Runs a command to its end in `folder`.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Output {
    groundswell(arguments).current_dir(folder).output().unwrap()
}

impl Server {
    /// Starts `serve` with more flags.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_with(|_| (), flags)
    }

    /// Starts `serve` after `prepare` has filled the folder that holds `gs_public`.
    pub(crate) fn start_with(prepare: impl FnOnce(&Path), flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        Self::start_in(Arc::new(folder), &[], flags)
    }

    /// Starts `serve` with more variables in its environment.
    pub(crate) fn start_with_env(variables: &[(&str, &str)]) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), variables, &[])
    }

    /// Ends it and starts another over the same folder, with these variables alone.
    pub(crate) fn restart_with_env(self, variables: &[(&str, &str)]) -> Self {
        let folder = Arc::clone(&self.folder);
        drop(self);
        Self::start_in(folder, variables, &[])
    }

    /// Ends it and starts another over the same folder, with these flags.
    pub(crate) fn restart_with_flags(self, flags: &[&str]) -> Self {
        let folder = Arc::clone(&self.folder);
        drop(self);
        Self::start_in(folder, &[], flags)
    }

    /// Starts another one that takes this one's place.
    pub(crate) fn take_over(&self) -> Self {
        self.take_over_with_flags(&[])
    }

    /// The same with more flags.
    pub(crate) fn take_over_with_flags(&self, flags: &[&str]) -> Self {
        Self::start_in(Arc::clone(&self.folder), &[], &[flags, &["--take-over"]].concat())
    }

    fn start_in(folder: Arc<TempDir>, variables: &[(&str, &str)], flags: &[&str]) -> Self {
        let any_port: &[&str] = if flags.contains(&"--http") { &[] } else { &["--http", "127.0.0.1:0"] };
        let mut child = groundswell(&["serve"])
            .args(any_port)
            .args(flags)
            .envs(variables.iter().copied())
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut banner = String::new();
        // The last line of a banner: a gateway node has no data.
        while !banner.contains("Data:") && !banner.contains("Services:  ") {
            assert!(stdout.read_line(&mut banner).unwrap() > 0, "the server ended: {banner}");
        }
        let address = between(&banner, "started at http://", "\n");
        let management = between(&banner, "Management: http://", "/");
        Self { child, stdout, address, management, banner, folder }
    }

    /// The folder that holds the data folder and the public folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// The id of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection to the API.
    pub(crate) fn connect(&self) -> TcpStream {
        connect(&self.address)
    }

    /// GET over a connection of its own.
    pub(crate) fn get(&self, target: &str) -> Response {
        self.request("GET", target, &[])
    }

    /// A request without a body over a connection of its own.
    pub(crate) fn request(&self, method: &str, target: &str, headers: &[&str]) -> Response {
        self.send(&request(method, target, headers))
    }

    /// A request with a JSON body over a connection of its own.
    pub(crate) fn send_json(&self, method: &str, target: &str, headers: &[&str], body: &str) -> Response {
        let length = format!("Content-Length: {}", body.len());
        let headers = [&["Content-Type: application/json", &length], headers].concat();
        self.send(&[request(method, target, &headers), body.as_bytes().to_vec()].concat())
    }

    /// Sends bytes and reads until the server closes.
    pub(crate) fn send(&self, bytes: &[u8]) -> Response {
        let mut stream = self.connect();
        // The server may answer and close before it has read all.
        let _ = stream.write_all(bytes);
        read_response(&mut stream)
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        // The shell's own `kill`: a small Debian has no other.
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for the end, and gives the code and whatever else was printed.
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Response {
    /// The value of a header, or an empty string. Several values are joined by a comma.
    pub(crate) fn header(&self, name: &str) -> String {
        let values = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let values = values.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        values.collect::<Vec<_>>().join(",")
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first value of this key in the JSON body: a text that has no escapes, or a number.
    pub(crate) fn value(&self, key: &str) -> String {
        let text = self.text();
        let key = format!("\"{key}\":");
        let start = text.find(&key).unwrap_or_else(|| panic!("{key} in {text}")) + key.len();
        text[start..].trim_start_matches('"').split(['"', ',', '}']).next().unwrap_or_default().to_owned()
    }
}

/// The bytes of a request that asks for the connection to be closed.
pub(crate) fn request(method: &str, target: &str, headers: &[&str]) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// A connection whose reads and writes end in time.
pub(crate) fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads a response that ends with the connection.
pub(crate) fn read_response(stream: &mut impl Read) -> Response {
    let mut bytes = Vec::new();
    // A reset after the answer leaves the answer.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Response { status, head, body: bytes.get(end + 4..).unwrap_or_default().to_vec() }
}

/// What stands between these in a text.
pub(crate) fn between(text: &str, before: &str, after: &str) -> String {
    let start = text.find(before).unwrap_or_else(|| panic!("{before:?} in {text:?}")) + before.len();
    let length = text[start..].find(after).unwrap_or_else(|| panic!("{after:?} in {text:?}"));
    text[start..start + length].to_owned()
}
