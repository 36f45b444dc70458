//! The same requests to the real PocketBase and to a subject, answers compared.
//!
//! A scenario file ([`scenario`]) is set up on two fresh servers and then sends its pairs one by one to
//! both ([`run`]); [`compare`] finds what differs once generated values are matched up ([`normalise`]).
//! What is known to differ stands in `differences.json` ([`differences`]). [`self_check`] shows that the
//! runner can fail: it breaks answers on the way ([`proxy`], [`mutation`]) and wants each break found.
//! `README.md` says how to write a scenario.

pub mod compare;
pub mod differences;
mod encoding;
mod image;
pub mod json;
pub mod mutation;
pub mod normalise;
pub mod proxy;
pub mod report;
pub mod run;
pub mod scenario;
pub mod self_check;
mod setup;
mod streams;
