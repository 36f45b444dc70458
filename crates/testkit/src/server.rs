use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::client::{Client, Request};
use crate::postgres::Database;

/// A loaded two-core machine has been seen to need several seconds for a first start.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// By which the nodes of a pair know each other.
const NODE_KEY: &str = "7465737420206e6f6465206b6579202d2d2d207465737420206e6f6465206b65";
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A running server. Dropping it kills the process and removes its folder.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    folder: TempDir,
    child: Child,
    /// A gateway node before it, if it was wanted, and where that listens.
    gateway: Option<(KillOnDrop, SocketAddr)>,
    launch: Launch,
}

/// How to start a server, again and again on the same folder.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) binary: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// Whether the server picks the port itself and prints it, or has to be told a free one.
    pub(crate) announces_port: bool,
    /// Whether clients reach it through a gateway node.
    pub(crate) has_gateway: bool,
    /// Where its data are, if that is a database. It goes after the server.
    #[allow(dead_code, reason = "held, not read")]
    pub(crate) database: Option<Arc<Database>>,
}

impl Server {
    /// Makes a folder and the superuser in it, then starts the server and waits until it answers.
    pub(crate) fn start(mut launch: Launch) -> Result<Self> {
        let folder = TempDir::with_prefix("testkit-")?;
        std::fs::create_dir(folder.path().join("public"))?;
        let internal = if launch.has_gateway { Some(free_address()?) } else { None };
        if let Some(internal) = internal {
            launch.env.push(("GROUNDSWELL__SERVER__INTERNAL".to_owned(), internal.to_string()));
            launch.env.push(("GROUNDSWELL__NODES__KEYS".to_owned(), NODE_KEY.to_owned()));
        }
        create_superuser(&launch, folder.path())?;

        let wanted = if launch.announces_port { loopback(0) } else { free_address()? };
        let (child, address) = spawn(&launch, folder.path(), wanted)?;
        let child = KillOnDrop(Some(child));
        let gateway = internal.map(|internal| spawn_gateway(&launch, folder.path(), internal)).transpose()?;
        Ok(Self { address, folder, child: child.release(), gateway, launch })
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.gateway.as_ref().map_or(self.address, |(_, address)| *address)
    }

    /// `http://127.0.0.1:PORT`, without a trailing slash.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The server's data folder.
    pub fn dir(&self) -> PathBuf {
        data_dir(self.folder.path())
    }

    /// The folder of the static files it serves, empty at first.
    pub fn public_dir(&self) -> PathBuf {
        self.folder.path().join("public")
    }

    /// The id of the child process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A client of this server. It stays valid over a [`Server::restart`].
    pub fn client(&self) -> Client {
        Client::new(self.address())
    }

    /// What the process has printed since its last start, both streams.
    pub fn log(&self) -> String {
        read_log(self.folder.path())
    }

    /// Ends the process at once, as a crash would (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("kill the server")?;
        self.child.wait().context("wait for the killed server")?;
        Ok(())
    }

    /// Kills the process if it still runs and starts another on the same folder and address.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        (self.child, self.address) = spawn(&self.launch, self.folder.path(), self.address)?;
        if let Some((gateway, address)) = &mut self.gateway {
            // It finds the new process by itself.
            wait_until_healthy(gateway.running(), &gateway_log(self.folder.path()), *address)?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to do about a failure: the process is ours, so it can only be gone already.
        let _ = self.kill();
    }
}

fn create_superuser(launch: &Launch, folder: &Path) -> Result<()> {
    let output = command(launch)
        .args(["superuser", "upsert", crate::ROOT_EMAIL, crate::ROOT_PASSWORD, "--dir"])
        .arg(data_dir(folder))
        .current_dir(folder)
        .output()
        .with_context(|| format!("run {}", launch.binary.display()))?;
    if !output.status.success() {
        bail!("superuser upsert failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn spawn(launch: &Launch, folder: &Path, wanted: SocketAddr) -> Result<(Child, SocketAddr)> {
    let log = File::create(log_file(folder))?;
    let child = command(launch)
        .arg("serve")
        .args(["--http", &wanted.to_string()])
        .arg("--dir")
        .arg(data_dir(folder))
        .arg("--publicDir")
        .arg(folder.join("public"))
        .args(&launch.args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {}", launch.binary.display()))?;

    let mut child = KillOnDrop(Some(child));
    let address = wait_until_healthy(child.running(), &log_file(folder), wanted)?;
    Ok((child.release(), address))
}

/// A gateway node before a server.
fn spawn_gateway(launch: &Launch, folder: &Path, internal: SocketAddr) -> Result<(KillOnDrop, SocketAddr)> {
    let log = File::create(gateway_log(folder))?;
    let child = Command::new(&launch.binary)
        .args(["serve", "--http", "127.0.0.1:0", "--manage", "127.0.0.1:0"])
        .env("GROUNDSWELL__SERVER__ROLES", "gateway")
        .env("GROUNDSWELL__NODES__KEYS", NODE_KEY)
        .env("GROUNDSWELL__GATEWAY__SERVICES__SERVERS", format!("http://{internal}"))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {} as a gateway", launch.binary.display()))?;
    let mut child = KillOnDrop(Some(child));
    let address = wait_until_healthy(child.running(), &gateway_log(folder), loopback(0))?;
    Ok((child, address))
}

fn wait_until_healthy(child: &mut Child, log: &Path, wanted: SocketAddr) -> Result<SocketAddr> {
    let deadline = Instant::now() + START_DEADLINE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            bail!("the server ended with {status}:\n{}", read(log));
        }
        let address = if wanted.port() == 0 { announced_address(&read(log)) } else { Some(wanted) };
        if let Some(address) = address.filter(is_healthy) {
            return Ok(address);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    bail!("the server did not answer within {START_DEADLINE:?}:\n{}", read(log))
}

fn is_healthy(address: &SocketAddr) -> bool {
    let health = Request::new("GET", "/api/health");
    Client::new(*address).send(&health).is_ok_and(|answer| answer.status == 200)
}

/// The address in the first complete line that holds one.
fn announced_address(log: &str) -> Option<SocketAddr> {
    let complete_lines = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    complete_lines.filter_map(|line| line.split_once("http://").map(|(_, rest)| rest)).find_map(|rest| {
        rest.split(|c: char| c != '.' && c != ':' && !c.is_ascii_digit()).next()?.parse().ok()
    })
}

fn command(launch: &Launch) -> Command {
    let mut command = Command::new(&launch.binary);
    command.envs(launch.env.iter().map(|(name, value)| (name, value)));
    command
}

fn data_dir(folder: &Path) -> PathBuf {
    folder.join("data")
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("server.log")
}

fn gateway_log(folder: &Path) -> PathBuf {
    folder.join("gateway.log")
}

fn read_log(folder: &Path) -> String {
    read(&log_file(folder))
}

fn read(log: &Path) -> String {
    std::fs::read(log).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// An address that nobody listened on a moment ago.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(loopback(0))?.local_addr()?)
}

/// Holds a child that must not outlive an error.
#[derive(Debug)]
struct KillOnDrop(Option<Child>);

impl KillOnDrop {
    fn running(&mut self) -> &mut Child {
        self.0.as_mut().expect("the child is there until released")
    }

    fn release(mut self) -> Child {
        self.0.take().expect("the child is released once")
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announced_address_is_taken_from_a_complete_line() {
        assert_eq!(announced_address("listening on http://127.0.0.1:4"), None);
        let log = "starting\n2026 INFO listening on http://127.0.0.1:4567/ now\n";
        assert_eq!(announced_address(log), Some(loopback(4567)));
    }
}
