//! The whole binary as an operator sees it: each test starts the real one on a free port.

mod command_line;
mod configuration;
mod connections;
mod http;
mod server;
