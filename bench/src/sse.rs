//! The subscribers: thousands of streams of server-sent events on one thread, as cheap for each byte as we could make
//! them. Messages are counted by their blank lines; only those of a few sampled streams are looked into.

mod decoder;

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream as StdStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use memchr::memmem;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde_json::{Value, json};

use crate::client::Client;
use crate::{http1, stop};
use decoder::Decoder;

/// Of every case so many streams tell the latency and the number of each event; the others only count.
const SAMPLED: usize = 50;
/// The name of the thread that reads.
pub(crate) const THREAD: &str = "subscribers";
const TIMEOUT: Duration = Duration::from_secs(30);

/// One stream whose first message has come, on a blocking socket.
pub(crate) struct Stream {
    socket: StdStream,
    decoder: Decoder,
    body: VecDeque<u8>,
}

/// Connected streams and the thread that reads them. Dropping it closes them.
pub(crate) struct Subscribers {
    progress: Arc<Progress>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Vec<Vec<u64>>>>>,
}

/// What was written and what has come, shared by the writers and the reader.
pub(crate) struct Progress {
    counts: Mutex<Counts>,
    has_moved: Condvar,
    /// Time stamps are microseconds since then.
    pub(crate) epoch: Instant,
}

/// Since the streams were connected.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) live: u64,
    pub(crate) disconnected: u64,
    pub(crate) begun: u64,
    pub(crate) acknowledged: u64,
    pub(crate) delivered: u64,
    /// Without what those had that are disconnected now.
    pub(crate) delivered_to_live: u64,
    /// Of deliveries to the sampled streams, while `is_timed`.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) is_timed: bool,
}

/// A stream in the reader's hands.
struct Reading {
    socket: TcpStream,
    decoder: Decoder,
    received: u64,
    sample: Option<Sampled>,
}

#[derive(Default)]
struct Sampled {
    partial: Vec<u8>,
    numbers: Vec<u64>,
}

// === impl Stream ===

impl Stream {
    /// Connects, and waits for the first message, which names the client; its id.
    pub(crate) fn open(address: &str) -> Result<(Self, String)> {
        let mut socket = StdStream::connect(address).context("connect a stream")?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.write_all(&http1::request(address, "GET", "/api/realtime", None))?;
        let mut stream = Self { socket, decoder: Decoder::new(), body: VecDeque::new() };
        let hello = stream.next_message()?;
        let id = hello.lines().find_map(|line| line.strip_prefix("id:"));
        let id = id.with_context(|| format!("no client id in {hello:?}"))?.to_owned();
        Ok((stream, id))
    }

    /// The JSON of the next message.
    pub(crate) fn next_data(&mut self) -> Result<Value> {
        let message = self.next_message()?;
        let data = message.lines().find_map(|line| line.strip_prefix("data:"));
        Ok(serde_json::from_str(data.with_context(|| format!("no data in {message:?}"))?)?)
    }

    fn next_message(&mut self) -> Result<String> {
        let mut buffer = [0; 4096];
        loop {
            let body = self.body.make_contiguous();
            if let Some(at) = memmem::find(body, b"\n\n") {
                let message: Vec<u8> = self.body.drain(..at + 2).collect();
                return Ok(String::from_utf8(message)?);
            }
            let length = self.socket.read(&mut buffer).context("wait for a message")?;
            if length == 0 {
                bail!("the server closed a stream");
            }
            let body = &mut self.body;
            self.decoder.feed(&buffer[..length], |part| body.extend(part))?;
        }
    }
}

/// Sets the topic of a connected client.
pub(crate) fn subscribe(client: &Client, id: &str, topic: &str) -> Result<()> {
    let body = json!({ "clientId": id, "subscriptions": [topic] });
    client.call("POST", "/api/realtime", Some(&body))?;
    Ok(())
}

// === impl Subscribers ===

impl Subscribers {
    /// Connects one after the other; with a topic each subscribes to it.
    pub(crate) fn connect(address: &str, count: usize, topic: Option<(&Client, &str)>) -> Result<Self> {
        let mut streams = Vec::with_capacity(count);
        for n in 0..count {
            stop::check()?;
            let doing = || format!("stream {} of {count}", n + 1);
            let (stream, id) = Stream::open(address).with_context(doing)?;
            if let Some((client, topic)) = topic {
                subscribe(client, &id, topic).with_context(doing)?;
            }
            streams.push(stream);
        }
        let counts = Counts { live: count as u64, ..Counts::default() };
        let progress = Progress { counts: counts.into(), has_moved: Condvar::new(), epoch: Instant::now() };
        let (progress, is_over) = (Arc::new(progress), Arc::<AtomicBool>::default());
        let reader = Reader::new(streams, Arc::clone(&progress))?;
        let ends = Arc::clone(&is_over);
        let thread = thread::Builder::new().name(THREAD.to_owned()).spawn(move || reader.run(&ends))?;
        Ok(Self { progress, is_over, thread: Some(thread) })
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Closes the streams; the numbers of the events that came to each sampled stream that is still connected.
    pub(crate) fn close(mut self) -> Result<Vec<Vec<u64>>> {
        self.is_over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("closed twice")?;
        thread.join().expect("no panic in the thread of the subscribers")
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

// === impl Progress ===

impl Progress {
    pub(crate) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("no panic while holding it")
    }

    /// Waits until the subscribers are, on average, fewer than `window` events behind, and counts one more as begun;
    /// its number. `None` when `is_over`.
    pub(crate) fn begin(&self, window: u64, is_over: &AtomicBool) -> Option<u64> {
        let mut counts = self.counts();
        while !is_over.load(Ordering::Relaxed) {
            if counts.begun * counts.live < counts.delivered_to_live + window * counts.live {
                counts.begun += 1;
                return Some(counts.begun);
            }
            counts = self.wait(counts);
        }
        None
    }

    /// Waits for every acknowledged event at every live stream; the number of those that have not come by then.
    pub(crate) fn drain(&self, limit: Duration) -> Result<u64> {
        let deadline = Instant::now() + limit;
        let mut counts = self.counts();
        loop {
            stop::check()?;
            let due = counts.acknowledged * counts.live;
            if counts.delivered_to_live > due {
                bail!("{} events came more than once", counts.delivered_to_live - due);
            }
            if counts.delivered_to_live == due || Instant::now() > deadline {
                return Ok(due - counts.delivered_to_live);
            }
            counts = self.wait(counts);
        }
    }

    pub(crate) fn micros(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn wait<'a>(&self, counts: MutexGuard<'a, Counts>) -> MutexGuard<'a, Counts> {
        // The limit lets the waiting see that it is over.
        const LIMIT: Duration = Duration::from_millis(50);
        self.has_moved.wait_timeout(counts, LIMIT).expect("no panic while holding it").0
    }
}

// === impl Reader ===

struct Reader {
    poll: Poll,
    streams: Vec<Option<Reading>>,
    progress: Arc<Progress>,
}

impl Reader {
    fn new(streams: Vec<Stream>, progress: Arc<Progress>) -> Result<Self> {
        let poll = Poll::new()?;
        let every = streams.len().div_ceil(SAMPLED).max(1);
        let mut readings = Vec::with_capacity(streams.len());
        for (n, stream) in streams.into_iter().enumerate() {
            stream.socket.set_nonblocking(true)?;
            let mut socket = TcpStream::from_std(stream.socket);
            poll.registry().register(&mut socket, Token(n), Interest::READABLE)?;
            let sample = n.is_multiple_of(every).then(Sampled::default);
            readings.push(Some(Reading { socket, decoder: stream.decoder, received: 0, sample }));
        }
        Ok(Self { poll, streams: readings, progress })
    }

    fn run(mut self, is_over: &AtomicBool) -> Result<Vec<Vec<u64>>> {
        const WAIT: Duration = Duration::from_millis(50);
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 256 * 1024];
        let mut sent = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            match self.poll.poll(&mut events, Some(WAIT)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            let (mut count, mut lost) = (0, Vec::new());
            for event in &events {
                let slot = &mut self.streams[event.token().0];
                let Some(reading) = slot else { continue };
                let before = reading.received;
                let is_open = reading.read(&mut buffer, &mut sent)?;
                count += reading.received - before;
                if !is_open {
                    lost.push(reading.received);
                    *slot = None;
                }
            }
            self.tell(count, &lost, &mut sent);
        }
        let samples = self.streams.into_iter().flatten().filter_map(|reading| reading.sample);
        Ok(samples.map(|sample| sample.numbers).collect())
    }

    fn tell(&self, count: u64, lost: &[u64], sent: &mut Vec<u64>) {
        if count == 0 && lost.is_empty() {
            return;
        }
        let now = self.progress.micros();
        let mut counts = self.progress.counts();
        counts.delivered += count;
        counts.delivered_to_live = counts.delivered_to_live + count - lost.iter().sum::<u64>();
        counts.live -= lost.len() as u64;
        counts.disconnected += lost.len() as u64;
        if counts.is_timed {
            counts.latencies.extend(sent.iter().map(|sent| Duration::from_micros(now.saturating_sub(*sent))));
        }
        drop(counts);
        sent.clear();
        self.progress.has_moved.notify_all();
    }
}

// === impl Reading ===

impl Reading {
    /// Takes all there is; whether the stream is still open. The time stamps of a sampled stream are added to `sent`.
    fn read(&mut self, buffer: &mut [u8], sent: &mut Vec<u64>) -> Result<bool> {
        loop {
            let length = match self.socket.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Ok(false),
            };
            let bytes = &buffer[..length];
            self.received += match &mut self.sample {
                None => self.decoder.feed(bytes, |_| {})?,
                Some(sample) => self.decoder.feed(bytes, |part| sample.take(part, sent))?,
            };
            if self.decoder.is_over() {
                return Ok(false);
            }
            // A buffer that was not filled has emptied the socket, so that a second read would only tell so.
            if length < buffer.len() {
                return Ok(true);
            }
        }
    }
}

impl Sampled {
    fn take(&mut self, part: &[u8], sent: &mut Vec<u64>) {
        self.partial.extend_from_slice(part);
        let mut start = 0;
        while let Some(length) = memmem::find(&self.partial[start..], b"\n\n") {
            let message = &self.partial[start..start + length];
            self.numbers.extend(number_after(message, b"\"n\":"));
            sent.extend(number_after(message, b"\"sent\":"));
            start += length + 2;
        }
        self.partial.drain(..start);
    }
}

fn number_after(message: &[u8], key: &[u8]) -> Option<u64> {
    let digits = &message[memmem::find(message, key)? + key.len()..];
    let is_digit = |byte: &&u8| byte.is_ascii_digit();
    Some(digits.iter().take_while(is_digit).fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(live: u64) -> Progress {
        let counts = Counts { live, ..Counts::default() };
        Progress { counts: counts.into(), has_moved: Condvar::new(), epoch: Instant::now() }
    }

    #[test]
    fn a_writer_begins_while_the_average_subscriber_is_within_the_window() {
        let (progress, is_over) = (progress(10), AtomicBool::new(false));
        assert_eq!(progress.begin(2, &is_over), Some(1));
        assert_eq!(progress.begin(2, &is_over), Some(2));
        progress.counts().delivered_to_live = 1;
        assert_eq!(progress.begin(2, &is_over), Some(3));
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(progress.begin(2, &is_over), None);
    }

    #[test]
    fn what_has_not_come_is_lost_and_what_came_twice_an_error() {
        let progress = progress(3);
        progress.counts().acknowledged = 2;
        progress.counts().delivered_to_live = 5;
        assert_eq!(progress.drain(Duration::ZERO).unwrap(), 1);
        progress.counts().delivered_to_live = 7;
        assert!(progress.drain(Duration::ZERO).is_err());
    }

    #[test]
    fn sampled_messages_tell_number_and_time_however_they_are_cut() {
        let messages =
            b"id:x\nevent:t\ndata:{\"n\":17,\"sent\":123}\n\nid:x\ndata:{\"n\":18,\"sent\":124}\n\n";
        for length in 1..messages.len() {
            let (mut sample, mut sent) = (Sampled::default(), Vec::new());
            messages.chunks(length).for_each(|part| sample.take(part, &mut sent));
            assert_eq!((sample.numbers, sent), (vec![17, 18], vec![123, 124]), "{length}");
        }
    }
}
