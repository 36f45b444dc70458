//! What clients may do to a server over HTTP/2, frame by frame. Each is refused or cut off, memory stays where it was, and
//! others are answered all the while.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::gateway::memory;
use crate::http2::{Client, plain};
use crate::server::{Server, connect};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// GET / of HTTP, by the static table alone; the path in full; a host.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x01, 1, b'a'];

/// What a flood may take from the server for good, and what it may hold meanwhile.
const MOST_MEMORY: usize = 48 << 20;

/// What a flood sends next.
type Piece<'a> = dyn Fn(u32) -> Vec<u8> + 'a;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header that is not in any table, of fewer than 127 bytes each.
fn literal(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

/// A request for this path.
fn get(path: &str) -> Vec<u8> {
    [&[0x82, 0x86, 0x04, path.len() as u8], path.as_bytes(), &[0x01, 1, b'a']].concat()
}

/// A connection after its preface, with these settings.
fn begin(server: &Server, settings: &[u8]) -> TcpStream {
    let mut stream = connect(&server.address);
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, settings)).unwrap();
    stream
}

/// The kind, stream and payload of the next frame.
fn read_frame(stream: &mut TcpStream) -> (u8, u32, Vec<u8>) {
    let mut header = [0; 9];
    stream.read_exact(&mut header).unwrap();
    let [high, middle, low, kind, _, id @ ..] = header;
    let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
    stream.read_exact(&mut payload).unwrap();
    (kind, u32::from_be_bytes(id), payload)
}

/// Whether the other side has closed: whatever else it sent is read and forgotten.
fn is_closed(stream: &mut TcpStream, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut buffer = vec![0; 64 << 10];
    while Instant::now() < until {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return true,
        }
    }
    false
}

/// Sends pieces of a flood until it is cut off, and says how many went; none if it never was.
fn flood(stream: &mut TcpStream, most: u32, mut piece: impl FnMut(u32) -> Vec<u8>) -> Option<u32> {
    let mut reader = stream.try_clone().unwrap();
    let read = std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while reader.read(&mut buffer).is_ok_and(|count| count > 0) {}
    });
    let sent = (0..most).find(|number| stream.write_all(&piece(*number)).is_err());
    if sent.is_none() {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    read.join().unwrap();
    sent
}

/// A server that was used, and how much memory it had then.
fn used() -> (Server, Client, usize) {
    let server = plain("");
    let mut client = Client::connect(&server);
    for _ in 0..50 {
        assert_eq!(client.get("/api/health").status, 200);
    }
    let before = memory(&server);
    (server, client, before)
}

fn stays_well(server: &Server, mut client: Client, before: usize) {
    assert_eq!(client.get("/api/health").status, 200, "an older connection goes on");
    assert_eq!(Client::connect(server).get("/api/health").status, 200);
    assert_eq!(server.get("/api/health").status, 200);
    let now = memory(server);
    assert!(now < before + MOST_MEMORY, "{} MiB were {}", now >> 20, before >> 20);
}

#[test]
fn floods_of_frames_are_cut_off() {
    let (server, client, before) = used();
    let id = |number: u32| 2 * number + 1;
    let open = |number: u32| frame(HEADERS, END_STREAM | END_HEADERS, id(number), GET);
    let cancel = [0, 0, 0, 8];
    let floods: [(&str, &Piece<'_>); 10] = [
        ("rapid resets", &|number| [open(number), frame(RST_STREAM, 0, id(number), &cancel)].concat()),
        ("settings", &|_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xFF, 0xFF])),
        ("pings", &|_| frame(PING, 0, 0, &[7; 8])),
        ("acknowledged pings", &|_| frame(PING, ACK, 0, &[7; 8])),
        ("priorities", &|_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16])),
        ("window updates", &|number| match number {
            0 => frame(HEADERS, END_HEADERS, 1, &get("/api/realtime")),
            _ => frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
        }),
        ("frames that nobody knows", &|_| frame(99, 0, 0, &[1; 20])),
        ("empty data", &|number| match number {
            0 => frame(HEADERS, END_HEADERS, 1, GET),
            _ => frame(DATA, 0, 1, &[]),
        }),
        ("padding", &|number| match number {
            0 => frame(HEADERS, END_HEADERS, 1, GET),
            _ => frame(DATA, PADDED, 1, &[100; 101]),
        }),
        ("streams past the limit", &|number| frame(HEADERS, END_HEADERS, id(number), &get("/api/realtime"))),
    ];
    for (name, piece) in floods {
        let mut stream = begin(&server, &[]);
        // A hundred pieces at once: the kernel is not what is tried.
        let sent = flood(&mut stream, 20_000, |number| {
            (0..100).flat_map(|more| piece(100 * number + more)).collect()
        });
        assert!(sent.is_some(), "{name} went on");
        assert_eq!(server.get("/api/health").status, 200, "{name}");
    }
    stays_well(&server, client, before);
}

#[test]
fn resets_one_by_one_are_cut_off_too() {
    let (server, client, before) = used();
    let mut stream = begin(&server, &[]);
    let sent = flood(&mut stream, 100_000, |number| {
        let id = (number + 1) | 1;
        match number % 2 {
            0 => frame(HEADERS, END_HEADERS, id, &get("/api/realtime")),
            _ => frame(RST_STREAM, 0, number, &[0, 0, 0, 8]),
        }
    });
    assert!(sent.is_some());
    stays_well(&server, client, before);
}

#[test]
fn a_head_without_an_end_is_cut_off() {
    let (server, client, before) = used();
    for (name, payload) in [("large", vec![0x82; 16 << 10]), ("small", vec![0x82]), ("empty", vec![])] {
        let mut stream = begin(&server, &[]);
        let sent = flood(&mut stream, 1_000_000, |number| match number {
            0 => frame(HEADERS, 0, 1, GET),
            _ => frame(CONTINUATION, 0, 1, &payload),
        });
        assert!(sent.is_some(), "{name} frames went on");
    }
    stays_well(&server, client, before);
}

#[test]
fn a_head_that_grows_when_it_is_unpacked_is_refused() {
    let (server, client, before) = used();
    let mut stream = begin(&server, &[]);
    // One header of 3 KiB into the table, then by its number alone, thousands of times.
    let mut head = GET.to_vec();
    head.extend([0x40, 1, b'x', 0x7F, 0x81, 0x17]);
    head.extend(vec![b'a'; 3072]);
    head.extend(vec![0xBE; 12_000]);
    let mut sent = 0;
    for number in 0..1000 {
        if stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &head)).is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent < 1000 && is_closed(&mut stream, Duration::from_secs(5)), "{sent} were taken");
    stays_well(&server, client, before);
}

/// Asks for a large file on every stream, with windows of so many bytes, and waits until all heads are there.
fn take_nothing(server: &Server, window: u8, accepts: &str) -> TcpStream {
    // SETTINGS_INITIAL_WINDOW_SIZE
    let mut stream = begin(server, &[0, 4, 0, 0, 0, window]);
    for number in 0..128 {
        let head = [get("/large.txt"), literal("accept-encoding", accepts)].concat();
        stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &head)).unwrap();
    }
    let mut heads = 0;
    while heads < 128 {
        let (kind, ..) = read_frame(&mut stream);
        assert_ne!(kind, GOAWAY);
        heads += u32::from(kind == HEADERS);
    }
    stream
}

#[test]
fn a_client_that_takes_nothing_holds_a_piece_of_each_answer() {
    const LARGE: usize = 20 << 20;
    /// A tenth of what was asked for at once: pieces of files, and what the threads that read them keep.
    const MOST_HELD: usize = 2 * 128 * LARGE / 10;
    let (server, mut client, before) = used();
    std::fs::create_dir_all(server.folder().join("gs_public")).unwrap();
    // Not the same word over and over, or it would fit a window.
    let text: String = (0..LARGE as u64 / 16)
        .map(|number| format!("{:015x} ", number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 4))
        .collect();
    std::fs::write(server.folder().join("gs_public/large.txt"), text).unwrap();
    for accepts in ["identity", "gzip", "br", "zstd", "identity", "zstd"] {
        let _held = [0, 1].map(|window| take_nothing(&server, window, accepts));
        let now = memory(&server);
        assert!(now < before + MOST_HELD, "{accepts}: {} MiB were {}", now >> 20, before >> 20);
        assert_eq!(client.get("/api/health").status, 200);
    }
    assert_eq!(Client::connect(&server).get("/api/health").status, 200);
}

#[test]
fn a_request_that_breaks_a_rule_is_reset_and_others_go_on() {
    let (server, client, before) = used();
    let mut stream = begin(&server, &[]);
    let answer = |stream: &mut TcpStream| loop {
        let (kind, id, payload) = read_frame(stream);
        if matches!(kind, HEADERS | RST_STREAM) {
            return (id, kind, payload);
        }
        assert_ne!(kind, GOAWAY);
    };
    let mut id = 1;
    for (name, value) in [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("keep-alive", "5"),
        ("proxy-connection", "close"),
        ("te", "gzip"),
    ] {
        let head = [GET, &literal(name, value)].concat();
        stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, id, &head)).unwrap();
        assert_eq!(answer(&mut stream), (id, RST_STREAM, vec![0, 0, 0, 1]), "{name}");
        id += 2;
    }
    // By the first byte of its head, which is a status: of the table, or 0x08 and three digits.
    let mut status = |head: &[u8]| {
        stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, id, head)).unwrap();
        let (answered, kind, payload) = answer(&mut stream);
        assert_eq!((answered, kind), (id, HEADERS));
        id += 2;
        payload[0]
    };
    const NOT_FOUND: u8 = 0x80 | 13;
    const BAD_REQUEST: u8 = 0x80 | 12;
    assert_eq!(status(GET), NOT_FOUND);
    assert_eq!(status(&[GET, &literal("te", "trailers"), &literal("host", "a")].concat()), NOT_FOUND);
    assert_eq!(status(&[GET, &literal("host", "b")].concat()), BAD_REQUEST);
    let connect = [literal(":method", "CONNECT"), vec![0x01, 3, b'a', b':', b'1']].concat();
    assert!(![0x88, 0x89].contains(&status(&connect)), "no tunnel is made");
    stays_well(&server, client, before);
}

/// The 99th percentile of five hundred requests, one after the other.
fn p99(client: &mut Client) -> Duration {
    let mut took: Vec<Duration> = (0..500)
        .map(|_| {
            let started = Instant::now();
            assert_eq!(client.get("/api/health").status, 200);
            started.elapsed()
        })
        .collect();
    took.sort();
    took[took.len() * 99 / 100]
}

/// `make soak` runs it: it measures time.
#[test]
fn after_a_flood_others_are_answered_as_quickly_as_before() {
    if std::env::var_os("SOAK").is_none() {
        return;
    }
    let (server, mut client, before) = used();
    let quiet = p99(&mut client);
    for round in 0..20 {
        let mut stream = begin(&server, &[]);
        let sent = flood(&mut stream, 20_000, |number| {
            let one = |more: u32| {
                let id = 2 * (100 * number + more) + 1;
                let reset = frame(RST_STREAM, 0, id, &[0, 0, 0, 8]);
                [frame(HEADERS, END_STREAM | END_HEADERS, id, GET), reset].concat()
            };
            (0..100).flat_map(one).collect()
        });
        assert!(sent.is_some(), "round {round} went on");
        assert_eq!(client.get("/api/health").status, 200);
    }
    let after = p99(&mut client);
    eprintln!("p99 was {quiet:?}, and is {after:?}");
    assert!(after < 2 * quiet + Duration::from_millis(1), "{after:?} was {quiet:?}");
    stays_well(&server, client, before);
}
