use std::collections::VecDeque;

use proptest::prelude::*;
use tokio::io::AsyncReadExt;

use super::*;

fn check(input: &str, expected: &str) {
    assert_eq!(String::from_utf8_lossy(&rewritten(&[input.as_bytes()])), expected);
}

#[test]
fn raw_bytes_of_the_target_are_encoded() {
    check(
        "GET /api?filter=name=\"a\"&&(n<1||n>2) HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /api?filter=name=%22a%22&&(n%3C1||n%3E2) HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    check("GET /a`b?c#d HTTP/1.1\r\n\r\n", "GET /a%60b?c%23d HTTP/1.1\r\n\r\n");
    check("GET /é?é HTTP/1.1\r\n\r\n", "GET /%C3%A9?%C3%A9 HTTP/1.1\r\n\r\n");
}

#[test]
fn nothing_but_the_target_is_changed() {
    let head = "POST /a HTTP/1.1\r\nX-\"A\": <b> #\r\nContent-Length: 19\r\n\r\n";
    let body = "GET /\"<>\" HTTP/1.1\n";
    let input = format!("{head}{body}");
    check(&input, &input);
}

#[test]
fn requests_after_a_plain_body_are_followed() {
    check(
        "POST /\" HTTP/1.1\r\nContent-Length: 3\r\n\r\n<\">GET /\" HTTP/1.1\r\n\r\nGET /> HTTP/1.1\r\n\r\n",
        "POST /%22 HTTP/1.1\r\nContent-Length: 3\r\n\r\n<\">GET /%22 HTTP/1.1\r\n\r\nGET /%3E HTTP/1.1\r\n\r\n",
    );
}

#[test]
fn requests_after_chunks_are_followed() {
    let head = "POST /\" HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n";
    for chunks in [
        "0\r\n\r\n",
        "3\r\n<\">\r\n00B\r\nGET /\" X\r\n\n\r\n0\r\n\r\n",
        "0\r\nA: \"\r\nB: <\r\n\r\n",
        "1;a=\"b\"\r\n\"\r\n1 \t;c\r\n\n\r\n0 \r\n\r\n",
    ] {
        check(
            &format!("{head}{chunks}GET /\" HTTP/1.1\r\n\r\n"),
            &format!("POST /%22{}{chunks}GET /%22 HTTP/1.1\r\n\r\n", &head[7..]),
        );
    }
}

#[test]
fn requests_after_broken_chunks_are_not_touched() {
    for chunks in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        "1\r\nab\r\n",
        "1\r\na\n",
        "0\r\nA: b\rc\r\n\r\n",
        "ffffffffffffffff\r\n",
        "10000000000000000\r\n",
    ] {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let input = format!("{head}{chunks}0\r\n\r\nGET /\" HTTP/1.1\r\n\r\n");
        check(&input, &input);
    }
}

#[test]
fn requests_after_one_of_unclear_length_are_not_touched() {
    for header in [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Upgrade: websocket",
        "Content-Length: +1",
        "Content-Length: 1, 1",
        "Content-Length : 1",
        "Content-Length: 99999999999999999999",
        " Content-Length: 1",
        "Connection",
    ] {
        let input = format!("GET / HTTP/1.1\r\n{header}\r\n\r\nGET /\" HTTP/1.1\r\n\r\n");
        check(&input, &input);
    }
}

#[test]
fn requests_after_one_that_repeats_its_length_or_asks_for_another_protocol_are_followed() {
    for header in ["Content-Length: 1\r\nContent-Length: 01", "Upgrade: h2c\r\nContent-Length: 1"] {
        let head = format!("POST / HTTP/1.1\r\n{header}\r\n\r\n");
        check(&format!("{head}\"GET /\" HTTP/1.1\r\n\r\n"), &format!("{head}\"GET /%22 HTTP/1.1\r\n\r\n"));
    }
}

#[test]
fn what_the_parser_would_read_on_over_is_spoilt() {
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    for before in ["", "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\n\r\n"] {
        for (trailers, spoilt) in [("\n", "\0"), ("A: b\n\r\n", "A: b\0\r\n"), ("A: b\r\n\n", "A: b\r\n\0")] {
            let rest = "GET /hidden HTTP/1.1\r\n\r\n";
            check(&format!("{before}{head}{trailers}{rest}"), &format!("{before}{head}{spoilt}{rest}"));
        }
    }
    for name in ["Content-Length", "Transfer-Encoding"] {
        let head = format!("POST / HTTP/1.1\r\n{name}:{}1\r\n\r", " ".repeat(60));
        check(&format!("{head}\n"), &format!("{head}\0"));
    }
}

#[test]
fn a_tunnel_is_not_touched() {
    let input = "CONNECT a:1 HTTP/1.1\r\n\r\nGET /\" HTTP/1.1\r\n\r\n";
    check(input, input);
}

#[test]
fn a_head_with_both_framings_is_spoilt() {
    for headers in
        ["Content-Length: 1\r\nTransfer-Encoding: chunked", "transfer-encoding: x\r\ncontent-length: 1"]
    {
        check(
            &format!("POST / HTTP/1.1\r\n{headers}\r\n\r\nbody"),
            &format!("POST / HTTP/1.1\r\n{headers}\r\n\r\0body"),
        );
    }
}

/// Two requests and whatever follows: `target` and `body` are the free parts.
fn connection(target: &[u8], header: &[u8], body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    [
        b"\r\nPOST /".as_slice(),
        target,
        b" HTTP/1.1\r\nUser-Agent: ",
        header,
        b"\r\nContent-Length: ",
        length.as_bytes(),
        b"\r\n\r\n",
        body,
        b"GET /?\" HTTP/1.1\nHost: x\n\n",
    ]
    .concat()
}

fn encoded(target: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    for &byte in target {
        if wants_encoding(byte) {
            encoded.extend(format!("%{byte:02X}").into_bytes());
        } else {
            encoded.push(byte);
        }
    }
    encoded
}

/// Any bytes without those in `except`.
fn bytes_without(except: &'static [u8], at_most: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(
        any::<u8>().prop_filter("a delimiter", |byte| !except.contains(byte)),
        0..at_most,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn only_targets_change_and_every_other_byte_passes(
        target in bytes_without(b" \n", 40),
        header in bytes_without(b"\n", 90),
        body in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let input = connection(&target, &header, &body);
        let mut expected = connection(&encoded(&target), &header, &body);
        let quote = expected.iter().rposition(|&byte| byte == b'"').unwrap();
        expected.splice(quote..=quote, *b"%22");
        prop_assert_eq!(rewritten(&[&input]), expected);
    }

    #[test]
    fn where_the_bytes_are_split_makes_no_difference(
        target in bytes_without(b" \n", 30),
        header in bytes_without(b"\n", 80),
        body in proptest::collection::vec(any::<u8>(), 0..30),
    ) {
        let input = connection(&target, &header, &body);
        let whole = rewritten(&[&input]);
        for at in 0..=input.len() {
            let (first, second) = input.split_at(at);
            prop_assert_eq!(rewritten(&[first, second]), whole.clone());
        }
        let single_bytes: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(rewritten(&single_bytes), whole);
    }
}

proptest! {
    // As many cases as `PROPTEST_CASES` says.
    #[test]
    fn any_bytes_pass_without_a_panic(
        pieces in proptest::collection::vec(prop_oneof![
            any::<u8>().prop_map(|byte| vec![byte]),
            proptest::sample::select(b"\r\n :\"<0123".to_vec()).prop_map(|byte| vec![byte]),
            proptest::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        ], 0..40),
        cut in any::<u8>(),
    ) {
        try_bytes(&[vec![cut], pieces.concat()].concat());
    }
}

/// What connections are made of.
const PIECES: &[&str] = &[
    "GET /\" HTTP/1.1\r\n",
    "POST /<> HTTP/1.1\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Upgrade: h2c\r\n",
    "Host: x\r\n",
    "\r\n",
    "3\r\nabc\r\n",
    "2;x\r\n",
    "0\r\n\r\n",
    "abc",
];

#[test]
fn the_corpus_of_the_fuzzer_passes() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/request_target");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        try_bytes(&std::fs::read(file).unwrap());
    }
}

/// Gives its pieces one a read.
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.0.pop_front() {
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_reader_with_a_small_buffer_gets_everything() {
    let input = connection(b"a\"\"\"\"\"\"\"\"b", b"<x>", b"\"body\"");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for piece_bytes in 1..20 {
        for buffer_bytes in 1..8 {
            let pieces = input.chunks(piece_bytes).map(<[u8]>::to_vec).collect();
            let mut stream = RewritingStream::after(&[], Pieces(pieces));
            let mut output = Vec::new();
            let mut buffer = vec![0; buffer_bytes];
            while let count @ 1.. = runtime.block_on(stream.read(&mut buffer)).unwrap() {
                output.extend_from_slice(&buffer[..count]);
            }
            assert_eq!(output, rewritten(&[&input]));
        }
    }
}
