//! Reading for somebody: which conditions the rules put on a read, and how its records are shown:
//! expanded, shaped by what the viewer may see, and cut to the `fields` that were asked for.

use std::sync::{Arc, OnceLock};

use axum::response::Response;
use contract::store::GetRecord;
use http::StatusCode;
use model::collection::Collection;
use model::condition::{Condition, Demand};
use model::context::{Caller, Origin, RequestContext, RuleBody};
use model::filter::Verdict;
use model::json::JsonObject;
use model::record::Record;
use model::schema::{Rule, RuleKind, Schema};
use model::time::Timestamp;

use crate::app::{App, SchemaAttempts, now};
use crate::error::ApiError;
use crate::expand::ExpandTree;
use crate::fields::Fields;
use crate::list_json::{self, Page};
use crate::record_json::{ShapedRecord, Visibility};
use crate::request::Call;
use crate::respond;

/// What a rule says of a read.
pub enum ReadAccess {
    /// Superusers only.
    Locked,
    /// The rule no longer fits the schema: nobody passes but superusers.
    Broken,
    /// Records for which all of these hold.
    Granted(Vec<Condition>),
}

/// Who reads, under which schema, and what rules see of the request.
pub struct Viewer<'a> {
    /// The node.
    pub app: &'a App,
    /// The schema that this request is answered under.
    pub schema: Arc<Schema>,
    request: Request<'a>,
    caller: Caller,
    origin: Origin,
    now: Timestamp,
    context: OnceLock<Arc<RequestContext>>,
    expand_context: OnceLock<Arc<RequestContext>>,
}

/// What is read for.
enum Request<'a> {
    /// A request by HTTP.
    Call(&'a Call),
    /// What stands for one, such as a subscription.
    Context(&'a Arc<RequestContext>),
}

impl<'a> Viewer<'a> {
    /// The request's caller.
    pub fn new(app: &'a App, call: &'a Call) -> Viewer<'a> {
        Viewer::as_caller(app, call, call.caller().clone())
    }

    /// Somebody else than the request's caller, such as who has just signed in.
    pub fn as_caller(app: &'a App, call: &'a Call, caller: Caller) -> Viewer<'a> {
        Viewer::in_context(app, call, caller, Origin::Default)
    }

    /// Somebody who reads in a context of its own, such as that of a batch.
    pub fn in_context(app: &'a App, call: &'a Call, caller: Caller, origin: Origin) -> Viewer<'a> {
        Viewer {
            app,
            schema: app.store.schema(),
            request: Request::Call(call),
            caller,
            origin,
            now: now(),
            context: OnceLock::new(),
            expand_context: OnceLock::new(),
        }
    }

    /// Reads where there is no request by HTTP: the context holds the caller, the query and the time.
    pub fn of_context(app: &'a App, schema: Arc<Schema>, context: &'a Arc<RequestContext>) -> Viewer<'a> {
        Viewer {
            app,
            schema,
            caller: context.caller.clone(),
            now: context.now,
            request: Request::Context(context),
            origin: context.origin,
            context: OnceLock::new(),
            expand_context: OnceLock::new(),
        }
    }

    /// Who reads.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What the reading belongs to.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// What rules see of the request; worked out when the first rule asks.
    pub fn context(&self) -> &Arc<RequestContext> {
        match self.request {
            Request::Call(_) => self.context.get_or_init(|| Arc::new(self.make_context(self.origin))),
            Request::Context(context) => context,
        }
    }

    /// The same for the rules of expanded records.
    pub fn expand_context(&self) -> &Arc<RequestContext> {
        self.expand_context.get_or_init(|| Arc::new(self.make_context(Origin::Expand)))
    }

    fn make_context(&self, origin: Origin) -> RequestContext {
        match self.request {
            Request::Call(call) => {
                RequestContext { caller: self.caller.clone(), ..call.context(origin, self.now) }
            }
            Request::Context(context) => RequestContext { origin, ..RequestContext::clone(context) },
        }
    }

    /// What a rule puts on a read. `body` is what it sees as the request's body.
    pub fn access(&self, collection: &Collection, kind: RuleKind, body: &JsonObject) -> ReadAccess {
        self.access_in(collection, kind, body, || self.context())
    }

    pub(crate) fn access_in<'c>(
        &self,
        collection: &Collection,
        kind: RuleKind,
        body: &JsonObject,
        context: impl FnOnce() -> &'c Arc<RequestContext>,
    ) -> ReadAccess {
        if self.caller.is_superuser() {
            return ReadAccess::Granted(Vec::new());
        }
        match self.schema.rule(collection, kind) {
            Rule::Locked => ReadAccess::Locked,
            Rule::Invalid => ReadAccess::Broken,
            Rule::Open => ReadAccess::Granted(Vec::new()),
            Rule::When(filter) => ReadAccess::Granted(vec![Condition {
                filter: filter.clone(),
                context: context().clone(),
                body: Arc::new(RuleBody { values: body.clone() }),
            }]),
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
                    let query = GetRecord {
                        schema_version: self.schema.version(),
                        collection: record.collection.clone(),
                        id: record.id().to_owned(),
                        conditions: vec![condition],
                    };
                    Ok(self.app.store.get(query).await?.is_some())
                }
            },
        }
    }

    /// Records as this viewer sees them, with what `expand` asks for.
    pub async fn shape(&self, records: Vec<Record>) -> Result<Vec<ShapedRecord>, ApiError> {
        let tree = ExpandTree::parse(self.parameter("expand").unwrap_or_default());
        let records = records.into_iter().map(Arc::new).collect();
        Ok(self.expand(records, &tree).await?.records)
    }

    /// One record as the whole answer, shown under the schema that is current by then.
    pub async fn answer_written(app: &App, call: &Call, record: Record) -> Result<Response, ApiError> {
        let text = Viewer::written_text(app, call, Origin::Default, record).await?;
        Ok(respond::json(StatusCode::OK, text))
    }

    /// The text of such an answer, of a request of its own or one within a batch.
    pub async fn written_text(
        app: &App,
        call: &Call,
        origin: Origin,
        record: Record,
    ) -> Result<String, ApiError> {
        let mut attempts = SchemaAttempts::default();
        loop {
            let viewer = Viewer::in_context(app, call, call.caller().clone(), origin);
            match viewer.record_text(record.clone()).await {
                Err(error) if attempts.again(&error).await => {}
                text => return text,
            }
        }
    }

    /// One record as the whole answer.
    pub async fn answer_record(&self, record: Record) -> Result<Response, ApiError> {
        Ok(respond::json(StatusCode::OK, self.record_text(record).await?))
    }

    async fn record_text(&self, record: Record) -> Result<String, ApiError> {
        let fields = self.fields()?;
        let shaped = self.shape(vec![record]).await?;
        let mut text = String::with_capacity(512);
        for record in &shaped {
            record.write(&mut text);
        }
        if let Some(fields) = fields {
            text = fields.apply_to_text(text)?;
        }
        Ok(text)
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
        self.parameter("fields").map(Fields::parse).transpose()
    }

    /// A parameter of the query, unless it is empty.
    fn parameter(&self, name: &str) -> Option<&str> {
        let value = match self.request {
            Request::Call(call) => call.query().first(name),
            Request::Context(context) => context.query.get(name).map(String::as_str),
        };
        value.filter(|value| !value.is_empty())
    }
}
