//! Hooks that are asked before a write. Who writes records asks; the `hooks` service answers.

use std::pin::Pin;
use std::time::Instant;

use contract::event::Action;
use model::collection::Collection;
use model::json::JsonObject;
use model::record::Record;
use model::record::resolve::Resolved;

use crate::error::ApiError;
use crate::request::Call;

/// Asks the hooks that stand before writes.
pub trait BeforeHooks: Send + Sync {
    /// Whether any hook wants to be asked. Cheap: it is called for every write.
    fn concern(&self, collection: &Collection, action: Action) -> bool;

    /// Asks them one after the other. The values to set, or the answer to the client when one of them refuses, or
    /// fails and its policy is to refuse.
    fn ask<'a>(&'a self, question: Question<'a>) -> Asked<'a>;
}

/// What [`BeforeHooks::ask`] returns: what hooks set, by field name; every name is one that
/// [`may_be_set_by_hooks`](model::record::resolve::may_be_set_by_hooks).
pub type Asked<'a> = Pin<Box<dyn Future<Output = Result<JsonObject, ApiError>> + Send + 'a>>;

/// A write that has not happened yet. It may still be refused after all hooks agreed.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// What is to happen.
    pub action: Action,
    /// Where.
    pub collection: &'a Collection,
    /// The record's id; of a new one only if the client chose it.
    pub id: Option<&'a str>,
    /// The body as the client sent it.
    pub body: &'a JsonObject,
    /// What the body comes to beside the record, or beside nothing; none where nothing is to be set.
    pub resolved: Option<&'a Resolved>,
    /// The record as it is stored, a moment before the write.
    pub record: Option<&'a Record>,
    /// When the write is no longer wanted.
    pub deadline: Option<Instant>,
    /// The request.
    pub call: &'a Call,
}

/// There are none.
pub struct NoHooks;

impl BeforeHooks for NoHooks {
    fn concern(&self, _: &Collection, _: Action) -> bool {
        false
    }

    fn ask<'a>(&'a self, _: Question<'a>) -> Asked<'a> {
        Box::pin(async { Ok(JsonObject::new()) })
    }
}
