//! What stands between a store and its server: it counts how often the store waits for an answer, and can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Passes bytes on. Ends with its connections when it is dropped.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// How often bytes came from the client after some had come from the server.
    trips: AtomicUsize,
    /// Cut when the client sends this; never when it is empty.
    trigger: std::sync::Mutex<Vec<u8>>,
    is_cut: AtomicBool,
    cut: Notify,
}

impl Relay {
    pub(crate) async fn before(server: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = tokio::spawn(accept(listener, server, shared.clone()));
        Relay { address, shared, accepting }
    }

    /// Trips since it was last asked.
    pub(crate) fn take_trips(&self) -> usize {
        self.shared.trips.swap(0, Ordering::Relaxed)
    }

    /// Lets the bytes through that hold this, and nothing any more: the answer is lost.
    pub(crate) fn cut_after(&self, bytes: &[u8]) {
        *self.shared.trigger.lock().unwrap() = bytes.to_vec();
    }

    /// Lets all through again, on new connections.
    pub(crate) fn mend(&self) {
        self.shared.trigger.lock().unwrap().clear();
        self.shared.is_cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.is_cut.store(true, Ordering::SeqCst);
        self.shared.cut.notify_waiters();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        if shared.is_cut.load(Ordering::SeqCst) {
            continue;
        }
        tokio::spawn(pass(client, server, shared.clone()));
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr, shared: Arc<Shared>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut from_server) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut was_answered = true;
    loop {
        let cut = shared.cut.notified();
        if shared.is_cut.load(Ordering::SeqCst) {
            return;
        }
        tokio::select! {
            () = cut => return,
            read = client.read(&mut from_client) => {
                let Ok(count @ 1..) = read else { return };
                if std::mem::take(&mut was_answered) {
                    shared.trips.fetch_add(1, Ordering::Relaxed);
                }
                let bytes = &from_client[..count];
                let trigger = shared.trigger.lock().unwrap().clone();
                let is_last = !trigger.is_empty() && bytes.windows(trigger.len()).any(|part| part == trigger);
                if server.write_all(bytes).await.is_err() {
                    return;
                }
                if is_last {
                    shared.is_cut.store(true, Ordering::SeqCst);
                    shared.cut.notify_waiters();
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(count @ 1..) = read else { return };
                was_answered = true;
                if client.write_all(&from_server[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}
