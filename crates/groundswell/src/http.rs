//! What every request passes before a service sees it, and every response after: one small function in place of
//! a chain of boxed layers ([`Front::handle`]), over parts that do one thing each.

mod body;
mod caller;
mod clean_path;
mod compress;
mod cors;
mod error;
mod front;
mod static_folder;
mod unmatched;

pub(crate) use cors::Origins;
pub(crate) use front::{Front, MAX_HEAD_BYTES};
pub(crate) use static_folder::StaticFolder;
pub(crate) use unmatched::unmatched;

#[cfg(test)]
mod tests;
