//! The store on PostgreSQL.

mod layout;
mod sql;
