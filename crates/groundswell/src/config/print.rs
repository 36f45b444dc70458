//! The resolved configuration as TOML that could be read again, with secrets masked.

use std::fmt;
use std::time::Duration;

use super::settings::Settings;

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, store, blobs, log } = self;
        writeln!(f, "[server]")?;
        writeln!(f, "http = {}", quoted(server.http.socket))?;
        writeln!(f, "dir = {}", quoted(server.dir.display()))?;
        writeln!(f, "public_dir = {}", quoted(server.public_dir.display()))?;
        writeln!(f, "index_fallback = {}", server.index_fallback)?;
        writeln!(f, "origins = [{}]", server.origins.iter().map(quoted).collect::<Vec<_>>().join(", "))?;
        writeln!(f, "manage = {}", quoted(server.manage.socket))?;
        writeln!(f, "roles = [\"all\"]")?;
        writeln!(f, "query_timeout = {}", quoted(seconds(server.query_timeout)))?;
        writeln!(f, "head_timeout = {}", quoted(seconds(server.head_timeout)))?;
        writeln!(f, "drain_timeout = {}", quoted(seconds(server.drain_timeout)))?;
        writeln!(f, "request_loops = {}", server.request_loops)?;
        writeln!(f, "max_connections = {}", server.max_connections)?;
        writeln!(f, "\n[store]")?;
        writeln!(f, "url = {}", quoted(&store.url))?;
        writeln!(f, "synchronous = {}", quoted(store.synchronous))?;
        writeln!(f, "readers = {}", store.readers)?;
        writeln!(f, "\n[blobs]")?;
        writeln!(f, "url = {}", quoted(&blobs.url))?;
        if blobs.encryption_keys.is_some() {
            writeln!(f, "# encryption_keys = [\"***\"]")?;
        }
        writeln!(f, "max_waiting_mib = {}", blobs.max_waiting_bytes >> 20)?;
        writeln!(f, "max_waiting_mib_per_address = {}", blobs.max_waiting_bytes_per_address >> 20)?;
        writeln!(f, "\n[log]")?;
        writeln!(f, "format = {}", quoted(log.format))?;
        write!(f, "level = {}", quoted(&log.level))
    }
}

/// A TOML string.
fn quoted(text: impl fmt::Display) -> String {
    let mut quoted = String::from("\"");
    for character in text.to_string().chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

fn seconds(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}
