//! The service as its clients see it, on a real store and the embedded broker. Collections and records are made
//! through the routes of the other services.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod access;
mod connections;
mod events;
mod leak;
mod node;
mod resume;
mod sign_in;
