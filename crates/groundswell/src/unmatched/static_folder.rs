//! Files of the public folder, by the rules of the real server's.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::SystemTime;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LAST_MODIFIED, LOCATION,
};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use percent_encoding::{percent_decode_str, utf8_percent_encode};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use kit::conditions::{Part, Validators, part_asked_for};

use super::error;

/// Files up to this size are read in the same visit to the blocking pool that finds them.
const SMALL_FILE_BYTES: u64 = 256 * 1024;

/// A folder whose files are served as they are.
#[derive(Debug)]
pub(crate) struct StaticFolder {
    root: PathBuf,
    index_fallback: bool,
}

/// What a path stands for.
enum Found {
    File(FoundFile),
    MovedTo(String),
    Nothing,
}

struct FoundFile {
    file: File,
    content: Option<Vec<u8>>,
    length: u64,
    modified: Option<SystemTime>,
    content_type: String,
}

impl StaticFolder {
    /// The folder at `root`, which need not exist. With `index_fallback`, a path that is not there gets the root's
    /// `index.html`.
    pub(crate) fn new(root: PathBuf, index_fallback: bool) -> Self {
        Self { root, index_fallback }
    }

    /// Whether there is a file at `path` itself.
    pub(super) async fn has(&self, path: &'static str) -> bool {
        let finder = Finder { root: self.root.clone(), index_fallback: false };
        let found = tokio::task::spawn_blocking(move || finder.find_itself(path, false)).await;
        matches!(found, Ok(Found::File(_)))
    }

    /// The answer to GET or HEAD on `path`.
    pub(super) async fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response<Body> {
        let finder = Finder { root: self.root.clone(), index_fallback: self.index_fallback };
        let path = path.to_owned();
        let wants_content = *method == Method::GET;
        match tokio::task::spawn_blocking(move || finder.find(&path, wants_content)).await {
            Ok(Found::File(found)) => file_response(found, wants_content, headers).await,
            Ok(Found::MovedTo(target)) => moved(&target),
            Ok(Found::Nothing) => error::response(StatusCode::NOT_FOUND, error::FILE_NOT_FOUND),
            Err(_) => error::response(StatusCode::INTERNAL_SERVER_ERROR, error::SOMETHING_WRONG),
        }
    }
}

/// The blocking part.
struct Finder {
    root: PathBuf,
    index_fallback: bool,
}

impl Finder {
    fn find(&self, path: &str, wants_content: bool) -> Found {
        match self.find_itself(path, wants_content) {
            Found::Nothing if self.index_fallback => {
                let index = self.root.join("index.html");
                open(index, wants_content).map_or(Found::Nothing, Found::File)
            }
            found => found,
        }
    }

    fn find_itself(&self, path: &str, wants_content: bool) -> Found {
        let Some(segments) = safe_segments(path) else {
            return Found::Nothing;
        };
        let mut file = self.root.clone();
        file.extend(&segments);
        let Ok(metadata) = fs::metadata(&file) else {
            return Found::Nothing;
        };
        if let Some(target) = canonical(path, &segments, &metadata) {
            return Found::MovedTo(target);
        }
        if metadata.is_dir() {
            file.push("index.html");
        }
        open(file, wants_content).map_or(Found::Nothing, Found::File)
    }
}

/// The names along a path, decoded, without any that could lead out of the folder.
fn safe_segments(path: &str) -> Option<Vec<String>> {
    let decoded = percent_decode_str(path).decode_utf8().ok()?;
    if decoded.contains(['\0', '\\']) {
        return None;
    }
    let mut segments = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => (),
            ".." => {
                segments.pop()?;
            }
            name => segments.push(name.to_owned()),
        }
    }
    Some(segments)
}

/// Where the thing lives if `path` is not its one spelling: folders end in a slash, files do not, and an
/// `index.html` is its folder.
fn canonical(path: &str, segments: &[String], metadata: &Metadata) -> Option<String> {
    // Decoded, as the real server looks at it.
    let ends_in_slash = path.ends_with('/') || path.ends_with("%2f") || path.ends_with("%2F");
    if metadata.is_dir() {
        return (!ends_in_slash).then(|| format!("{path}/"));
    }
    if ends_in_slash {
        let names = segments.iter().map(|name| utf8_percent_encode(name, SEGMENT).to_string());
        return Some(names.fold(String::new(), |target, name| target + "/" + &name));
    }
    if segments.last().is_some_and(|name| name == "index.html") {
        let folder = segments[..segments.len() - 1].iter();
        let names = folder.map(|name| utf8_percent_encode(name, SEGMENT).to_string());
        return Some(names.fold(String::from("/"), |target, name| target + &name + "/"));
    }
    None
}

/// What a segment of a path may not hold as it is.
const SEGMENT: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

fn open(path: PathBuf, wants_content: bool) -> Option<FoundFile> {
    let mut file = File::open(&path).ok()?;
    let metadata = file.metadata().ok().filter(Metadata::is_file)?;
    let length = metadata.len();
    let is_small = length <= SMALL_FILE_BYTES;
    // A type that the name does not tell is told by the content.
    let wants_content = wants_content || mime_guess::from_path(&path).is_empty();
    let content = if wants_content && is_small { Some(read_to_end(&mut file, length).ok()?) } else { None };
    let length = content.as_ref().map_or(length, |content| content.len() as u64);
    Some(FoundFile {
        content_type: content_type(&path, content.as_deref()),
        file,
        content,
        length,
        modified: metadata.modified().ok(),
    })
}

fn read_to_end(file: &mut File, length: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    // A file that grows meanwhile does not grow us.
    file.take(2 * SMALL_FILE_BYTES).read_to_end(&mut content)?;
    Ok(content)
}

fn content_type(path: &std::path::Path, content: Option<&[u8]>) -> String {
    match mime_guess::from_path(path).first_raw() {
        Some(kind) if kind.starts_with("text/") => format!("{kind}; charset=utf-8"),
        Some(kind) => kind.to_owned(),
        None if content.is_some_and(|content| std::str::from_utf8(content).is_ok()) => {
            "text/plain; charset=utf-8".to_owned()
        }
        None => "application/octet-stream".to_owned(),
    }
}

async fn file_response(found: FoundFile, wants_content: bool, asked: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    if let Some(modified) = found.modified {
        headers.insert(LAST_MODIFIED, text_value(&httpdate::fmt_http_date(modified)));
    }
    let part = part_asked_for(asked, found.length, Validators { modified: found.modified, etag: None });
    if matches!(part, Part::NotModified) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    if matches!(part, Part::PreconditionFailed) {
        *response.status_mut() = StatusCode::PRECONDITION_FAILED;
        return response;
    }
    let (start, length) = match part {
        Part::Range { start, length } => (start, length),
        Part::Unsatisfiable => return unsatisfiable(found.length),
        Part::Malformed => return malformed(),
        Part::All | Part::Several(_) | Part::NotModified | Part::PreconditionFailed => (0, found.length),
    };
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_TYPE, text_value(&found.content_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if matches!(part, Part::Range { .. }) {
        let end = start + length - 1;
        headers.insert(CONTENT_RANGE, text_value(&format!("bytes {start}-{end}/{}", found.length)));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    if wants_content {
        match content(found, start, length).await {
            Ok(body) => *response.body_mut() = body,
            Err(_) => return error::response(StatusCode::INTERNAL_SERVER_ERROR, error::SOMETHING_WRONG),
        }
    }
    response
}

async fn content(found: FoundFile, start: u64, length: u64) -> io::Result<Body> {
    if let Some(content) = found.content {
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(content.len());
        let end = start.saturating_add(usize::try_from(length).unwrap_or(usize::MAX)).min(content.len());
        return Ok(Body::from(bytes::Bytes::from(content).slice(start..end)));
    }
    let mut file = tokio::fs::File::from_std(found.file);
    file.seek(io::SeekFrom::Start(start)).await?;
    Ok(Body::from_stream(ReaderStream::with_capacity(file.take(length), 64 * 1024)))
}

fn malformed() -> Response<Body> {
    let mut response = Response::new(Body::from("invalid range\n"));
    *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn unsatisfiable(length: u64) -> Response<Body> {
    let mut response = Response::new(Body::from("invalid range: failed to overlap\n"));
    *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
    let headers = response.headers_mut();
    headers.insert(CONTENT_RANGE, text_value(&format!("bytes */{length}")));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn moved(target: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(LOCATION, text_value(target));
    response
}

fn text_value(text: &str) -> HeaderValue {
    // Paths are escaped and dates are ASCII, so that this replaces nothing in practice.
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("/"))
}
