//! Bodies that no service reads. Those that one reads are bounded in size and patience by [`kit::body`].

use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use kit::body::BodyLimits;

/// Whether the request says that its body is larger than any that is taken by default.
pub(super) fn is_declared_too_large(headers: &HeaderMap) -> bool {
    let declared = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    declared.is_some_and(|length| length > BodyLimits::DEFAULT_MAX_BYTES)
}
