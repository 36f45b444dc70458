//! The files of a write: noted, then stored under their final names, before the write itself (DESIGN §5). The
//! write takes the notes of those that its record names; the rest is removed here, or by the sweeper of the
//! `files` service when this process does not come to it.

use std::sync::Arc;

use contract::blobs::{BlobKey, Content};
use kit::app::App;
use kit::body;
use kit::error::ApiError;
use kit::files::{blob_error, sniff};
use kit::spool::SpooledFile;
use model::collection::Collection;
use model::field::FieldKind;
use model::json::JsonObject;
use model::record::resolve::Upload;
use model::record::{Record, autogenerate, coerce, file_name, validate};
use model::step::{Step, StepResult, Uploads, WriteBatch};

/// Files of a body that are about to belong to a record.
#[derive(Default)]
pub(crate) struct Prepared {
    pub(crate) uploads: Uploads,
    /// Those that are worth storing, with their keys.
    contents: Vec<(BlobKey, Arc<SpooledFile>)>,
}

/// Gives the files of a body their names. The record is new when it has no id yet; then its id is the body's,
/// or a new one.
pub(crate) fn prepare(
    collection: &Collection,
    record_id: Option<&str>,
    body: &JsonObject,
    files: Vec<body::Upload>,
) -> Prepared {
    if files.is_empty() {
        return Prepared::default();
    }
    let record_id = record_id.map_or_else(|| id_of_new(collection, body), str::to_owned);
    let mut prepared = Prepared::default();
    for file in files {
        let Some(content) = file.file else { continue };
        let found = sniff(content.head());
        let original_name = file_name::original(&file.file_name).to_owned();
        let upload = Upload {
            key: file.field,
            name: file_name::stored(&original_name, found.extension, &mut rand::rng()),
            original_name,
            size: content.size(),
            mime_type: found.mime_type.to_owned(),
        };
        // What the field checks will refuse anyway is not stored, and neither is what no record can name.
        let key = BlobKey::new([collection.id.as_str(), record_id.as_str(), upload.name.as_str()]);
        if let Some(key) = key.filter(|_| validate::accepts_upload(collection, &upload)) {
            prepared.contents.push((key, Arc::new(content)));
        }
        prepared.uploads.files.push(upload);
    }
    prepared.uploads.record_id = record_id;
    prepared
}

/// The name that a file would be stored under.
pub(crate) fn stored_name(file: &body::Upload) -> String {
    let head = file.file.as_ref().map(SpooledFile::head).unwrap_or_default();
    file_name::stored(file_name::original(&file.file_name), sniff(head).extension, &mut rand::rng())
}

fn id_of_new(collection: &Collection, body: &JsonObject) -> String {
    let mut id = body.get("id").map(coerce::text).unwrap_or_default();
    if let (true, Some(FieldKind::Text(options))) =
        (id.is_empty(), collection.field_index("id").map(|index| &collection.fields[index].kind))
    {
        autogenerate::generate(&options.autogenerate_pattern, &mut rand::rng(), &mut id);
    }
    id
}

// === impl Prepared ===

impl Prepared {
    fn keys(&self) -> Vec<String> {
        self.contents.iter().map(|(key, _)| key.as_str().to_owned()).collect()
    }

    /// Notes the files, and stores them.
    pub(crate) async fn store(&self, app: &App) -> Result<(), ApiError> {
        if self.contents.is_empty() {
            return Ok(());
        }
        let noted = app.store.write(WriteBatch::one(Step::NoteUploads(self.keys()))).await?;
        noted.map_err(|_| ApiError::internal())?;
        for (key, content) in &self.contents {
            if let Err(error) = app.files.blobs.put(key.clone(), content.clone()).await {
                // Those before it would take room for an hour, of which there may be none. This one may yet
                // appear, if it ran out of time: its note stays, and the sweeper looks again.
                let keys = self.keys().into_iter().filter(|noted| noted != key.as_str()).collect();
                clean_up(app, keys).await;
                return Err(blob_error(error));
            }
        }
        Ok(())
    }

    /// Removes all of them: the write was refused.
    pub(crate) async fn clean_up(&self, app: &App) {
        clean_up(app, self.keys()).await;
    }

    /// Removes those that the record does not name after all.
    pub(crate) async fn clean_up_but(&self, app: &App, record: &Record) {
        if !self.contents.is_empty() {
            let named: Vec<String> = record.file_names().map(|name| record.file_key(&name)).collect();
            clean_up(app, self.keys().into_iter().filter(|key| !named.contains(key)).collect()).await;
        }
    }
}

/// What fails here is left to the sweeper.
async fn clean_up(app: &App, left: Vec<String>) {
    if !left.is_empty()
        && let Err(error) = remove(app, left).await
    {
        tracing::warn!(%error, "files that nobody names are left to the sweeper");
    }
}

/// Gives files up, and removes them: in this order, so that no write can name one that is being removed.
async fn remove(app: &App, keys: Vec<String>) -> Result<(), ApiError> {
    let results = app.store.write(WriteBatch::one(Step::GiveUpUploads(keys))).await?;
    let Ok(Some(StepResult::GivenUp(keys))) = results.map(|mut results| results.pop()) else {
        return Err(ApiError::internal());
    };
    for key in keys.iter().filter_map(|key| BlobKey::parse(key)) {
        app.files.blobs.delete(key).await.map_err(blob_error)?;
    }
    app.store.write(WriteBatch::one(Step::ForgetUploads(keys))).await?.map_err(|_| ApiError::internal())?;
    Ok(())
}
