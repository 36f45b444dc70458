use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// Where Debian's package of PostgreSQL 15 has its programs.
const DEBIAN: &str = "/usr/lib/postgresql/15/bin";
/// Whose the server's processes are where the tests are root's: PostgreSQL refuses to be.
const SERVER_USER: &str = "postgres";

/// Where the programs lie: `POSTGRES_BIN`, a folder, else where Debian has them.
pub(crate) fn folder() -> Result<PathBuf> {
    let folder = std::env::var_os("POSTGRES_BIN").map_or_else(|| PathBuf::from(DEBIAN), PathBuf::from);
    if !folder.join("initdb").is_file() {
        bail!("no PostgreSQL in {}: run `make test-tools` or set POSTGRES_BIN", folder.display());
    }
    Ok(folder)
}

/// A fresh folder that belongs to whoever the server's processes belong to.
pub(crate) fn server_folder() -> Result<TempDir> {
    let nobody_else = Permissions::from_mode(0o700);
    let folder = tempfile::Builder::new().prefix("testkit-pg-").permissions(nobody_else).tempdir()?;
    give(folder.path())?;
    Ok(folder)
}

/// Gives a file or folder to the user of the server's processes.
pub(crate) fn give(path: &Path) -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let users = std::fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let user = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let user = user.into_iter().find(|fields| fields.first() == Some(&SERVER_USER));
    let ids =
        user.as_ref().and_then(|fields| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)));
    let (user, group) = ids.with_context(|| format!("there is no user {SERVER_USER}"))?;
    chown(path, Some(user), Some(group)).with_context(|| format!("give {} away", path.display()))
}

/// A program of PostgreSQL with its arguments, as whoever may run it.
pub(crate) fn command_line(
    program: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<Vec<OsString>> {
    Ok(as_server_user(folder()?.join(program), arguments))
}

/// A program with its arguments, as the user of the server's processes.
pub(crate) fn as_server_user(
    program: PathBuf,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Vec<OsString> {
    let mut line = Vec::new();
    if is_root() {
        // It becomes the program, so that the process that is started is the server itself.
        let user = [format!("--reuid={SERVER_USER}"), format!("--regid={SERVER_USER}")];
        line.push("setpriv".into());
        line.extend(user.map(OsString::from));
        line.push("--init-groups".into());
    }
    line.push(program.into_os_string());
    line.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
    line
}

/// Runs a program of PostgreSQL to its end.
pub(crate) fn run(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<()> {
    let line = command_line(program, arguments)?;
    let (first, rest) = line.split_first().context("a command line has a program")?;
    // The usual folder may be one that the user may not enter.
    let output = Command::new(first).args(rest).current_dir("/").output();
    let output = output.with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        bail!("{program} ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// A port that nobody listened on a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Such as needs no escapes in a URL.
pub(crate) fn random_password() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
