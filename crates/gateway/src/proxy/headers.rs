//! What of a message's head goes on to the other side (RFC 9110 §7.6.1, RFC 7239's older cousins `X-Forwarded-*`).

use std::net::{IpAddr, Ipv4Addr};

use axum::body::Body;
use axum::http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use axum::http::uri::{Authority, Scheme};
use axum::http::{Request, Uri};

use crate::layers::client::{X_FORWARDED_FOR, X_FORWARDED_PROTO};
use crate::net::Peer;
use crate::upstreams::ServerUrl;

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Headers with such a name are the gateway's own word.
const OWN: [&str; 2] = ["x-groundswell-", "x_groundswell_"];

/// What a client cannot make a thing of the connection: the server needs it.
static NEVER_OF_THE_CONNECTION: [HeaderName; 2] = [HOST, CONTENT_LENGTH];

/// What `Connection` says of the connection and not of other headers, or of headers that go anyway.
const WELL_KNOWN_OPTIONS: [&str; 3] = ["close", "keep-alive", "upgrade"];

/// Removes what is about the connection that the message came over.
pub(crate) fn strip(headers: &mut HeaderMap) {
    // Where both are, the first says how the body came.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    spell_length(headers);
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .filter(|option| !WELL_KNOWN_OPTIONS.iter().any(|known| option.eq_ignore_ascii_case(known)))
        .filter_map(|name| name.parse().ok())
        .filter(|name| !NEVER_OF_THE_CONNECTION.contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
    remove(headers, is_of_the_connection);
}

/// Removes the headers of such names. Most messages have one or none of them, and to look through the headers of a
/// message costs less than to look up each of these.
fn remove(headers: &mut HeaderMap, is_one: fn(&str) -> bool) {
    let there: Vec<HeaderName> = headers.keys().filter(|name| is_one(name.as_str())).cloned().collect();
    for name in there {
        headers.remove(name);
    }
}

/// Headers that are about one connection, and what some servers, with `_`, take for them. With `expect` it is this server
/// that lets the client go on.
fn is_of_the_connection(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "expect"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "content_length"
            | "transfer_encoding"
    )
}

/// What a client could only claim: other names by which servers look for the address (with `_` some take them for
/// the same), and the gateway's own word.
fn is_claim(name: &str) -> bool {
    OWN.iter().any(|own| name.starts_with(own))
        || matches!(
            name,
            "forwarded"
                | "x-forwarded-port"
                | "x-forwarded-prefix"
                | "x-forwarded-server"
                | "x-real-ip"
                | "x_forwarded_for"
                | "x_forwarded_host"
                | "x_forwarded_proto"
        )
}

/// A length with zeros before it is none to some servers, and octal to others.
fn spell_length(headers: &mut HeaderMap) {
    let Some(length) = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes) else { return };
    if !length.starts_with(b"0") || length.len() == 1 {
        return;
    }
    let length = std::str::from_utf8(length).ok().and_then(|length| length.parse::<u64>().ok());
    match length {
        Some(length) => _ = headers.insert(CONTENT_LENGTH, length.into()),
        None => _ = headers.remove(CONTENT_LENGTH),
    }
}

/// Whether a client says that it takes trailers.
pub(crate) fn takes_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(TE).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|coding| coding.trim() == "trailers"))
    })
}

/// Puts a request into the form of HTTP/2: the host beside the path, and no word about chunks.
pub(crate) fn to_http2(request: &mut Request<Body>, server: &ServerUrl, takes_trailers: bool) {
    let headers = request.headers_mut();
    headers.remove(TRANSFER_ENCODING);
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    let host = headers.remove(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let authority = host.or_else(|| server.authority().parse().ok());
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(if server.has_tls() { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = authority;
    // Without one of the three hyper sends nothing, and says so.
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
}

/// Whether both sides may go on with WebSocket frames on this connection, as the head says. There is no other protocol
/// that is passed on: HTTP/2, for one, would lead past routes and rules.
pub(crate) fn is_websocket(headers: &HeaderMap) -> bool {
    if !headers.get(UPGRADE).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return false;
    }
    let connection = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut options = connection.flat_map(|value| value.split(','));
    options.any(|option| option.trim().eq_ignore_ascii_case("upgrade"))
}

/// Asks for WebSocket, or agrees to it.
pub(crate) fn set_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Tells the server who asked, and how. What a client says of itself is not passed on, what a trusted proxy says is.
pub(crate) fn set_forwarded(headers: &mut HeaderMap, peer: &Peer, protocol: &'static str) {
    if let Ok(chain) = HeaderValue::from_bytes(&forwarded_for(headers, peer)) {
        headers.insert(X_FORWARDED_FOR, chain);
    }
    if !peer.is_trusted || !headers.contains_key(X_FORWARDED_HOST) {
        match headers.get(HOST).cloned() {
            Some(host) => _ = headers.insert(X_FORWARDED_HOST, host),
            None => _ = headers.remove(X_FORWARDED_HOST),
        }
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(protocol));
    remove(headers, is_claim);
}

/// Who connected, behind those whom a trusted proxy names.
fn forwarded_for(headers: &HeaderMap, peer: &Peer) -> Vec<u8> {
    let mut chain = Vec::with_capacity("255.255.255.255".len());
    if peer.is_trusted {
        for line in headers.get_all(X_FORWARDED_FOR) {
            chain.extend_from_slice(line.as_bytes());
            chain.extend_from_slice(b", ");
        }
        // It named him in `Forwarded`.
        if chain.is_empty() && peer.client != peer.address.ip() {
            chain.extend_from_slice(format!("{}, ", peer.client).as_bytes());
        }
    }
    push_address(&mut chain, peer.address.ip());
    chain
}

/// An address as text. `Display` would cost a tenth of what the rest of the head does.
fn push_address(text: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => push_v4(text, address),
        IpAddr::V6(address) => text.extend_from_slice(address.to_string().as_bytes()),
    }
}

fn push_v4(text: &mut Vec<u8>, address: Ipv4Addr) {
    for (position, octet) in address.octets().into_iter().enumerate() {
        if position > 0 {
            text.push(b'.');
        }
        for (power, least) in [(100, 100), (10, 10), (1, 0)] {
            if octet >= least {
                text.push(b'0' + octet / power % 10);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Transport;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn peer(address: &str) -> Peer {
        Peer::new(address.parse().unwrap(), Transport::Plain)
    }

    #[test]
    fn what_is_about_the_connection_stays_behind() {
        let mut given = headers(&[
            ("connection", "close, X-Mine"),
            ("connection", "x-other"),
            ("x-mine", "1"),
            ("x-other", "1"),
            ("keep-alive", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
        ]);
        strip(&mut given);
        assert_eq!(given, headers(&[("accept", "*/*")]));
    }

    #[test]
    fn only_websocket_is_asked_for_by_two_headers() {
        let asks = |connection: &str, protocol: &str| {
            is_websocket(&headers(&[("connection", connection), ("upgrade", protocol)]))
        };
        assert!(asks("keep-alive, Upgrade", "WebSocket"));
        assert!(!asks("keep-alive", "websocket") && !asks("upgrade", "h2c"));
        assert!(!is_websocket(&headers(&[("connection", "upgrade")])));
    }

    #[test]
    fn what_the_server_needs_is_not_the_connections() {
        let mut given =
            headers(&[("connection", "host, content-length"), ("host", "a"), ("content-length", "1")]);
        strip(&mut given);
        assert_eq!(given, headers(&[("host", "a"), ("content-length", "1")]));
    }

    #[test]
    fn one_framing_goes_on() {
        let mut given = headers(&[("transfer-encoding", "chunked"), ("content-length", "3")]);
        strip(&mut given);
        assert_eq!(given, headers(&[]));
    }

    #[test]
    fn a_length_goes_on_in_one_spelling_under_one_name() {
        let mut given =
            headers(&[("content-length", "003"), ("content_length", "9"), ("transfer_encoding", "chunked")]);
        strip(&mut given);
        assert_eq!(given, headers(&[("content-length", "3")]));
        let mut none = headers(&[("content-length", "0")]);
        strip(&mut none);
        assert_eq!(none, headers(&[("content-length", "0")]));
    }

    #[test]
    fn an_address_is_written_as_everywhere() {
        let written = |address: IpAddr| {
            let mut text = Vec::new();
            push_address(&mut text, address);
            String::from_utf8(text).unwrap()
        };
        for octet in 0..=u8::MAX {
            let address = Ipv4Addr::new(octet, 1, 20, octet);
            assert_eq!(written(address.into()), address.to_string());
        }
        assert_eq!(written("2001:db8::1".parse().unwrap()), "2001:db8::1");
    }

    #[test]
    fn what_a_client_says_of_itself_is_replaced() {
        let mut given = headers(&[
            ("host", "app.example"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=10.0.0.1"),
            ("x-groundswell-caller", "root"),
            ("X_Groundswell_Caller", "root"),
        ]);
        set_forwarded(&mut given, &peer("192.0.2.7:1"), "http");
        let expected = headers(&[
            ("host", "app.example"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-host", "app.example"),
            ("x-forwarded-proto", "http"),
        ]);
        assert_eq!(given, expected);
    }

    #[test]
    fn what_a_trusted_proxy_says_goes_on_with_its_own_address_behind() {
        let client = "192.0.2.7".parse().unwrap();
        let proxy = Peer { client, is_trusted: true, ..peer("10.0.0.1:1") };
        let mut given = headers(&[
            ("host", "inner.example"),
            ("x-forwarded-for", "1.1.1.1, 192.0.2.7"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-host", "app.example"),
            ("forwarded", "for=10.0.0.1"),
        ]);
        set_forwarded(&mut given, &proxy, "https");
        let expected = headers(&[
            ("host", "inner.example"),
            ("x-forwarded-for", "1.1.1.1, 192.0.2.7, 10.0.0.2, 10.0.0.1"),
            ("x-forwarded-host", "app.example"),
            ("x-forwarded-proto", "https"),
        ]);
        assert_eq!(given, expected);
        let mut named_otherwise = headers(&[("forwarded", "for=192.0.2.7")]);
        set_forwarded(&mut named_otherwise, &proxy, "https");
        assert_eq!(named_otherwise[X_FORWARDED_FOR], "192.0.2.7, 10.0.0.1");
    }
}
