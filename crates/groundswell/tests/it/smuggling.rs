//! Heads and bodies that two servers in a row might read differently, as raw bytes: each is refused and its connection
//! closed, or goes on in exactly one form, and nobody sees a request that hides in another.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use self::Must::{BeRefused, GoOn, StayHere};
use crate::server::{Server, read_response};
use crate::upstreams::{reply, upstream};

/// What becomes of the bytes.
#[derive(Debug, Clone, Copy)]
enum Must {
    /// One answer of a refusal, and nothing is read after it. No server gets a whole request.
    BeRefused,
    /// The server gets one request: this, as `request line|what says how long the body is|body`.
    GoOn(&'static str),
    /// The same for what no route is for: the services answer it.
    StayHere,
}

/// A request hidden in another, in its shortest form.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n";

/// Sent after each case, on the same connection.
const NEXT: &str = "GET {next} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Lines of a head after the first and the host, then a body, of a POST.
const POSTS: &[(&str, Must)] = &[
    // Two lengths.
    ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}", BeRefused),
    ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{hidden}", BeRefused),
    ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BeRefused),
    ("Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc{hidden}", BeRefused),
    ("Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", GoOn("POST /r/x HTTP/1.1|content-length: 3|abc")),
    ("Content-Length: 3, 3\r\n\r\nabc", BeRefused),
    ("Content-Length: 3, 0\r\n\r\nabc{hidden}", BeRefused),
    // Lengths that are none.
    ("Content-Length: +3\r\n\r\nabc", BeRefused),
    ("Content-Length: -3\r\n\r\nabc", BeRefused),
    ("Content-Length: 3 0\r\n\r\nabc", BeRefused),
    ("Content-Length: 0x3\r\n\r\nabc", BeRefused),
    ("Content-Length: 3_0\r\n\r\nabc", BeRefused),
    ("Content-Length:\r\n\r\n{hidden}", BeRefused),
    ("Content-Length: 18446744073709551619\r\n\r\nabc", BeRefused),
    ("Content-Length: 18446744073709551615\r\n\r\nabc", BeRefused),
    ("Content-Length : 3\r\n\r\nabc", BeRefused),
    ("Content-Length\t: 3\r\n\r\nabc", BeRefused),
    (" Content-Length: 3\r\n\r\nabc", BeRefused),
    ("Content-Length: 003\r\n\r\nabc", GoOn("POST /r/x HTTP/1.1|content-length: 3|abc")),
    ("Content_Length: 33\r\n\r\n", GoOn("POST /r/x HTTP/1.1||")),
    ("Content-Length: 33\r\n\r\n{hidden}", GoOn("POST /r/x HTTP/1.1|content-length: 33|{hidden}")),
    (
        "Connection: content-length\r\nContent-Length: 33\r\n\r\n{hidden}",
        GoOn("POST /r/x HTTP/1.1|content-length: 33|{hidden}"),
    ),
    // Codings.
    ("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", BeRefused),
    ("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", BeRefused),
    ("Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", BeRefused),
    ("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", BeRefused),
    ("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", BeRefused),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BeRefused),
    ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BeRefused),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", BeRefused),
    ("Transfer-Encoding: identity\r\n\r\n", BeRefused),
    ("Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", BeRefused),
    ("Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", BeRefused),
    ("Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", BeRefused),
    ("Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", BeRefused),
    ("Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", BeRefused),
    ("Transfer-Encoding:\r\n\r\n0\r\n\r\n", BeRefused),
    ("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", BeRefused),
    ("Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", BeRefused),
    (" Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BeRefused),
    ("Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", BeRefused),
    ("X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BeRefused),
    ("Transfer-Encoding:\tCHUNKED \r\n\r\n0\r\n\r\n", GoOn("POST /r/x HTTP/1.1|transfer-encoding: chunked|")),
    ("Transfer_Encoding: chunked\r\n\r\n", GoOn("POST /r/x HTTP/1.1||")),
    // Ends of lines, and what stands in them.
    ("X: y\nContent-Length: 3\n\nabc", GoOn("POST /r/x HTTP/1.1|content-length: 3|abc")),
    ("X: y\rContent-Length: 3\r\n\r\nabc", BeRefused),
    ("X: y\r\r\n\r\n", BeRefused),
    ("X: y\r\n\rContent-Length: 3\r\n\r\nabc", BeRefused),
    ("X: a\r\n b\r\n\r\n", BeRefused),
    ("X: a\x00b\r\n\r\n", BeRefused),
    ("X\x00: b\r\n\r\n", BeRefused),
    ("X: a\x01b\r\n\r\n", BeRefused),
    ("X: a\x7fb\r\n\r\n", BeRefused),
    ("X\r\n\r\n", BeRefused),
    (": b\r\n\r\n", BeRefused),
    ("X Y: b\r\n\r\n", BeRefused),
    // Chunks.
    ("{chunked}+3\r\nabc\r\n0\r\n\r\n", BeRefused),
    ("{chunked}-3\r\nabc\r\n0\r\n\r\n", BeRefused),
    ("{chunked}0x3\r\nabc\r\n0\r\n\r\n", BeRefused),
    ("{chunked} 3\r\nabc\r\n0\r\n\r\n", BeRefused),
    ("{chunked}3_0\r\nabc\r\n0\r\n\r\n", BeRefused),
    ("{chunked}\r\nabc\r\n0\r\n\r\n", BeRefused),
    ("{chunked}10000000000000003\r\nabc\r\n0\r\n\r\n", BeRefused),
    ("{chunked}3\nabc\r\n0\r\n\r\n", BeRefused),
    ("{chunked}3\r\nabc\n0\r\n\r\n", BeRefused),
    ("{chunked}3\r\nabcd\r\n0\r\n\r\n", BeRefused),
    ("{chunked}3;a\nabc\r\n0\r\n\r\n", BeRefused),
    ("{chunked}3;a\rb\r\nabc\r\n0\r\n\r\n", BeRefused),
    ("{chunked}3;{flood}\r\nabc\r\n0\r\n\r\n", BeRefused),
    ("{chunked}3\r\nabc\r\n0\r\n{trailers}\r\n", BeRefused),
    ("{chunked}3\r\nabc\r\n0\r\nA: b\n\r\n", BeRefused),
    ("{chunked}3\r\nabc\r\n0\r\n", BeRefused),
    ("{chunked}3 \r\nabc\r\n0\r\n\r\n", GoOn(IN_CHUNKS)),
    ("{chunked}3;a=b\r\nabc\r\n0;c\r\n\r\n", GoOn(IN_CHUNKS)),
    ("{chunked}3;a=\"\r\nabc\r\n0\r\n\r\n", GoOn(IN_CHUNKS)),
    ("{chunked}0003\r\nabc\r\n000\r\n\r\n", GoOn(IN_CHUNKS)),
    ("{chunked}3\r\nabc\r\n0\r\nContent-Length: 5\r\nHost: b\r\n\r\n", GoOn(IN_CHUNKS)),
    ("Trailer: X-Real-IP\r\n{chunked}3\r\nabc\r\n0\r\nX-Real-IP: 1.1.1.1\r\n\r\n", GoOn(IN_CHUNKS)),
    ("Expect: 100-continue\r\nContent-Length: 33\r\n\r\n{hidden}", GoOn(WITH_HIDDEN)),
];

const IN_CHUNKS: &str = "POST /r/x HTTP/1.1|transfer-encoding: chunked|abc";
const WITH_HIDDEN: &str = "POST /r/x HTTP/1.1|content-length: 33|{hidden}";

/// Whole requests.
const REQUESTS: &[(&str, Must)] = &[
    // One body, whatever the method.
    (
        "GET {x} HTTP/1.1\r\nHost: a\r\nContent-Length: 33\r\n\r\n{hidden}",
        GoOn("GET /r/x HTTP/1.1|content-length: 33|{hidden}"),
    ),
    (
        "GET {x} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n21\r\n{hidden}\r\n0\r\n\r\n",
        GoOn("GET /r/x HTTP/1.1|transfer-encoding: chunked|{hidden}"),
    ),
    // Hosts.
    ("GET {x} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", BeRefused),
    ("GET {x} HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", BeRefused),
    ("GET {x} HTTP/1.1\r\n\r\n", BeRefused),
    ("GET {x} HTTP/1.1\r\nHost: a/b\r\n\r\n", BeRefused),
    ("GET {x} HTTP/1.1\r\nHost: a@b\r\n\r\n", BeRefused),
    ("GET {x} HTTP/1.1\r\nHost: a b\r\n\r\n", BeRefused),
    ("GET {x} HTTP/1.1\r\nHost: \u{e9}\r\n\r\n", BeRefused),
    ("GET http://b{x} HTTP/1.1\r\nHost: a\r\n\r\n", GoOn("GET /r/x HTTP/1.1||")),
    ("GET b:80 HTTP/1.1\r\nHost: a\r\n\r\n", StayHere),
    ("CONNECT b:80 HTTP/1.1\r\nHost: b:80\r\n\r\n", StayHere),
    // Versions.
    ("GET {x}\r\n\r\n", BeRefused),
    ("GET {x}\r\nHost: a\r\n\r\n", BeRefused),
    ("GET {x} HTTP/1.2\r\nHost: a\r\n\r\n", BeRefused),
    ("GET {x} http/1.1\r\nHost: a\r\n\r\n", BeRefused),
    ("POST {x} HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BeRefused),
    ("GET {x} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", GoOn("GET /r/x HTTP/1.1||")),
    // Request lines.
    ("\r\n\r\nGET {x} HTTP/1.1\r\nHost: a\r\n\r\n", GoOn("GET /r/x HTTP/1.1||")),
    (" GET {x} HTTP/1.1\r\nHost: a\r\n\r\n", BeRefused),
    ("GET {x} a HTTP/1.1\r\nHost: a\r\n\r\n", BeRefused),
    ("GET {x}  HTTP/1.1\r\nHost: a\r\n\r\n", BeRefused),
    ("GET  {x} HTTP/1.1\r\nHost: a\r\n\r\n", BeRefused),
    ("GET\t{x} HTTP/1.1\r\nHost: a\r\n\r\n", BeRefused),
    ("GET {x}\t HTTP/1.1\r\nHost: a\r\n\r\n", BeRefused),
    ("GET {x}\r HTTP/1.1\r\nHost: a\r\n\r\n", BeRefused),
    ("GET {x}\x00 HTTP/1.1\r\nHost: a\r\n\r\n", BeRefused),
    ("GET {x}\x7f HTTP/1.1\r\nHost: a\r\n\r\n", BeRefused),
    ("G@T {x} HTTP/1.1\r\nHost: a\r\n\r\n", BeRefused),
    ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", BeRefused),
    ("GET {x}?a=\"<\u{e9}>#b HTTP/1.1\r\nHost: a\r\n\r\n", GoOn("GET /r/x?a=%22%3C%E9%3E%23b HTTP/1.1||")),
    // Protocols.
    (
        "GET {x} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
        GoOn("GET /r/x HTTP/1.1||"),
    ),
];

/// Targets that a server might read as another: no server gets one, and the connection goes on.
const TARGETS: &[&str] = &[
    "GET /r/%zz",
    "GET /r/%4",
    "GET /r/%",
    "GET /r/%ff",
    "GET /r/%c0%af",
    "GET /r/%c0%ae%c0%ae/x",
    "GET /r/%00",
    "GET /r/a%0d%0aX:y",
    "GET /r/..%2fx",
    "GET /r/%2e%2e/x",
    "GET /r/a%5cb",
    "GET /r/a\\..\\b",
    "GET /r/..;/x",
    "GET /r/../api/health",
    "GET http://u:p@b/r/x",
    "CONNECT /r/x",
    "TRACE /r/x",
];

#[test]
fn what_two_servers_might_read_differently_is_refused_or_goes_on_in_one_form() {
    let got = Arc::<Mutex<Vec<String>>>::default();
    let server = gateway(&got);
    let next = "GET /r/next HTTP/1.1||".to_owned();
    let mut wrong = Vec::new();
    for (case, must) in cases() {
        got.lock().unwrap().clear();
        let statuses = statuses(&server, &case.replace("{x}", "/r/x"), "/r/next");
        let got = std::mem::take(&mut *got.lock().unwrap());
        let is_right = match must {
            BeRefused => matches!(statuses[..], [400..=499 | 501]) && got.is_empty(),
            GoOn(expected) => statuses == [200, 200] && got == [filled(expected), next.clone()],
            StayHere => matches!(statuses[..], [300..=499, 200]) && got == [next.clone()],
        };
        if !is_right {
            wrong.push(format!("{case:?} must {must:?}: {statuses:?} {got:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_services_take_one_request_or_none_for_one() {
    let server = Server::start(&[]);
    let mut wrong = Vec::new();
    for (case, must) in cases() {
        // It reads its body.
        let target = "/api/collections/users/auth-with-password";
        let statuses = statuses(&server, &case.replace("{x}", target), "/api/health");
        let is_right = match must {
            BeRefused => matches!(statuses[..], [400..=499 | 501]),
            GoOn(_) | StayHere => matches!(statuses[..], [300..=499, 200]),
        };
        if !is_right {
            wrong.push(format!("{case:?} must {must:?}: {statuses:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_target_that_a_server_might_take_for_another_goes_to_none() {
    let got = Arc::<Mutex<Vec<String>>>::default();
    let server = gateway(&got);
    for case in TARGETS {
        let statuses = statuses(&server, &format!("{case} HTTP/1.1\r\nHost: a\r\n\r\n"), "/r/next");
        assert!(matches!(statuses[..], [300..=499, 200]), "{case:?}: {statuses:?}");
        assert_eq!(std::mem::take(&mut *got.lock().unwrap()), ["GET /r/next HTTP/1.1||"], "{case:?}");
    }
}

#[test]
fn a_head_without_an_end_is_refused_and_harms_nobody() {
    let got = Arc::<Mutex<Vec<String>>>::default();
    let server = gateway(&got);
    let mut other = server.connect();
    for begin in ["GET /r/", "GET /r/ HTTP/1.1\r\nX: ", "GET /r/ HTTP/1.1\r\n\r", "GET"] {
        let mut stream = server.connect();
        let mut refused = stream.try_clone().unwrap();
        // It goes on after the answer.
        let sending = std::thread::spawn(move || {
            let _ = stream.write_all(begin.as_bytes());
            (0..256).take_while(|_| stream.write_all(&[b'a'; 16 << 10]).is_ok()).count()
        });
        let answer = read_response(&mut refused);
        assert!((400..=431).contains(&answer.status), "{begin:?}: {}", answer.status);
        sending.join().unwrap();
    }
    assert!(got.lock().unwrap().is_empty());
    other.write_all(b"GET /r/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut other).text(), "ok");
}

/// Every case as bytes, with `{x}` for the target.
fn cases() -> impl Iterator<Item = (String, Must)> {
    let posts = POSTS.iter().map(|(rest, must)| (format!("POST {{x}} HTTP/1.1\r\nHost: a\r\n{rest}"), *must));
    posts.chain(REQUESTS.iter().map(|(request, must)| ((*request).to_owned(), *must)))
}

/// A gateway with a route `/r/` to a server that notes what it gets.
fn gateway(got: &Arc<Mutex<Vec<String>>>) -> Server {
    let notes = got.clone();
    let strict = upstream(move |stream| {
        while let Some(request) = read_request(stream) {
            notes.lock().unwrap().push(request);
            if !reply(stream, 200, "ok") {
                return;
            }
        }
    });
    let config = format!(
        "[gateway.upstreams.strict]\nservers = [\"http://{strict}\"]\n[[gateway.routes]]\npath = \"/r/\"\nupstream = \"strict\"\n"
    );
    Server::start_with(
        move |folder| std::fs::write(folder.join("g.toml"), config).unwrap(),
        &["--config", "g.toml"],
    )
}

/// A request as one server reads it that takes nothing but the plainest form; none at the end of the connection, or
/// where it breaks off.
fn read_request(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let line = read_line(stream)?;
    let mut framing = Vec::new();
    let body = loop {
        let header = read_line(stream)?;
        if header.is_empty() {
            break read_body(stream, &framing)?;
        }
        let header = header.to_ascii_lowercase();
        let name = header.split_once(':').expect("a name").0.replace('_', "-");
        if matches!(name.as_str(), "content-length" | "transfer-encoding" | "trailer" | "upgrade") {
            framing.push(header);
        }
    };
    Some(format!("{line}|{}|{body}", framing.join(", ")))
}

fn read_body(stream: &mut BufReader<TcpStream>, framing: &[String]) -> Option<String> {
    let mut body = String::new();
    match framing {
        [] => {}
        [chunked] if chunked == "transfer-encoding: chunked" => loop {
            let size = usize::from_str_radix(&read_line(stream)?, 16).expect("a plain size");
            let mut chunk = vec![0; size];
            stream.read_exact(&mut chunk).ok()?;
            body.push_str(std::str::from_utf8(&chunk).unwrap());
            assert_eq!(read_line(stream)?, "", "neither longer chunks nor trailers");
            if size == 0 {
                break;
            }
        },
        [length] => {
            let length = length.strip_prefix("content-length: ").and_then(|length| length.parse().ok());
            let mut bytes = vec![0; length.expect("a plain length")];
            stream.read_exact(&mut bytes).ok()?;
            body = String::from_utf8(bytes).unwrap();
        }
        more => body = format!("two framings: {more:?}"),
    }
    Some(body)
}

/// A line that ends as it should.
fn read_line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    line.strip_suffix("\r\n").map(str::to_owned)
}

fn filled(text: &str) -> String {
    text.replace("{chunked}", "Transfer-Encoding: chunked\r\n\r\n")
        .replace("{flood}", &"a".repeat(40_000))
        .replace("{trailers}", &"X: y\r\n".repeat(9_000))
        .replace("{hidden}", HIDDEN)
}

/// The statuses of all answers on a connection that sends these bytes, of which each character is one, and then asks
/// for `next`.
fn statuses(server: &Server, case: &str, next: &str) -> Vec<u16> {
    let text = filled(case) + &NEXT.replace("{next}", next);
    let bytes: Vec<u8> = text.chars().map(|character| u8::try_from(u32::from(character)).unwrap()).collect();
    let mut stream = server.connect();
    // The server may answer and close before it has read all.
    let _ = stream.write_all(&bytes);
    let mut answers = Vec::new();
    let _ = stream.read_to_end(&mut answers);
    let answers = String::from_utf8_lossy(&answers).replace("HTTP/1.0 ", "HTTP/1.1 ");
    let statuses = answers.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)?.parse().ok());
    statuses.filter(|status| *status != 100).collect()
}
