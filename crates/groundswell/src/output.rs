//! What a command says to the person who ran it. The only module that writes to the standard streams.

use std::fmt;

use jiff::ZonedDateTime;

/// A line of a command's answer.
#[expect(clippy::print_stdout, reason = "a command's answer goes to standard output")]
pub(crate) fn line(text: impl fmt::Display) {
    println!("{text}");
}

/// A line for the person, when standard output is not the place for it.
#[expect(clippy::print_stderr, reason = "a command's complaint goes to standard error")]
pub(crate) fn complaint(text: impl fmt::Display) {
    eprintln!("{text}");
}

/// An error in PocketBase's form: the local time, then the message, on standard error.
pub(crate) fn error(text: impl fmt::Display) {
    complaint(dated(text));
}

/// `text` after the local time, as PocketBase writes it.
pub(crate) fn dated(text: impl fmt::Display) -> String {
    format!("{} {text}", ZonedDateTime::now().strftime("%Y/%m/%d %H:%M:%S"))
}
