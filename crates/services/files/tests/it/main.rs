//! Tests of the service from outside.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod cleanup;
mod thumbs;
