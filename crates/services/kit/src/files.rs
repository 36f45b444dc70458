//! What services share of files: where their bytes are, where those of requests wait, and what a file is
//! by its content.

use std::sync::Arc;

use contract::blobs::{BlobError, Blobs};

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

/// Tells the type by a file's first bytes, whatever its name and its sender say.
pub fn sniff(head: &[u8]) -> FileType {
    if head.is_empty() {
        return FileType { mime_type: "text/plain", extension: ".txt" };
    }
    let found = mimetype_detector::detect(head);
    let found = FileType { mime_type: found.mime(), extension: found.extension() };
    // Where the contract's server sees otherwise.
    match found.extension {
        "" if found.mime_type == "application/octet-stream" && is_text(head) => TEXT,
        ".txt" if found == TEXT && is_table(head, b',') => {
            FileType { mime_type: "text/csv", extension: ".csv" }
        }
        ".txt" if found == TEXT && is_table(head, b'\t') => {
            FileType { mime_type: "text/tab-separated-values", extension: ".tsv" }
        }
        ".svg" if !head.starts_with(b"<?xml") && !contains(head, b"http://www.w3.org/2000/svg") => TEXT,
        _ => found,
    }
}

const TEXT: FileType = FileType { mime_type: "text/plain; charset=utf-8", extension: ".txt" };

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
        let cases: [(&[u8], &str, &str); 20] = [
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
