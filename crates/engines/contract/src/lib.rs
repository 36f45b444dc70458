//! The engines that hold state, as traits: what the application tier may ask of them, in which words,
//! and how they may fail. An adapter implements one; whoever uses one holds it as `Arc<dyn …>` and
//! cannot tell which adapter it has.
//!
//! [`store::Store`], the data; [`blobs::Blobs`], the bytes of files; [`broker::Broker`], who hands on what
//! was changed; [`jobs::JobStore`], the work that is to be done later; [`hooks::HookStore`], who is told of
//! changes by HTTP; [`secrets::SecretStore`], what the server keeps to itself.

pub mod blobs;
pub mod broker;
pub mod event;
pub mod hooks;
pub mod jobs;
pub mod secrets;
pub mod store;
