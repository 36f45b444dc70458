//! Compression of answers, for clients that ask for it.
//!
//! Only answers of a known size of 1 KiB and more, of a kind that shrinks, and never one that carries a token
//! ([`NoCompression`]): the length of a compressed answer tells about what else is in it. Of other servers' answers those of a
//! route that asks for it ([`of_route`]), also such as are sent bit by bit: what there is goes on before the rest comes.

use std::io;

use async_compression::Level;
use async_compression::brotli::EncoderParams;
use async_compression::tokio::bufread::{BrotliEncoder, GzipEncoder, ZstdEncoder};
use async_compression::zstd::CParameter;
use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use futures_util::TryStreamExt;
use http_body::Body as _;
use tokio_util::io::{ReaderStream, StreamReader};

use kit::respond::NoCompression;

use super::around::Around;

/// Below this a packet is a packet.
const MIN_BYTES: u64 = 1024;

/// Levels at which a request loop is not kept from its other connections for long.
const GZIP_LEVEL: Level = Level::Precise(4);
const BROTLI_LEVEL: Level = Level::Precise(3);
const ZSTD_LEVEL: Level = Level::Precise(3);

/// How far back the two newer ones look, as a power of two: 256 KiB. By default it is megabytes, and a client that reads
/// slowly holds as much.
const WINDOW_LOG: u8 = 18;

/// Compresses what is worth it, for clients that take it.
#[derive(Debug, Clone)]
pub(crate) struct Compress;

/// A coding that both sides know. The best of those that a client likes equally is the greatest: Zstandard shrinks as well as
/// Brotli, in half the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Encoding {
    Gzip,
    Brotli,
    Zstd,
}

impl Around for Compress {
    type Noted = Option<Encoding>;

    fn note(&self, request: &mut Request<Body>) -> Option<Encoding> {
        accepted(request.headers())
    }

    fn finish(encoding: Option<Encoding>, response: &mut Response<Body>) {
        if let Some(encoding) = encoding {
            compress(response, encoding);
        }
    }
}

/// The coding that the client likes best, if it asked for one.
pub(crate) fn accepted(headers: &HeaderMap) -> Option<Encoding> {
    let mut best: Option<(f32, Encoding)> = None;
    for value in headers.get_all(ACCEPT_ENCODING) {
        for item in value.to_str().ok()?.split(',') {
            let Some((quality, encoding)) = parse_item(item) else {
                continue;
            };
            let is_better = match best {
                None => quality > 0.0,
                Some(best) => (quality, encoding) > best,
            };
            if is_better {
                best = Some((quality, encoding));
            }
        }
    }
    best.map(|(_, encoding)| encoding)
}

fn parse_item(item: &str) -> Option<(f32, Encoding)> {
    let (name, parameter) = item.split_once(';').unwrap_or((item, "q=1"));
    let encoding = match name.trim() {
        name if name.eq_ignore_ascii_case("br") => Encoding::Brotli,
        name if name.eq_ignore_ascii_case("gzip") => Encoding::Gzip,
        name if name.eq_ignore_ascii_case("zstd") => Encoding::Zstd,
        _ => return None,
    };
    let quality = parameter.trim().strip_prefix("q=")?.parse().ok()?;
    Some((quality, encoding))
}

/// Compresses the answer of another server, whose route asks for that, if it is worth it and allowed.
pub(crate) fn of_route(response: &mut Response<Body>, encoding: Option<Encoding>) {
    let is_small = response.body().size_hint().exact().is_some_and(|bytes| bytes < MIN_BYTES);
    let is_whole = !matches!(response.status(), StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED);
    if is_small || !is_whole || !may_change(response) {
        return;
    }
    match encoding {
        Some(encoding) => encode(response, encoding),
        // Others may get another form of it.
        None => _ = response.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding")),
    }
}

/// Compresses the response if that is worth it and allowed.
fn compress(response: &mut Response<Body>, encoding: Encoding) {
    let is_large = response.body().size_hint().exact().is_some_and(|bytes| bytes >= MIN_BYTES);
    if is_large && may_change(response) {
        encode(response, encoding);
    }
}

fn encode(response: &mut Response<Body>, encoding: Encoding) {
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.remove(ACCEPT_RANGES);
    // Other bytes than those of the tag: parts of the two must not be joined.
    if let Some(weak) = headers.get(ETAG).and_then(weak) {
        headers.insert(ETAG, weak);
    }
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
    headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    let body = std::mem::take(response.body_mut());
    *response.body_mut() = encoded(body, encoding);
}

fn weak(etag: &HeaderValue) -> Option<HeaderValue> {
    let text = etag.to_str().ok().filter(|text| !text.starts_with("W/"))?;
    HeaderValue::from_str(&format!("W/{text}")).ok()
}

fn may_change(response: &Response<Body>) -> bool {
    let headers = response.headers();
    response.extensions().get::<NoCompression>().is_none()
        && !headers.contains_key(CONTENT_ENCODING)
        && !headers.contains_key(CONTENT_RANGE)
        && headers.get(CONTENT_TYPE).is_some_and(shrinks)
        && !headers.get_all(CACHE_CONTROL).iter().any(forbids_changes)
}

fn forbids_changes(cache_control: &HeaderValue) -> bool {
    let directives = cache_control.to_str().unwrap_or_default().split(',');
    directives.into_iter().any(|directive| directive.trim().eq_ignore_ascii_case("no-transform"))
}

fn shrinks(content_type: &HeaderValue) -> bool {
    let Ok(content_type) = content_type.to_str() else {
        return false;
    };
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    // Events are small, and there is no end of them.
    kind.starts_with("text/") && kind != "text/event-stream"
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(
            kind,
            "application/json"
                | "application/javascript"
                | "application/xml"
                | "application/wasm"
                | "application/manifest"
                | "application/vnd.ms-fontobject"
                | "font/ttf"
                | "font/otf"
        )
}

fn encoded(body: Body, encoding: Encoding) -> Body {
    let plain = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
    match encoding {
        Encoding::Gzip => Body::from_stream(ReaderStream::new(GzipEncoder::with_quality(plain, GZIP_LEVEL))),
        Encoding::Brotli => {
            let params = EncoderParams::default().quality(BROTLI_LEVEL).window_size(WINDOW_LOG.into());
            Body::from_stream(ReaderStream::new(BrotliEncoder::with_params(plain, params)))
        }
        Encoding::Zstd => {
            let window = CParameter::window_log(WINDOW_LOG.into());
            Body::from_stream(ReaderStream::new(ZstdEncoder::with_quality_and_params(
                plain,
                ZSTD_LEVEL,
                &[window],
            )))
        }
    }
}

impl Encoding {
    fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::around::AroundLayer;
    use crate::layers::testing::{answer, answering};

    /// What a client that takes both codings gets of this.
    async fn coding_of(content_type: &'static str, bytes: usize, is_secret: bool) -> Option<HeaderValue> {
        let inner = answering(move || {
            let mut response = Response::new(Body::from(vec![b' '; bytes]));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            if is_secret {
                response.extensions_mut().insert(NoCompression);
            }
            response
        });
        let request = Request::get("/").header(ACCEPT_ENCODING, "gzip, br").body(Body::empty()).unwrap();
        let response = answer(&AroundLayer(Compress), inner, request).await;
        response.headers().get(CONTENT_ENCODING).cloned()
    }

    #[tokio::test]
    async fn only_what_is_large_shrinks_and_is_no_secret_is_compressed() {
        assert_eq!(coding_of("application/json", 1024, false).await.unwrap(), "br");
        assert_eq!(coding_of("application/json", 1023, false).await, None);
        assert_eq!(coding_of("image/png", 1024, false).await, None);
        assert_eq!(coding_of("application/json", 1024, true).await, None);
    }

    /// The coding, `Vary` and tag of what another server answered so.
    fn of_server(status: u16, lines: &[(&'static str, &'static str)], body: Body) -> [String; 3] {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in lines {
            response.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        of_route(&mut response, Some(Encoding::Gzip));
        ["content-encoding", "vary", "etag"].map(|name| {
            let value = response.headers().get(name);
            value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
        })
    }

    #[tokio::test]
    async fn of_a_servers_answer_only_what_may_be_changed_is() {
        let large = || Body::from(vec![b' '; 2048]);
        let streamed = || Body::from_stream(futures_util::stream::iter([Ok::<_, io::Error>("a".repeat(9))]));
        let html = ("content-type", "text/html");
        let changed = ["gzip", "Accept-Encoding", "W/\"1\""].map(str::to_owned);
        assert_eq!(of_server(200, &[html, ("etag", "\"1\"")], large()), changed);
        assert_eq!(of_server(404, &[html], streamed())[0], "gzip");
        for (status, lines, body) in [
            (200, &[html, ("content-encoding", "br")][..], large()),
            (200, &[html, ("cache-control", "public, No-Transform")], large()),
            (200, &[html], Body::from("small")),
            (206, &[html, ("content-range", "bytes 0-2047/9999")], large()),
            (200, &[("content-type", "text/event-stream")], streamed()),
            (200, &[("content-type", "application/grpc")], streamed()),
            (200, &[("content-type", "image/png")], large()),
        ] {
            let [coding, vary, _] = of_server(status, lines, body);
            assert!(matches!(coding.as_str(), "" | "br") && vary.is_empty(), "{lines:?}: {coding}");
        }
    }

    fn accepted_of(text: &'static str) -> Option<Encoding> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(text));
        accepted(&headers)
    }

    #[test]
    fn the_clients_favourite_is_taken_and_the_best_among_equals() {
        assert_eq!(accepted_of("gzip, deflate, br"), Some(Encoding::Brotli));
        assert_eq!(accepted_of("gzip, deflate, br, zstd"), Some(Encoding::Zstd));
        assert_eq!(accepted_of("zstd;q=0.5, br"), Some(Encoding::Brotli));
        assert_eq!(accepted_of("br;q=0.5, gzip"), Some(Encoding::Gzip));
        assert_eq!(accepted_of("GZIP;q=0.1"), Some(Encoding::Gzip));
        assert_eq!(accepted_of("br;q=0, gzip;q=0"), None);
        assert_eq!(accepted_of("identity;q=0, compress"), None);
        assert_eq!(accepted_of("gzip;q=x"), None);
    }
}
