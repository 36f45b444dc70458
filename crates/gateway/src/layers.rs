//! The parts of the front, each of which does one thing.

pub(crate) mod caller;
pub(crate) mod clean_path;
pub(crate) mod compress;
pub(crate) mod cors;

pub use cors::Origins;
