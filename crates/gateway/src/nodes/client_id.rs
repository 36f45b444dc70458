//! Which client of realtime a request is about: the node whose code the id begins with holds its stream.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Method, Request};
use futures_util::{StreamExt as _, stream};
use kit::body::is_too_slow;
use kit::error::ApiError;
use memchr::memmem;
use tokio::sync::Semaphore;

/// Letters of a client's id.
const ID_LETTERS: usize = 40;
/// How far behind its key the id begins at the latest: in a form there are headers between.
const MOST_BETWEEN: usize = 256;
/// As long as the service takes them. What is longer it refuses, whichever node it goes to.
const MOST_BYTES: usize = 4 << 20;
/// What all bodies that are looked at may take beyond the first piece of each; past it the answer is 503. Bodies of the
/// usual kind take none of it.
const ALL_BYTES: usize = 64 << 20;
const PIECE_BYTES: usize = 64 << 10;
static PIECES: Semaphore = Semaphore::const_new(ALL_BYTES / PIECE_BYTES);
/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the id stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Query,
    Body(&'static [u8]),
}

/// The client's id, if the request is about one. What was read of the body is put back before the rest.
pub(super) async fn of(request: &mut Request<Body>) -> Result<Option<String>, ApiError> {
    match place(request.method(), request.uri().path()) {
        None => Ok(None),
        Some(Place::Query) => Ok(request.uri().query().and_then(state)),
        Some(Place::Body(key)) => {
            let body = std::mem::take(request.body_mut());
            let (read, body) = read(body).await?;
            *request.body_mut() = body;
            Ok(find(&read, key))
        }
    }
}

fn place(method: &Method, path: &str) -> Option<Place> {
    match (method.as_str(), path) {
        ("POST", "/api/realtime") => Some(Place::Body(b"clientId")),
        ("GET" | "HEAD", "/api/oauth2-redirect") => Some(Place::Query),
        // As a form, from providers that post it.
        ("POST", "/api/oauth2-redirect") => Some(Place::Body(b"state")),
        _ => None,
    }
}

/// The `state` of a query, as it is: ids have nothing to escape.
fn state(query: &str) -> Option<String> {
    let state = query.split('&').find_map(|pair| pair.strip_prefix("state="))?;
    is_id(state.as_bytes()).then(|| state.to_owned())
}

/// All of a body, or as much as is looked at, and the body as it was.
async fn read(body: Body) -> Result<(Vec<u8>, Body), ApiError> {
    let mut rest = body.into_data_stream();
    let (mut pieces, mut read, mut held) = (Vec::<Bytes>::new(), Vec::new(), Vec::new());
    let all = async {
        while read.len() < MOST_BYTES
            && let Some(piece) = rest.next().await
        {
            let piece = piece.map_err(|error| match is_too_slow(&error) {
                true => ApiError::request_timeout(),
                false => ApiError::bad_request(),
            })?;
            while held.len() < (read.len() + piece.len()) / PIECE_BYTES {
                held.push(PIECES.try_acquire().map_err(|_| ApiError::unavailable(Duration::from_secs(1)))?);
            }
            read.extend_from_slice(&piece);
            pieces.push(piece);
        }
        Ok::<_, ApiError>(())
    };
    tokio::time::timeout(PATIENCE, all).await.map_err(|_| ApiError::request_timeout())??;
    // Held until all of it is on its way.
    let pieces = stream::iter(pieces).map(move |piece| {
        let _held = &held;
        Ok(piece)
    });
    let body = Body::from_stream(pieces.chain(rest));
    Ok((read, body))
}

/// The first id behind a key, in JSON and in forms. Where there is none, or another is meant, the request goes to a node
/// that does not know the client, and says so.
fn find(bytes: &[u8], key: &[u8]) -> Option<String> {
    memmem::find_iter(bytes, key).find_map(|position| {
        let behind = &bytes[position + key.len()..];
        let behind = &behind[..behind.len().min(MOST_BETWEEN + ID_LETTERS)];
        let id = behind.split(|byte| !byte.is_ascii_alphanumeric()).find(|run| is_id(run))?;
        String::from_utf8(id.to_vec()).ok()
    })
}

fn is_id(bytes: &[u8]) -> bool {
    bytes.len() == ID_LETTERS && bytes.iter().all(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn id() -> String {
        format!("n0d3{}", "x".repeat(36))
    }

    async fn of_request(method: &str, target: &str, body: &str) -> (Option<String>, String) {
        let pieces: Vec<_> =
            body.as_bytes().chunks(7).map(|piece| Ok::<_, ApiError>(piece.to_vec())).collect();
        let body = Body::from_stream(stream::iter(
            pieces.into_iter().map(|piece| piece.map_err(|_| std::io::Error::other("never"))),
        ));
        let mut request = Request::builder().method(method).uri(target).body(body).unwrap();
        let id = of(&mut request).await.unwrap();
        let bytes = request.into_body().collect().await.unwrap().to_bytes();
        (id, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn an_id_is_found_in_every_form_and_the_body_stays() {
        let id = id();
        for body in [
            format!("{{\"clientId\":\"{id}\",\"subscriptions\":[\"a/*\"]}}"),
            format!("{{ \"subscriptions\" : [\"clientId\", \"a\"], \"clientId\" :\n \"{id}\" }}"),
            format!("clientId={id}&subscriptions=a"),
            format!("--b\r\nContent-Disposition: form-data; name=\"clientId\"\r\n\r\n{id}\r\n--b--\r\n"),
        ] {
            assert_eq!(of_request("POST", "/api/realtime", &body).await, (Some(id.clone()), body));
        }
        for body in ["", "{}", "clientId", "{\"clientId\":\"short\"}", &format!("\"clientId\":\"{id}y\"")] {
            assert_eq!(of_request("POST", "/api/realtime", body).await, (None, body.to_owned()));
        }
    }

    #[tokio::test]
    async fn the_oauth2_relay_is_about_the_client_of_its_state() {
        let id = id();
        let target = format!("/api/oauth2-redirect?code=c&state={id}");
        assert_eq!(of_request("GET", &target, "").await.0, Some(id.clone()));
        let body = format!("code=c&state={id}");
        assert_eq!(of_request("POST", "/api/oauth2-redirect", &body).await.0, Some(id.clone()));
        assert_eq!(of_request("GET", "/api/oauth2-redirect?state=x", "").await.0, None);
        assert_eq!(of_request("GET", &format!("/api/realtime?clientId={id}"), "").await.0, None);
    }
}
