//! Logs go to standard error: text for people on a terminal, JSON lines otherwise.

use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};

use tracing::error;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{LogFormat, LogSettings};

/// Starts logging, and logs panics from here on.
pub(crate) fn start(settings: &LogSettings) {
    let is_terminal = io::stderr().is_terminal();
    let is_human = match settings.format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => is_terminal,
    };
    let lines = fmt::layer().with_writer(io::stderr);
    let lines = if is_human {
        lines.with_ansi(is_terminal).boxed()
    } else {
        lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
    };
    tracing_subscriber::registry().with(lines).with(settings.level.clone()).init();
    panic::set_hook(Box::new(log_panic));
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("(no text)");
    let location = info.location().map(ToString::to_string);
    let backtrace = std::backtrace::Backtrace::capture();
    error!(message, location, %backtrace, "panic");
}
