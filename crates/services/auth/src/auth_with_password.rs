//! `POST /api/collections/{collection}/auth-with-password` (CONTRACT §5.4)

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, State};
use axum::response::Response;
use contract::store::FindByField;
use kit::app::{App, now};
use kit::body::{BodyError, BodyLimits, Form};
use kit::error::ApiError;
use kit::request::Call;
use model::collection::{AuthOptions, Collection, index};
use model::context::Origin;
use model::errors::{FieldError, FieldErrors};
use model::record::Record;
use model::record::email::is_email;
use model::step::{Step, WriteBatch};

use crate::{answer, collection};

/// What the client sent.
struct Credentials {
    identity: String,
    password: String,
    identity_field: String,
}

pub(crate) async fn handle(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    mut call: Call,
) -> Result<Response, ApiError> {
    let collection = collection::of_path(&app, &name)?;
    let options = collection::options(&collection)?;
    if !options.password_auth.enabled {
        return Err(ApiError::forbidden_with(
            "The collection is not configured to allow password authentication.",
        ));
    }
    let submitted = call.read_body(BodyLimits::default()).await.map_err(BodyError::into_form_error)?;
    let form = submitted.into_form().map_err(BodyError::into_form_error)?;
    let credentials = Credentials::read(&form).map_err(BodyError::into_form_error)?;
    credentials.check(options).into_result().map_err(ApiError::invalid_form)?;

    let throttle = app.identity.throttle();
    let (name, address) = (credentials.identity.as_str(), call.client_ip());
    throttle
        .check(&collection.id, name, address, Instant::now())
        .map_err(|throttled| ApiError::too_many_requests().with_retry_after(throttled.retry_after))?;
    let found = find_record(&app, &collection, options, &credentials).await?;
    let Some(record) = prove(&app, found, &credentials.password).await? else {
        throttle.failed(&collection.id, name, address, Instant::now());
        return Err(ApiError::bad_request_with("Failed to authenticate."));
    };
    throttle.succeeded(&collection.id, name, address);

    answer::check_address(&app, &call, &collection)?;
    answer::check_auth_rule(&app, &call, Origin::Password, form.to_object(), &record).await?;
    let duration = options.auth_token.duration;
    let token = app.identity.auth_token(&record, duration, true, now()).ok_or_else(ApiError::internal)?;
    upgrade_hash(&app, &record, credentials.password).await;
    answer::respond(&app, &call, record, &token).await
}

// === impl Credentials ===

impl Credentials {
    fn read(form: &Form) -> Result<Credentials, BodyError> {
        let text =
            |name: &str| -> Result<String, BodyError> { Ok(form.text(name)?.unwrap_or_default().to_owned()) };
        Ok(Credentials {
            identity: text("identity")?,
            password: text("password")?,
            identity_field: text("identityField")?,
        })
    }

    fn check(&self, options: &AuthOptions) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for (name, value) in [("identity", &self.identity), ("password", &self.password)] {
            if value.is_empty() {
                errors.add(name, FieldError::required());
            } else if value.chars().count() > 255 {
                errors.add(name, length_out_of_range());
            }
        }
        let is_known = options.password_auth.identity_fields.contains(&self.identity_field);
        if !self.identity_field.is_empty() && !is_known {
            errors.add("identityField", FieldError::new("validation_in_invalid", "Must be a valid value."));
        }
        errors
    }
}

fn length_out_of_range() -> FieldError {
    FieldError::new("validation_length_out_of_range", "The length must be between 1 and 255.")
        .with("max", 255.0)
        .with("min", 1.0)
}

/// The record that the identity names: by the named field, or by each identity field in turn, `email`
/// first and only for what looks like an address.
async fn find_record(
    app: &App,
    collection: &Arc<Collection>,
    options: &AuthOptions,
    credentials: &Credentials,
) -> Result<Option<Record>, ApiError> {
    let mut fields: Vec<&str> = if credentials.identity_field.is_empty() {
        options.password_auth.identity_fields.iter().map(String::as_str).collect()
    } else {
        vec![&credentials.identity_field]
    };
    fields.sort_by_key(|field| *field != "email");
    if credentials.identity_field.is_empty() && !is_email(&credentials.identity) {
        fields.retain(|field| *field != "email");
    }
    for field in fields {
        let query = FindByField {
            schema_version: app.store.schema().version(),
            collection: collection.clone(),
            field: field.to_owned(),
            value: credentials.identity.clone(),
            ignore_case: index::is_unique_ignoring_case(&collection.indexes, field),
        };
        if let Some(record) = app.store.find_by_field(query).await? {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// The record, if the password is its own. Takes the same work for a record that is not there.
async fn prove(app: &App, found: Option<Record>, password: &str) -> Result<Option<Record>, ApiError> {
    let hash = found.as_ref().map(|record| record.get("password").as_str().to_owned());
    let is_right = app.identity.verify_or_pretend(password.to_owned(), hash).await?;
    Ok(found.filter(|_| is_right))
}

/// Replaces a hash of the old kind, now that the password is known. A failure costs nothing: the next
/// sign-in tries again.
async fn upgrade_hash(app: &App, record: &Record, password: String) {
    let from = record.get("password").as_str();
    if !identity::password::needs_upgrade(from) {
        return;
    }
    let Ok(to) = app.identity.hash(password).await else { return };
    let step = Step::ReplacePasswordHash {
        collection: record.collection.id.clone(),
        id: record.id().to_owned(),
        from: from.to_owned(),
        to,
    };
    let _ = app.store.write(WriteBatch::one(step)).await;
}
