//! Removing files that no record holds any more. [`run`] follows the changes by which records lose files, and
//! leaves jobs; [`RemoveFiles`] does them. Both may do the same twice.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use contract::blobs::{BlobError, BlobKey, Blobs};
use contract::broker::{Broker, Subscription};
use contract::event::{ChangeEvent, Events, Interest};
use contract::jobs::{Attempt, Job, JobError, JobHandler};
use contract::store::{Store, StoreError};
use kit::file_removal::FileRemoval;
use model::collection::Collection;
use model::field::FieldKind;
use model::json::{Json, JsonObject};
use model::step::{NewJob, Step, WriteBatch};
use model::time::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The name of the consumer.
const CONSUMER: &str = "files";
/// After a store that did not answer, or has too many jobs already.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// Jobs that are left in one batch.
const JOBS_PER_BATCH: usize = 100;
/// How far the clock of where blobs are may be behind, and how coarse.
const CLOCK_MARGIN: Duration = Duration::from_secs(2);
/// Blobs of a folder that are looked up at a time.
const LISTED: usize = 1_000;

/// The first part of the folder of what was derived from a file; the rest is the file's name.
pub const THUMBS_PREFIX: &str = "thumbs_";

/// Removes files. The handler of [`FileRemoval::QUEUE`].
pub struct RemoveFiles {
    store: Arc<dyn Store>,
    blobs: Arc<dyn Blobs>,
}

/// Leaves jobs for files that go, until it is told to stop. What it has not acknowledged then comes again after
/// the next start.
pub async fn run(store: Arc<dyn Store>, broker: Arc<dyn Broker>, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = follow(&*store, &*broker) => {}
    }
}

/// The folder of what was derived from a file.
pub fn thumbs_folder(file: &BlobKey) -> Option<BlobKey> {
    let (folder, name) = file.as_str().rsplit_once('/')?;
    BlobKey::parse(&format!("{folder}/{THUMBS_PREFIX}{name}"))
}

/// Subscribes again after every error.
async fn follow(store: &dyn Store, broker: &dyn Broker) {
    loop {
        let Err(error) = follow_until_error(store, broker).await;
        warn!(%error, "files that go are not followed for a moment");
        tokio::time::sleep(AFTER_ERROR).await;
    }
}

async fn follow_until_error(store: &dyn Store, broker: &dyn Broker) -> Result<Infallible, StoreError> {
    let mut subscription = broker.subscribe(CONSUMER.to_owned(), Interest::Files).await?;
    loop {
        step(store, &mut *subscription).await?;
    }
}

/// One delivery.
async fn step(store: &dyn Store, subscription: &mut dyn Subscription) -> Result<(), StoreError> {
    match subscription.next().await? {
        Events::Some(events) => {
            let jobs: Vec<NewJob> = events.iter().flat_map(|event| jobs_of(store, event)).collect();
            for jobs in jobs.chunks(JOBS_PER_BATCH) {
                leave(store, jobs).await?;
            }
            match events.last() {
                Some(last) => subscription.acknowledge(last.sequence).await,
                None => Ok(()),
            }
        }
        Events::Resync { from } => {
            warn!("changes were cut off before they were seen: the files that went with them stay");
            subscription.acknowledge(from).await
        }
    }
}

async fn leave(store: &dyn Store, jobs: &[NewJob]) -> Result<(), StoreError> {
    let steps = jobs.iter().cloned().map(Step::Enqueue).collect();
    let left = store.write(WriteBatch { steps, ..WriteBatch::default() }).await?;
    left.map(drop).map_err(|refused| StoreError::Internal(format!("a job was refused: {refused:?}")))
}

fn jobs_of(store: &dyn Store, event: &ChangeEvent) -> Vec<NewJob> {
    let schema = store.schema();
    // With a collection its folder goes.
    let Some(collection) = schema.by_id(&event.collection) else { return Vec::new() };
    let keys = files_that_went(collection, event.before.as_ref(), event.after.as_ref())
        .into_iter()
        .filter_map(|name| BlobKey::new([event.collection.as_str(), event.record.as_str(), name]))
        .collect();
    FileRemoval::Files(keys).into_jobs()
}

/// The names of files that the row before holds in any field, and the row after in none.
fn files_that_went<'r>(
    collection: &Collection,
    before: Option<&'r JsonObject>,
    after: Option<&'r JsonObject>,
) -> Vec<&'r str> {
    let after: Vec<&str> = after.map(|row| files_of(collection, row)).unwrap_or_default();
    let before = before.map(|row| files_of(collection, row)).unwrap_or_default();
    before.into_iter().filter(|name| !after.contains(name)).collect()
}

fn files_of<'r>(collection: &Collection, row: &'r JsonObject) -> Vec<&'r str> {
    let fields = collection.fields.iter().filter(|field| matches!(field.kind, FieldKind::File(_)));
    let values = fields.filter_map(|field| row.get(&field.name));
    let names = values.flat_map(|value| match value {
        Json::Array(names) => names.iter().filter_map(Json::as_str).collect(),
        value => value.as_str().into_iter().collect::<Vec<_>>(),
    });
    names.filter(|name| !name.is_empty()).collect()
}

// === impl RemoveFiles ===

impl RemoveFiles {
    /// Removes files of the records of a store from here.
    pub fn new(store: Arc<dyn Store>, blobs: Arc<dyn Blobs>) -> RemoveFiles {
        RemoveFiles { store, blobs }
    }

    async fn remove(&self, job: Job) -> Result<(), JobError> {
        let removal = FileRemoval::of_payload(&job.payload)
            .ok_or_else(|| JobError::Never("the payload is not a removal of files".to_owned()))?;
        let done = match removal {
            FileRemoval::Files(keys) => self.remove_files(keys).await,
            FileRemoval::Folder(folder) => self.remove_collection(folder, job.created).await,
        };
        done.map_err(|error| JobError::Again(error.to_string()))
    }

    async fn remove_files(&self, keys: Vec<BlobKey>) -> Result<(), BlobError> {
        for key in keys {
            let thumbs = thumbs_folder(&key);
            // First the file: from then on nothing is derived from it.
            self.blobs.delete(key).await?;
            if let Some(thumbs) = thumbs {
                self.remove_thumbs(thumbs).await?;
            }
        }
        Ok(())
    }

    async fn remove_thumbs(&self, folder: BlobKey) -> Result<(), BlobError> {
        loop {
            let keys = self.blobs.list(folder.clone(), LISTED).await?;
            let is_last = keys.len() < LISTED;
            for key in keys {
                self.blobs.delete(key).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Removes the folder of a collection that was removed. One that was made again may have the same id: then
    /// what may be its own stays.
    async fn remove_collection(&self, folder: BlobKey, removed: Timestamp) -> Result<(), BlobError> {
        loop {
            let keys = self.blobs.list(folder.clone(), LISTED).await?;
            let is_last = keys.len() < LISTED;
            // After the list: what is stored for a collection that is made from now on is not in it.
            let is_there_again = self.store.schema().by_id(folder.as_str()).is_some();
            let mut count = 0;
            for key in keys {
                if !is_there_again || self.is_older(&key, removed).await? {
                    self.blobs.delete(key).await?;
                    count += 1;
                }
            }
            if is_last {
                info!(%folder, is_there_again, "the files of a collection were removed");
                return Ok(());
            }
            if count == 0 {
                warn!(%folder, "some files of a removed collection may be left: another has its id now");
                return Ok(());
            }
        }
    }

    /// Whether a blob was stored before an instant, by a margin for clocks of other machines.
    async fn is_older(&self, key: &BlobKey, instant: Timestamp) -> Result<bool, BlobError> {
        let Some(blob) = self.blobs.open(key.clone()).await? else { return Ok(true) };
        let stored = blob.modified.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let instant = Duration::from_millis(instant.0.try_into().unwrap_or(0));
        Ok(stored + CLOCK_MARGIN < instant)
    }
}

impl JobHandler for RemoveFiles {
    fn run(&self, job: Job) -> Attempt<'_> {
        Box::pin(async move { self.remove(job).await.into() })
    }
}

#[cfg(test)]
mod tests {
    use model::collection::create;
    use model::schema::Schema;

    use super::*;

    fn pictures() -> Collection {
        let body = r#"{"name": "pictures", "fields": [
            {"name": "one", "type": "file"}, {"name": "many", "type": "file", "maxSelect": 9},
            {"name": "title", "type": "text"}
        ]}"#;
        let body = Json::parse_whole(body).unwrap();
        create::create(&Schema::new(0, Vec::new()), &body, None, Timestamp(0), &mut rand::rng()).unwrap()
    }

    /// What went between two rows, given as JSON; an empty text is no row.
    fn went(before: &str, after: &str) -> String {
        let row = |text: &str| match Json::parse_whole(text) {
            Ok(Json::Object(row)) => Some(row),
            _ => None,
        };
        files_that_went(&pictures(), row(before).as_ref(), row(after).as_ref()).join(" ")
    }

    #[test]
    fn files_go_that_no_field_holds_any_more() {
        let full = r#"{"one": "a", "many": ["b", "c"], "title": "d"}"#;
        assert_eq!(went("", full), "");
        assert_eq!(went(full, full), "");
        assert_eq!(went(full, ""), "a b c");
        assert_eq!(went(full, r#"{"one": "", "many": ["c", "e"], "title": ""}"#), "a b");
        assert_eq!(went(full, r#"{"one": "b", "many": ["a"]}"#), "c", "a file may move to another field");
        assert_eq!(went(r#"{"one": null, "many": []}"#, ""), "");
    }

    #[test]
    fn thumbs_lie_beside_their_file() {
        let file = BlobKey::parse("c/r/a.png").unwrap();
        assert_eq!(thumbs_folder(&file).unwrap().as_str(), "c/r/thumbs_a.png");
    }
}
