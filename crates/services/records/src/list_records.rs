//! `GET /api/collections/{collection}/records`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use contract::store::ListRecords;
use kit::app::App;
use kit::error::ApiError;
use kit::list_json::Page;
use kit::query::ListQuery;
use kit::request::Call;
use kit::viewer::Viewer;
use model::collection::Collection;
use model::condition::Condition;
use model::context::RuleBody;
use model::filter::{self, Scope, Sort};
use model::schema::RuleKind;

use crate::collection;

pub(crate) async fn handle(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let viewer = Viewer::new(&app, &call);
    let collection = collection::of_path(&viewer, &name)?;
    let query = call.query().list();
    let mut conditions =
        viewer.conditions(&collection, RuleKind::List).ok_or_else(ApiError::superusers_only)?;
    let query = query?;
    conditions.extend(client_filter(&viewer, &collection, &query)?);
    let sort = client_sort(&viewer, &collection, &query)?;

    let found = app
        .store
        .list(ListRecords {
            collection,
            conditions,
            context: viewer.context().clone(),
            sort,
            offset: (query.page - 1).saturating_mul(u64::from(query.per_page)),
            limit: u64::from(query.per_page),
            with_total: !query.skip_total,
        })
        .await?;
    let page = Page { page: query.page, per_page: query.per_page, total_items: found.total };
    viewer.answer_page(page, found.records).await
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
