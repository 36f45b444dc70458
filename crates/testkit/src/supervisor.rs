use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// A static is not dropped at the end of a process, and nothing is when a process aborts. So the parent of a server
/// is a shell that reads from a pipe of ours, which the system closes in any case.
const SCRIPT: &str = include_str!("supervisor.sh");

/// A server in a folder of its own. Dropped, or when this process ends in any way, the server is stopped and the folder
/// removed.
#[derive(Debug)]
pub(crate) struct Supervisor {
    folder: PathBuf,
    shell: Child,
    /// Open until the server shall end for good.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pid: Option<u32>,
}

impl Supervisor {
    /// Takes the folder; the server is not started yet. `last_signal`, such as `QUIT`, is what ends it at last.
    pub(crate) fn new(
        folder: TempDir,
        last_signal: &str,
        program: impl IntoIterator<Item = OsString>,
    ) -> Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "supervisor"])
            .arg(folder.path())
            .arg(last_signal)
            .args(program)
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // What ends the tests by their process group, such as Ctrl-C, must not end this before its server.
            .process_group(0)
            .spawn()
            .context("start a shell")?;
        let commands = shell.stdin.take();
        let answers = BufReader::new(shell.stdout.take().context("the shell's output is a pipe")?);
        Ok(Self { folder: folder.keep(), shell, commands, answers, pid: None })
    }

    /// Starts the server's process, with more arguments, and gives its id.
    pub(crate) fn start(&mut self, more_arguments: &str) -> Result<u32> {
        let answer = self.ask(&format!("start {more_arguments}"))?;
        let pid = answer.parse().with_context(|| format!("the shell answered {answer:?}"))?;
        self.pid = Some(pid);
        Ok(pid)
    }

    /// Ends the server's process by this signal, and returns when it is gone.
    pub(crate) fn stop(&mut self, signal: &str) -> Result<()> {
        self.ask(&format!("stop {signal}"))?;
        self.pid = None;
        Ok(())
    }

    /// The server's folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The id of the server's process, unless it was stopped.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// What the server has printed.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read(self.folder.join("log"));
        log.map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    fn ask(&mut self, command: &str) -> Result<String> {
        let commands = self.commands.as_mut().context("the shell takes commands until dropped")?;
        writeln!(commands, "{command}").context("write to the shell")?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer).context("read from the shell")? == 0 {
            bail!("the shell that keeps the server is gone");
        }
        Ok(answer.trim_end().to_owned())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.commands = None;
        // Nothing to do about a failure: the shell is ours, so it can only be gone already.
        let _ = self.shell.wait();
    }
}

/// Whether a process is there and is more than a zombie.
pub(crate) fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}
