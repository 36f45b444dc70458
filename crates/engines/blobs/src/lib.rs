//! The blobs' adapters: implementations of [`contract::blobs::Blobs`].
//!
//! [`FolderBlobs`] keeps each blob as a file of one folder. [`EncryptedBlobs`] wraps any adapter and
//! encrypts what passes through it, with keys from [`MasterKeys`]. [`PlainBlobs`] stands in its place where no
//! key is given.
//!
//! A put streams: the folder asks the content for one piece after the other, an encrypted blob asks the
//! plain one for the chunks that it needs, and nobody holds the whole. What the bytes are, who may read
//! them and when they go is left to the `files` service.

mod encrypted;
mod folder;

pub use encrypted::EncryptedBlobs;
pub use encrypted::keys::{MasterKeyError, MasterKeys};
pub use encrypted::plain::PlainBlobs;
pub use folder::{FolderBlobs, OpenError, Options};
