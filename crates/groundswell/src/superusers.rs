//! Changing superuser accounts through the store, for the command line.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail};
use contract::store::{FindByField, Store};
use kit::app::now;
use model::collection::Collection;
use model::context::RequestContext;
use model::errors::FieldErrors;
use model::json::{Json, JsonObject};
use model::record::Record;
use model::step::{Access, CreateRecord, DeleteRecord, PatchRecord, Step, Why, WriteBatch};

/// What to do with which account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SuperuserChange {
    Upsert { email: String, password: String },
    Create { email: String, password: String },
    Update { email: String, password: String },
    Delete { email: String },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// There is no superuser with this email address.
    NoSuchSuperuser,
    /// The store refused; the text says why, in the form `email: Value must be unique.`
    Refused(String),
}

/// Carries out a change.
pub(crate) async fn apply(store: &dyn Store, change: &SuperuserChange) -> anyhow::Result<Outcome> {
    let schema = store.schema();
    let collection =
        schema.by_name(Collection::SUPERUSERS).context("the superusers collection is missing")?;
    let (SuperuserChange::Upsert { email, .. }
    | SuperuserChange::Create { email, .. }
    | SuperuserChange::Update { email, .. }
    | SuperuserChange::Delete { email }) = change;
    let query = FindByField {
        schema_version: schema.version(),
        collection: collection.clone(),
        field: "email".to_owned(),
        value: email.clone(),
        ignore_case: false,
    };
    let found = store.find_by_field(query).await?;
    let step = match (change, found) {
        (SuperuserChange::Create { email, password }, _)
        | (SuperuserChange::Upsert { email, password }, None) => create(collection, email, password)?,
        (SuperuserChange::Update { .. } | SuperuserChange::Delete { .. }, None) => {
            return Ok(Outcome::NoSuchSuperuser);
        }
        (
            SuperuserChange::Update { password, .. } | SuperuserChange::Upsert { password, .. },
            Some(record),
        ) => change_password(&record, password)?,
        (SuperuserChange::Delete { .. }, Some(record)) => delete(&record),
    };
    match store.write(WriteBatch::one(step)).await? {
        Ok(_) => Ok(Outcome::Done),
        Err(refused) => Ok(Outcome::Refused(sentence(&refused.why))),
    }
}

fn create(collection: &Collection, email: &str, password: &str) -> anyhow::Result<Step> {
    let mut body = password_body(password);
    body.insert("email".to_owned(), Json::from(email));
    Ok(Step::Create(CreateRecord {
        set_by_hooks: Default::default(),
        collection: collection.id.clone(),
        body,
        password_hashes: hashes(password)?,
        uploads: Default::default(),
        access: own_access(),
    }))
}

fn change_password(record: &Record, password: &str) -> anyhow::Result<Step> {
    Ok(Step::Patch(PatchRecord {
        set_by_hooks: Default::default(),
        collection: record.collection.id.clone(),
        id: record.id().to_owned(),
        body: password_body(password),
        password_hashes: hashes(password)?,
        old_password_for: None,
        uploads: Default::default(),
        access: own_access(),
    }))
}

fn delete(record: &Record) -> Step {
    Step::Delete(DeleteRecord {
        collection: record.collection.id.clone(),
        id: record.id().to_owned(),
        body: JsonObject::new(),
        access: own_access(),
    })
}

fn password_body(password: &str) -> JsonObject {
    ["password", "passwordConfirm"].into_iter().map(|key| (key.to_owned(), Json::from(password))).collect()
}

fn hashes(password: &str) -> anyhow::Result<BTreeMap<String, String>> {
    if password.is_empty() {
        bail!("missing email and password arguments");
    }
    let hash = identity::password::hash(password).context("hash the password")?;
    Ok(BTreeMap::from([("password".to_owned(), hash)]))
}

/// The server's own write: no rule applies.
fn own_access() -> Access {
    Access { context: Arc::new(RequestContext::guest(now())), check_rule: false }
}

fn sentence(why: &Why) -> String {
    match why {
        Why::Fields(errors) => fields_sentence(errors),
        Why::LastSuperuser => "you can't delete the only existing superuser".to_owned(),
        _ => "the account was changed by somebody else, try again".to_owned(),
    }
}

/// `email: Value must be unique; password: Cannot be blank.`
fn fields_sentence(errors: &FieldErrors) -> String {
    let mut text = String::new();
    errors.write(&mut text);
    let Ok(Json::Object(fields)) = Json::parse_whole(&text) else { return text };
    let parts: Vec<String> = fields
        .iter()
        .map(|(name, error)| {
            let message = error.get("message").and_then(Json::as_str).unwrap_or_default();
            format!("{name}: {}", message.trim_end_matches('.'))
        })
        .collect();
    format!("{}.", parts.join("; "))
}
