//! A proxy that passes requests on as they are and breaks the answers it is told to break.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use testkit::{Client, Response};

use crate::mutation::Mutation;

const LARGEST_BODY: usize = 16 * 1024 * 1024;

/// How requests begin whose answers never end.
const STREAMS: [&[u8]; 2] = [b"GET /api/realtime ", b"GET /api/realtime?"];

/// A running proxy, stopped when dropped. It serves one request at a time.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// What to try on the next answer, in this order, until one fits.
    armed: Mutex<Vec<Mutation>>,
    applied: Mutex<Vec<Mutation>>,
    stopping: AtomicBool,
    relays: Mutex<Vec<Relay>>,
}

/// An event stream on its way, which no other request waits for.
#[derive(Debug)]
struct Relay {
    upstream: TcpStream,
    thread: JoinHandle<()>,
}

impl Proxy {
    /// Starts one in front of `upstream`.
    pub fn start(upstream: Client) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("listen for the proxy")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let thread = std::thread::spawn({
            let state = Arc::clone(&state);
            move || serve(&listener, &upstream, &state)
        });
        Ok(Self { address, state, thread: Some(thread) })
    }

    /// A client of the proxy.
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Has the next answer broken by the first of these that fits it.
    pub fn arm(&self, mutations: Vec<Mutation>) {
        *self.state.armed.lock().unwrap_or_else(PoisonError::into_inner) = mutations;
    }

    /// What was done to the armed answers, in their order.
    pub fn applied(&self) -> Vec<Mutation> {
        self.state.applied.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::SeqCst);
        // A last connection wakes the thread from its wait.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for relay in std::mem::take(&mut *self.state.relays.lock().unwrap_or_else(PoisonError::into_inner)) {
            let _ = relay.upstream.shutdown(Shutdown::Both);
            let _ = relay.thread.join();
        }
    }
}

fn serve(listener: &TcpListener, upstream: &Client, state: &State) {
    for stream in listener.incoming() {
        if state.stopping.load(Ordering::SeqCst) {
            return;
        }
        // A failed exchange closes the connection, which the runner reports as no answer.
        let _ = stream.map_err(anyhow::Error::from).and_then(|stream| exchange(stream, upstream, state));
    }
}

fn exchange(mut stream: TcpStream, upstream: &Client, state: &State) -> Result<()> {
    let request = read_request(&mut stream)?;
    if STREAMS.iter().any(|start| request.starts_with(start)) {
        let relay = relay(stream, &request, upstream)?;
        state.relays.lock().unwrap_or_else(PoisonError::into_inner).push(relay);
        return Ok(());
    }
    let is_head = request.starts_with(b"HEAD ");
    let mut response = upstream.send_raw(&request, is_head)?;
    break_answer(&mut response, state);
    stream.write_all(&to_bytes(&response, is_head))?;
    Ok(())
}

fn relay(mut client: TcpStream, request: &[u8], upstream: &Client) -> Result<Relay> {
    let mut from = upstream.connect()?;
    from.write_all(request)?;
    let upstream = from.try_clone()?;
    // It ends with either end, or with the proxy.
    let thread = std::thread::spawn(move || drop(std::io::copy(&mut from, &mut client)));
    Ok(Relay { upstream, thread })
}

fn break_answer(response: &mut Response, state: &State) {
    let armed = std::mem::take(&mut *state.armed.lock().unwrap_or_else(PoisonError::into_inner));
    let applied = armed.into_iter().find(|mutation| mutation.apply(response));
    state.applied.lock().unwrap_or_else(PoisonError::into_inner).extend(applied);
}

fn read_request(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while !is_complete(&request) {
        let count = stream.read(&mut buffer)?;
        anyhow::ensure!(count > 0, "the request ended early");
        request.extend_from_slice(&buffer[..count]);
    }
    Ok(request)
}

/// Whether the head and as much body as it announces are there, or the last chunk. A body that is announced
/// larger than any scenario's is not sent at all: the server has to refuse it unseen.
fn is_complete(request: &[u8]) -> bool {
    let Some(head_length) = request.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..head_length]).to_ascii_lowercase();
    if head.lines().any(|line| line.starts_with("transfer-encoding:")) {
        return request.ends_with(b"0\r\n\r\n");
    }
    let announced =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let sent = announced.filter(|length| *length <= LARGEST_BODY).unwrap_or(0);
    request.len() >= head_length + 4 + sent
}

fn to_bytes(response: &Response, is_head: bool) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} -\r\n", response.status);
    for (name, value) in &response.headers {
        let framing = ["content-length", "transfer-encoding", "connection"];
        let kept = !framing.contains(&name.to_ascii_lowercase().as_str()) || is_head;
        if kept {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if !is_head && response.status != 204 {
        head.push_str(&format!("Content-Length: {}\r\n", response.body.len()));
    }
    head.push_str("Connection: close\r\n\r\n");
    [head.as_bytes(), &response.body].concat()
}
