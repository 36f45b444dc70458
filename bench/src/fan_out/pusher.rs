//! A bare server that pushes the same bytes to every stream and does nothing else: what is left is the load tool.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::Result;

const ID: &str = "hiQxFU3TbIbAZkNDGUXxQFPEoCBeIBtIDaRKFMIh";

const HEAD: &str = "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Type: text/event-stream\r\n\
     X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n";

/// As the two servers send it for a record of this case.
const DATA: &str = r#"{"record":{"collectionId":"pbc_1492593907","collectionName":"things","created":"2026-11-24 10:00:00.000Z","id":"thg000000000001","n":1,"score":7,"sent":1,"status":"open","title":"amber river stone cloud garden lantern meadow","updated":"2026-11-24 10:00:00.000Z"},"action":"create"}"#;

/// A running pusher. Dropping it ends its thread.
pub(super) struct Pusher {
    pub(super) address: String,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pusher {
    /// It pushes once so many streams have come. A stream gets `per_write` events at once.
    pub(super) fn start(streams: usize, per_write: usize) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let is_over = Arc::<AtomicBool>::default();
        let ends = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            // A stream that closes ends it: then the measurement is over, or failed by itself.
            let _ = push(&listener, streams, per_write, &ends);
        });
        Ok(Self { address, is_over, thread: Some(thread) })
    }
}

impl Drop for Pusher {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // It may wait for streams that will not come.
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn push(listener: &TcpListener, count: usize, per_write: usize, is_over: &AtomicBool) -> Result<()> {
    let hello = chunk(&format!("id:{ID}\nevent:PB_CONNECT\ndata:{{\"clientId\":\"{ID}\"}}\n\n"));
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let (stream, _) = listener.accept()?;
        if is_over.load(Ordering::Relaxed) {
            return Ok(());
        }
        streams.push(greet(stream, &hello)?);
    }
    let events = chunk(&format!("id:{ID}\nevent:things/*\ndata:{DATA}\n\n")).repeat(per_write);
    while !is_over.load(Ordering::Relaxed) {
        for stream in &mut streams {
            // It waits while the stream is full, so the reader is never far behind.
            stream.write_all(events.as_bytes())?;
        }
    }
    Ok(())
}

fn greet(mut stream: TcpStream, hello: &str) -> Result<TcpStream> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    stream.write_all(HEAD.as_bytes())?;
    stream.write_all(hello.as_bytes())?;
    Ok(stream)
}

fn chunk(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n", body.len())
}
