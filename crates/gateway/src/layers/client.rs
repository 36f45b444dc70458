//! Who the client is, where requests come by trusted proxies: the one place where that is decided. It notes it in the
//! request's [`Peer`], from where limits, balancing, logs, services and other servers have it.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{FORWARDED, HeaderMap, HeaderName};
use axum::http::{Request, Response};
use axum::response::IntoResponse;
use kit::error::ApiError;

use super::before::Before;
use crate::net::{ConnectionRules, Peer, Transport};
use crate::observe::Observer;
use crate::refusal::Cause;

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Takes the word of trusted proxies, and answers 403 for clients who may not come in. Without such proxies there is
/// nothing to do.
#[derive(Clone)]
pub(crate) struct Client {
    rules: Arc<ConnectionRules>,
    observer: Observer,
}

impl Client {
    pub(crate) fn new(rules: Arc<ConnectionRules>, observer: Observer) -> Self {
        Self { rules, observer }
    }
}

impl Before for Client {
    fn answer(&self, request: &mut Request<Body>) -> Option<Response<Body>> {
        if self.rules.trusted_proxies.is_empty() {
            return None;
        }
        let peer = *request.extensions().get::<Peer>()?;
        if !self.rules.trusted_proxies.contain(peer.address.ip()) {
            return None;
        }
        let is_trusted = |address| self.rules.trusted_proxies.contain(address);
        let headers = request.headers();
        let client = client(headers, peer.address.ip(), is_trusted);
        let transport = transport(headers).unwrap_or(peer.transport);
        request.extensions_mut().insert(Peer { client, transport, is_trusted: true, ..peer });
        if self.rules.let_in(client) {
            return None;
        }
        let response = Cause::Address.mark(ApiError::forbidden().into_response());
        Some(self.observer.answered(request, response))
    }
}

/// Of the addresses that the proxies name, the nearest that is no proxy's: whatever stands before it may be the
/// client's invention. Where all are trusted it is the first of them; what is no address ends the search.
fn client(headers: &HeaderMap, proxy: IpAddr, is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    if headers.contains_key(X_FORWARDED_FOR) {
        let elements = elements_from_the_end(headers, X_FORWARDED_FOR);
        nearest(elements.map(|element| address(&element)), proxy, is_trusted)
    } else {
        let elements = elements_from_the_end(headers, FORWARDED);
        nearest(elements.map(|element| forwarded_for(&element)), proxy, is_trusted)
    }
}

fn nearest(
    mut named: impl Iterator<Item = Option<IpAddr>>,
    proxy: IpAddr,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut client = proxy;
    while is_trusted(client)
        && let Some(Some(address)) = named.next()
    {
        client = address;
    }
    client
}

/// How the client came to the nearest proxy, as that says.
fn transport(headers: &HeaderMap) -> Option<Transport> {
    match &*elements_from_the_end(headers, X_FORWARDED_PROTO).next()? {
        "https" => Some(Transport::Tls),
        "http" => Some(Transport::Plain),
        _ => None,
    }
}

/// What stands between the commas of all lines of a header, the last first.
fn elements_from_the_end(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = Cow<'_, str>> {
    let lines = headers.get_all(name).iter().rev();
    lines.flat_map(|line| {
        // Split as bytes: one element that is no text does not spoil the others.
        line.as_bytes()
            .rsplit(|byte| *byte == b',')
            .map(|element| String::from_utf8_lossy(element.trim_ascii()))
    })
}

/// `192.0.2.7`, `192.0.2.7:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse().map(|address: SocketAddr| address.ip());
    Some(bare.parse().or_else(|_| with_port()).ok()?.to_canonical())
}

/// The node of `for=…` in an element of `Forwarded` (RFC 7239 §4).
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let node = element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    })?;
    address(node.strip_prefix('"').and_then(|node| node.strip_suffix('"')).unwrap_or(node))
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;
    use crate::layers::before::BeforeLayer;
    use crate::layers::testing::{answer, text};
    use crate::{Gateway, Networks};

    fn rules() -> ConnectionRules {
        let networks = |texts: &[&str]| Networks::parse(texts.iter().copied()).unwrap();
        ConnectionRules {
            trusted_proxies: networks(&["10.0.0.0/8", "2001:db8::/32"]),
            deny: networks(&["192.0.2.66"]),
            ..ConnectionRules::default()
        }
    }

    /// The client and how he came, as a service is told of them.
    async fn client_of(peer: &str, lines: &[(&str, &str)]) -> String {
        let told = service_fn(|request: Request<Body>| async move {
            let peer = request.extensions().get::<Peer>().unwrap();
            Ok(Response::new(Body::from(format!("{} {:?}", peer.client, peer.transport))))
        });
        let mut request = Request::get("/");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        let peer = SocketAddr::new(peer.parse().unwrap(), 1);
        request.extensions_mut().insert(Peer::new(peer, Transport::Plain));
        let observer = Observer::new(None, &Gateway::default());
        let client = Client::new(Arc::new(rules()), observer);
        let response = answer(&BeforeLayer(client), told, request).await;
        let status = response.status().as_u16();
        if status == 200 { text(response).await } else { status.to_string() }
    }

    #[tokio::test]
    async fn only_a_trusted_proxy_says_who_the_client_is() {
        let claim = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https")];
        assert_eq!(client_of("192.0.2.1", &claim).await, "192.0.2.1 Plain");
        assert_eq!(client_of("10.0.0.1", &claim).await, "192.0.2.7 Tls");
        assert_eq!(client_of("10.0.0.1", &[]).await, "10.0.0.1 Plain");
    }

    #[tokio::test]
    async fn it_is_the_last_address_that_is_no_proxys() {
        for (line, expected) in [
            ("1.1.1.1, 192.0.2.7", "192.0.2.7"),
            ("1.1.1.1, 192.0.2.7, 10.0.0.2,10.0.0.3", "192.0.2.7"),
            ("10.0.0.5, 10.0.0.6", "10.0.0.5"),
            ("192.0.2.7:443", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("[2001:db9::1]:443", "2001:db9::1"),
            ("2001:db9::1, 2001:db8::9", "2001:db9::1"),
            ("192.0.2.7, unknown, 10.0.0.2", "10.0.0.2"),
            ("192.0.2.7, , 10.0.0.2", "10.0.0.2"),
            ("", "10.0.0.1"),
        ] {
            let found = client_of("10.0.0.1", &[("x-forwarded-for", line)]).await;
            assert_eq!(found, format!("{expected} Plain"), "{line}");
        }
        let lines = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-for", "10.0.0.2")];
        assert_eq!(client_of("10.0.0.1", &lines).await, "192.0.2.7 Plain");
    }

    #[tokio::test]
    async fn forwarded_is_read_where_the_other_is_not_there() {
        for (line, expected) in [
            ("for=1.1.1.1, for=192.0.2.7;proto=https", "192.0.2.7"),
            ("For=\"[2001:db9::1]:4711\"", "2001:db9::1"),
            ("proto=http; FOR=192.0.2.7, for=10.0.0.2", "192.0.2.7"),
            ("for=_hidden", "10.0.0.1"),
            ("proto=http", "10.0.0.1"),
        ] {
            assert_eq!(
                client_of("10.0.0.1", &[("forwarded", line)]).await,
                format!("{expected} Plain"),
                "{line}"
            );
        }
        let both = [("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.8")];
        assert_eq!(client_of("10.0.0.1", &both).await, "192.0.2.7 Plain");
    }

    #[tokio::test]
    async fn a_client_who_is_denied_is_so_behind_a_proxy_too() {
        assert_eq!(client_of("10.0.0.1", &[("x-forwarded-for", "192.0.2.66")]).await, "403");
    }
}
