//! Asking servers whether they are well, from the background runtime.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{CONNECTION, HOST, USER_AGENT};
use axum::http::{HeaderValue, Request, Response};
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{HealthCheck, Pool, Server, Wire, dial};
use crate::net::Protocol;

/// A server is down after so many checks in a row that it failed.
const MAX_FAILURES: u32 = 2;
/// And well again after so many that it passed.
const MIN_PASSES: u32 = 2;

/// Checks all servers of a pool until it is told to stop. Ends at once where there is nothing to check.
pub(crate) async fn watch(pool: Arc<Pool>, stop: CancellationToken) {
    let Some(check) = pool.settings.health.clone() else { return };
    let mut changes = pool.changes.subscribe();
    while !stop.is_cancelled() {
        changes.borrow_and_update();
        let servers = pool.servers();
        let checks = servers.iter().map(|server| watch_one(&pool, server, &check));
        tokio::select! {
            () = stop.cancelled() => {}
            _ = changes.changed() => {}
            () = async { join_all(checks).await; pending::<()>().await } => {}
        }
    }
}

async fn watch_one(pool: &Pool, server: &Server, check: &HealthCheck) {
    let mut ticks = interval(check.every.max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let is_well = timeout(check.timeout, is_well(server, &check.path)).await == Ok(true);
        if is_well { &pool.meter.checks_passed } else { &pool.meter.checks_failed }.add();
        let in_a_row = server.note_check(is_well);
        if in_a_row >= if is_well { MIN_PASSES } else { MAX_FAILURES } {
            server.note_health(is_well, pool.now());
        }
    }
}

/// Whether a server answers with 2xx, over a connection of its own, spoken to as requests are.
async fn is_well(server: &Server, path: &str) -> bool {
    match dial(server, true).await {
        Ok((Wire::Plain(stream), protocol)) => answers_well(stream, protocol, server, path).await,
        Ok((Wire::Tls(stream), protocol)) => answers_well(stream, protocol, server, path).await,
        Err(error) => {
            debug!(server = %server.url, %error, "a server cannot be reached for its health check");
            false
        }
    }
}

async fn answers_well<S>(stream: S, protocol: Protocol, server: &Server, path: &str) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::get(path).header(USER_AGENT, HeaderValue::from_static("Groundswell health check"));
    let (host, stream) = (server.url.authority(), TokioIo::new(stream));
    match protocol {
        Protocol::Http1 => {
            let request = request.header(HOST, host).header(CONNECTION, HeaderValue::from_static("close"));
            let Ok(request) = request.body(Empty::<Bytes>::new()) else { return false };
            let Ok((mut sender, connection)) = http1::handshake(stream).await else { return false };
            is_good(sender.send_request(request), connection).await
        }
        Protocol::Http2 => {
            let scheme = if server.url.has_tls() { "https" } else { "http" };
            let Ok(request) = request.uri(format!("{scheme}://{host}{path}")).body(Empty::<Bytes>::new())
            else {
                return false;
            };
            let executor = TokioExecutor::new();
            let Ok((mut sender, connection)) = http2::handshake(executor, stream).await else { return false };
            is_good(sender.send_request(request), connection).await
        }
    }
}

/// The connection may end in the moment in which it hands the answer over: that is no answer of its own.
async fn is_good<B>(
    answer: impl Future<Output = hyper::Result<Response<B>>>,
    connection: impl Future,
) -> bool {
    let kept = async {
        _ = connection.await;
        pending::<()>().await;
    };
    tokio::select! {
        answer = answer => answer.is_ok_and(|answer| answer.status().is_success()),
        () = kept => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::upstreams::{ServerUrl, UpstreamSettings};

    /// Whether a server is well that answers so, at once.
    async fn is_well_with(answer: &'static str) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = ServerUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
            drop(stream);
            pending::<bool>().await
        };
        let known = Server::new(url, &UpstreamSettings::new(Vec::new()), Arc::default());
        tokio::select! {
            is_well = is_well(&known, "/") => is_well,
            never = server => never,
        }
    }

    #[tokio::test]
    async fn a_server_is_well_by_its_status_alone() {
        for answer in [
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
            "HTTP/1.0 200 OK\r\n\r\nall is well",
        ] {
            assert!(is_well_with(answer).await, "{answer}");
        }
        for answer in ["HTTP/1.1 500 S\r\n\r\n", "HTTP/1.1 302 F\r\nLocation: /\r\n\r\n", "no HTTP\r\n\r\n"] {
            assert!(!is_well_with(answer).await, "{answer}");
        }
    }
}
