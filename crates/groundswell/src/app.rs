//! The application: the services of this process as one router, and what they stand on.
//!
//! This is where services are wired to engines, in plain sight.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::http::{StaticFolder, unmatched};

/// What the services of this process stand on. One for the process, shared by its request loops.
pub(crate) struct App {
    static_folder: Arc<StaticFolder>,
    has_superuser: bool,
}

impl App {
    /// Opens the engines. `draining` is cancelled when the process is asked to stop: streams without an end of
    /// their own must end then.
    pub(crate) async fn open(settings: &Settings, draining: CancellationToken) -> anyhow::Result<Self> {
        // Seam: open the store here, give `draining` to realtime, and ask the store for the first superuser.
        drop(draining);
        tokio::fs::create_dir_all(&settings.server.dir).await?;
        let static_folder =
            StaticFolder::new(settings.server.public_dir.clone(), settings.server.index_fallback);
        Ok(Self { static_folder: Arc::new(static_folder), has_superuser: true })
    }

    /// Whether anybody can sign in as a superuser yet.
    pub(crate) fn has_superuser(&self) -> bool {
        self.has_superuser
    }

    /// Brings the store to rest, once no request runs.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        // Seam: stop consumers, then checkpoint the store.
        Ok(())
    }
}

/// The routes of every service. Called once for each request loop, so that loops share nothing of a router.
pub(crate) fn router(app: &App) -> Router {
    unmatched(Router::new().route("/api/health", get(health)), Arc::clone(&app.static_folder))
}

async fn health() -> Response {
    // Seam: goes when the admin service brings the route, which tells superusers more.
    const BODY: &str = r#"{"message":"API is healthy.","code":200,"data":{}}"#;
    ([(axum::http::header::CONTENT_TYPE, "application/json")], BODY).into_response()
}
