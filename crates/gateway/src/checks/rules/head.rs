//! What of a request a condition may ask for.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::IpAddr;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, Request, Uri};

use crate::net::Peer;
use crate::routes;

/// A text of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Method,
    Path,
    RawPath,
    Query,
    Host,
    Header(HeaderName),
}

/// A request as conditions see it.
pub(super) struct Head<'r> {
    method: &'r str,
    uri: &'r Uri,
    headers: &'r HeaderMap,
    pub(super) client: Option<IpAddr>,
    /// The path without escapes, once somebody asked.
    path: OnceCell<Cow<'r, [u8]>>,
}

impl<'r> Head<'r> {
    pub(super) fn of(request: &'r Request<Body>) -> Self {
        Self {
            method: request.method().as_str(),
            uri: request.uri(),
            headers: request.headers(),
            client: request.extensions().get().map(|peer: &Peer| peer.client),
            path: OnceCell::new(),
        }
    }

    /// Whether one of the texts passes a test: a header may have several lines. One that is not there is empty.
    pub(super) fn any(&self, field: &Field, test: impl Fn(&[u8]) -> bool) -> bool {
        match field {
            Field::Header(name) => {
                let mut lines = self.headers.get_all(name).iter().peekable();
                if lines.peek().is_none() {
                    return test(b"");
                }
                lines.any(|line| test(line.as_bytes()))
            }
            field => test(self.text(field)),
        }
    }

    /// Bytes of a text; of all lines of a header.
    pub(super) fn length(&self, field: &Field) -> u64 {
        let length = match field {
            Field::Header(name) => self.headers.get_all(name).iter().map(|line| line.len()).sum(),
            field => self.text(field).len(),
        };
        length as u64
    }

    fn text(&self, field: &Field) -> &[u8] {
        match field {
            Field::Method => self.method.as_bytes(),
            Field::Path => self.path.get_or_init(|| self.uri_path()),
            Field::RawPath => self.uri.path().as_bytes(),
            Field::Query => self.uri.query().unwrap_or_default().as_bytes(),
            Field::Host => routes::host(self.headers, self.uri).unwrap_or_default().as_bytes(),
            // Its lines are looked at one by one.
            Field::Header(_) => b"",
        }
    }

    fn uri_path(&self) -> Cow<'r, [u8]> {
        percent_encoding::percent_decode_str(self.uri.path()).into()
    }
}
