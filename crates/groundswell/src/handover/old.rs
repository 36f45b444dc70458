//! The side of the process that goes.

use std::io::{self, IoSlice};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{HTTP, HTTPS, INTERNAL, MANAGEMENT, MAX_SOCKETS, PASSAGE, READY, RELEASED, SERVING};

/// How long the new process may take to prepare itself, and then to serve.
const PREPARES: Duration = Duration::from_secs(60);
const OPENS: Duration = Duration::from_secs(30);

/// Why this process ends.
pub(crate) enum Leaving {
    /// It was told to.
    Stop,
    /// Another one takes its place.
    Replaced(Successor),
}

/// The process that takes this one's place.
pub(crate) struct Successor {
    stream: UnixStream,
}

/// The sockets that this process listens on, to be sent.
pub(crate) struct Listeners {
    pub(crate) http: Option<TcpListener>,
    pub(crate) https: Option<TcpListener>,
    pub(crate) internal: Option<TcpListener>,
    pub(crate) management: TcpListener,
}

// === impl Successor ===

impl Successor {
    /// Who asked over this connection.
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// Sends the listening sockets, and waits until all is prepared.
    pub(crate) async fn prepare(&mut self, listeners: &Listeners) -> anyhow::Result<()> {
        self.send_sockets(listeners).await.context("send the listening sockets")?;
        self.expect(READY, PREPARES).await.context("wait until the new process is ready")
    }

    /// Tells it that the folder is free, and waits until it serves.
    pub(crate) async fn release(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(RELEASED.as_bytes()).await?;
        self.expect(SERVING, OPENS).await.context("wait until the new process serves")
    }

    async fn send_sockets(&self, listeners: &Listeners) -> io::Result<()> {
        let all = [(HTTP, &listeners.http), (HTTPS, &listeners.https), (INTERNAL, &listeners.internal)];
        let mut named = vec![(MANAGEMENT, listeners.management.as_fd())];
        named.extend(all.iter().filter_map(|(name, listener)| Some((*name, listener.as_ref()?.as_fd()))));
        let (names, sockets): (Vec<_>, Vec<_>) = named.into_iter().unzip();
        let line = names.join(" ") + "\n";
        let send = || {
            let mut space =
                [const { std::mem::MaybeUninit::uninit() }; rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&sockets));
            let sent =
                sendmsg(&self.stream, &[IoSlice::new(line.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
            // So few bytes go at once or not at all.
            if sent == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
        };
        self.stream.async_io(Interest::WRITABLE, send).await
    }

    async fn expect(&mut self, expected: &str, patience: Duration) -> anyhow::Result<()> {
        let mut line = vec![0; expected.len()];
        match timeout(patience, self.stream.read_exact(&mut line)).await {
            Ok(Ok(_)) if line == expected.as_bytes() => Ok(()),
            Ok(Ok(_)) => bail!("it said something else: {}", String::from_utf8_lossy(&line).trim()),
            Ok(Err(error)) => Err(error).context("it has gone"),
            Err(_) => bail!("it took longer than {} s", patience.as_secs()),
        }
    }
}

/// Where what comes to this process is handed on.
pub(crate) fn passage(dir: &Path) -> PathBuf {
    dir.join(PASSAGE)
}
