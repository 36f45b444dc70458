use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio_postgres::Config;

use super::admin::{self, Rows};
use super::{Database, POLL_INTERVAL, PORT_TRIES, START_DEADLINE, programs};
use crate::supervisor::{Supervisor, is_running};

/// Where Debian's package has the program, and where it was unpacked.
const INSTALLED: [&str; 2] = ["/usr/sbin/pgbouncer", ".tools/pgbouncer/usr/sbin/pgbouncer"];
const CONSOLE: &str = "console";

/// A PgBouncer before one database, in transaction mode: a client has a connection of the server for a transaction, and
/// the next may be on another. It is gone when dropped.
#[derive(Debug)]
pub struct PgBouncer {
    supervisor: Supervisor,
    port: u16,
    url: String,
    console_password: String,
}

impl PgBouncer {
    /// Starts one on a free port.
    pub fn before(database: &Database) -> Result<PgBouncer> {
        Self::with_settings(database, &[])
    }

    /// The same with more lines of its configuration, such as `default_pool_size` or `auth_type` (`plain`, `md5`; else
    /// `scram-sha-256`). They win over those of the kit.
    pub fn with_settings(database: &Database, settings: &[(&str, &str)]) -> Result<PgBouncer> {
        let binary = binary()?;
        let folder = programs::server_folder()?;
        let console_password = programs::random_password();
        let users = format!(
            "\"{}\" \"{}\"\n\"{CONSOLE}\" \"{console_password}\"\n",
            database.owner(),
            database.password()
        );
        put(&folder, "users.txt", &users)?;
        // Where the checkout lies that user may not be allowed to look.
        let program = folder.path().join("pgbouncer");
        std::fs::copy(&binary, &program).with_context(|| format!("copy {}", binary.display()))?;
        programs::give(&program)?;
        let arguments = [folder.path().join("pgbouncer.ini")];
        put(&folder, "pgbouncer.ini", "")?;
        let mut supervisor = Supervisor::new(folder, "TERM", programs::as_server_user(program, arguments))?;

        for _ in 0..PORT_TRIES {
            let port = programs::free_port()?;
            let file = supervisor.folder().join("pgbouncer.ini");
            std::fs::write(file, configuration(database, supervisor.folder(), port, settings)?)?;
            if run(&mut supervisor, port)? {
                let url = database.url_at(SocketAddr::from(([127, 0, 0, 1], port)));
                return Ok(PgBouncer { supervisor, port, url, console_password });
            }
        }
        bail!("PgBouncer found no free port:\n{}", supervisor.log())
    }

    /// Whether tests cannot have one. Says so in the line that the test command counts; with `CI=true` it panics.
    #[allow(clippy::print_stdout, reason = "it speaks for a test")]
    pub fn is_missing() -> bool {
        let Err(missing) = binary() else { return false };
        assert!(!crate::is_ci(), "{missing}");
        println!("skipped: {missing}");
        true
    }

    /// The database's URL through it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Runs a command of its console, such as `SHOW POOLS` or `PAUSE`.
    pub fn console(&self, command: &str) -> Result<Rows> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).dbname("pgbouncer");
        config.user(CONSOLE).password(&self.console_password);
        admin::run(&config, command)
    }

    /// The id of its process.
    pub fn pid(&self) -> Option<u32> {
        self.supervisor.pid()
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        self.supervisor.log()
    }
}

/// The program: `PGBOUNCER_BIN`, else Debian's, else what `make test-tools` unpacks.
fn binary() -> Result<PathBuf> {
    let installed = INSTALLED.map(|path| crate::workspace_root().join(path));
    let named = std::env::var_os("PGBOUNCER_BIN").map(PathBuf::from);
    let candidates = named.map_or_else(|| installed.to_vec(), |path| vec![path]);
    let found = candidates.into_iter().find(|path| path.is_file());
    found.context("no PgBouncer: run `make test-tools` or set PGBOUNCER_BIN")
}

fn configuration(database: &Database, folder: &Path, port: u16, settings: &[(&str, &str)]) -> Result<String> {
    let (name, server) = (database.name(), database.postgres().address());
    let users = folder.join("users.txt");
    let mut text = format!(
        "[databases]\n{name} = host={} port={} dbname={name}\n\n[pgbouncer]\n",
        server.ip(),
        server.port()
    );
    let (port, users) = (port.to_string(), users.to_str().context("a temporary folder's name is text")?);
    let fixed = [
        ("listen_addr", "127.0.0.1"),
        ("listen_port", &port),
        ("unix_socket_dir", ""),
        ("auth_type", "scram-sha-256"),
        ("auth_file", users),
        ("admin_users", CONSOLE),
        ("pool_mode", "transaction"),
        ("default_pool_size", "20"),
        ("max_client_conn", "500"),
    ];
    for (name, value) in fixed.iter().chain(settings) {
        writeln!(text, "{name} = {value}")?;
    }
    Ok(text)
}

/// Starts it; false if another has taken the port.
fn run(supervisor: &mut Supervisor, port: u16) -> Result<bool> {
    let before = supervisor.log().len();
    let pid = supervisor.start("")?;
    let deadline = Instant::now() + START_DEADLINE;
    while Instant::now() < deadline {
        let log = supervisor.log().get(before..).unwrap_or_default().to_owned();
        let is_taken = log.contains("Address already in use");
        if !is_taken && log.contains("process up") && log.contains(&format!("127.0.0.1:{port}")) {
            return Ok(true);
        }
        if is_taken || !is_running(pid) {
            supervisor.stop("TERM")?;
            if is_taken {
                return Ok(false);
            }
            bail!("PgBouncer ended:\n{log}");
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    bail!("PgBouncer was not ready within {START_DEADLINE:?}:\n{}", supervisor.log())
}

fn put(folder: &TempDir, name: &str, text: &str) -> Result<()> {
    let path = folder.path().join(name);
    std::fs::write(&path, text)?;
    programs::give(&path)
}
