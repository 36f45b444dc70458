//! `GET /api/files/{collection}/{record}/{name}`

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::response::Response;
use bytes::Bytes;
use contract::blobs::{Blob, BlobError, BlobKey, Content};
use contract::store::{GetRecord, ListRecords};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use kit::app::{App, SchemaAttempts, now};
use kit::conditions::{Part, Validators, part_asked_for};
use kit::error::ApiError;
use kit::files::{HEAD_BYTES, blob_error};
use kit::request::Call;
use kit::respond::AllowFraming;
use kit::viewer::{ReadAccess, Viewer};
use model::collection::CollectionKind;
use model::collection::view::SelectList;
use model::condition::Condition;
use model::context::{Caller, Origin, RequestContext};
use model::field::{Field, FieldKind, FileOptions};
use model::filter::{self, Scope};
use model::json::{Json, JsonObject};
use model::record::Record;
use model::schema::RuleKind;

use crate::sending::Sending;
use crate::thumbs::{self, Thumbs};
use crate::{Downloads, content_type};

/// A file that may be sent.
struct Found {
    /// The record that holds it.
    record: Record,
    /// The size of the thumb that is asked for, if the field lists it.
    thumb: Option<String>,
}

/// A file that is about to be sent.
struct Served {
    /// As the client is told.
    name: String,
    key: BlobKey,
    blob: Blob,
}

/// What an answer is put together of.
enum Segment {
    Bytes(Bytes),
    /// Bytes of the file.
    Range(Range<u64>),
}

pub(crate) async fn handle(
    State(app): State<Arc<App>>,
    Extension(downloads): Extension<Arc<Downloads>>,
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
    let served = served(&app, &downloads.thumbs, &found, name).await.map_err(blob_error)?;
    let served = served.ok_or_else(ApiError::not_found)?;
    respond(&call, served, &downloads.sending).await.map_err(blob_error)
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
    let (_, options) = file_field(&record, name).ok_or_else(ApiError::not_found)?;
    let thumb =
        call.query().first("thumb").filter(|size| thumbs::is_listed(options, size)).map(str::to_owned);
    if options.protected {
        let caller = file_caller(app, call).await?;
        let viewer = Viewer::in_context(app, call, caller, Origin::ProtectedFile);
        let access = viewer.access(&collection, RuleKind::View, &JsonObject::new());
        let ReadAccess::Granted(conditions) = access else { return Err(ApiError::not_found()) };
        if !conditions.is_empty() && app.store.get(query(conditions)).await?.is_none() {
            return Err(ApiError::not_found());
        }
    }
    let record = if collection.is_view() { holder(app, record, name).await? } else { record };
    Ok(Found { record, thumb })
}

/// The record that holds the file which a view's record shows: the view's SELECT tells where it came from.
async fn holder(app: &App, shown: Record, name: &str) -> Result<Record, ApiError> {
    // Views of views.
    const MAX_VIEWS: usize = 8;
    let schema = app.store.schema();
    let mut collection = shown.collection.clone();
    let mut field = file_field(&shown, name).ok_or_else(ApiError::not_found)?.0.name.clone();
    for _ in 0..MAX_VIEWS {
        let CollectionKind::View(view) = &collection.kind else { break };
        let list = SelectList::parse(&view.query).map_err(|_| ApiError::not_found())?;
        let (origin, of_origin) = list.origin(&schema, &field).ok_or_else(ApiError::not_found)?;
        (collection, field) = (origin, of_origin.name);
    }
    if collection.is_view() {
        return Err(ApiError::not_found());
    }
    // Names are random: whoever has one of them has the file.
    let quoted = Json::from(name).to_string();
    let filter = filter::check(&schema, &collection, &format!("{field}:each ?= {quoted}"), Scope::Rule);
    let condition = Condition {
        filter: Arc::new(filter.map_err(|_| ApiError::not_found())?),
        context: Arc::new(RequestContext::guest(now())),
        body: Arc::default(),
    };
    let query = ListRecords {
        schema_version: schema.version(),
        collection,
        conditions: vec![condition],
        sort: None,
        offset: 0,
        limit: 1,
        with_total: false,
    };
    app.store.list(query).await?.records.pop().ok_or_else(ApiError::not_found)
}

/// The field that names the file.
fn file_field<'r>(record: &'r Record, name: &str) -> Option<(&'r Field, &'r FileOptions)> {
    let mut fields = record.collection.fields.iter().zip(&record.values);
    fields.find_map(|(field, value)| match &field.kind {
        FieldKind::File(options) if value.list().iter().any(|stored| stored == name) => {
            Some((field, options))
        }
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

/// The thumb if one is asked for and can be had, otherwise the file itself.
async fn served(
    app: &App,
    thumbs: &Thumbs,
    found: &Found,
    name: String,
) -> Result<Option<Served>, BlobError> {
    let blobs = &*app.files.blobs;
    if let Some(size) = &found.thumb
        && let Some(thumb) = thumbs.find(blobs, &found.record, &name, size).await?
    {
        return Ok(Some(Served { name: thumb.name, key: thumb.key, blob: thumb.blob }));
    }
    let Some(key) = BlobKey::parse(&found.record.file_key(&name)) else { return Ok(None) };
    let blob = blobs.open(key.clone()).await?;
    Ok(blob.map(|blob| Served { name, key, blob }))
}

async fn respond(call: &Call, served: Served, sending: &Sending) -> Result<Response, BlobError> {
    let Served { name, key, blob } = served;
    let size = blob.content.size();
    let etag = format!("\"{:x}-{size:x}\"", crc32fast::hash(key.as_str().as_bytes()));
    let validators = Validators { modified: Some(blob.modified), etag: Some(&etag) };
    let part = part_asked_for(call.headers(), size, validators);
    // The first piece of a whole file tells its type too.
    let is_get = *call.method() == Method::GET;
    let head_length = size.min(match part {
        Part::All if is_get => sending.piece_bytes(),
        _ => HEAD_BYTES as u64,
    });
    let head = sending.count(blob.content.read(0..head_length).await?);
    let content_type = content_type::of(&name, &head);

    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    describe(headers, call, &name, content_type);
    insert(headers, header::LAST_MODIFIED, &httpdate::fmt_http_date(blob.modified));
    insert(headers, header::ETAG, &etag);
    let segments = match part {
        Part::NotModified => {
            headers.remove(header::CONTENT_TYPE);
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            Vec::new()
        }
        Part::PreconditionFailed => {
            *response.status_mut() = StatusCode::PRECONDITION_FAILED;
            Vec::new()
        }
        Part::Unsatisfiable => {
            insert(headers, header::CONTENT_RANGE, &format!("bytes */{size}"));
            refuse_range(&mut response, "invalid range: failed to overlap\n")
        }
        Part::Malformed => refuse_range(&mut response, "invalid range\n"),
        Part::All => {
            headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            vec![Segment::Bytes(head), Segment::Range(head_length..size)]
        }
        Part::Range { start, length } => {
            headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            let range = start..start + length;
            insert(headers, header::CONTENT_RANGE, &content_range(&range, size));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            vec![Segment::Range(range)]
        }
        Part::Several(ranges) => {
            headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            let boundary = format!("{:032x}{:028x}", rand::random::<u128>(), rand::random::<u128>() >> 16);
            insert(headers, header::CONTENT_TYPE, &format!("multipart/byteranges; boundary={boundary}"));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            parts(&ranges, size, content_type, &boundary)
        }
    };
    if !segments.is_empty() {
        let length = segments.iter().map(Segment::length).sum::<u64>();
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        if is_get {
            *response.body_mut() = body(segments, blob.content, sending.clone());
        }
    }
    response.extensions_mut().insert(AllowFraming);
    Ok(response)
}

/// The answer to ranges that cannot be served.
fn refuse_range(response: &mut Response, text: &'static str) -> Vec<Segment> {
    *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
    for name in [header::LAST_MODIFIED, header::ETAG, header::CACHE_CONTROL] {
        response.headers_mut().remove(name);
    }
    insert(response.headers_mut(), header::CONTENT_TYPE, "text/plain; charset=utf-8");
    *response.body_mut() = Body::from(text);
    Vec::new()
}

fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end - 1)
}

/// Several ranges as a multipart body (RFC 9110 §14.6).
fn parts(ranges: &[Range<u64>], size: u64, content_type: &str, boundary: &str) -> Vec<Segment> {
    let mut segments = Vec::with_capacity(2 * ranges.len() + 1);
    for (position, range) in ranges.iter().enumerate() {
        let before = if position == 0 { "" } else { "\r\n" };
        let range_text = content_range(range, size);
        let head = format!(
            "{before}--{boundary}\r\nContent-Range: {range_text}\r\nContent-Type: {content_type}\r\n\r\n"
        );
        segments.push(Segment::Bytes(Bytes::from(head)));
        segments.push(Segment::Range(range.clone()));
    }
    segments.push(Segment::Bytes(Bytes::from(format!("\r\n--{boundary}--\r\n"))));
    segments
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

/// The segments as the client takes them, piece by piece. A read that fails cuts the answer short, which its
/// length tells.
fn body(segments: Vec<Segment>, content: Arc<dyn Content>, sending: Sending) -> Body {
    if let [Segment::Bytes(whole), Segment::Range(rest)] = segments.as_slice()
        && rest.is_empty()
    {
        return Body::from(whole.clone());
    }
    let pieces = stream::try_unfold(VecDeque::from(segments), move |mut segments| {
        let (content, sending) = (content.clone(), sending.clone());
        async move {
            loop {
                match segments.pop_front() {
                    None => return Ok::<_, BlobError>(None),
                    Some(Segment::Bytes(bytes)) => return Ok(Some((bytes, segments))),
                    Some(Segment::Range(range)) if range.is_empty() => {}
                    Some(Segment::Range(range)) => {
                        let end = range.end.min(range.start + sending.piece_bytes());
                        let piece = content.read(range.start..end).await.inspect_err(|error| {
                            tracing::error!(%error, "a file could not be sent to its end");
                        })?;
                        segments.push_front(Segment::Range(end..range.end));
                        return Ok(Some((sending.count(piece), segments)));
                    }
                }
            }
        }
    });
    Body::from_stream(pieces)
}

impl Segment {
    fn length(&self) -> u64 {
        match self {
            Segment::Bytes(bytes) => bytes.len() as u64,
            Segment::Range(range) => range.end - range.start,
        }
    }
}
