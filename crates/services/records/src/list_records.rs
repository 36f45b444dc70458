//! `GET /api/collections/{collection}/records`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use contract::store::ListRecords;
use kit::app::{App, SchemaAttempts};
use kit::error::ApiError;
use kit::list_json::Page;
use kit::query::ListQuery;
use kit::request::Call;
use kit::viewer::{ReadAccess, Viewer};
use model::collection::Collection;
use model::condition::Condition;
use model::context::RuleBody;
use model::filter::{self, Scope, Sort};
use model::json::JsonObject;
use model::schema::RuleKind;

use crate::collection;

pub(crate) async fn handle(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    mut call: Call,
) -> Result<Response, ApiError> {
    collection::of_path(&app, &name)?;
    let body = call.read_rule_body().await?;
    let mut attempts = SchemaAttempts::default();
    loop {
        match answer(&app, &call, &name, &body).await {
            Err(error) if attempts.again(&error).await => {}
            answer => return answer,
        }
    }
}

async fn answer(app: &App, call: &Call, name: &str, body: &JsonObject) -> Result<Response, ApiError> {
    let viewer = Viewer::new(app, call);
    let collection = collection::find(&viewer.schema, name)?;
    let rule = match viewer.access(&collection, RuleKind::List, body) {
        ReadAccess::Granted(conditions) => conditions,
        ReadAccess::Locked => return Err(ApiError::superusers_only()),
        ReadAccess::Broken => return Err(ApiError::bad_request()),
    };
    let query = call.query().list()?;
    let sort = client_sort(&viewer, &collection, &query)?;
    let filter = client_filter(&viewer, &collection, &query)?;
    let of_sort = sort.as_ref().and_then(|sort| condition_of_sort(&viewer, sort));
    let mut conditions = rule;
    for condition in filter.into_iter().chain(of_sort) {
        conditions = all_at_once(conditions, condition)?;
    }

    let found = app
        .store
        .list(ListRecords {
            schema_version: viewer.schema.version(),
            collection,
            conditions,
            sort,
            offset: (query.page - 1).saturating_mul(u64::from(query.per_page)),
            limit: u64::from(query.per_page),
            with_total: !query.skip_total,
        })
        .await?;
    let page = Page { page: query.page, per_page: query.per_page, total_items: found.total };
    viewer.answer_page(page, found.records).await
}

/// Adds a condition to those of the rule. Where both follow the same path, the same joined row has to
/// fit them, so they become one.
fn all_at_once(rule: Vec<Condition>, condition: Condition) -> Result<Vec<Condition>, ApiError> {
    let mut apart = Vec::with_capacity(rule.len() + 1);
    let mut all = condition;
    for condition in rule {
        if condition.filter.shares_rows_with(&all.filter) {
            let both = condition.filter.and(&all.filter).map_err(|_| ApiError::bad_request())?;
            all = Condition { filter: Arc::new(both), ..condition };
        } else {
            apart.push(condition);
        }
    }
    apart.push(all);
    Ok(apart)
}

/// What a sort asks of the records besides their order.
fn condition_of_sort(viewer: &Viewer<'_>, sort: &Sort) -> Option<Condition> {
    let filter = Arc::new(sort.condition.clone()?);
    Some(Condition { filter, context: viewer.context().clone(), body: Arc::new(RuleBody::default()) })
}

fn client_filter(
    viewer: &Viewer<'_>,
    collection: &Arc<Collection>,
    query: &ListQuery,
) -> Result<Option<Condition>, ApiError> {
    if query.filter.is_empty() {
        return Ok(None);
    }
    if query.filter.len() > filter::MAX_FILTER_BYTES {
        return Err(ApiError::bad_request());
    }
    let scope = scope_of(viewer, &query.filter)?;
    let filter = viewer
        .app
        .filters
        .filter(&viewer.schema, collection, &query.filter, scope)
        .map_err(|_| ApiError::bad_request())?;
    let body = Arc::new(RuleBody::default());
    Ok(Some(Condition { filter, context: viewer.context().clone(), body }))
}

fn client_sort(
    viewer: &Viewer<'_>,
    collection: &Arc<Collection>,
    query: &ListQuery,
) -> Result<Option<Arc<Sort>>, ApiError> {
    if query.sort.is_empty() {
        return Ok(None);
    }
    let scope = scope_of(viewer, &query.sort)?;
    let sort = viewer.app.filters.sort(&viewer.schema, collection, &query.sort, scope);
    sort.map(Some).map_err(|_| ApiError::bad_request())
}

/// What the text may name. Some words are refused to all but superusers, wherever they stand.
fn scope_of(viewer: &Viewer<'_>, text: &str) -> Result<Scope, ApiError> {
    if viewer.caller().is_superuser() {
        return Ok(Scope::Rule);
    }
    match filter::forbidden_for_clients(text) {
        Some(message) => Err(ApiError::forbidden_with(message)),
        None => Ok(Scope::Client),
    }
}
