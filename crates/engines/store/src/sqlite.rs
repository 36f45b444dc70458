//! The store on SQLite.

pub mod filter_sql;
