//! What services share of files: where their bytes are, where those of requests wait, and what a file is
//! by its content.

use std::sync::Arc;

use contract::blobs::{BlobError, Blobs};

use model::json::Json;

use crate::error::ApiError;
use crate::spool::Spool;

/// Files, for the services of a node.
pub struct Files {
    /// Where they are stored.
    pub blobs: Arc<dyn Blobs>,
    /// Where those of requests wait.
    pub spool: Arc<Spool>,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileType {
    /// The media type, with its charset where it is known.
    pub mime_type: &'static str,
    /// The usual extension with its dot; empty where there is none.
    pub extension: &'static str,
}

/// What a type is told by: more is not looked at, so that it does not depend on how much is at hand.
pub const HEAD_BYTES: usize = 3 << 10;

/// Tells the type by a file's first bytes, whatever its name and its sender say.
pub fn sniff(head: &[u8]) -> FileType {
    let head = &head[..head.len().min(HEAD_BYTES)];
    if head.is_empty() {
        return FileType { mime_type: "text/plain", extension: ".txt" };
    }
    let found = mimetype_detector::detect(head);
    as_the_contract_says(FileType { mime_type: found.mime(), extension: found.extension() }, head)
}

const TEXT: FileType = FileType { mime_type: "text/plain; charset=utf-8", extension: ".txt" };
const UNKNOWN: FileType = FileType { mime_type: "application/octet-stream", extension: "" };

/// Types that the contract's server does not know; most are told by two bytes alone, which any file may begin
/// with. Seen with a sample of each, as all that is corrected below.
const NOT_KNOWN: [&str; 19] = [
    "application/arj",
    "application/x-3ds",
    "application/x-coff",
    "application/x-commodore-64-program",
    "application/x-compress",
    "application/x-llvm",
    "application/x-pickle",
    "application/x-tasty",
    "application/x-x509-ca-cert",
    "audio/ac3",
    "image/x-pictor",
    "image/x-portable-arbitrarymap",
    "image/x-portable-bitmap",
    "image/x-portable-graymap",
    "image/x-portable-pixmap",
    "image/x-sgi",
    "video/flc",
    "video/fli",
    "video/mp2t",
];

/// Corrects what the library finds where the contract's server finds something else.
fn as_the_contract_says(found: FileType, head: &[u8]) -> FileType {
    let named = |mime_type, extension| FileType { mime_type, extension };
    let found = match found.mime_type {
        "application/x-dosexec" => return named("application/vnd.microsoft.portable-executable", ".exe"),
        "application/x-python-bytecode" => return named("application/x-bytecode.python", ".pyc"),
        "application/x-rar-compressed" => return named("application/vnd.rar", ".rar"),
        "video/x-matroska" => return named("video/matroska", ".mkv"),
        "application/ogg" => return named("application/ogg", ".ogg"),
        "application/x-pem-file" => return TEXT,
        "application/json" if !is_json(head) => TEXT,
        "image/svg+xml" if !head.starts_with(b"<?xml") && !contains(head, b"http://www.w3.org/2000/svg") => {
            TEXT
        }
        "application/x-dbf" if !is_dbf(head) => UNKNOWN,
        "image/bmp" if head.get(6..10) != Some(&[0; 4]) => UNKNOWN,
        "application/x-bzip2" if !head.starts_with(b"BZh") => UNKNOWN,
        mime_type if NOT_KNOWN.contains(&mime_type) => UNKNOWN,
        _ => found,
    };
    match found {
        UNKNOWN if is_mpeg_layer_3(head) => named("audio/mpeg", ".mp3"),
        UNKNOWN if is_text(head) => TEXT,
        TEXT if head.trim_ascii_start().starts_with(b"<!--") => named("text/html; charset=utf-8", ".html"),
        TEXT if is_table(head, b',') => named("text/csv", ".csv"),
        TEXT if is_table(head, b'\t') => named("text/tab-separated-values", ".tsv"),
        found => found,
    }
}

/// Whether a text is JSON, as far as it is there: the library takes any bracket for it.
fn is_json(head: &[u8]) -> bool {
    let Ok(text) =
        std::str::from_utf8(head).or_else(|error| std::str::from_utf8(&head[..error.valid_up_to()]))
    else {
        return false;
    };
    // One that is longer may be cut off anywhere.
    if head.len() < HEAD_BYTES {
        return Json::parse_whole(text).is_ok();
    }
    let text = text.trim_start();
    let inside = text.get(1..).unwrap_or_default().trim_start();
    match text.as_bytes().first() {
        Some(b'{') => inside.starts_with(['"', '}']),
        Some(b'[') => {
            inside.starts_with(|first: char| first.is_ascii_digit() || "{[\"-]".contains(first))
                || ["true", "false", "null"].iter().any(|word| inside.starts_with(word))
        }
        _ => false,
    }
}

/// Whether the header of a dBASE file is sound: a month, a day, and reserved bytes that are zero.
fn is_dbf(head: &[u8]) -> bool {
    head.len() >= 68
        && (1..=12).contains(&head[2])
        && (1..=31).contains(&head[3])
        && [12, 13, 30, 31].iter().all(|reserved| head[*reserved] == 0)
        && head[28] <= 1
}

/// Whether it begins with a frame of MPEG audio, layer III, of version 1, 2 or 2.5.
fn is_mpeg_layer_3(head: &[u8]) -> bool {
    matches!(head, [0xff, second, ..] if matches!(second & 0xfe, 0xfa | 0xf2 | 0xe2))
}

/// Whether no byte of it is a control character that texts do not have (WHATWG MIME Sniffing, binary data byte).
fn is_text(head: &[u8]) -> bool {
    !head.iter().any(|byte| matches!(byte, 0..=0x08 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f))
}

/// Whether two lines or more have the same number of columns, which is more than one.
fn is_table(head: &[u8], separator: u8) -> bool {
    let mut lines = 0;
    let mut columns = None;
    for line in head.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut is_quoted = false;
        let count = line.iter().filter(|byte| {
            is_quoted ^= **byte == b'"';
            **byte == separator && !is_quoted
        });
        let count = count.count();
        if count == 0 || columns.is_some_and(|columns| columns != count) {
            return false;
        }
        columns = Some(count);
        lines += 1;
    }
    lines > 1
}

fn contains(head: &[u8], text: &[u8]) -> bool {
    head.windows(text.len()).any(|window| window == text)
}

/// Blobs without an answer are never the client's fault.
pub fn blob_error(error: BlobError) -> ApiError {
    match error {
        BlobError::Unavailable(detail) => {
            tracing::warn!(detail, "the blobs cannot be reached");
            ApiError::unavailable(std::time::Duration::from_secs(1))
        }
        BlobError::Damaged(detail) | BlobError::Internal(detail) => {
            tracing::error!(detail, "the blobs failed");
            ApiError::internal()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_by_the_content() {
        let cases: [(&[u8], &str, &str); 29] = [
            (b"", "text/plain", ".txt"),
            (b"hello", "text/plain; charset=utf-8", ".txt"),
            (b"\x89PNG\r\n\x1a\n0000", "image/png", ".png"),
            (b"GIF89a00000000000000", "image/gif", ".gif"),
            (b"\xff\xd8\xff\xe000000000", "image/jpeg", ".jpg"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp", ".webp"),
            (b"{\"a\":1}", "application/json", ".json"),
            (b"<html></html>", "text/html; charset=utf-8", ".html"),
            (b"\x00\x01\x02", "application/octet-stream", ""),
            (b"a,b\n1,2\n", "text/csv", ".csv"),
            (b"a\tb\n1\t2\n", "text/tab-separated-values", ".tsv"),
            (
                b"<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\"></svg>",
                "image/svg+xml",
                ".svg",
            ),
            (b"#!/bin/sh\n", "text/x-shellscript", ".sh"),
            (b"%PDF-1.4", "application/pdf", ".pdf"),
            (b"PK\x03\x0400000000000000000000", "application/zip", ".zip"),
            (b"\xe4", "text/plain; charset=utf-8", ".txt"),
            (b"\xff\xfea\0", "text/plain; charset=utf-16le", ".txt"),
            (b"<svg></svg>", "text/plain; charset=utf-8", ".txt"),
            (b"function(){}", "text/plain; charset=utf-8", ".txt"),
            (b"\0\0\0\x18ftypmp4200000000", "video/mp4", ".mp4"),
            (b"\xff\xfb\x90\0\0\0\0\0", "audio/mpeg", ".mp3"),
            (b"[a]\nb=1\n", "text/plain; charset=utf-8", ".txt"),
            (b"[1,2]", "application/json", ".json"),
            (b"<!-- x --><html>", "text/html; charset=utf-8", ".html"),
            (b"MZ\x90\0\x03\0\0\0", "application/vnd.microsoft.portable-executable", ".exe"),
            (b"\x1f\x9d\x90\0\0\0\0", "application/octet-stream", ""),
            (b"P6\n2 2\n255\n\0\0\0", "application/octet-stream", ""),
            (b"BM\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0e", "application/octet-stream", ""),
            (b"OggS\0\x02\0\0\0\0\0\0", "application/ogg", ".ogg"),
        ];
        let mut wrong = Vec::new();
        for (head, mime_type, extension) in cases {
            let found = sniff(head);
            if found != (FileType { mime_type, extension }) {
                wrong.push(format!(
                    "{:?}: {found:?}, not {mime_type} {extension}",
                    String::from_utf8_lossy(head)
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
