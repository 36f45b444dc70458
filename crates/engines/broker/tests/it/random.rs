//! Consumers that are killed, paused and started again at random, and a store that is closed or dropped between
//! rounds, while writes, refused writes, batches and deletes go on. In the end each consumer has each event of
//! each acknowledged write, in order for each record, batches whole, and none of a refused one.
//!
//! `SEED` repeats a run, `SOAK` makes it long.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use broker::{EmbeddedBroker, Wakeup};
use contract::broker::Broker;
use contract::event::{ChangeEvent, Events, Interest};
use contract::store::{Store, StoreError};
use model::collection::{Collection, create};
use model::context::RequestContext;
use model::json::{Json, JsonObject};
use model::step::{Access, CreateRecord, DeleteRecord, PatchRecord, Step, Uploads, WriteBatch};
use model::time::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use store::sqlite::{Options, SqliteStore};
use tokio::task::JoinSet;

const WRITERS: u64 = 3;
const COLLECTIONS: [&str; 2] = ["notes", "others"];
const PATIENCE: Duration = Duration::from_secs(60);

/// What a writer was told of: for each record what happened to it.
type Written = BTreeMap<String, Vec<String>>;

/// What a consumer has acknowledged, over all its lives: what it only got dies with it.
#[derive(Default)]
struct Seen {
    events: BTreeMap<u64, ChangeEvent>,
    /// Events of a batch in one delivery.
    batches: BTreeSet<(u64, usize)>,
}

/// A consumer, and the collections that it wants.
struct Consumer {
    name: &'static str,
    wants: &'static [&'static str],
    seen: Mutex<Seen>,
}

#[test]
fn every_event_reaches_consumers_that_die_and_come_back() {
    let is_soak = std::env::var_os("SOAK").is_some();
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("SEED={seed}");
    let (rounds, writes) = if is_soak { (60, 1_500) } else { (4, 120) };
    let folder = tempfile::tempdir().unwrap();
    let consumers = [
        Consumer { name: "all", wants: &COLLECTIONS, seen: Mutex::default() },
        Consumer { name: "notes", wants: &COLLECTIONS[..1], seen: Mutex::default() },
    ]
    .map(Arc::new);
    let written = Arc::new(Mutex::new(Written::new()));
    for round in 0..rounds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let is_last = round + 1 == rounds;
        runtime.block_on(one_round(folder.path(), seed + round, writes, &consumers, &written, is_last));
    }
    let written = written.lock().unwrap();
    for consumer in &consumers {
        let seen = consumer.seen.lock().unwrap();
        let wanted = of_collections(&written, consumer.wants);
        assert_eq!(by_record(&seen), wanted, "what {} has seen is not what was written", consumer.name);
        check_batches(&seen);
        println!("{}: {} events of {} records", consumer.name, seen.events.len(), wanted.len());
    }
}

/// One life of the store.
async fn one_round(
    dir: &Path,
    seed: u64,
    writes: usize,
    consumers: &[Arc<Consumer>],
    written: &Arc<Mutex<Written>>,
    is_last: bool,
) {
    let wakeup = Arc::new(Wakeup::default());
    let options = Options { observers: vec![wakeup.clone()], ..Options::new(dir.join("data")) };
    let store = Arc::new(SqliteStore::open(options).unwrap());
    make_collections(&*store).await;
    let broker: Arc<dyn Broker> = Arc::new(EmbeddedBroker::new(store.clone(), wakeup));
    let mut following = JoinSet::new();
    for (number, consumer) in consumers.iter().enumerate() {
        // Before the first write: a consumer sees what comes after it.
        broker.subscribe(consumer.name.to_owned(), consumer.interest(&*store)).await.unwrap();
        let rng = StdRng::seed_from_u64(seed * 100 + 50 + number as u64);
        following.spawn(follow(consumer.clone(), broker.clone(), store.clone(), rng));
    }
    let mut writing = JoinSet::new();
    for writer in 0..WRITERS {
        let rng = StdRng::seed_from_u64(seed * 100 + writer);
        writing.spawn(write(store.clone(), format!("s{seed}w{writer}"), rng, writes, written.clone()));
    }
    while let Some(ended) = writing.join_next().await {
        ended.unwrap();
    }
    if is_last {
        let written = written.lock().unwrap().clone();
        for consumer in consumers {
            let wanted = of_collections(&written, consumer.wants);
            let started = Instant::now();
            while by_record(&consumer.seen.lock().unwrap()) != wanted && started.elapsed() < PATIENCE {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    // Wherever they are.
    following.shutdown().await;
    if seed.is_multiple_of(2) {
        store.close().await.unwrap();
    }
}

async fn make_collections(store: &dyn Store) {
    for name in COLLECTIONS {
        let schema = store.schema();
        if schema.by_name(name).is_some() {
            continue;
        }
        let body =
            object(&format!(r#"{{"name": "{name}", "fields": [{{"name": "title", "type": "text"}}]}}"#));
        let made =
            create::create(&schema, &Json::Object(body), None, Timestamp(0), &mut rand::rng()).unwrap();
        let steps = vec![Step::SaveCollection { before: None, after: Arc::new(made) }];
        let batch = WriteBatch { steps, schema_version: Some(schema.version()), ..WriteBatch::default() };
        store.write(batch).await.unwrap().unwrap();
    }
}

// === the writers ===

/// Writes to records of its own.
async fn write(
    store: Arc<SqliteStore>,
    prefix: String,
    mut rng: StdRng,
    writes: usize,
    written: Arc<Mutex<Written>>,
) {
    let mut records: Vec<(Arc<Collection>, String)> = Vec::new();
    for number in 0..writes {
        let mut steps = Vec::new();
        let mut said = Vec::new();
        let mut alive = records.clone();
        let count = if rng.random_range(0..4) == 0 { rng.random_range(2..8) } else { 1 };
        for part in 0..count {
            let title = format!("t{number}p{part}");
            let (record, step, what) = match rng.random_range(0..3) {
                0 if !alive.is_empty() => {
                    let (collection, id) = alive[rng.random_range(0..alive.len())].clone();
                    let step = patch(&collection, &id, &title);
                    ((collection, id), step, format!("update {title}"))
                }
                1 if alive.len() > 5 => {
                    let (collection, id) = alive.swap_remove(rng.random_range(0..alive.len()));
                    let step = delete(&collection, &id);
                    ((collection, id), step, "delete".to_owned())
                }
                _ => {
                    let name = COLLECTIONS[rng.random_range(0..COLLECTIONS.len())];
                    let collection = store.schema().by_name(name).unwrap().clone();
                    let id = id_of(&format!("{prefix}n{number}p{part}"));
                    alive.push((collection.clone(), id.clone()));
                    let step = make(&collection, &id, &title);
                    ((collection, id), step, format!("create {title}"))
                }
            };
            said.push((format!("{} {}", record.0.name, record.1), what));
            steps.push(step);
        }
        // What comes before the step that is refused must leave nothing either.
        let is_refused = rng.random_range(0..5) == 0;
        if is_refused {
            let notes = store.schema().by_name("notes").unwrap().clone();
            steps.push(delete(&notes, "missing00000000"));
        }
        let done = store.write(WriteBatch { steps, ..WriteBatch::default() }).await.unwrap();
        assert_eq!(done.is_err(), is_refused);
        if !is_refused {
            let mut written = written.lock().unwrap();
            said.into_iter().for_each(|(record, what)| written.entry(record).or_default().push(what));
            records = alive;
        }
    }
}

/// An id of 15 characters.
fn id_of(name: &str) -> String {
    format!("{name:x<15}")
}

fn make(collection: &Collection, id: &str, title: &str) -> Step {
    Step::Create(CreateRecord {
        set_by_hooks: Default::default(),
        collection: collection.id.clone(),
        body: object(&format!(r#"{{"id": "{id}", "title": "{title}"}}"#)),
        uploads: Uploads::default(),
        password_hashes: BTreeMap::new(),
        access: server(),
    })
}

fn patch(collection: &Collection, id: &str, title: &str) -> Step {
    Step::Patch(PatchRecord {
        set_by_hooks: Default::default(),
        collection: collection.id.clone(),
        id: id.to_owned(),
        body: object(&format!(r#"{{"title": "{title}"}}"#)),
        uploads: Uploads::default(),
        password_hashes: BTreeMap::new(),
        old_password_for: None,
        access: server(),
    })
}

fn delete(collection: &Collection, id: &str) -> Step {
    Step::Delete(DeleteRecord {
        collection: collection.id.clone(),
        id: id.to_owned(),
        body: JsonObject::new(),
        access: server(),
    })
}

fn server() -> Access {
    Access { context: Arc::new(RequestContext::guest(Timestamp(0))), check_rule: false }
}

fn object(text: &str) -> JsonObject {
    match Json::parse_whole(text) {
        Ok(Json::Object(object)) => object,
        other => panic!("{text}: {other:?}"),
    }
}

// === the consumers ===

impl Consumer {
    fn interest(&self, store: &dyn Store) -> Interest {
        if self.wants.len() == COLLECTIONS.len() {
            return Interest::All;
        }
        let schema = store.schema();
        Interest::Collections(
            self.wants.iter().map(|name| schema.by_name(name).unwrap().id.clone()).collect(),
        )
    }

    fn note_delivery(&self, events: &[ChangeEvent]) {
        assert!(events.is_sorted_by(|one, next| one.sequence < next.sequence));
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        events.iter().for_each(|event| *counts.entry(event.batch).or_default() += 1);
        self.seen.lock().unwrap().batches.extend(counts);
    }

    fn note_done(&self, events: impl Iterator<Item = ChangeEvent>) {
        self.seen.lock().unwrap().events.extend(events.map(|event| (event.sequence, event)));
    }
}

/// Lives and dies.
async fn follow(consumer: Arc<Consumer>, broker: Arc<dyn Broker>, store: Arc<SqliteStore>, mut rng: StdRng) {
    loop {
        let interest = consumer.interest(&*store);
        let mut subscription = broker.subscribe(consumer.name.to_owned(), interest).await.unwrap();
        let mut last = 0;
        let mut held: Vec<ChangeEvent> = Vec::new();
        for _ in 0..rng.random_range(1..30) {
            let patience = Duration::from_millis(rng.random_range(0..20));
            // An impatient one drops the future, and must lose nothing by that.
            let events = match tokio::time::timeout(patience, subscription.next()).await {
                Err(_) => continue,
                Ok(Ok(Events::Some(events))) => events,
                Ok(Ok(Events::Resync { from })) => panic!("told to resync from {from}"),
                // The end of the round.
                Ok(Err(StoreError::Closed | StoreError::Busy)) => return,
                Ok(Err(error)) => panic!("{error}"),
            };
            assert!(events[0].sequence > last, "a subscription repeats itself");
            last = events[events.len() - 1].sequence;
            let done = events[rng.random_range(0..events.len())].sequence;
            consumer.note_delivery(&events);
            held.extend(events);
            let done = match rng.random_range(0..4) {
                0 => continue,
                1 => done,
                _ => last,
            };
            let count = held.partition_point(|event| event.sequence <= done);
            consumer.note_done(held.drain(..count));
            subscription.acknowledge(done).await.unwrap();
            if rng.random_range(0..6) == 0 {
                tokio::time::sleep(Duration::from_millis(rng.random_range(0..30))).await;
            }
        }
    }
}

// === the account ===

fn of_collections(written: &Written, names: &[&str]) -> Written {
    let is_wanted = |record: &str| names.iter().any(|name| record.starts_with(&format!("{name} ")));
    let wanted = written.iter().filter(|(record, _)| is_wanted(record));
    wanted.map(|(record, said)| (record.clone(), said.clone())).collect()
}

/// What happened to each record, in the order of the events.
fn by_record(seen: &Seen) -> Written {
    let mut records = Written::new();
    for event in seen.events.values() {
        let row = event.after.as_ref();
        let title = row.and_then(|row| row.get("title")).and_then(Json::as_str).unwrap_or_default();
        let said = format!("{} {title}", event.action.as_str()).trim_end().to_owned();
        let row = row.or(event.before.as_ref()).unwrap();
        let collection = row.get("collectionId").and_then(Json::as_str).unwrap();
        records.entry(format!("{} {}", name_of(collection), event.record)).or_default().push(said);
    }
    records
}

/// Ids of collections are made of their names.
fn name_of(id: &str) -> &'static str {
    use std::sync::OnceLock;
    static IDS: OnceLock<Vec<(String, &'static str)>> = OnceLock::new();
    let ids = IDS.get_or_init(|| {
        let id = |name: &'static str| {
            let body = Json::Object(object(&format!(r#"{{"name": "{name}"}}"#)));
            let schema = model::schema::Schema::new(0, Vec::new());
            (create::create(&schema, &body, None, Timestamp(0), &mut rand::rng()).unwrap().id, name)
        };
        COLLECTIONS.map(id).to_vec()
    });
    ids.iter().find(|(known, _)| known == id).map(|(_, name)| *name).unwrap()
}

/// No delivery held a part of a batch, past what its consumer had acknowledged of it.
fn check_batches(seen: &Seen) {
    let mut whole: BTreeMap<u64, usize> = BTreeMap::new();
    seen.events.values().for_each(|event| *whole.entry(event.batch).or_default() += 1);
    for (batch, count) in whole {
        assert!(seen.batches.contains(&(batch, count)), "batch {batch} never came whole");
    }
}
