//! Servers that run for the time of the comparison, each in a temporary folder of its own.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::http1::{self, Connection};
use crate::servers;

use super::config;
use super::peers::{NGINX_ARGUMENTS, Proxy};

/// The name of the server behind the proxies, when it is asked directly.
pub(super) const UPSTREAM: &str = "upstream alone";

const START_LIMIT: Duration = Duration::from_secs(30);

/// A server. Dropping it ends its processes and removes the folder.
pub(super) struct Running {
    pub(super) name: String,
    /// It answers on the first.
    pub(super) ports: [u16; 2],
    child: Child,
    /// Here for as long as the process.
    _folder: TempDir,
}

impl Running {
    /// Both servers of the pool.
    pub(super) fn upstream(nginx: &Path) -> Result<Self> {
        Self::start(UPSTREAM.to_owned(), config::SMALL, |folder, ports| {
            let files = folder.join("files");
            fs::create_dir(&files)?;
            fs::write(files.join(config::LARGE.trim_start_matches('/')), config::large_file())?;
            fs::write(folder.join("nginx.conf"), config::upstream(ports))?;
            let mut command = Command::new(nginx);
            command.args(NGINX_ARGUMENTS).arg(folder);
            Ok(command)
        })
    }

    pub(super) fn proxy(proxy: Proxy, binary: &Path, upstreams: [u16; 2]) -> Result<Self> {
        Self::start(proxy.to_string(), config::SMALL, |folder, ports| {
            proxy.command(binary, folder, ports, upstreams)
        })
    }

    pub(super) fn without_routes(groundswell: &Path) -> Result<Self> {
        Self::services("no routes", groundswell, config::groundswell_server)
    }

    pub(super) fn with_routes(groundswell: &Path) -> Result<Self> {
        Self::services("ten routes", groundswell, config::groundswell_with_routes)
    }

    pub(super) fn base_url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub(super) fn address(&self) -> String {
        address(self.ports[0])
    }

    /// Of the first process; the others are its children.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn services(name: &str, groundswell: &Path, config: fn(u16, u16) -> String) -> Result<Self> {
        Self::start(name.to_owned(), "/api/health", |folder, [port, manage]| {
            fs::write(folder.join("gs.toml"), config(port, manage))?;
            let mut command = Command::new(groundswell);
            command.args(["serve", "--config", "gs.toml"]);
            Ok(command)
        })
    }

    /// Starts it in a new folder, and waits until it answers `path`.
    fn start(
        name: String,
        path: &str,
        command: impl FnOnce(&Path, [u16; 2]) -> Result<Command>,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("groundswell-proxy.").tempdir()?;
        let ports = free_ports()?;
        let log = folder.path().join("output.log");
        let output = File::create(&log)?;
        let child = command(folder.path(), ports)?
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let mut running = Self { name, ports, child, _folder: folder };
        let address = running.address();
        let answers = servers::until(Instant::now() + START_LIMIT, || {
            if let Some(status) = running.child.try_wait()? {
                bail!("it ended with {status}");
            }
            Ok(answers(&address, path).then_some(()))
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

fn answers(address: &str, path: &str) -> bool {
    let answer = Connection::open(address)
        .and_then(|mut connection| connection.send(&http1::request(address, "GET", path, None)));
    answer.is_ok_and(|answer| answer.status == 200)
}

/// Not all take 0 and say what they got. Somebody may take one of these before the server does; then it does not start.
fn free_ports() -> Result<[u16; 2]> {
    let listeners =
        [TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?];
    let [first, second] = listeners.map(|listener| listener.local_addr());
    Ok([first?.port(), second?.port()])
}
