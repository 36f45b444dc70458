//! The store engine's adapters: SQLite.

pub mod sqlite;
