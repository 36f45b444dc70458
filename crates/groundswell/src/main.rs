//! The `groundswell` binary: the command line, the configuration, the runtimes, and the wiring of services to
//! engines. It is the only crate that knows every other.
//!
//! A call of `serve` goes [`cli`] → [`config`] → [`commands`] → [`app`] (what answers) behind [`gateway`] (what every
//! request passes, and the loops and sockets beneath). What a service does is left to the services.

use std::process::ExitCode;

mod acme;
mod app;
mod caller_keys;
mod certificates;
mod cli;
mod commands;
mod config;
mod control_socket;
mod handover;
mod hook_queues;
mod log_rotation;
mod logs;
mod manage;
mod node;
mod output;
mod readiness;
mod reload;
mod runtimes;
mod shutdown;
mod stores;
mod superusers;
mod unmatched;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::parse() {
        Ok(command_line) => commands::run(command_line),
        Err(stop) => stop.print(),
    }
}
