//! The side of the process that comes. It has no runtime yet, and waits as it goes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use store::sqlite;

use super::{
    HTTP, HTTPS, INTERNAL, MANAGEMENT, MAX_LINE_BYTES, MAX_SOCKETS, PASSAGE, READY, RELEASED, REQUEST,
    SERVING,
};
use crate::control_socket;

/// How long the old process may take for a step: above all until it has given the folder up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Requests that are handed on and wait to be taken.
const BACKLOG: i32 = 4_096;

/// The process whose place this one takes.
pub(crate) struct Predecessor {
    stream: BufReader<UnixStream>,
    sockets: BTreeMap<String, TcpListener>,
    passage: PathBuf,
}

/// The same once it has given the folder up.
pub(crate) struct Released {
    stream: UnixStream,
    passage: UnixListener,
}

// === impl Predecessor ===

impl Predecessor {
    /// Asks the server that holds a folder to give way. None if there is no server.
    pub(crate) fn ask(dir: &Path) -> anyhow::Result<Option<Self>> {
        let found = sqlite::inspect(dir);
        let Ok(sqlite::Inspection { is_held: true, format }) = found else { return Ok(None) };
        if format.is_some_and(|format| format < sqlite::FORMAT) {
            bail!(
                "the data in {} has format {} and this version wants {}: while it is brought to it nobody can read it; \
                 stop the other server first, and start this one without --take-over",
                dir.display(),
                format.unwrap_or_default(),
                sqlite::FORMAT
            );
        }
        let path = control_socket::path(dir);
        let mut stream = UnixStream::connect(&path).with_context(|| {
            format!("reach the server that holds {} over {}", dir.display(), path.display())
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(REQUEST.as_bytes())?;
        let sockets = receive(&stream).context("wait for the listening sockets of the other server")?;
        Ok(Some(Self { stream: BufReader::new(stream), sockets, passage: dir.join(PASSAGE) }))
    }

    /// Its socket for HTTP, if it listens where this process is to.
    pub(crate) fn http(&mut self, address: SocketAddr) -> Option<TcpListener> {
        self.socket(HTTP, address)
    }

    /// The same for HTTPS.
    pub(crate) fn https(&mut self, address: SocketAddr) -> Option<TcpListener> {
        self.socket(HTTPS, address)
    }

    /// The same for other nodes.
    pub(crate) fn internal(&mut self, address: SocketAddr) -> Option<TcpListener> {
        self.socket(INTERNAL, address)
    }

    /// The same of the management listener, wherever it had to go.
    pub(crate) fn management(&mut self, address: SocketAddr, is_explicit: bool) -> Option<TcpListener> {
        if is_explicit { self.socket(MANAGEMENT, address) } else { self.sockets.remove(MANAGEMENT) }
    }

    /// Any port will do where none is asked for.
    fn socket(&mut self, name: &str, address: SocketAddr) -> Option<TcpListener> {
        let its = self.sockets.get(name)?.local_addr().ok()?;
        let is_the_same = its == address || its.ip() == address.ip() && address.port() == 0;
        is_the_same.then(|| self.sockets.remove(name))?
    }

    /// Says that all is prepared, and waits until the folder is free.
    pub(crate) fn until_released(mut self) -> anyhow::Result<Released> {
        // What this process does not listen on nobody does, from now on.
        self.sockets.clear();
        self.stream.get_mut().write_all(READY.as_bytes())?;
        let mut line = String::new();
        self.stream.by_ref().take(MAX_LINE_BYTES as u64).read_line(&mut line)?;
        if line != RELEASED {
            bail!("the other server did not give the data folder up; see its log");
        }
        // Not before: until then it may be that server's, for what one before it hands on.
        _ = std::fs::remove_file(&self.passage);
        let passage = control_socket::listen(&self.passage, BACKLOG)
            .context("listen for what the other server hands on")?;
        Ok(Released { stream: self.stream.into_inner(), passage })
    }
}

// === impl Released ===

impl Released {
    /// Says that this process serves. What comes over the first is handed on by the other process; the second ends when that
    /// has ended.
    pub(crate) fn serving(mut self) -> anyhow::Result<(UnixListener, UnixStream)> {
        self.stream.write_all(SERVING.as_bytes())?;
        self.stream.set_nonblocking(true)?;
        Ok((self.passage, self.stream))
    }
}

/// The names in a line, each with the socket that came with it.
fn receive(stream: &UnixStream) -> anyhow::Result<BTreeMap<String, TcpListener>> {
    let mut line = [0; MAX_LINE_BYTES];
    let mut space = [const { std::mem::MaybeUninit::uninit() }; rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut line)], &mut control, flags)?;
    let sockets: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        })
        .flatten()
        .collect();
    let names = std::str::from_utf8(&line[..received.bytes]).unwrap_or_default();
    let names: Vec<&str> = names.trim().split(' ').filter(|name| !name.is_empty()).collect();
    if names.is_empty() || names.len() != sockets.len() {
        bail!("it did not send any; see its log");
    }
    Ok(names.into_iter().map(str::to_owned).zip(sockets.into_iter().map(TcpListener::from)).collect())
}
