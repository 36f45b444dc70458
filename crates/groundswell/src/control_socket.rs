//! Commands beside a running server: a socket in the data folder, for this user only, over which a command of
//! another process reaches the server that holds the folder.
//!
//! A connection carries one request and one answer, each a JSON object on a line of at most 4 KiB.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use contract::store::Store;
use model::json::{Json, JsonObject};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::handover::{self, Successor};
use crate::superusers::{self, Outcome, SuperuserChange};

/// The socket's name in the data folder.
const NAME: &str = ".gs.sock";
/// Longest request.
const MAX_LINE_BYTES: u64 = 4 * 1024;
/// Commands that wait for the one that is answered.
const BACKLOG: i32 = 16;
/// How long either side waits for the other.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where the socket of a folder is.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// The server's end.
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Listens in a folder. The caller holds it, so a socket that is there is a dead server's.
    pub(crate) fn bind(dir: &Path) -> anyhow::Result<ControlSocket> {
        let path = path(dir);
        let _ = std::fs::remove_file(&path);
        let listener = listen(&path, BACKLOG).and_then(UnixListener::from_std);
        let listener = listener.with_context(|| format!("listen on {}", path.display()))?;
        Ok(ControlSocket { listener, path })
    }
}

/// Answers commands until `stop` is cancelled. Who asks to take this server's place goes to `successors`.
pub(crate) async fn serve(
    socket: ControlSocket,
    store: Arc<dyn Store>,
    successors: mpsc::Sender<Successor>,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = socket.listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        // One at a time: commands are rare, and their writes are quick.
        match tokio::time::timeout(DEADLINE, answer(stream, &*store, &successors)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "a command over the control socket failed"),
            Err(_) => warn!("a command over the control socket took too long"),
        }
    }
    let _ = std::fs::remove_file(&socket.path);
}

/// A socket that nobody else can reach, also in a folder that others may enter: until it listens, which it does
/// only with its mode set, a connection is refused.
pub(crate) fn listen(path: &Path, backlog: i32) -> io::Result<std::os::unix::net::UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(OwnedFd::from(socket).into())
}

async fn answer(
    mut stream: tokio::net::UnixStream,
    store: &dyn Store,
    successors: &mpsc::Sender<Successor>,
) -> anyhow::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    tokio::io::BufReader::new(reading.take(MAX_LINE_BYTES)).read_line(&mut line).await?;
    if line == handover::REQUEST {
        // A second one, while the first is being served, sees its connection end.
        return successors.try_send(Successor::new(stream)).context("another server is taking over already");
    }
    let outcome = match change_from_line(&line) {
        Some(change) => superusers::apply(store, &change).await?,
        None => bail!("the command was not understood"),
    };
    writing.write_all(outcome_line(&outcome).as_bytes()).await?;
    Ok(())
}

/// Sends a change to the server that holds the folder.
pub(crate) fn send(dir: &Path, change: &SuperuserChange) -> anyhow::Result<Outcome> {
    let path = path(dir);
    let mut stream = UnixStream::connect(&path)
        .with_context(|| format!("reach the server that holds {} over {}", dir.display(), path.display()))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.write_all(change_line(change).as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context("wait for the server's answer")?;
    outcome_from_line(&line).context("the server did not carry out the command; see its log")
}

fn change_line(change: &SuperuserChange) -> String {
    let (action, email, password) = match change {
        SuperuserChange::Upsert { email, password } => ("upsert", email, password.as_str()),
        SuperuserChange::Create { email, password } => ("create", email, password.as_str()),
        SuperuserChange::Update { email, password } => ("update", email, password.as_str()),
        SuperuserChange::Delete { email } => ("delete", email, ""),
    };
    line([("superuser", action), ("email", email), ("password", password)])
}

fn change_from_line(line: &str) -> Option<SuperuserChange> {
    let json = Json::parse_whole(line).ok()?;
    let text = |key: &str| json.get(key).and_then(Json::as_str).map(str::to_owned);
    let (email, password) = (text("email")?, text("password")?);
    match json.get("superuser")?.as_str()? {
        "upsert" => Some(SuperuserChange::Upsert { email, password }),
        "create" => Some(SuperuserChange::Create { email, password }),
        "update" => Some(SuperuserChange::Update { email, password }),
        "delete" => Some(SuperuserChange::Delete { email }),
        _ => None,
    }
}

fn outcome_line(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => line([("outcome", "done")]),
        Outcome::NoSuchSuperuser => line([("outcome", "missing")]),
        Outcome::Refused(why) => line([("outcome", "refused"), ("why", why)]),
    }
}

fn outcome_from_line(line: &str) -> Option<Outcome> {
    let json = Json::parse_whole(line).ok()?;
    match json.get("outcome")?.as_str()? {
        "done" => Some(Outcome::Done),
        "missing" => Some(Outcome::NoSuchSuperuser),
        "refused" => Some(Outcome::Refused(json.get("why")?.as_str()?.to_owned())),
        _ => None,
    }
}

fn line<const N: usize>(members: [(&str, &str); N]) -> String {
    let object: JsonObject =
        members.into_iter().map(|(key, value)| (key.to_owned(), Json::from(value))).collect();
    format!("{}\n", Json::Object(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_and_outcomes_survive_the_wire() {
        let change = SuperuserChange::Create { email: "a@b.c".into(), password: "p\"\n\\".into() };
        assert_eq!(change_from_line(&change_line(&change)), Some(change));
        let outcome = Outcome::Refused("email: Value must be unique.".into());
        assert_eq!(outcome_from_line(&outcome_line(&outcome)), Some(outcome));
        assert_eq!(change_from_line("{\"superuser\":\"drop\"}"), None);
        assert_eq!(change_from_line("nonsense"), None);
    }
}
