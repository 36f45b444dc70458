//! The store on PostgreSQL.

mod layout;
pub mod sql;
