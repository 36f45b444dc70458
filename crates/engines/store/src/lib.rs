//! The store's adapters: implementations of [`contract::store::Store`].
//!
//! [`sqlite`] keeps everything in one file of the data folder: one writer thread that commits batches
//! in groups, a pool of reader threads, and the physical layout of CONTRACT §3.2 and §10.2.
//! [`postgres`] keeps it in a database that several nodes may share.

mod batch;
mod interest;
pub mod postgres;
pub mod sqlite;
