//! Reading a request body (CONTRACT §1.4): within its limit and time, by its content type, and then
//! either as a dynamic object (records) or as a form of declared fields (every other endpoint).
//!
//! [`read`] gives a [`Submitted`]; [`Submitted::into_object`] and [`Submitted::into_form`] say how it
//! is to be understood. What a bad body is answered with differs by endpoint: [`BodyError::into_api`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError};
use model::json::{Json, JsonObject};
use tokio::time::{Instant, timeout_at};

use crate::error::{ApiError, UNREADABLE_FORM};
use crate::form_values::{decode_pair, has_too_many_pairs, infer, merge_over, pairs};
use crate::query::Query;
use crate::spool::{Spool, SpoolError, SpooledFile};

pub use form::Form;

mod form;
mod multipart;

/// How much of a body is read, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// More bytes are answered with 413.
    pub max_bytes: u64,
    /// So are more that are not in files, which are held in memory.
    pub max_value_bytes: u64,
    /// The whole body has to be there by then.
    pub deadline: Duration,
    /// No two pieces lie further apart.
    pub stall: Duration,
}

/// A body that was read and split, not yet understood.
#[derive(Debug)]
pub struct Submitted {
    content: Content,
}

#[derive(Debug)]
enum Content {
    Empty,
    Json(Bytes),
    Form(FormData),
}

/// The values of a form body and of the query it came with, and the files in it.
#[derive(Debug, Default)]
pub(crate) struct FormData {
    values: BTreeMap<String, Vec<String>>,
    payloads: Vec<String>,
    uploads: Vec<Upload>,
}

/// What becomes of the files in a body.
#[derive(Clone, Copy)]
pub enum TakeFiles<'s> {
    /// They are read past.
    Not,
    /// They wait in the spool, on account of this address.
    Into(&'s Arc<Spool>, IpAddr),
}

/// A file in the body.
#[derive(Debug)]
pub struct Upload {
    /// The form field.
    pub field: String,
    /// The name that the client gave the file.
    pub file_name: String,
    /// Its bytes, if they were taken.
    pub file: Option<SpooledFile>,
}

/// Why a body was not understood.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Over the limit.
    #[error("the body is too large")]
    TooLarge,
    /// Not there in time.
    #[error("the body took too long to arrive")]
    Timeout,
    /// Of a type that is not read.
    #[error("the content type is not supported")]
    UnsupportedContentType,
    /// Its files have no room now; worth another try later. The text is for logs.
    #[error("no room for files: {0}")]
    NoRoom(String),
    /// Not what its type says, or not what the endpoint wants. The text is for logs.
    #[error("the body is malformed: {0}")]
    Malformed(Cow<'static, str>),
}

/// The special form field whose JSON is decoded over the other fields.
const JSON_PAYLOAD: &str = "@jsonPayload";

/// Reads the body that came with these headers. A form also takes the values of the query, after its own.
pub async fn read(
    headers: &HeaderMap,
    query: &Query,
    body: Body,
    limits: BodyLimits,
    files: TakeFiles<'_>,
) -> Result<Submitted, BodyError> {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let is_multipart = content_type.starts_with(b"multipart/form-data");
    let max_value_bytes = limits.max_value_bytes.min(limits.max_bytes);
    let max_bytes = if is_multipart { limits.max_bytes } else { max_value_bytes };
    let limits = BodyLimits { max_bytes, max_value_bytes, ..limits };
    let declared = declared_length(headers);
    if declared.is_some_and(|length| length > limits.max_bytes) {
        return Err(BodyError::TooLarge);
    }
    if declared == Some(0) || body.size_hint().exact() == Some(0) {
        return Ok(Submitted { content: Content::Empty });
    }
    let chunks = Chunks::new(body, limits);
    let content = if content_type.starts_with(b"application/json") {
        Content::Json(chunks.collect().await?)
    } else if is_multipart {
        let mut data = multipart::read(content_type, chunks, max_value_bytes, files).await?;
        data.add_query(query)?;
        Content::Form(data)
    } else if content_type.starts_with(b"application/x-www-form-urlencoded") {
        let mut data = FormData::from_urlencoded(&chunks.collect().await?)?;
        data.add_query(query)?;
        Content::Form(data)
    } else {
        return Err(BodyError::UnsupportedContentType);
    };
    Ok(Submitted { content })
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

// === impl BodyLimits ===

impl BodyLimits {
    /// The contract's limit of most routes: 32 MiB.
    pub const DEFAULT_MAX_BYTES: u64 = 32 << 20;

    /// The usual times with a limit of its own.
    pub fn bytes(max_bytes: u64) -> BodyLimits {
        // Ten minutes carry 32 MiB over half a megabit, and larger bodies get as much longer; a client that is
        // silent for half a minute is gone.
        let times = max_bytes.div_ceil(BodyLimits::DEFAULT_MAX_BYTES).max(1);
        let deadline = Duration::from_secs(times.saturating_mul(600).min(86_400));
        BodyLimits { max_bytes, max_value_bytes: max_bytes, deadline, stall: Duration::from_secs(30) }
    }

    /// The same with a limit of its own for what is not in files.
    #[must_use]
    pub fn value_bytes(self, max_value_bytes: u64) -> BodyLimits {
        BodyLimits { max_value_bytes, ..self }
    }
}

impl Default for BodyLimits {
    fn default() -> BodyLimits {
        BodyLimits::bytes(BodyLimits::DEFAULT_MAX_BYTES)
    }
}

// === impl Submitted ===

impl Submitted {
    /// A body that a batch's step gives as JSON.
    pub fn from_json(bytes: impl Into<Bytes>) -> Submitted {
        Submitted { content: Content::Json(bytes.into()) }
    }

    /// Whether there was no body. A JSON `null` is a body.
    pub fn is_empty(&self) -> bool {
        matches!(self.content, Content::Empty)
    }

    /// Whether it is a JSON `null`, which [`Submitted::into_object`] takes for an object without members.
    pub fn is_null(&self) -> bool {
        // Other bodies are not parsed twice.
        let is_null = |bytes: &[u8]| {
            bytes.trim_ascii_start().starts_with(b"null") && Json::parse_first(bytes) == Ok(Json::Null)
        };
        matches!(&self.content, Content::Json(bytes) if is_null(bytes))
    }

    /// Takes the files out of the body.
    pub fn take_uploads(&mut self) -> Vec<Upload> {
        match &mut self.content {
            Content::Form(data) => std::mem::take(&mut data.uploads),
            Content::Empty | Content::Json(_) => Vec::new(),
        }
    }

    /// The body as a dynamic object: keys as given, the types of form values inferred.
    pub fn into_object(self) -> Result<JsonObject, BodyError> {
        match self.content {
            Content::Empty => Ok(JsonObject::new()),
            Content::Json(bytes) => parse_object(&bytes),
            Content::Form(data) => data.into_object(),
        }
    }

    /// The body as a form of declared fields.
    pub fn into_form(self) -> Result<Form, BodyError> {
        match self.content {
            Content::Empty => Ok(Form::default()),
            Content::Json(bytes) => Ok(Form::from_json(parse_object(&bytes)?)),
            Content::Form(data) => data.into_form(),
        }
    }
}

fn parse_object(bytes: &[u8]) -> Result<JsonObject, BodyError> {
    match Json::parse_first(bytes) {
        Ok(Json::Object(object)) => Ok(object),
        Ok(Json::Null) => Ok(JsonObject::new()),
        Ok(_) => Err(BodyError::malformed("not a JSON object")),
        Err(error) => Err(BodyError::Malformed(error.to_string().into())),
    }
}

// === impl FormData ===

impl FormData {
    fn from_urlencoded(bytes: &[u8]) -> Result<FormData, BodyError> {
        if has_too_many_pairs(bytes) {
            return Err(BodyError::malformed("too many form pairs"));
        }
        let mut data = FormData::default();
        for pair in pairs(bytes) {
            let (name, value) = decode_pair(pair).map_err(|_| BodyError::malformed("a bad form pair"))?;
            data.add(name.into_owned(), value.into_owned());
        }
        Ok(data)
    }

    fn add(&mut self, name: String, value: String) {
        if name == JSON_PAYLOAD {
            self.payloads.push(value);
            return;
        }
        self.values.entry(name).or_default().push(value);
    }

    fn add_query(&mut self, query: &Query) -> Result<(), BodyError> {
        if query.has_bad_pair() {
            return Err(BodyError::malformed("a bad query pair"));
        }
        query.iter().for_each(|(name, value)| self.add(name.to_owned(), value.to_owned()));
        Ok(())
    }

    /// As in JSON bodies.
    fn refuse_zero_bytes(&self) -> Result<(), BodyError> {
        if self.values.values().flatten().any(|value| value.contains('\0')) {
            return Err(BodyError::malformed("a text holds a byte of zero"));
        }
        Ok(())
    }

    fn into_object(self) -> Result<JsonObject, BodyError> {
        self.refuse_zero_bytes()?;
        let mut object = JsonObject::new();
        for (name, values) in self.values {
            let mut inferred: Vec<Json> = values.into_iter().map(infer).collect();
            let value = if inferred.len() == 1 { inferred.remove(0) } else { Json::Array(inferred) };
            object.insert(name, value);
        }
        merge_payloads(&mut object, &self.payloads)?;
        Ok(object)
    }

    fn into_form(self) -> Result<Form, BodyError> {
        self.refuse_zero_bytes()?;
        let mut object = JsonObject::new();
        merge_payloads(&mut object, &self.payloads)?;
        Ok(Form::from_values(self.values, object))
    }
}

fn merge_payloads(object: &mut JsonObject, payloads: &[String]) -> Result<(), BodyError> {
    for payload in payloads {
        let parsed =
            Json::parse_whole(payload).map_err(|error| BodyError::Malformed(error.to_string().into()))?;
        let is_merged = match parsed {
            Json::Object(payload) => merge_over(object, payload),
            Json::Null => true,
            _ => false,
        };
        if !is_merged {
            return Err(BodyError::malformed("a payload that does not fit the fields"));
        }
    }
    Ok(())
}

/// Why a body breaks off that comes more slowly than it has to.
#[derive(Debug, thiserror::Error)]
#[error("the body comes too slowly")]
pub struct TooSlow;

/// Whether it broke off for that.
pub fn is_too_slow(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.into_iter().any(|error| error.is::<TooSlow>())
}

/// Whether a body broke off because somebody before us has a smaller limit for it (`http_body_util::Limited`).
pub fn is_past_its_limit(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.into_iter().any(|error| error.is::<LengthLimitError>())
}

// === impl BodyError ===

impl From<SpoolError> for BodyError {
    fn from(error: SpoolError) -> BodyError {
        BodyError::NoRoom(error.to_string())
    }
}

impl BodyError {
    fn malformed(what: &'static str) -> BodyError {
        BodyError::Malformed(Cow::Borrowed(what))
    }

    /// The answer of record routes: the generic 400.
    pub fn into_record_error(self) -> ApiError {
        self.into_api(ApiError::bad_request())
    }

    /// The answer of most forms: `An error occurred while loading the submitted data.`
    pub fn into_form_error(self) -> ApiError {
        self.into_api(ApiError::bad_request_with(UNREADABLE_FORM))
    }

    /// The answer, where a malformed body is `malformed` and a body of another type the usual 400.
    pub fn into_api(self, malformed: ApiError) -> ApiError {
        match self {
            BodyError::UnsupportedContentType => ApiError::unsupported_content_type(),
            other => other.into_api_for_all(malformed),
        }
    }

    /// The answer of routes that say the same of a malformed body and of one of another type:
    /// collections, settings, realtime, batch, confirm-password-reset.
    pub fn into_api_for_all(self, malformed: ApiError) -> ApiError {
        match self {
            BodyError::TooLarge => ApiError::too_large(),
            BodyError::Timeout => ApiError::request_timeout(),
            BodyError::NoRoom(detail) => {
                tracing::warn!(detail, "files that were sent have no room");
                ApiError::unavailable(Duration::from_secs(1))
            }
            BodyError::UnsupportedContentType | BodyError::Malformed(_) => malformed,
        }
    }
}

/// The pieces of a body, within its limits.
pub(crate) struct Chunks {
    body: Body,
    remaining: u64,
    stall: Duration,
    deadline: Instant,
}

impl Chunks {
    fn new(body: Body, limits: BodyLimits) -> Chunks {
        let deadline = Instant::now() + limits.deadline;
        Chunks { body, remaining: limits.max_bytes, stall: limits.stall, deadline }
    }

    /// The next piece, `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let until = self.deadline.min(Instant::now() + self.stall);
            let frame = timeout_at(until, self.body.frame()).await.map_err(|_| BodyError::Timeout)?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| match &error {
                error if is_past_its_limit(error) => BodyError::TooLarge,
                error if is_too_slow(error) => BodyError::Timeout,
                error => BodyError::Malformed(error.to_string().into()),
            })?;
            // What is no data is a trailer, which nothing here reads.
            let Ok(data) = frame.into_data() else { continue };
            self.remaining = self.remaining.checked_sub(data.len() as u64).ok_or(BodyError::TooLarge)?;
            return Ok(Some(data));
        }
    }

    /// All of it; most bodies are one piece, which is not copied.
    async fn collect(mut self) -> Result<Bytes, BodyError> {
        let Some(first) = self.next().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.next().await? else { return Ok(first) };
        let mut all = BytesMut::with_capacity(first.len() + second.len());
        all.extend_from_slice(&first);
        all.extend_from_slice(&second);
        while let Some(piece) = self.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}

#[cfg(test)]
mod tests;
