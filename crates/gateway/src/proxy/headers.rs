//! What of a message's head goes on to the other side (RFC 9110 §7.6.1, RFC 7239's older cousins `X-Forwarded-*`).

use std::net::IpAddr;

use axum::http::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Headers that are about one connection.
const OF_THE_CONNECTION: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Removes what is about the connection that the message came over.
pub(crate) fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &OF_THE_CONNECTION {
        headers.remove(name);
    }
}

/// The protocol that a client wants to go on with on this connection, such as `websocket`.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let connection = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut options = connection.flat_map(|value| value.split(','));
    let wants = options.any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| wants).cloned()
}

/// Asks for a protocol, or agrees to it.
pub(crate) fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Tells the server who asked, and how. What a client says of itself is not passed on.
pub(crate) fn set_forwarded(headers: &mut HeaderMap, client: IpAddr, protocol: &'static str) {
    if let Ok(client) = HeaderValue::from_str(&client.to_string()) {
        headers.insert(X_FORWARDED_FOR, client);
    }
    match headers.get(HOST).cloned() {
        Some(host) => _ = headers.insert(X_FORWARDED_HOST, host),
        None => _ = headers.remove(X_FORWARDED_HOST),
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(protocol));
    headers.remove("forwarded");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
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
    fn an_upgrade_is_asked_for_by_two_headers() {
        let asked =
            |connection: &str| upgrade(&headers(&[("connection", connection), ("upgrade", "websocket")]));
        assert_eq!(asked("keep-alive, Upgrade").unwrap(), "websocket");
        assert_eq!(asked("keep-alive"), None);
        assert_eq!(upgrade(&headers(&[("connection", "upgrade")])), None);
    }

    #[test]
    fn what_a_client_says_of_itself_is_replaced() {
        let mut given = headers(&[
            ("host", "app.example"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=10.0.0.1"),
        ]);
        set_forwarded(&mut given, "192.0.2.7".parse().unwrap(), "http");
        let expected = headers(&[
            ("host", "app.example"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-host", "app.example"),
            ("x-forwarded-proto", "http"),
        ]);
        assert_eq!(given, expected);
    }
}
