//! The `hooks` service: the user's own code, in any language, called over HTTP.
//!
//! A [`Hook`] is a URL, the [`HookEvent`]s that it is called at, and how. Hooks come from the configuration, and
//! from superusers through `/api/gs/hooks`; both are checked by [`HookInput::check`].
//!
//! - *After* a write: `follow` takes the change events from the broker and leaves a job for each hook that wants
//!   them, in the hook's own queue, so that a target that hangs delays nobody else; `deliver` does the jobs. They are
//!   tried again until they are delivered or dead, and every attempt is in the delivery log.
//! - *Before* a write: `before` asks the hooks while the request waits. They may set fields or refuse.
//!
//! Every request is signed as the Standard Webhooks specification says (`sign`). What is sent is made in `message`:
//! no secret and no hidden field.
//!
//! # What is bounded, and what happens then
//!
//! | what | past it |
//! |---|---|
//! | hooks ([`MAX_HOOKS`](contract::hooks::MAX_HOOKS) of the API) | 400 |
//! | a message ([`NewJob::MAX_PAYLOAD_BYTES`](model::step::NewJob::MAX_PAYLOAD_BYTES)) | it goes without the rows, marked `isCut` |
//! | jobs that wait for one hook, for all (`room`) | new events are not delivered to it, or to those with the longest queues; they are counted |
//! | requests that wait for one hook's word, on one request loop | the next wait within the hook's time; then it failed |
//! | the time that hooks before a write take together | the rest of them failed |
//! | an answer, its time | of the answer to a before-hook: a failure; of a delivery: the rest is not read |
//! | attempts logged for a hook | the oldest are forgotten |

mod before;
mod broken;
mod deliver;
mod event;
mod follow;
mod hook;
mod message;
mod registry;
mod room;
mod routes;
mod sign;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use kit::app::App;

pub use before::Before;
pub use deliver::{ATTEMPTS_LOGGED, DEADLINE, Deliver};
pub use event::HookEvent;
pub use follow::{SchemaChanges, follow};
pub use hook::{Hook, HookInput, OnFailure, Problem, Source, queue_of};
pub use registry::{HookSet, Hooks, NotLoaded};
pub use sign::Secret;

/// The routes.
pub fn router(hooks: Hooks) -> Router<Arc<App>> {
    Router::new()
        .route("/api/gs/hooks", get(routes::list).post(routes::create))
        .route("/api/gs/hooks/{name}", get(routes::view).patch(routes::update).delete(routes::remove))
        .route("/api/gs/hooks/{name}/deliveries", get(routes::deliveries))
        .route("/api/gs/hooks/{name}/replay", post(routes::replay))
        .route("/api/gs/hooks/{name}/test", post(routes::test))
        .layer(axum::Extension(hooks))
}
