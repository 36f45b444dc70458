//! Reading for somebody: which conditions the rules put on a read, and how its records are shown:
//! expanded, shaped by what the viewer may see, and cut to the `fields` that were asked for.

use std::sync::{Arc, OnceLock};

use axum::response::Response;
use http::StatusCode;
use model::collection::Collection;
use model::condition::{Condition, Demand};
use model::context::{Caller, Origin, RequestContext, RuleBody};
use model::filter::Verdict;
use model::record::Record;
use model::schema::{RuleKind, Schema};
use model::time::Timestamp;

use crate::app::{App, now};
use crate::error::ApiError;
use crate::expand::ExpandTree;
use crate::fields::Fields;
use crate::list_json::{self, Page};
use crate::record_json::{ShapedRecord, Visibility};
use crate::request::Call;
use crate::respond;

/// Who reads, under which schema, and what rules see of the request.
pub struct Viewer<'a> {
    /// The node.
    pub app: &'a App,
    /// The schema that this request is answered under.
    pub schema: Arc<Schema>,
    call: &'a Call,
    caller: Caller,
    now: Timestamp,
    context: OnceLock<Arc<RequestContext>>,
    expand_context: OnceLock<Arc<RequestContext>>,
}

impl<'a> Viewer<'a> {
    /// The request's caller.
    pub fn new(app: &'a App, call: &'a Call) -> Viewer<'a> {
        Viewer::as_caller(app, call, call.caller().clone())
    }

    /// Somebody else than the request's caller, such as who has just signed in.
    pub fn as_caller(app: &'a App, call: &'a Call, caller: Caller) -> Viewer<'a> {
        Viewer {
            app,
            schema: app.store.schema(),
            call,
            caller,
            now: now(),
            context: OnceLock::new(),
            expand_context: OnceLock::new(),
        }
    }

    /// Who reads.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What rules see of the request; worked out when the first rule asks.
    pub fn context(&self) -> &Arc<RequestContext> {
        self.context.get_or_init(|| Arc::new(self.make_context(Origin::Default)))
    }

    /// The same for the rules of expanded records.
    pub fn expand_context(&self) -> &Arc<RequestContext> {
        self.expand_context.get_or_init(|| Arc::new(self.make_context(Origin::Expand)))
    }

    fn make_context(&self, origin: Origin) -> RequestContext {
        RequestContext { caller: self.caller.clone(), ..self.call.context(origin, self.now) }
    }

    /// What a rule puts on a read. `None` when nobody but a superuser passes.
    pub fn conditions(&self, collection: &Collection, kind: RuleKind) -> Option<Vec<Condition>> {
        self.conditions_in(collection, kind, || self.context())
    }

    pub(crate) fn conditions_in<'c>(
        &self,
        collection: &Collection,
        kind: RuleKind,
        context: impl FnOnce() -> &'c Arc<RequestContext>,
    ) -> Option<Vec<Condition>> {
        if self.caller.is_superuser() {
            return Some(Vec::new());
        }
        match kind.text(collection) {
            None => return None,
            Some("") => return Some(Vec::new()),
            Some(_) => {}
        }
        match Demand::of(&self.schema, collection, kind, context(), &Arc::new(RuleBody::default())) {
            Demand::Impossible => None,
            Demand::Nothing => Some(Vec::new()),
            Demand::That(condition) => Some(vec![condition]),
        }
    }

    /// What this viewer may see of a record.
    pub async fn visibility(&self, record: &Record) -> Result<Visibility, ApiError> {
        let plain = Visibility::of(&self.caller, record, false);
        let may_manage = plain == Visibility::PUBLIC
            && record.collection.is_auth()
            && matches!(self.caller, Caller::Record(_))
            && record.collection.auth().is_some_and(|auth| auth.manage_rule.is_some());
        if may_manage && self.manages(record).await? { Ok(Visibility::OWN) } else { Ok(plain) }
    }

    async fn manages(&self, record: &Record) -> Result<bool, ApiError> {
        match Demand::of(
            &self.schema,
            &record.collection,
            RuleKind::Manage,
            self.context(),
            &Arc::new(RuleBody::default()),
        ) {
            Demand::Impossible => Ok(false),
            Demand::Nothing => Ok(true),
            Demand::That(condition) => match condition.judge(record) {
                Verdict::Yes => Ok(true),
                Verdict::No => Ok(false),
                Verdict::NeedsStore => {
                    let id = record.id().to_owned();
                    Ok(self.app.store.holds(record.collection.clone(), id, condition).await?)
                }
            },
        }
    }

    /// Records as this viewer sees them, with what `expand` asks for.
    pub async fn shape(&self, records: Vec<Record>) -> Result<Vec<ShapedRecord>, ApiError> {
        let tree = ExpandTree::parse(self.call.query().expand().unwrap_or_default());
        self.expand(records.into_iter().map(Arc::new).collect(), &tree).await
    }

    /// One record as the whole answer.
    pub async fn answer_record(&self, record: Record) -> Result<Response, ApiError> {
        let fields = self.fields()?;
        let shaped = self.shape(vec![record]).await?;
        let mut text = String::with_capacity(512);
        for record in &shaped {
            record.write(&mut text);
        }
        if let Some(fields) = fields {
            text = fields.apply_to_text(text)?;
        }
        Ok(respond::json(StatusCode::OK, text))
    }

    /// A page of records as the whole answer.
    pub async fn answer_page(&self, page: Page, records: Vec<Record>) -> Result<Response, ApiError> {
        let fields = self.fields()?;
        let shaped = self.shape(records).await?;
        let mut text = String::with_capacity(128 + shaped.len() * 256);
        list_json::write_list(page, &shaped, |record, out| record.write(out), &mut text);
        if let Some(fields) = fields {
            text = fields.apply_to_list_text(text)?;
        }
        Ok(respond::json(StatusCode::OK, text))
    }

    /// The `fields` that were asked for.
    pub fn fields(&self) -> Result<Option<Fields>, ApiError> {
        self.call.query().fields().map(Fields::parse).transpose()
    }
}
