//! What an answer says to the layers of the edge travels among its extensions; between nodes, in one header.

use axum::body::Body;
use axum::http::header::{ALLOW, HeaderName};
use axum::http::{HeaderValue, Request, Response};
use kit::respond::{AllowFraming, NoCompression};

use crate::layers::around::Around;
use crate::layers::security_headers::Unrouted;

const MARKS: HeaderName = HeaderName::from_static("x-groundswell-marks");

/// Puts what an answer says into the header.
#[derive(Debug, Clone)]
pub(crate) struct WriteMarks;

impl Around for WriteMarks {
    type Noted = ();

    fn note(&self, _: &mut Request<Body>) {}

    fn finish((): (), response: &mut Response<Body>) {
        let extensions = response.extensions();
        let marks = [
            extensions.get::<AllowFraming>().map(|_| 'f'),
            extensions.get::<NoCompression>().map(|_| 'c'),
            extensions.get::<Unrouted>().map(|_| 'u'),
        ];
        let text: String = marks.into_iter().flatten().collect();
        let headers = response.headers_mut();
        headers.remove(ALLOW);
        headers.remove(MARKS);
        if !text.is_empty()
            && let Ok(value) = HeaderValue::from_str(&text)
        {
            headers.insert(MARKS, value);
        }
    }
}

/// Takes the header out of an answer, and says the same among its extensions.
pub(crate) fn read(response: &mut Response<Body>) {
    let Some(marks) = response.headers_mut().remove(MARKS) else { return };
    let extensions = response.extensions_mut();
    for mark in marks.as_bytes() {
        match mark {
            b'f' => _ = extensions.insert(AllowFraming),
            b'c' => _ = extensions.insert(NoCompression),
            b'u' => _ = extensions.insert(Unrouted),
            // Of a newer node.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_says_crosses() {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(NoCompression);
        response.extensions_mut().insert(Unrouted);
        WriteMarks::finish((), &mut response);
        let (parts, body) = response.into_parts();
        let mut crossed = Response::new(body);
        *crossed.headers_mut() = parts.headers;
        read(&mut crossed);
        assert!(crossed.headers().is_empty());
        assert!(crossed.extensions().get::<NoCompression>().is_some());
        assert!(crossed.extensions().get::<Unrouted>().is_some());
        assert!(crossed.extensions().get::<AllowFraming>().is_none());
    }
}
