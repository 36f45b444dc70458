//! `GET /api/files/{collection}/{record}/{name}`

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use contract::blobs::{Blob, BlobError, BlobKey, Content};
use contract::store::GetRecord;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use kit::app::{App, SchemaAttempts, now};
use kit::conditions::{Part, Validators, part_asked_for};
use kit::error::ApiError;
use kit::files::blob_error;
use kit::request::Call;
use kit::respond::AllowFraming;
use kit::viewer::{ReadAccess, Viewer};
use model::context::{Caller, Origin};
use model::field::{FieldKind, FileOptions};
use model::json::JsonObject;
use model::record::Record;
use model::schema::RuleKind;

use crate::content_type;

/// What is read of a file at once: a slow client costs no more memory than this.
const PIECE_BYTES: u64 = 256 << 10;
/// What a type is told by.
const HEAD_BYTES: u64 = 3 << 10;

/// A file that may be sent.
struct Found {
    record: Record,
    options: FileOptions,
}

/// A file that is about to be sent.
struct Served {
    /// As the client is told.
    name: String,
    key: BlobKey,
    blob: Blob,
}

pub(crate) async fn handle(
    State(app): State<Arc<App>>,
    Path((collection, record, name)): Path<(String, String, String)>,
    call: Call,
) -> Result<Response, ApiError> {
    let mut attempts = SchemaAttempts::default();
    let found = loop {
        match find(&app, &call, &collection, &record, &name).await {
            Err(error) if attempts.again(&error).await => {}
            found => break found?,
        }
    };
    let served = original(&app, &found, name).await?.ok_or_else(ApiError::not_found)?;
    respond(&call, served).await.map_err(blob_error)
}

/// The record that names the file, if the caller may see it.
async fn find(app: &App, call: &Call, collection: &str, record: &str, name: &str) -> Result<Found, ApiError> {
    let schema = app.store.schema();
    let collection = schema.find(collection).cloned().ok_or_else(ApiError::missing_or_invalid_collection)?;
    let query = |conditions| GetRecord {
        schema_version: schema.version(),
        collection: collection.clone(),
        id: record.to_owned(),
        conditions,
    };
    let record = app.store.get(query(Vec::new())).await?.ok_or_else(ApiError::not_found)?;
    let options = field_of(&record, name).ok_or_else(ApiError::not_found)?;
    if options.protected {
        let caller = file_caller(app, call).await?;
        let viewer = Viewer::in_context(app, call, caller, Origin::ProtectedFile);
        let access = viewer.access(&collection, RuleKind::View, &JsonObject::new());
        let ReadAccess::Granted(conditions) = access else { return Err(ApiError::not_found()) };
        if !conditions.is_empty() && app.store.get(query(conditions)).await?.is_none() {
            return Err(ApiError::not_found());
        }
    }
    Ok(Found { record, options })
}

fn field_of(record: &Record, name: &str) -> Option<FileOptions> {
    let fields = record.collection.fields.iter().zip(&record.values);
    fields.into_iter().find_map(|(field, value)| match &field.kind {
        FieldKind::File(options) if value.list().iter().any(|stored| stored == name) => Some(options.clone()),
        _ => None,
    })
}

/// Who the token in the query speaks for. The request's header counts for nothing here: the URL alone must
/// do, as in an `img` element.
async fn file_caller(app: &App, call: &Call) -> Result<Caller, ApiError> {
    match call.query().first("token") {
        Some(token) if !token.is_empty() => Ok(app.identity.file_caller(&*app.store, token, now()).await?),
        _ => Ok(Caller::Guest),
    }
}

async fn original(app: &App, found: &Found, name: String) -> Result<Option<Served>, ApiError> {
    let _ = &found.options;
    let Some(key) = BlobKey::parse(&found.record.file_key(&name)) else { return Ok(None) };
    let blob = app.files.blobs.open(key.clone()).await.map_err(blob_error)?;
    Ok(blob.map(|blob| Served { name, key, blob }))
}

async fn respond(call: &Call, served: Served) -> Result<Response, BlobError> {
    let Served { name, key, blob } = served;
    let size = blob.content.size();
    let etag = format!("\"{:x}-{size:x}\"", crc32fast::hash(key.as_str().as_bytes()));
    let validators = Validators { modified: Some(blob.modified), etag: Some(&etag) };
    let part = part_asked_for(call.headers(), size, validators);
    let range = match part {
        Part::All => 0..size,
        Part::Range { start, length } => start..start + length,
        Part::NotModified | Part::Unsatisfiable => 0..0,
    };
    let is_sent = *call.method() == Method::GET && !range.is_empty();
    // The first piece tells the type too, when it begins where the file does.
    let first = if is_sent { blob.content.read(range.start..first_end(&range)).await? } else { Bytes::new() };
    let head = match range.start == 0 && first.len() as u64 >= size.min(HEAD_BYTES) {
        true => first.clone(),
        false => blob.content.read(0..size.min(HEAD_BYTES)).await?,
    };

    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    describe(headers, call, &name, content_type::of(&name, &head));
    insert(headers, header::LAST_MODIFIED, &httpdate::fmt_http_date(blob.modified));
    insert(headers, header::ETAG, &etag);
    match part {
        Part::NotModified => {
            headers.remove(header::CONTENT_TYPE);
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        Part::Unsatisfiable => {
            insert(headers, header::CONTENT_RANGE, &format!("bytes */{size}"));
            insert(headers, header::CONTENT_TYPE, "text/plain; charset=utf-8");
            headers.remove(header::LAST_MODIFIED);
            headers.remove(header::ETAG);
            headers.remove(header::CACHE_CONTROL);
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            *response.body_mut() = Body::from("invalid range: failed to overlap\n");
        }
        Part::All | Part::Range { .. } => {
            headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
            if matches!(part, Part::Range { .. }) {
                let last = range.end - 1;
                insert(headers, header::CONTENT_RANGE, &format!("bytes {}-{last}/{size}", range.start));
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            }
            if is_sent {
                let rest = first_end(&range)..range.end;
                *response.body_mut() = body(first, blob.content, rest);
            }
        }
    }
    response.extensions_mut().insert(AllowFraming);
    Ok(response)
}

fn first_end(range: &Range<u64>) -> u64 {
    range.end.min(range.start + PIECE_BYTES)
}

/// What is the same for the whole file and its parts: what it is, and that nothing in it may run.
fn describe(headers: &mut HeaderMap, call: &Call, name: &str, content_type: &str) {
    const POLICY: &str = "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; sandbox";
    const CACHING: &str = "max-age=2592000, stale-while-revalidate=86400";
    let wants_download = call.query().boolean("download").unwrap_or_default();
    let is_inline = content_type::is_inline(content_type) && !wants_download.unwrap_or(false);
    let kind = if is_inline { "inline" } else { "attachment" };
    let name = name.replace('\\', "\\\\").replace('"', "\\\"");
    insert(headers, header::CONTENT_DISPOSITION, &format!("{kind}; filename=\"{name}\""));
    insert(headers, header::CONTENT_TYPE, content_type);
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHING));
}

/// A value that is no header value is left out.
fn insert(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The first piece, then the rest as the client takes it. A read that fails cuts the answer short, which
/// its length tells.
fn body(first: Bytes, content: Arc<dyn Content>, rest: Range<u64>) -> Body {
    if rest.is_empty() {
        return Body::from(first);
    }
    let pieces = stream::try_unfold((Some(first), rest), move |(first, rest)| {
        let content = content.clone();
        async move {
            if let Some(first) = first {
                return Ok(Some((first, (None, rest))));
            }
            if rest.is_empty() {
                return Ok::<_, BlobError>(None);
            }
            let end = first_end(&rest);
            let piece = content.read(rest.start..end).await.inspect_err(|error| {
                tracing::error!(%error, "a file could not be sent to its end");
            })?;
            Ok(Some((piece, (None, end..rest.end))))
        }
    });
    Body::from_stream(pieces)
}
