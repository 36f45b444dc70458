//! Downloads over kept connections on one thread. `wrk` reads 8 KiB at a time and would take more of the cores than
//! the server; here the kernel drops a body without copying it, as if the client sat on another machine.

use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use memchr::memmem;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use crate::rounds::{Sample, sample};
use crate::{machine, stop};

/// `MSG_TRUNC`, with which TCP drops what it would have copied.
const DROP: i32 = 0x20;
/// As long as `wrk` waits.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Load<'a> {
    pub(super) address: &'a str,
    /// Asked for in turns.
    pub(super) requests: &'a [Vec<u8>],
    /// Of every body.
    pub(super) length: usize,
    pub(super) connections: usize,
    pub(super) duration: Duration,
}

struct Connection {
    socket: TcpStream,
    next: usize,
    asked: Instant,
    state: State,
}

enum State {
    Head(Vec<u8>),
    /// What is left of the body.
    Body(usize),
}

pub(super) fn run(load: &Load<'_>, pid: u32) -> Result<Sample> {
    const WAIT: Duration = Duration::from_millis(50);
    let mut poll = Poll::new()?;
    let mut connections = Vec::new();
    for n in 0..load.connections {
        connections.push(Connection::open(load, n, &poll)?);
    }
    let mut events = Events::with_capacity(load.connections);
    let mut sink = vec![MaybeUninit::uninit(); load.length];
    let (mut latencies, mut rss_kb) = (Vec::new(), 0);
    let start = Instant::now();
    let mut next_look = start;
    while start.elapsed() < load.duration {
        match poll.poll(&mut events, Some(WAIT)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            outcome => outcome?,
        }
        for event in &events {
            connections[event.token().0].go_on(load, &mut sink, &mut latencies)?;
        }
        if Instant::now() >= next_look {
            next_look = Instant::now() + WAIT;
            stop::check()?;
            rss_kb = rss_kb.max(machine::memory_kb(pid, "VmRSS").unwrap_or(0));
            if connections.iter().any(|connection| connection.asked.elapsed() > TIMEOUT) {
                bail!("a download took longer than {TIMEOUT:?}");
            }
        }
    }
    if latencies.is_empty() {
        bail!("no download ended within the round");
    }
    Ok(sample(&mut latencies, start.elapsed(), rss_kb))
}

impl Connection {
    fn open(load: &Load<'_>, n: usize, poll: &Poll) -> Result<Self> {
        let socket = std::net::TcpStream::connect(load.address).context("connect")?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut socket = TcpStream::from_std(socket);
        poll.registry().register(&mut socket, Token(n), Interest::READABLE)?;
        let state = State::Head(Vec::new());
        let mut connection = Self { socket, next: n, asked: Instant::now(), state };
        connection.ask(load)?;
        Ok(connection)
    }

    fn ask(&mut self, load: &Load<'_>) -> Result<()> {
        let request = &load.requests[self.next % load.requests.len()];
        self.next += 1;
        self.asked = Instant::now();
        self.state = State::Head(Vec::new());
        // A line and a few headers always fit: nothing else waits to be sent.
        self.socket.write_all(request).context("ask")
    }

    /// Takes all there is, and asks anew when the body has come.
    fn go_on(
        &mut self,
        load: &Load<'_>,
        sink: &mut [MaybeUninit<u8>],
        done: &mut Vec<Duration>,
    ) -> Result<()> {
        loop {
            let outcome = match &mut self.state {
                State::Head(head) => read_head(&mut self.socket, head, load.length),
                State::Body(left) => {
                    let length = SockRef::from(&self.socket).recv_with_flags(&mut sink[..*left], DROP);
                    length.map(|length| (length, Some(*left - length)))
                }
            };
            match outcome {
                Ok((0, _)) => bail!("the server closed a connection"),
                Ok((_, Some(0))) => {
                    done.push(self.asked.elapsed());
                    self.ask(load)?;
                }
                Ok((_, Some(left))) => self.state = State::Body(left),
                Ok((_, None)) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("read a download"),
            }
        }
    }
}

/// How much came, and once the head is whole what is left of the body.
fn read_head(
    socket: &mut TcpStream,
    head: &mut Vec<u8>,
    length: usize,
) -> std::io::Result<(usize, Option<usize>)> {
    let mut buffer = [0; 1024];
    let count = socket.read(&mut buffer)?;
    head.extend_from_slice(&buffer[..count]);
    let Some(end) = memmem::find(head, b"\r\n\r\n").map(|at| at + 4) else { return Ok((count, None)) };
    let text = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
    if !text.starts_with("http/1.1 200 ") || !text.contains(&format!("\r\ncontent-length: {length}\r\n")) {
        return Err(std::io::Error::other(format!("not 200 with {length} bytes: {text}")));
    }
    let left = length.checked_sub(head.len() - end);
    Ok((count, Some(left.ok_or_else(|| std::io::Error::other("more than the body"))?)))
}
