//! The management listener: is the process alive, should it be sent requests, and its counters.

use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use gateway::Gateway;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::readiness::Readiness;

/// Probes and scrapers are few; more than this wait in the backlog.
const MAX_CONNECTIONS: usize = 64;

/// What the listener tells about.
pub(crate) struct Management {
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) gateway: Gateway,
}

/// Installs the recorder of the process's metrics. Before it, whatever is counted is lost.
pub(crate) fn install_metrics() -> anyhow::Result<PrometheusHandle> {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)?;
    metrics::describe_counter!("groundswell_connections_accepted_total", "Connections accepted.");
    metrics::describe_counter!(
        "groundswell_connections_refused_total",
        "Connections refused because server.max_connections were open."
    );
    metrics::describe_counter!(
        "groundswell_connections_denied_total",
        "Connections closed by a rule, by why."
    );
    metrics::describe_counter!("groundswell_requests_denied_total", "Requests refused by a rule, by why.");
    metrics::describe_counter!(
        "groundswell_http2_floods_total",
        "Connections of HTTP/2 closed for their frames."
    );
    metrics::describe_counter!("groundswell_caller_tokens_signed_total", "Tokens signed for servers.");
    metrics::describe_gauge!("groundswell_connections_open", "Connections of clients that are open.");
    metrics::describe_counter!("groundswell_panics_total", "Requests answered by 500 because of a panic.");
    metrics::describe_counter!(
        "groundswell_tokens_refused_total",
        "Tokens that did not count on routes that ask who calls, by reason."
    );
    metrics::describe_counter!(
        "groundswell_refused_total",
        "Requests that the edge itself refused, by cause."
    );
    metrics::describe_counter!(
        "groundswell_tls_handshakes_failed_total",
        "Connections that ended before they had TLS."
    );
    metrics::describe_gauge!(
        "groundswell_tls_certificate_expiry_seconds",
        "The end of the certificate that is served for a name, in seconds of Unix time."
    );
    metrics::describe_counter!(
        "groundswell_acme_attempts_total",
        "Attempts to obtain a certificate from an authority, by outcome."
    );
    metrics::describe_counter!(
        "groundswell_access_log_lost_total",
        "Lines of the access log that found no room."
    );
    Ok(handle)
}

/// Serves the management listener for as long as the process lives, draining included; unless another process takes it
/// over.
pub(crate) fn serve(
    listener: TcpListener,
    management: Management,
    taken_over: CancellationToken,
) -> std::io::Result<impl Future<Output = ()> + Send> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = router(management);
    Ok(async move {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            let accepted = tokio::select! {
                () = taken_over.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let served = serve_connection(stream, router.clone());
                    tokio::spawn(async move {
                        let _slot = slot;
                        served.await;
                    });
                }
                Err(error) => {
                    warn!(%error, "could not accept a management connection");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    })
}

fn router(management: Management) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(Arc::new(management))
}

async fn readyz(State(management): State<Arc<Management>>) -> impl IntoResponse {
    match management.readiness.objection().await {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(objection) => (StatusCode::SERVICE_UNAVAILABLE, format!("{objection}\n")),
    }
}

async fn metrics_text(State(management): State<Arc<Management>>) -> impl IntoResponse {
    let text = management.metrics.render() + &management.gateway.metrics();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

async fn serve_connection(stream: TcpStream, router: Router) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(std::time::Duration::from_secs(30))
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        debug!(%error, "management connection ended");
    }
}
