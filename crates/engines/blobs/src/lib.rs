//! The blobs' adapters: implementations of [`contract::blobs::Blobs`].
//!
//! [`FolderBlobs`] keeps each blob as a file of one folder.
//!
//! A put streams: the folder asks the content for one piece after the other, and nobody holds the whole. What the bytes are, who may read
//! them and when they go is left to the `files` service.

mod folder;

pub use folder::{FolderBlobs, OpenError, Options};
