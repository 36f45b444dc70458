//! What an application is: collections, fields, values, records, rules, the filter language and the
//! planning of a write. No I/O, no clock, no async: everything here is a plain function on plain data.
//!
//! Start at [`schema::Schema`], the snapshot that everything is judged under. A request's filters and
//! a collection's rules become a [`filter::Filter`], which is judged in memory or rendered by a store
//! adapter.

pub mod checks;
pub mod collection;
pub mod condition;
pub mod context;
pub mod cron;
pub mod errors;
pub mod field;
pub mod filter;
pub mod json;
pub mod not_yet;
pub mod plan;
pub mod record;
pub mod schema;
pub mod settings;
pub mod step;
pub mod time;
pub mod value;
