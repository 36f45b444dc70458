//! What a browser is told of a file, and whether it may show it (CONTRACT §6.1).

use kit::files::sniff;

/// The media type by the file's name where the contract says so, otherwise by its first bytes.
pub(crate) fn of(name: &str, head: &[u8]) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension {
        "svg" => "image/svg+xml",
        "css" => "text/css",
        "js" | "mjs" => "text/javascript",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "pptx" => "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        _ => sniff(head).mime_type,
    }
}

/// Whether a browser may show it in place; anything that could run is a download.
pub(crate) fn is_inline(content_type: &str) -> bool {
    const INLINE: [&str; 25] = [
        "image/png",
        "image/jpg",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "image/x-icon",
        "image/bmp",
        "video/webm",
        "video/mp4",
        "video/3gpp",
        "video/quicktime",
        "video/x-ms-wmv",
        "audio/basic",
        "audio/aiff",
        "audio/mpeg",
        "audio/midi",
        "audio/mp3",
        "audio/wave",
        "audio/wav",
        "audio/x-wav",
        "audio/x-mpeg",
        "audio/x-m4a",
        "audio/aac",
        "application/pdf",
        "application/x-pdf",
    ];
    INLINE.contains(&content_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_run_is_not_shown_in_place() {
        for name in ["a.svg", "a.js", "a.html", "a.txt"] {
            let head = if name == "a.html" { &b"<html></html>"[..] } else { b"text" };
            assert!(!is_inline(of(name, head)), "{name}");
        }
        assert!(is_inline(of("a.txt", b"\x89PNG\r\n\x1a\n0000")));
        assert!(is_inline(of("a", b"%PDF-1.4")));
    }
}
