//! From a change of a record to the files that are gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blobs::FolderBlobs;
use broker::EmbeddedBroker;
use bytes::Bytes;
use contract::blobs::{BlobKey, Blobs};
use contract::jobs::JobStore;
use contract::store::Store;
use files::cleanup::{self, RemoveFiles};
use jobs::{Policy, Queue, Worker};
use kit::file_removal::FileRemoval;
use model::context::RequestContext;
use model::json::{Json, JsonObject};
use model::step::{Access, CreateRecord, DeleteRecord, Step, Uploads, WriteBatch};
use model::time::Timestamp;
use store::sqlite::{Options, SqliteStore};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

/// A store with blobs, and all that cleans them up.
struct Stage {
    store: Arc<SqliteStore>,
    blobs: Arc<dyn Blobs>,
    stop: CancellationToken,
    worker: Worker,
    folder: TempDir,
}

impl Stage {
    async fn set() -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let (events, new_jobs) = (Arc::<broker::Wakeup>::default(), Arc::<jobs::Wakeup>::default());
        let mut options = Options::new(folder.path().join("data"));
        options.observers = vec![events.clone(), new_jobs.clone()];
        let store = Arc::new(SqliteStore::open(options).unwrap());
        let blobs = blobs::Options::new(folder.path().join("storage"));
        let blobs: Arc<dyn Blobs> = Arc::new(FolderBlobs::open(blobs).unwrap());
        let handler = Arc::new(RemoveFiles::new(store.clone(), blobs.clone()));
        let queue = Queue { name: FileRemoval::QUEUE.to_owned(), handler, policy: Policy::default() };
        let jobs: Arc<dyn JobStore> = store.clone();
        let worker = Worker::start(&jobs, &new_jobs, vec![queue]);
        let stop = CancellationToken::new();
        let broker = Arc::new(EmbeddedBroker::new(store.clone(), events));
        tokio::spawn(cleanup::run(store.clone(), broker, stop.clone()));
        // What comes before it follows is none of its business.
        until("it follows", async || store.events("files".to_owned(), 0, 1).await.is_ok()).await;
        Stage { store, blobs, stop, worker, folder }
    }

    fn users(&self) -> String {
        self.store.schema().by_name("users").unwrap().id.clone()
    }

    /// A user whose avatar is stored, with a thumb.
    async fn user(&self, id: &str, avatar: &str) {
        let body = format!(
            r#"{{"id": "{id}", "email": "{id}@example.com", "password": "secret1234", "passwordConfirm": "secret1234"}}"#
        );
        let Ok(Json::Object(body)) = Json::parse_whole(&body) else { panic!() };
        let create = Step::Create(CreateRecord {
            set_by_hooks: Default::default(),
            collection: self.users(),
            body,
            uploads: Uploads::default(),
            password_hashes: BTreeMap::from([("password".to_owned(), "hash".to_owned())]),
            access: server(),
        });
        self.store.write(WriteBatch::one(create)).await.unwrap().unwrap();
        let data = rusqlite::Connection::open(self.folder.path().join("data/data.db")).unwrap();
        data.execute("UPDATE users SET avatar = ?1 WHERE id = ?2", [avatar, id]).unwrap();
        for key in self.keys(id, avatar) {
            self.blobs.put(key, Arc::new(Bytes::from_static(b"bytes"))).await.unwrap();
        }
    }

    fn keys(&self, id: &str, avatar: &str) -> [BlobKey; 2] {
        let file = format!("{}/{id}/{avatar}", self.users());
        let thumb = format!("{}/{id}/thumbs_{avatar}/10x10_{avatar}", self.users());
        [file, thumb].map(|key| BlobKey::parse(&key).unwrap())
    }

    async fn stored(&self) -> Vec<String> {
        let folder = BlobKey::parse(&self.users()).unwrap();
        let mut keys: Vec<_> =
            self.blobs.list(folder, 100).await.unwrap().iter().map(|key| key.as_str().to_owned()).collect();
        keys.sort();
        keys
    }

    /// Waits until exactly these files are left.
    async fn await_stored(&self, expected: &[BlobKey]) {
        let mut expected: Vec<_> = expected.iter().map(|key| key.as_str().to_owned()).collect();
        expected.sort();
        until("the others are gone", async || self.stored().await == expected).await;
    }

    async fn end(self) {
        self.stop.cancel();
        self.worker.stop().await;
    }
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn server() -> Access {
    Access { context: Arc::new(RequestContext::guest(Timestamp(0))), check_rule: false }
}

#[tokio::test]
async fn files_go_with_their_record_and_thumbs_with_their_file() {
    let stage = Stage::set().await;
    stage.user("aaaaaaaaaaaaaaa", "a.png").await;
    stage.user("bbbbbbbbbbbbbbb", "b.png").await;
    assert_eq!(stage.stored().await.len(), 4);
    let delete = Step::Delete(DeleteRecord {
        collection: stage.users(),
        id: "aaaaaaaaaaaaaaa".to_owned(),
        body: JsonObject::new(),
        access: server(),
    });
    stage.store.write(WriteBatch::one(delete)).await.unwrap().unwrap();
    stage.await_stored(&stage.keys("bbbbbbbbbbbbbbb", "b.png")).await;
    stage.end().await;
}

#[tokio::test]
async fn the_folder_of_a_removed_collection_goes() {
    let stage = Stage::set().await;
    let gone = BlobKey::parse("pbc_1/r/a.png").unwrap();
    stage.blobs.put(gone, Arc::new(Bytes::from_static(b"bytes"))).await.unwrap();
    let steps = FileRemoval::of_collection("pbc_1").unwrap().into_jobs();
    let steps = steps.into_iter().map(Step::Enqueue).collect();
    stage.store.write(WriteBatch { steps, ..WriteBatch::default() }).await.unwrap().unwrap();
    let folder = BlobKey::parse("pbc_1").unwrap();
    until("it is gone", async || stage.blobs.list(folder.clone(), 10).await.unwrap().is_empty()).await;
    stage.end().await;
}

/// It has the same id, which is made of its name.
#[tokio::test]
async fn files_of_a_collection_that_was_made_again_stay() {
    let stage = Stage::set().await;
    stage.user("aaaaaaaaaaaaaaa", "a.png").await;
    let removal = FileRemoval::of_collection(&stage.users()).unwrap();
    let steps = removal.into_jobs().into_iter().map(Step::Enqueue).collect();
    stage.store.write(WriteBatch { steps, ..WriteBatch::default() }).await.unwrap().unwrap();
    until("the job is done", async || stage.store.queues().await.unwrap().is_empty()).await;
    assert_eq!(stage.stored().await.len(), 2);
    stage.end().await;
}
