//! `check`: would `serve` start here? Starts and changes nothing.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::ExitCode;

use gateway::CertificateProblem;
use store::sqlite::{self, Inspection};

use super::EXIT_CONFIGURATION;
use crate::config::{Role, Settings};
use crate::{certificates, output};

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
