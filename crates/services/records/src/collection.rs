//! The collection that a path names.

use std::sync::Arc;

use kit::app::App;
use kit::body::{BodyError, BodyLimits, Upload};
use kit::error::ApiError;
use kit::request::Call;
use model::collection::Collection;
use model::field::FieldKind;
use model::json::JsonObject;
use model::schema::Schema;

/// For a read or a delete.
pub(crate) fn of_path(app: &App, name: &str) -> Result<Arc<Collection>, ApiError> {
    find(&app.store.schema(), name)
}

/// The same under a given schema.
pub(crate) fn find(schema: &Schema, name: &str) -> Result<Arc<Collection>, ApiError> {
    schema.find(name).cloned().ok_or_else(ApiError::missing_collection)
}

/// For a create or an update, which name the missing collection differently and refuse views.
pub(crate) fn to_write(schema: &Schema, name: &str) -> Result<Arc<Collection>, ApiError> {
    let collection = schema.find(name).cloned().ok_or_else(ApiError::missing_or_invalid_collection)?;
    refuse_view(&collection)?;
    Ok(collection)
}

/// Records of a view are not written.
pub(crate) fn refuse_view(collection: &Collection) -> Result<(), ApiError> {
    if collection.is_view() { Err(ApiError::unsupported_collection_type()) } else { Ok(()) }
}

/// Reads a record's body, and the files in it.
pub(crate) async fn read_body(
    app: &App,
    call: &mut Call,
    collection: &Collection,
) -> Result<(JsonObject, Vec<Upload>), ApiError> {
    let [max_bytes, max_value_bytes] = max_body_bytes(collection);
    let limits = BodyLimits::bytes(max_bytes).value_bytes(max_value_bytes);
    let submitted = call.read_body_with_files(limits, &app.files.spool).await;
    let mut submitted = submitted.map_err(BodyError::into_record_error)?;
    let uploads = submitted.take_uploads();
    Ok((submitted.into_object().map_err(BodyError::into_record_error)?, uploads))
}

/// The contract's limit: what the fields may hold beyond the usual 32 MiB (CONTRACT §1.4); and the same of the
/// fields that are no files.
fn max_body_bytes(collection: &Collection) -> [u64; 2] {
    const MIB: u64 = 1 << 20;
    let or_default = |size: u64, default: u64| if size == 0 { default } else { size };
    let of_fields = collection.fields.iter().map(|field| match &field.kind {
        FieldKind::File(options) => {
            let of_files = or_default(options.max_size, 5 * MIB).saturating_mul(options.max_select.max(1));
            [of_files, 0]
        }
        FieldKind::Editor(options) => [or_default(options.max_size, 5 * MIB); 2],
        FieldKind::Json(options) => [or_default(options.max_size, MIB); 2],
        _ => [0; 2],
    });
    of_fields.fold([BodyLimits::DEFAULT_MAX_BYTES; 2], |[all, values], [more, more_values]| {
        [all.saturating_add(more), values.saturating_add(more_values)]
    })
}
