//! `check`: would `serve` start here? Starts and changes nothing.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::ExitCode;

use gateway::CertificateProblem;
use store::postgres::{self, Place, PostgresStore};
use store::sqlite::{self, Inspection};

use super::EXIT_CONFIGURATION;
use crate::config::{EngineUrl, Role, Settings, StoreUrl};
use crate::{certificates, output, runtimes, stores};

/// Checks certificates, the folder and the ports; that the configuration is right is known already.
pub(super) fn run(settings: &Settings) -> ExitCode {
    output::line("configuration: ok");
    if let Err(problem) = certificates(settings) {
        output::complaint(problem);
        return ExitCode::from(EXIT_CONFIGURATION);
    }
    let server = &settings.server;
    let mut is_fine = true;
    if server.role != Role::Gateway {
        is_fine &= report("data folder", folder(&server.dir));
        if let StoreUrl::Postgres(url) = &settings.store.url {
            is_fine &= report("store", database(settings, url));
        }
    }
    if server.role != Role::Services {
        is_fine &= report("http port", port(server.http.socket));
    }
    if let Some(internal) = server.internal {
        is_fine &= report("internal port", port(internal));
    }
    if let Some(https) = server.https {
        is_fine &= report("https port", port(https));
    }
    // A taken default moves out of the way.
    if server.manage.is_explicit {
        is_fine &= report("management port", port(server.manage.socket));
    }
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn certificates(settings: &Settings) -> Result<(), CertificateProblem> {
    let Some(certificates) = certificates::load(settings)? else { return Ok(()) };
    for files in certificates.files() {
        let certificate = files.certificate.display();
        let warning = match files.has_open_key() {
            true => format!("; every user of this machine can read its key, {}", files.key.display()),
            false => String::new(),
        };
        output::line(format_args!("certificate: {certificate} is right{warning}"));
    }
    Ok(())
}

fn report(what: &str, finding: Result<String, String>) -> bool {
    match finding {
        Ok(text) => {
            output::line(format_args!("{what}: {text}"));
            true
        }
        Err(text) => {
            output::error(format_args!("{what}: {text}"));
            false
        }
    }
}

/// What the database is, in a sentence for each thing that matters. Changes nothing.
fn database(settings: &Settings, url: &EngineUrl) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("start a runtime: {error}"))?;
    let options = stores::postgres_options(settings, url);
    let found = runtime.block_on(PostgresStore::inspect(&options)).map_err(|error| error.to_string())?;
    let Place { database, schema, role } = &found.place;
    if found.is_standby {
        return Err(format!("the server of {database} is a standby, on which nothing can be written"));
    }
    if !found.may_create && found.format.is_none() {
        return Err(format!(
            "{role} may not make the schema groundswell; run as the database's owner: \
             GRANT CREATE ON DATABASE {database} TO {role}"
        ));
    }
    let content = match found.format {
        Some(format) => format!("with data of format {format}"),
        None => "without data yet".to_owned(),
    };
    output::line(format_args!(
        "store: PostgreSQL {}, database {database}, schema {schema}, {content}",
        found.version
    ));
    if found.is_superuser {
        output::line(format_args!(
            "store: {role} is a superuser, which is never needed: give the URL a role of its own"
        ));
    }
    output::line(connections(settings, &found));
    for (name, value) in &found.settings {
        output::line(format_args!("store: {name} = {value}{}", meaning(name, value)));
    }
    let extensions =
        if found.extensions.is_empty() { "none".to_owned() } else { found.extensions.join(", ") };
    output::line(format_args!("store: extensions: {extensions} (none is needed)"));
    Ok(format!("{role} can use {database}"))
}

/// How many connections this node may make, beside how many there can be.
fn connections(settings: &Settings, found: &postgres::Inspection) -> String {
    // Request loops, and the threads of the background runtime.
    let threads = settings.server.request_loops + runtimes::BACKGROUND_THREADS;
    let of_node = threads * settings.store.pool;
    let all = found.number("max_connections").unwrap_or_default();
    let reserved = found.number("superuser_reserved_connections").unwrap_or_default();
    let nodes = all.saturating_sub(reserved) / of_node.max(1) as u64;
    format!(
        "store: this node makes up to {of_node} connections ({threads} threads of {}): {nodes} such nodes fit",
        settings.store.pool
    )
}

/// What a setting's value comes to, where that is not plain.
fn meaning(name: &str, value: &str) -> &'static str {
    match (name, value) {
        ("synchronous_commit", "off" | "local") => ": an acknowledged write may be lost with the server",
        ("fsync" | "full_page_writes", "off") => ": a power cut may take all data",
        ("wal_level", "minimal") => ": no replicas",
        ("wal_level", "replica") => ": replicas work; logical replication does not",
        ("max_prepared_transactions", "0") => ": no shards, which are not there yet",
        _ => "",
    }
}

fn port(address: std::net::SocketAddr) -> Result<String, String> {
    gateway::bind(address)
        .map(|_| format!("{address} is free"))
        .map_err(|error| format!("{address}: {error}"))
}

fn folder(dir: &Path) -> Result<String, String> {
    let shown = dir.display();
    let problem = |doing: &str, error: &dyn fmt::Display| format!("{shown}: {doing}: {error}");
    match fs::metadata(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(format!("{shown} does not exist; serve creates it"));
        }
        Err(error) => return Err(problem("look at the folder", &error)),
        Ok(metadata) if !metadata.is_dir() => return Err(format!("{shown} is not a folder")),
        Ok(_) => (),
    }
    writable(dir).map_err(|error| problem("write a file", &error))?;
    let Inspection { format, is_held } = sqlite::inspect(dir).map_err(|error| error.to_string())?;
    let content = match format {
        Some(format) if format < sqlite::FORMAT => format!(
            "with data of format {format}, which serve brings to format {}, keeping a copy",
            sqlite::FORMAT
        ),
        Some(format) => format!("with data of format {format}"),
        None => "without data yet".to_owned(),
    };
    if is_held {
        Err(format!("{shown}, {content}, is in use by another server"))
    } else {
        Ok(format!("{shown} is writable, {content}"))
    }
}

fn writable(dir: &Path) -> io::Result<()> {
    let probe = dir.join(format!(".check-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&probe)?;
    fs::remove_file(probe)
}
