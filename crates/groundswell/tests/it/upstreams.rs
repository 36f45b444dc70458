//! Other servers behind a gateway: some that a test makes up, whole processes that can be paused and killed, and a load
//! on what stands before them.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use tempfile::TempDir;

use crate::app::wait_until;
use crate::server::{PATIENCE, Response, Server, connect, groundswell, read_response, request};

/// What a test server does with a connection.
type Serve = dyn Fn(&mut BufReader<TcpStream>) + Send + Sync;

/// A server on a free port, a thread for each connection. It ends with the process.
pub(crate) fn upstream(serve: impl Fn(&mut BufReader<TcpStream>) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve: Arc<Serve> = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                serve(&mut BufReader::new(stream));
            });
        }
    });
    address
}

/// The lines of a head, without the empty one; none at the end of the connection.
pub(crate) fn read_head(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => return Some(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

pub(crate) fn reply(stream: &mut BufReader<TcpStream>, status: u16, body: &str) -> bool {
    let answer = format!("HTTP/1.1 {status} S\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.get_mut().write_all(answer.as_bytes()).is_ok()
}

/// A server that answers every request with the lines of its head.
pub(crate) fn echo() -> String {
    upstream(|stream| {
        while let Some(head) = read_head(stream) {
            if !reply(stream, 200, &head.join("\n")) {
                return;
            }
        }
    })
}

pub(crate) fn upstream_that_says(word: &'static str) -> String {
    upstream(move |stream| while read_head(stream).is_some_and(|_| reply(stream, 200, word)) {})
}

/// A whole server as an upstream: a process that can be paused, killed and started again at its place.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: String,
    folder: Arc<TempDir>,
}

impl Process {
    pub(crate) fn start() -> Process {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("gs_public")).unwrap();
        Process::start_at("127.0.0.1:0", Arc::new(folder))
    }

    pub(crate) fn start_at(address: &str, folder: Arc<TempDir>) -> Process {
        std::fs::write(folder.path().join("gs_public/me"), "here").unwrap();
        let mut child = groundswell(&["serve", "--http", address, "--manage", "127.0.0.1:0"])
            .current_dir(folder.path())
            .env("GROUNDSWELL__SERVER__HTTP2_PLAIN", "true")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        while !line.contains("started at http://") {
            assert!(stdout.read_line(&mut line).unwrap() > 0, "the server ended: {line}");
        }
        // What it prints later goes nowhere, and the pipe stays.
        thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        let address = line.rsplit("http://").next().unwrap().trim().to_owned();
        Process { child, address, folder }
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.kill();
        *self = Process::start_at(&self.address.clone(), self.folder.clone());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Clients that ask without a pause, and what they were answered.
pub(crate) struct Load {
    is_over: Arc<AtomicBool>,
    pub(crate) answered: Arc<AtomicUsize>,
    clients: Vec<thread::JoinHandle<Vec<Response>>>,
}

impl Load {
    pub(crate) fn start(server: &Server, clients: usize) -> Load {
        let (is_over, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let clients = (0..clients)
            .map(|_| {
                let (address, is_over, answered) =
                    (server.address.clone(), is_over.clone(), answered.clone());
                thread::spawn(move || {
                    let mut failed = Vec::new();
                    while !is_over.load(Ordering::SeqCst) {
                        let mut stream = connect(&address);
                        stream.write_all(&request("GET", "/me", &[])).unwrap();
                        let answer = read_response(&mut stream);
                        answered.fetch_add(1, Ordering::SeqCst);
                        if answer.status != 200 {
                            failed.push(answer);
                        }
                    }
                    failed
                })
            })
            .collect();
        Load { is_over, answered, clients }
    }

    /// Waits for so many more answers.
    pub(crate) fn more(&self, count: usize) {
        let aim = self.answered.load(Ordering::SeqCst) + count;
        wait_until("more answers", || self.answered.load(Ordering::SeqCst) >= aim);
    }

    pub(crate) fn failures(self) -> Vec<Response> {
        self.is_over.store(true, Ordering::SeqCst);
        self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    }
}
