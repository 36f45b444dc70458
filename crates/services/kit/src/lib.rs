//! What the services share: reading a request and writing an answer, exactly as the contract has them.
//!
//! A handler takes its [`request::Call`] (who asks, from where, with which query), reads the body by
//! [`body::read`], and answers with [`respond::json`] or an [`error::ApiError`]. Records become JSON by
//! a [`record_json::RecordShape`], lists by [`list_json`]; the `fields` parameter is applied by
//! [`fields`]. A [`viewer::Viewer`] does all of that for records, with what the rules allow. What
//! services share of files is in [`files`]. Routes are left to the services.

pub mod app;
pub mod before_hooks;
pub mod body;
pub mod conditions;
pub mod error;
mod excerpt;
pub mod expand;
pub mod fields;
pub mod file_removal;
pub mod files;
pub mod filters;
mod form_values;
pub mod list_json;
pub mod outbound;
pub mod query;
pub mod rate_limits;
pub mod record_json;
pub mod request;
pub mod respond;
pub mod spool;
pub mod viewer;
