//! A target of requests that leave the server, such as hooks: it answers what a test tells it to, and remembers
//! what came.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver as Channel, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// No test waits longer than this for a message.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request that came.
#[derive(Debug, Clone)]
pub struct Message {
    /// Header lines, names in lower case.
    pub head: Vec<(String, String)>,
    /// The body as it came.
    pub body: String,
}

/// How the target behaves.
pub enum Reply {
    /// A status and a JSON body.
    Json(u16, String),
    /// A status, a header line and no body.
    Bare(u16, &'static str),
    /// Nothing, until the test ends.
    Silence,
    /// A status of 200 and a body without end, as fast as it is taken.
    Endless,
}

/// A target on a free port. It ends with the test.
pub struct Receiver {
    /// HOST:PORT
    pub address: String,
    messages: Mutex<Channel<Message>>,
    is_over: Arc<AtomicBool>,
}

// === impl Receiver ===

impl Receiver {
    /// Answers each message as `reply` says.
    pub fn start(reply: impl Fn(&Message) -> Reply + Send + Sync + 'static) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a listener has an address").to_string();
        let is_over = Arc::<AtomicBool>::default();
        let (sender, messages) = channel();
        let (reply, over) = (Arc::new(reply), is_over.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (sender, reply, over) = (sender.clone(), reply.clone(), over.clone());
                thread::spawn(move || serve(stream, &sender, &*reply, &over));
            }
        });
        Receiver { address, messages: Mutex::new(messages), is_over }
    }

    /// The next message, as JSON with its head.
    pub fn next(&self) -> (Message, Value) {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let message = messages.recv_timeout(PATIENCE).expect("a message in time");
        let json = serde_json::from_str(&message.body).expect("a message is JSON");
        (message, json)
    }

    /// What came and was not taken.
    pub fn rest(&self) -> Vec<Message> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).try_iter().collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
    }
}

impl Message {
    /// The value of a header, by its name in lower case; empty if it did not come.
    pub fn header(&self, name: &str) -> &str {
        let found = self.head.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }
}

fn serve(
    mut stream: TcpStream,
    messages: &Sender<Message>,
    reply: &dyn Fn(&Message) -> Reply,
    is_over: &AtomicBool,
) {
    if stream.set_read_timeout(Some(PATIENCE)).is_err() {
        return;
    }
    let Some(message) = read(&mut stream) else { return };
    let answer = reply(&message);
    // The test may have ended.
    let _ = messages.send(message);
    let _ = match answer {
        Reply::Json(status, body) => write!(
            stream,
            "HTTP/1.1 {status} S\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ),
        Reply::Bare(status, header) => {
            write!(
                stream,
                "HTTP/1.1 {status} S\r\n{header}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        }
        Reply::Silence => {
            let mut byte = [0];
            // Until the server gives up.
            while !is_over.load(Ordering::SeqCst) && stream.read(&mut byte).is_ok_and(|count| count > 0) {}
            Ok(())
        }
        Reply::Endless => {
            let _ = write!(
                stream,
                "HTTP/1.1 200 S\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
            );
            while !is_over.load(Ordering::SeqCst) && stream.write_all(&[b' '; 64 * 1024]).is_ok() {}
            Ok(())
        }
    };
}

fn read(stream: &mut TcpStream) -> Option<Message> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            head.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let message = Message { head, body: String::new() };
    let length: usize = message.header("content-length").parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Message { body: String::from_utf8(body).ok()?, ..message })
}
