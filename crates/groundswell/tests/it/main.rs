//! The whole binary as an operator sees it: each test starts the real one on a free port.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod acme;
mod app;
mod batch;
mod callers;
mod checks;
mod command_line;
mod configuration;
mod connections;
mod discovery;
mod edge_limits;
mod files;
mod floods;
mod gateway;
mod handover;
mod hooks;
mod http;
mod http2;
mod jobs;
mod limits;
mod metrics;
mod observe;
mod passwords;
mod png;
mod realtime;
mod roles;
mod rules;
mod server;
mod server_transport;
mod smuggling;
mod tls;
mod upstreams;
