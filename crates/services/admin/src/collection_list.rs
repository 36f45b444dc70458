//! `GET /api/collections`: the collections as if they were records of six fields (CONTRACT §2.2).

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use kit::app::{App, now};
use kit::error::ApiError;
use kit::fields::Fields;
use kit::list_json::{self, Page};
use kit::request::Call;
use kit::respond;
use model::collection::{Collection, CollectionKind, Rules};
use model::context::{Origin, RuleBody};
use model::field::{Field, FieldKind, TextOptions};
use model::filter::{self, Scope, Verdict};
use model::record::Record;
use model::schema::Schema;
use model::value::Value;

/// What filters and sorts may name.
const NAMES: [&str; 6] = ["id", "created", "updated", "name", "system", "type"];

pub(crate) async fn handle(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    call.require_superuser()?;
    let query = call.query().list()?;
    let schema = app.store.schema();
    let rows = Arc::new(row_collection());
    let mut found: Vec<(Record, &Arc<Collection>)> =
        schema.collections().map(|collection| (row(&rows, collection), collection)).collect();
    if !query.filter.is_empty() {
        retain_matching(&mut found, &rows, &query.filter, &call)?;
    }
    sort(&mut found, &query.sort)?;

    let total = found.len() as u64;
    let offset = usize::try_from((query.page - 1).saturating_mul(u64::from(query.per_page)));
    let items = found.iter().skip(offset.unwrap_or(usize::MAX)).take(query.per_page as usize);
    let total_items = (!query.skip_total).then_some(total);
    let page = Page { page: query.page, per_page: query.per_page, total_items };
    let mut text = String::with_capacity(8_192);
    list_json::write_list(page, items, |(_, collection), out| collection.write_json(out), &mut text);
    if let Some(fields) = call.query().fields() {
        text = Fields::parse(fields)?.apply_to_list_text(text)?;
    }
    Ok(respond::json(StatusCode::OK, text))
}

fn retain_matching(
    found: &mut Vec<(Record, &Arc<Collection>)>,
    rows: &Arc<Collection>,
    text: &str,
    call: &Call,
) -> Result<(), ApiError> {
    let names_too_much = text.contains("@request") || text.contains("@collection") || has_modifier(text);
    if text.len() > filter::MAX_FILTER_BYTES || names_too_much {
        return Err(ApiError::bad_request());
    }
    let schema = Schema::new(0, vec![rows.clone()]);
    let filter = filter::check(&schema, rows, text, Scope::Rule).map_err(|_| ApiError::bad_request())?;
    let context = call.context(Origin::Default, now());
    let body = RuleBody::default();
    found.retain(|(row, _)| filter.judge(row, &context, &body) == Verdict::Yes);
    Ok(())
}

/// Whether a colon stands outside of quotes: these fields know no modifiers.
fn has_modifier(text: &str) -> bool {
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(_), '\\') => _ = letters.next(),
            (Some(open), letter) if open == letter => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, ':') => return true,
            _ => {}
        }
    }
    false
}

/// By the terms of the text, the first one first; the order of creation stays among equals.
fn sort(found: &mut [(Record, &Arc<Collection>)], text: &str) -> Result<(), ApiError> {
    if text.is_empty() {
        return Ok(());
    }
    let terms: Vec<&str> = text.split(',').map(str::trim).collect();
    for term in terms.into_iter().rev() {
        let (is_descending, name) = match term.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, term.strip_prefix('+').unwrap_or(term)),
        };
        if name == "@rowid" {
            if is_descending {
                found.reverse();
            }
        } else if NAMES.contains(&name) {
            found.sort_by(|(a, _), (b, _)| {
                let order = compare(a.get(name), b.get(name));
                if is_descending { order.reverse() } else { order }
            });
        } else if name != "@random" {
            return Err(ApiError::bad_request());
        }
    }
    Ok(())
}

fn compare(a: &Value, b: &Value) -> std::cmp::Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.total_cmp(b),
        (a, b) => a.as_str().cmp(b.as_str()),
    }
}

fn row_collection() -> Collection {
    let field = |name: &&str| Field {
        id: (*name).to_owned(),
        name: (*name).to_owned(),
        system: true,
        hidden: false,
        presentable: false,
        required: false,
        help: String::new(),
        kind: if *name == "system" { FieldKind::Bool } else { FieldKind::Text(TextOptions::default()) },
    };
    Collection {
        id: "_collections".to_owned(),
        name: "_collections".to_owned(),
        system: true,
        rules: Rules::default(),
        fields: NAMES.iter().map(field).collect(),
        indexes: Vec::new(),
        created: String::new(),
        updated: String::new(),
        kind: CollectionKind::Base,
    }
}

fn row(rows: &Arc<Collection>, collection: &Collection) -> Record {
    let text = |text: &str| Value::Text(text.to_owned());
    let values = vec![
        text(&collection.id),
        text(&collection.created),
        text(&collection.updated),
        text(&collection.name),
        Value::bool(collection.system),
        text(collection.type_name()),
    ];
    Record { collection: rows.clone(), values }
}
