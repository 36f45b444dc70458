//! A server with a superuser, and what the tests of files and batches ask of it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::{Value, json};

use crate::server::{PATIENCE, Response, Server, read_response, request, run};

/// Parts of a form end and begin with it.
const BOUNDARY: &str = "----------------boundary";

/// A part of a form: a value, or a file with its name.
pub(crate) struct Part<'p> {
    name: &'p str,
    file_name: Option<&'p str>,
    bytes: &'p [u8],
}

/// A server, and the header of its superuser.
pub(crate) struct App {
    pub(crate) server: Server,
    pub(crate) root: String,
}

/// A file of a form.
pub(crate) fn file<'p>(name: &'p str, file_name: &'p str, bytes: &'p [u8]) -> Part<'p> {
    Part { name, file_name: Some(file_name), bytes }
}

/// A value of a form.
pub(crate) fn value<'p>(name: &'p str, text: &'p str) -> Part<'p> {
    Part { name, file_name: None, bytes: text.as_bytes() }
}

/// The JSON of an answer.
pub(crate) fn json_of(answer: &Response) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.text()))
}

/// Bytes that no two places have in common by chance: each place tells where it is.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place % 251) as u8 ^ (place >> 16) as u8).collect()
}

/// Asks until the answer is yes.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    const PAUSE: Duration = Duration::from_millis(20);
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what} did not come to be");
        thread::sleep(PAUSE);
    }
}

/// The head of an upload whose body is `file`'s beginning, so many bytes, and the end.
pub(crate) fn upload_head(target: &str, headers: &[&str], field: &str, bytes: u64) -> (Vec<u8>, Vec<u8>) {
    let (start, end) = (part_head(field, Some("file.bin")), form_end());
    let length = format!("Content-Length: {}", start.len() as u64 + bytes + end.len() as u64);
    let kind = format!("Content-Type: multipart/form-data; boundary={BOUNDARY}");
    let head = request("POST", target, &[&[kind.as_str(), &length], headers].concat());
    ([head, start.into_bytes()].concat(), end.into_bytes())
}

fn part_head(name: &str, file_name: Option<&str>) -> String {
    let file_name = file_name.map(|name| format!("; filename=\"{name}\"")).unwrap_or_default();
    format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file_name}\r\n\r\n")
}

fn form_end() -> String {
    format!("\r\n--{BOUNDARY}--\r\n")
}

// === impl App ===

impl App {
    pub(crate) fn start() -> App {
        App::start_with_env(&[])
    }

    pub(crate) fn start_with_env(variables: &[(&str, &str)]) -> App {
        App::of(Server::start_with_env(variables))
    }

    /// With a configuration file.
    pub(crate) fn start_with_config(config: &str) -> App {
        let write = |folder: &Path| fs::write(folder.join("g.toml"), config).unwrap();
        App::of(Server::start_with(write, &["--config", "g.toml"]))
    }

    fn of(server: Server) -> App {
        let upsert = run(&server.folder(), &["superuser", "upsert", "root@acme.test", "password-1"]);
        assert!(upsert.status.success());
        let mut app = App { server, root: String::new() };
        app.root = app.sign_in("_superusers", "root@acme.test");
        app
    }

    /// Another process over the same folder.
    pub(crate) fn restart_with_env(self, variables: &[(&str, &str)]) -> App {
        App { server: self.server.restart_with_env(variables), root: self.root }
    }

    /// The header of a record that signs in, whose password is `password-1`.
    pub(crate) fn sign_in(&self, collection: &str, email: &str) -> String {
        let body = json!({"identity": email, "password": "password-1"});
        let target = format!("/api/collections/{collection}/auth-with-password");
        let answer = self.server.send_json("POST", &target, &[], &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        format!("Authorization: {}", answer.value("token"))
    }

    /// A request of the superuser with a JSON body.
    pub(crate) fn send(&self, method: &str, target: &str, body: &Value) -> Response {
        self.server.send_json(method, target, &[&self.root], &body.to_string())
    }

    /// A request of the superuser that must do.
    pub(crate) fn done(&self, method: &str, target: &str, body: &Value) -> Value {
        let answer = self.send(method, target, body);
        assert_eq!(answer.status, 200, "{method} {target}: {}", answer.text());
        json_of(&answer)
    }

    /// A collection that is open to everybody.
    pub(crate) fn collection(&self, name: &str, fields: &Value) -> String {
        let body = json!({
            "name": name, "fields": fields,
            "listRule": "", "viewRule": "", "createRule": "", "updateRule": "", "deleteRule": ""
        });
        self.done("POST", "/api/collections", &body)["id"].as_str().unwrap().to_owned()
    }

    /// A form from anybody.
    pub(crate) fn form<'p>(
        &self,
        method: &str,
        target: &str,
        parts: impl IntoIterator<Item = &'p Part<'p>>,
    ) -> Response {
        let mut body = Vec::new();
        for (position, part) in parts.into_iter().enumerate() {
            body.extend_from_slice(if position == 0 { b"" } else { b"\r\n" });
            body.extend_from_slice(part_head(part.name, part.file_name).as_bytes());
            body.extend_from_slice(part.bytes);
        }
        body.extend_from_slice(form_end().as_bytes());
        let kind = format!("Content-Type: multipart/form-data; boundary={BOUNDARY}");
        let length = format!("Content-Length: {}", body.len());
        let mut stream = self.server.connect();
        // The server may answer and close before it has read all.
        let head = request(method, target, &[&kind, &length]);
        let _ = stream.write_all(&head).and_then(|()| stream.write_all(&body));
        read_response(&mut stream)
    }

    /// A new record of a form.
    pub(crate) fn create(&self, collection: &str, parts: &[Part<'_>]) -> Value {
        let answer = self.form("POST", &format!("/api/collections/{collection}/records"), parts);
        assert_eq!(answer.status, 200, "{}", answer.text());
        json_of(&answer)
    }

    /// Where a record's file is to be had.
    pub(crate) fn file_target(record: &Value, field: &str) -> String {
        let text = |key: &str| record[key].as_str().unwrap_or_else(|| panic!("{key} in {record}"));
        format!("/api/files/{}/{}/{}", text("collectionName"), text("id"), text(field))
    }

    /// The paths of all files in the storage folder, from it on, sorted.
    pub(crate) fn stored(&self) -> Vec<String> {
        let root = self.storage();
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for path in entries(&folder) {
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.push(path.strip_prefix(&root).unwrap().display().to_string()),
                }
            }
        }
        found.sort();
        found
    }

    pub(crate) fn storage(&self) -> PathBuf {
        self.server.folder().join("gs_data/storage")
    }

    /// A line of `/proc/PID/status`, in bytes.
    pub(crate) fn memory(&self, line: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server.pid())).unwrap();
        let value = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
        let kibibytes = value.unwrap().trim().trim_end_matches(" kB");
        kibibytes.parse::<u64>().unwrap() << 10
    }
}

/// What is in a folder; nothing if it went meanwhile.
fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
