//! The engines that hold state, as traits: what the application tier may ask of them, in which words,
//! and how they may fail. An adapter implements one; whoever uses one holds it as `Arc<dyn …>` and
//! cannot tell which adapter it has.
//!
//! So far: [`store::Store`], the data.

pub mod event;
pub mod store;
