//! A real PostgreSQL for tests, in a temporary folder and on a free port.
//!
//! [`Postgres::shared`] is one server for all tests of a process; each takes a [`Database`] of its own from it, with an
//! owner who may do nothing beyond it. Tests that break servers start their own by [`Postgres::start`]. Servers are gone
//! with what holds them, and with the process however that ends. [`Postgres::standby_of`] follows one, [`PgBouncer`] stands
//! before a database, and [`crate::wire::Proxy`] between anything.

mod admin;
mod database;
mod pgbouncer;
mod programs;
mod standby;
mod tls;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::supervisor::{Supervisor, is_running};

pub use admin::Rows;
pub use database::Database;
pub use pgbouncer::PgBouncer;

/// A loaded two-core machine has been seen to need seconds where half of one is usual.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// Another program may take a port between the look for it and the start.
const PORT_TRIES: usize = 10;
const POLL_INTERVAL: Duration = Duration::from_millis(5);
const SUPERUSER: &str = "postgres";

/// A running server (a cluster, in PostgreSQL's words). Clones are the same one, which ends with the last of them and of its
/// databases.
#[derive(Debug, Clone)]
pub struct Postgres {
    cluster: Arc<Cluster>,
}

/// What a server of one's own shall be like.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// Whether what is committed outlives the machine. Off it is quicker, and still outlives [`Postgres::kill`].
    pub fsync: bool,
    /// Whether clients must use TLS. [`Postgres::root_certificate`] is what they verify the server by.
    pub tls: bool,
    /// More lines of `postgresql.conf`, which win over those of the kit.
    pub settings: Vec<(String, String)>,
}

#[derive(Debug)]
struct Cluster {
    folder: PathBuf,
    port: u16,
    password: String,
    options: PostgresOptions,
    supervisor: Mutex<Supervisor>,
    is_paused: AtomicBool,
}

// === impl Postgres ===

impl Postgres {
    /// The server of this process, started by whoever asks first.
    pub fn shared() -> Result<Postgres> {
        static SHARED: OnceLock<Result<Postgres, String>> = OnceLock::new();
        let started = SHARED
            .get_or_init(|| Self::start(PostgresOptions::default()).map_err(|error| format!("{error:#}")));
        started.clone().map_err(|error| anyhow!(error))
    }

    /// Starts one that nobody else uses.
    pub fn start(options: PostgresOptions) -> Result<Postgres> {
        let folder = programs::server_folder()?;
        let password = programs::random_password();
        initialise(folder.path(), &password)?;
        let data = folder.path().join("data");
        std::fs::write(data.join("pg_hba.conf"), access_rules(options.tls))?;
        if options.tls {
            tls::put_certificates(&data)?;
        }
        std::fs::write(data.join("postgresql.conf"), configuration(folder.path(), &options)?)?;
        let postgres = Self::launch(folder, password, options)?;
        if has_statement_statistics()? {
            postgres.sql("CREATE EXTENSION pg_stat_statements")?;
        }
        Ok(postgres)
    }

    /// Whether tests cannot have one. Says so in the line that the test command counts; with `CI=true` it panics.
    #[allow(clippy::print_stdout, reason = "it speaks for a test")]
    pub fn is_missing() -> bool {
        let Err(missing) = programs::folder() else { return false };
        assert!(!crate::is_ci(), "{missing}");
        println!("skipped: {missing}");
        true
    }

    /// A fresh database that belongs to a role of its own. The hint is part of its name.
    pub fn database(&self, hint: &str) -> Result<Database> {
        Database::create(self, hint)
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.cluster.port))
    }

    /// A URL of the superuser, in the database `postgres`.
    pub fn superuser_url(&self) -> String {
        self.superuser_url_of(SUPERUSER)
    }

    /// What signed the server's certificate, as a PEM file; one of a server without TLS has none.
    pub fn root_certificate(&self) -> Option<PathBuf> {
        self.cluster.options.tls.then(|| self.cluster.folder.join("data").join(tls::AUTHORITY))
    }

    /// Runs SQL as the superuser in the database `postgres`, which also has `pg_stat_statements`. May be called anywhere, also
    /// in async code, which then waits.
    pub fn sql(&self, sql: &str) -> Result<Rows> {
        self.sql_in(SUPERUSER, sql)
    }

    /// What the server has printed since it was first started.
    pub fn log(&self) -> String {
        self.supervisor().log()
    }

    /// The id of the server's main process, unless it was killed.
    pub fn pid(&self) -> Option<u32> {
        self.supervisor().pid()
    }

    /// Ends the server at once, as a crash would, and returns when it is gone.
    pub fn kill(&self) -> Result<()> {
        self.supervisor().stop("QUIT")
    }

    /// Ends the server as an operator would who waits for no client, if it runs, and starts it on the same port.
    pub fn restart(&self) -> Result<()> {
        let mut supervisor = self.supervisor();
        supervisor.stop("INT")?;
        self.cluster.is_paused.store(false, Ordering::SeqCst);
        run(&mut supervisor, self.cluster.port)
    }

    /// Stops all of the server's processes where they are: connections stay, and nothing is answered.
    pub fn pause(&self) -> Result<()> {
        self.cluster.is_paused.store(true, Ordering::SeqCst);
        self.signal_all(Signal::STOP)
    }

    /// Lets them go on.
    pub fn resume(&self) -> Result<()> {
        self.signal_all(Signal::CONT)?;
        self.cluster.is_paused.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Takes the folder, which holds a data folder, and starts a server on a free port.
    fn launch(folder: TempDir, password: String, options: PostgresOptions) -> Result<Postgres> {
        let program = programs::command_line("postgres", [Path::new("-D"), &folder.path().join("data")])?;
        let mut supervisor = Supervisor::new(folder, "QUIT", program)?;
        let port = run_on_free_port(&mut supervisor)?;
        let folder = supervisor.folder().to_owned();
        let cluster = Cluster {
            folder,
            port,
            password,
            options,
            supervisor: Mutex::new(supervisor),
            is_paused: AtomicBool::new(false),
        };
        Ok(Postgres { cluster: Arc::new(cluster) })
    }

    fn superuser_url_of(&self, database: &str) -> String {
        let tls = if self.cluster.options.tls { "?sslmode=require" } else { "" };
        format!("postgres://{SUPERUSER}:{}@{}/{database}{tls}", self.cluster.password, self.address())
    }

    /// By the socket, so that it is no matter what clients have to do about TLS.
    fn sql_in(&self, database: &str, sql: &str) -> Result<Rows> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.cluster.folder).port(self.cluster.port);
        // It must not wait for a standby that a test has stopped.
        config.options("-c synchronous_commit=local");
        config.user(SUPERUSER).password(&self.cluster.password).dbname(database);
        admin::run(&config, sql)
    }

    fn is_answering(&self) -> bool {
        self.pid().is_some() && !self.cluster.is_paused.load(Ordering::SeqCst)
    }

    fn signal_all(&self, signal: Signal) -> Result<()> {
        let supervisor = self.supervisor();
        let main = supervisor.pid().context("the server was killed")?;
        // The main process first, so that it starts no others meanwhile.
        send(main, signal)?;
        let children = std::fs::read_to_string(format!("/proc/{main}/task/{main}/children"))?;
        for child in children.split_ascii_whitespace() {
            // A child that has just ended is no failure.
            let _ = send(child.parse()?, signal);
        }
        Ok(())
    }

    fn supervisor(&self) -> MutexGuard<'_, Supervisor> {
        self.cluster.supervisor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn initialise(folder: &Path, password: &str) -> Result<()> {
    let password_file = folder.join("password");
    std::fs::write(&password_file, password)?;
    programs::give(&password_file)?;
    let mut pwfile = OsString::from("--pwfile=");
    pwfile.push(&password_file);
    // The collation is none of bytes, as in most databases of others: what needs that order must ask for it.
    let fixed = ["--no-sync", "-U", SUPERUSER, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8"];
    let icu = ["--locale-provider=icu", "--icu-locale=en-US", "-D"];
    let arguments = fixed.iter().chain(&icu).map(OsString::from);
    programs::run("initdb", arguments.chain([folder.join("data").into_os_string(), pwfile]))?;
    std::fs::remove_file(password_file)?;
    Ok(())
}

fn access_rules(tls: bool) -> String {
    let host = if tls { "hostssl" } else { "host" };
    format!(
        "local all all scram-sha-256\n\
         {host} all all 127.0.0.1/32 scram-sha-256\n\
         {host} replication all 127.0.0.1/32 scram-sha-256\n"
    )
}

fn configuration(folder: &Path, options: &PostgresOptions) -> Result<String> {
    let on_if = |is_on| if is_on { "on" } else { "off" }.to_owned();
    let fixed = [
        ("listen_addresses", "127.0.0.1"),
        ("max_connections", "600"),
        ("max_prepared_transactions", "64"),
        ("shared_buffers", "32MB"),
        ("wal_level", "replica"),
        ("max_wal_senders", "10"),
        ("wal_keep_size", "256MB"),
        ("jit", "off"),
        ("log_line_prefix", "%m [%p] %u@%d "),
        ("timezone", "UTC"),
    ];
    let mut settings: Vec<(String, String)> =
        fixed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    settings.push(("unix_socket_directories".to_owned(), folder.display().to_string()));
    settings.push(("ssl".to_owned(), on_if(options.tls)));
    settings.push(("fsync".to_owned(), on_if(options.fsync)));
    settings.push(("full_page_writes".to_owned(), on_if(options.fsync)));
    if has_statement_statistics()? {
        settings.push(("shared_preload_libraries".to_owned(), "pg_stat_statements".to_owned()));
    }
    settings.extend_from_slice(&options.settings);
    let lines = settings.iter().map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''")));
    Ok(lines.collect())
}

/// Whether the server can count statements: Debian has the library in the server's package, others have not.
fn has_statement_statistics() -> Result<bool> {
    Ok(programs::folder()?.with_file_name("lib").join("pg_stat_statements.so").is_file())
}

fn run_on_free_port(supervisor: &mut Supervisor) -> Result<u16> {
    for _ in 1..PORT_TRIES {
        let port = programs::free_port()?;
        match run(supervisor, port) {
            Ok(()) => return Ok(port),
            Err(error) if error.to_string().contains("Address already in use") => {}
            Err(error) => return Err(error),
        }
    }
    let port = programs::free_port()?;
    run(supervisor, port)?;
    Ok(port)
}

/// Starts the server's process and waits until it takes connections.
fn run(supervisor: &mut Supervisor, port: u16) -> Result<()> {
    let before = supervisor.log().len();
    let pid = supervisor.start(&format!("-p {port}"))?;
    let state_file = supervisor.folder().join("data/postmaster.pid");
    let deadline = Instant::now() + START_DEADLINE;
    while Instant::now() < deadline {
        if takes_connections(&state_file, pid) {
            return Ok(());
        }
        if !is_running(pid) {
            supervisor.stop("QUIT")?;
            bail!("postgres ended:\n{}", supervisor.log().get(before..).unwrap_or_default());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    bail!("postgres was not ready within {START_DEADLINE:?}:\n{}", supervisor.log())
}

/// The first line of the file is the process's id, the eighth its state.
fn takes_connections(state_file: &Path, pid: u32) -> bool {
    let state = std::fs::read_to_string(state_file).unwrap_or_default();
    let mut lines = state.lines().map(str::trim);
    let is_ours = lines.next() == Some(pid.to_string().as_str());
    is_ours && lines.nth(6) == Some("ready")
}

fn send(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("an id of a process")?;
    kill_process(pid, signal).context("send a signal")
}
