//! What the fuzzers in `fuzz/` call, and our tests with random bytes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tower::{ServiceBuilder, service_fn};

use crate::checks::paths;
use crate::checks::rules::{self, Condition};
use crate::layers::before::BeforeLayer;
use crate::layers::clean_path::CleanPath;
use crate::layers::framing::Framing;
use crate::layers::head_size::HeadSize;
use crate::layers::one_host::OneHost;
use crate::net::{ConnectionServer, Peer, Protocol, Transport};
use crate::routes;

const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// More than this is nothing new, and would not fit between both sides at once.
const MAX_BYTES: usize = 32 << 10;

/// Tries the bytes before the first zero as a condition, and the others as the target and headers of a request
/// that it is asked for.
pub fn try_rule(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let Ok(text) = std::str::from_utf8(parts.next().unwrap_or_default()) else { return };
    let request = request(parts.next().unwrap_or_default());
    if let Some(request) = &request {
        let _ = paths::refusal(request);
        let _ = routes::host(request.headers(), request.uri());
    }
    match text.parse::<Condition>() {
        Err(bad) => assert!((1..=text.chars().count() + 1).contains(&bad.column), "{bad}: {text:?}"),
        Ok(condition) => {
            let again: Condition = condition.to_string().parse().expect("what was read can be read again");
            let opposite = format!("not ({condition})").parse::<Condition>();
            let Some(request) = request else { return };
            let holds = rules::holds(&condition, &request);
            assert_eq!(rules::holds(&again, &request), holds, "{text:?}");
            // One that is as deep as may be is too deep with more around it.
            if let Ok(opposite) = opposite {
                assert_ne!(rules::holds(&opposite, &request), holds, "{text:?}");
            }
        }
    }
}

/// Tries any bytes as those of a connection, up to its end: each answer is one of a good request, or says what is
/// wrong with a bad one.
pub fn try_connection(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let answers = runtime.block_on(answers(&bytes[..bytes.len().min(MAX_BYTES)]));
    let answers = String::from_utf8_lossy(&answers);
    for status in answers.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)) {
        assert!(
            !status.starts_with('5') || status == "501",
            "{status} for {:?}",
            String::from_utf8_lossy(bytes)
        );
    }
}

async fn answers(bytes: &[u8]) -> Vec<u8> {
    let service = service_fn(|request: Request<Body>| async move {
        let is_whole = to_bytes(request.into_body(), MAX_BYTES).await.is_ok();
        Ok(Response::new(Body::from(if is_whole { "whole" } else { "broken" })))
    });
    let stack = ServiceBuilder::new()
        .layer(BeforeLayer(HeadSize))
        .layer(BeforeLayer(OneHost))
        .layer(BeforeLayer(CleanPath))
        .layer(BeforeLayer(Framing))
        .service(service);
    let server = ConnectionServer::new(stack, Duration::from_secs(60));
    let (mut client, stream) = tokio::io::duplex(1 << 20);
    let peer = Peer::new(PEER, Transport::Plain);
    let serving = server.serve(stream, peer, Protocol::Http1, CancellationToken::new());
    let asking = async {
        // The server may have ended before.
        let _ = client.write_all(bytes).await;
        let _ = client.shutdown().await;
        let mut answers = Vec::new();
        let _ = client.read_to_end(&mut answers).await;
        answers
    };
    let both = futures_util::future::join(serving, asking);
    tokio::time::timeout(Duration::from_secs(30), both).await.expect("a connection ends").1
}

/// The first line is a target, and each after it a header.
fn request(bytes: &[u8]) -> Option<Request<Body>> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut request = Request::builder().uri(lines.next()?);
    for line in lines {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
        request = request.header(name, &value[1..]);
    }
    let mut request = request.body(Body::empty()).ok()?;
    request.extensions_mut().insert(Peer::new(PEER, Transport::Plain));
    Some(request)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn corpus(name: &str) -> Vec<Vec<u8>> {
        let folder = format!("{}/../../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().collect();
        assert!(!files.is_empty());
        files.into_iter().map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    }

    #[test]
    fn the_corpus_of_the_fuzzers_passes() {
        corpus("rule").iter().for_each(|bytes| try_rule(bytes));
        corpus("connection").iter().for_each(|bytes| try_connection(bytes));
        corpus("request_target").iter().for_each(|bytes| try_connection(&bytes[1..]));
    }

    /// What conditions are made of, and what requests.
    const OF_RULES: &[&str] = &[
        "path",
        "raw_path",
        "query",
        "host",
        "method",
        "header[\"a\"]",
        "header",
        "lower(",
        "length(",
        "ip",
        "==",
        "!=",
        "contains",
        "starts_with",
        "ends_with",
        "matches",
        "in",
        "<",
        ">=",
        "and",
        "or",
        "not",
        "(",
        ")",
        "[",
        "]",
        ",",
        "\"a\"",
        "'/a'",
        "\"10.0.0.0/8\"",
        "5",
        "\"[a-z]+\"",
        "\"(\"",
        "\0",
        "/a%2e",
        "?a",
        "\na: b",
        "\nhost: x",
        "\u{e9}",
    ];

    const OF_CONNECTIONS: &[&str] = &[
        "GET / HTTP/1.1\r\n",
        "POST /a%zz HTTP/1.1\r\n",
        "GET //\" HTTP/1.0\r\n",
        "CONNECT a:1 HTTP/1.1\r\n",
        "Host: x\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 9\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Expect: 100-continue\r\n",
        "Connection: close\r\n",
        "Upgrade: websocket\r\n",
        "X: y\n",
        " folded\r\n",
        "\r\n",
        "\n",
        "3\r\nabc\r\n",
        "fffffffffffffff\r\n",
        "0\r\n",
        "A: b\r\n",
        "abc",
        "\0",
        "\r",
    ];

    fn made_of(pieces: &'static [&'static str], between: &'static str) -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            9 => proptest::sample::select(pieces).prop_map(|piece| piece.as_bytes().to_vec()),
            1 => any::<u8>().prop_map(|byte| vec![byte]),
        ];
        proptest::collection::vec(piece, 0..25).prop_map(move |pieces| pieces.join(between.as_bytes()))
    }

    proptest! {
        // As many cases as `PROPTEST_CASES` says.
        #[test]
        fn any_condition_is_read_or_refused_at_its_place(bytes in made_of(OF_RULES, " ")) {
            try_rule(&bytes);
        }

        #[test]
        fn any_bytes_of_a_connection_are_answered_without_a_fault_of_ours(bytes in made_of(OF_CONNECTIONS, "")) {
            try_connection(&bytes);
        }
    }
}
