//! Servers that run for the time of the comparison, each in a temporary folder of its own.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::http1::{self, Connection};
use crate::servers;

use super::config::{self, Layer, Transport};
use super::peers::{NGINX_ARGUMENTS, Proxy};
use super::tls::Certificate;

/// The name of the server behind the proxies, when it is asked directly.
pub(super) const UPSTREAM: &str = "upstream alone";

const START_LIMIT: Duration = Duration::from_secs(30);

/// A server. Dropping it ends its processes and removes the folder.
pub(super) struct Running {
    pub(super) name: String,
    /// It answers on the first.
    pub(super) ports: [u16; 2],
    child: Child,
    /// What it shows its clients, if they are to speak TLS.
    certificate: Option<Arc<Certificate>>,
    /// Here for as long as the process.
    folder: TempDir,
}

impl Running {
    /// Both servers of the pool.
    pub(super) fn upstream(nginx: &Path) -> Result<Self> {
        Self::start(UPSTREAM.to_owned(), config::SMALL, None, |folder, ports| {
            let files = folder.join("files");
            fs::create_dir(&files)?;
            fs::write(files.join(config::LARGE.trim_start_matches('/')), config::large_file())?;
            fs::write(folder.join("nginx.conf"), config::upstream(ports))?;
            let mut command = Command::new(nginx);
            command.args(NGINX_ARGUMENTS).arg(folder);
            Ok(command)
        })
    }

    /// With a certificate it speaks TLS to its clients.
    pub(super) fn proxy(
        proxy: Proxy,
        binary: &Path,
        upstreams: [u16; 2],
        certificate: Option<&Arc<Certificate>>,
    ) -> Result<Self> {
        let transport = if certificate.is_some() { Transport::Tls } else { Transport::Plain };
        Self::start(proxy.to_string(), config::SMALL, certificate, |folder, ports| {
            proxy.command(binary, folder, ports, transport, upstreams)
        })
    }

    /// Ourselves with these layers, on a copy of the database.
    pub(super) fn with_layers(
        name: &str,
        layers: &[Layer],
        groundswell: &Path,
        upstreams: [u16; 2],
        database: &Path,
    ) -> Result<Self> {
        Self::start(name.to_owned(), config::SMALL, None, |folder, [port, manage]| {
            copy_database(database, &folder.join("data"))?;
            let config = config::groundswell_with_layers(port, manage, upstreams, layers);
            fs::write(folder.join("gs.toml"), config)?;
            Ok(serve(groundswell))
        })
    }

    /// The services of the program `in_process`, reached in this way, on a copy of the database.
    pub(super) fn in_process(way: &str, program: &Path, database: &Path) -> Result<Self> {
        Self::start(way.to_owned(), "/api/health", None, |folder, [port, _]| {
            copy_database(database, &folder.join("data"))?;
            let mut command = Command::new(program);
            command.args([way, &address(port), "data", &config::WORKERS.to_string()]);
            Ok(command)
        })
    }

    pub(super) fn without_routes(groundswell: &Path) -> Result<Self> {
        Self::services("no routes", groundswell, config::groundswell_server)
    }

    pub(super) fn with_routes(groundswell: &Path) -> Result<Self> {
        Self::services("ten routes", groundswell, config::groundswell_with_routes)
    }

    pub(super) fn base_url(&self) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    pub(super) fn connect(&self) -> Result<Connection> {
        match &self.certificate {
            Some(certificate) => certificate.connect(&self.address()),
            None => Connection::open(&self.address()),
        }
    }

    /// How it encrypts, if it does.
    pub(super) fn suite(&self) -> Result<Option<String>> {
        let suite = |certificate: &Arc<Certificate>| certificate.suite(&self.address());
        self.certificate.as_ref().map(suite).transpose()
    }

    /// Bytes of the access log.
    pub(super) fn log_size(&self) -> u64 {
        fs::metadata(self.access_log()).map_or(0, |log| log.len())
    }

    /// Empties the access log, so that a long run does not fill the disk. It is written at its end, wherever that is.
    pub(super) fn empty_log(&self) -> Result<()> {
        match File::options().write(true).open(self.access_log()) {
            Ok(log) => Ok(log.set_len(0)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn access_log(&self) -> PathBuf {
        self.folder.path().join(config::ACCESS_LOG)
    }

    pub(super) fn address(&self) -> String {
        address(self.ports[0])
    }

    /// Of the first process; the others are its children.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn services(name: &str, groundswell: &Path, config: fn(u16, u16) -> String) -> Result<Self> {
        Self::start(name.to_owned(), "/api/health", None, |folder, [port, manage]| {
            fs::write(folder.join("gs.toml"), config(port, manage))?;
            Ok(serve(groundswell))
        })
    }

    /// Starts it in a new folder, and waits until it answers `path`.
    fn start(
        name: String,
        path: &str,
        certificate: Option<&Arc<Certificate>>,
        command: impl FnOnce(&Path, [u16; 2]) -> Result<Command>,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("groundswell-proxy.").tempdir()?;
        let ports = free_ports()?;
        let log = folder.path().join("output.log");
        let output = File::create(&log)?;
        if let Some(certificate) = certificate {
            certificate.write(folder.path())?;
        }
        let child = command(folder.path(), ports)?
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let mut running = Self { name, ports, child, certificate: certificate.cloned(), folder };
        let answers = servers::until(Instant::now() + START_LIMIT, || {
            if let Some(status) = running.child.try_wait()? {
                bail!("it ended with {status}");
            }
            Ok(running.answers(path).then_some(()))
        });
        answers.with_context(|| {
            format!(
                "{} did not start; it said: {}",
                running.name,
                fs::read_to_string(&log).unwrap_or_default()
            )
        })?;
        Ok(running)
    }

    fn answers(&self, path: &str) -> bool {
        let answer = self
            .connect()
            .and_then(|mut connection| connection.send(&http1::request(&self.address(), "GET", path, None)));
        answer.is_ok_and(|answer| answer.status == 200)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Asked and not killed: the first process of NGINX takes its workers along only when it is asked.
        let _ = servers::end(&mut self.child);
    }
}

pub(super) fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn serve(groundswell: &Path) -> Command {
    let mut command = Command::new(groundswell);
    command.args(["serve", "--config", "gs.toml"]);
    command
}

/// Of a server that has ended, so that all of it is in the one file.
fn copy_database(database: &Path, folder: &Path) -> Result<()> {
    fs::create_dir(folder)?;
    fs::copy(database, folder.join("data.db"))?;
    Ok(())
}

/// Not all take 0 and say what they got. Somebody may take one of these before the server does; then it does not start.
fn free_ports() -> Result<[u16; 2]> {
    let listeners =
        [TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?];
    let [first, second] = listeners.map(|listener| listener.local_addr());
    Ok([first?.port(), second?.port()])
}
