//! The resolved configuration as TOML that could be read again, with secrets masked.

use std::fmt;
use std::time::Duration;

use hooks::Hook;

use super::settings::Settings;

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, store, blobs, hooks, outbound, log } = self;
        writeln!(f, "[server]")?;
        writeln!(f, "http = {}", quoted(server.http.socket))?;
        writeln!(f, "dir = {}", quoted(server.dir.display()))?;
        writeln!(f, "public_dir = {}", quoted(server.public_dir.display()))?;
        writeln!(f, "index_fallback = {}", server.index_fallback)?;
        writeln!(f, "origins = {}", list(&server.origins))?;
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
        for hook in hooks {
            print_hook(hook, f)?;
        }
        writeln!(f, "\n[outbound]")?;
        writeln!(f, "allow = {}", list(&outbound.allow))?;
        writeln!(f, "\n[log]")?;
        writeln!(f, "format = {}", quoted(log.format))?;
        write!(f, "level = {}", quoted(&log.level))
    }
}

/// Behind `#`, because its secrets are not shown and its URL only without the path, which often is one.
fn print_hook(hook: &Hook, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "\n# [hooks.{}]", hook.name)?;
    writeln!(f, "# url = {}", quoted(format_args!("{:?}", hook.url)))?;
    let events: Vec<_> = hook.on.iter().map(|event| event.as_str()).collect();
    writeln!(f, "# on = {}", list(&events))?;
    if let Some(collections) = &hook.collections {
        writeln!(f, "# collections = {}", list(collections))?;
    }
    writeln!(f, "# secrets = [\"***\"]")?;
    writeln!(f, "# timeout = {}", quoted(seconds(hook.timeout)))?;
    writeln!(f, "# on_failure = {}", quoted(hook.on_failure.as_str()))?;
    writeln!(f, "# enabled = {}", hook.is_enabled)
}

/// A TOML array of strings.
fn list(texts: &[impl fmt::Display]) -> String {
    format!("[{}]", texts.iter().map(quoted).collect::<Vec<_>>().join(", "))
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
