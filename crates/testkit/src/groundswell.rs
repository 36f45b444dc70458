use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::postgres::Postgres;
use crate::server::{Launch, Server};

/// Our own server, with what it shall be started with. With `GROUNDSWELL_TOPOLOGY=gateway` it is two: a gateway node,
/// which clients reach, before the server. With `GROUNDSWELL_STORE=postgres` its data are in a database of PostgreSQL.
#[derive(Debug, Default, Clone)]
pub struct Groundswell {
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl Groundswell {
    /// Starts a fresh one with default settings.
    pub fn start() -> Result<Server> {
        Self::default().launch()
    }

    /// Adds an argument to `serve`.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds an environment variable, for the superuser command as well.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Starts one with the arguments and variables given so far.
    pub fn launch(&self) -> Result<Server> {
        let is_on_postgres = std::env::var_os("GROUNDSWELL_STORE").is_some_and(|name| name == "postgres");
        let database =
            if is_on_postgres { Some(Arc::new(Postgres::shared()?.database("server")?)) } else { None };
        let mut env = self.env.clone();
        if let Some(database) = &database {
            env.push(("GROUNDSWELL__STORE__URL".to_owned(), database.url()));
            // Many servers share the database's connections.
            env.push(("GROUNDSWELL__STORE__POOL".to_owned(), "2".to_owned()));
        }
        Server::start(Launch {
            binary: Self::binary()?,
            args: self.args.clone(),
            env,
            database,
            announces_port: true,
            has_gateway: std::env::var_os("GROUNDSWELL_TOPOLOGY").is_some_and(|name| name == "gateway"),
        })
    }

    /// The program: `GROUNDSWELL_BIN`, else the debug build, else the release build.
    pub fn binary() -> Result<PathBuf> {
        let target = crate::target_dir();
        let built = [target.join("debug/groundswell"), target.join("release/groundswell")];
        let named = std::env::var_os("GROUNDSWELL_BIN").map(PathBuf::from);
        let candidates = named.map_or_else(|| built.to_vec(), |path| vec![path]);
        match candidates.into_iter().find(|path| path.is_file()) {
            Some(binary) => Ok(binary),
            None => bail!("no groundswell binary: run `cargo build -p groundswell` or set GROUNDSWELL_BIN"),
        }
    }
}
