//! Files that come with a write: noted before it, named by it, and given up by one of both.

use std::collections::BTreeMap;

use model::record::resolve::Upload;
use model::step::{CreateRecord, Guard, PatchRecord, Step, StepResult, Uploads, Why};
use model::time::Timestamp;

use super::Stage;
use super::stage::{object, server};

const DOCS: &str = r#"{"fields": [{"name": "file", "type": "file", "maxSelect": 2}]}"#;
/// Later than every note.
const LATER: Timestamp = Timestamp(i64::MAX);

fn upload(name: &str) -> Upload {
    Upload {
        key: "file+".to_owned(),
        name: name.to_owned(),
        original_name: name.to_owned(),
        size: 1,
        mime_type: "text/plain".to_owned(),
    }
}

fn uploads(record: &str, names: &[&str]) -> Uploads {
    Uploads { files: names.iter().map(|name| upload(name)).collect(), record_id: record.to_owned() }
}

fn key(stage: &Stage, record: &str, name: &str) -> String {
    format!("{}/{record}/{name}", stage.find("docs").id)
}

fn create(stage: &Stage, body: &str, uploads: Uploads) -> Step {
    let collection = stage.find("docs").id.clone();
    let (body, password_hashes) = (object(body), BTreeMap::new());
    Step::Create(CreateRecord {
        collection,
        body,
        set_by_hooks: Default::default(),
        password_hashes,
        uploads,
        access: server(),
    })
}

async fn note(stage: &Stage, keys: Vec<String>) {
    stage.steps(vec![Step::NoteUploads(keys)]).await.unwrap();
}

async fn stale(stage: &Stage) -> Vec<String> {
    let mut keys = stage.store().stale_uploads(LATER, 10).await.unwrap();
    keys.sort();
    keys
}

pub async fn a_write_takes_the_notes_of_the_files_that_it_names(stage: Stage) {
    stage.collection("docs", DOCS).await;
    let keys = [key(&stage, "a", "one.txt"), key(&stage, "a", "two.txt"), key(&stage, "a", "lost.txt")];
    note(&stage, keys.to_vec()).await;
    let record = stage.step(create(&stage, "{}", uploads("a", &["one.txt"]))).await.unwrap().unwrap();
    assert_eq!((record.id(), record.get("file").list()), ("a", vec!["one.txt".to_owned()]));
    let patch = Step::Patch(PatchRecord {
        set_by_hooks: Default::default(),
        collection: stage.find("docs").id.clone(),
        id: "a".to_owned(),
        body: object("{}"),
        password_hashes: BTreeMap::new(),
        old_password_for: None,
        uploads: uploads("a", &["two.txt"]),
        access: server(),
    });
    stage.step(patch).await.unwrap();
    assert_eq!(stale(&stage).await, [keys[2].clone()]);
}

pub async fn a_file_without_a_note_is_named_by_no_write(stage: Stage) {
    stage.collection("docs", DOCS).await;
    let refused = stage.step(create(&stage, "{}", uploads("a", &["one.txt"]))).await.unwrap_err();
    assert_eq!(refused, Why::Guard(Guard::Upload));
    assert!(stage.get("docs", "a").await.is_none());
}

pub async fn a_refused_write_leaves_the_notes(stage: Stage) {
    stage.collection("docs", DOCS).await;
    let one = key(&stage, "a", "one.txt");
    note(&stage, vec![one.clone()]).await;
    let steps = vec![create(&stage, "{}", uploads("a", &["one.txt"])), Step::Impossible];
    assert_eq!(stage.steps(steps).await.unwrap_err().why, Why::Impossible);
    assert_eq!(stale(&stage).await, [one]);
    stage.step(create(&stage, "{}", uploads("a", &["one.txt"]))).await.unwrap();
}

pub async fn a_file_that_was_given_up_is_named_by_no_write(stage: Stage) {
    stage.collection("docs", DOCS).await;
    let (one, two) = (key(&stage, "a", "one.txt"), key(&stage, "b", "two.txt"));
    note(&stage, vec![one.clone(), two.clone()]).await;
    stage.step(create(&stage, "{}", uploads("b", &["two.txt"]))).await.unwrap();
    let mut results = stage.steps(vec![Step::GiveUpUploads(vec![one.clone(), two])]).await.unwrap();
    assert!(matches!(results.pop(), Some(StepResult::GivenUp(keys)) if keys == [one.clone()]));
    let refused = stage.step(create(&stage, "{}", uploads("a", &["one.txt"]))).await.unwrap_err();
    assert_eq!(refused, Why::Guard(Guard::Upload));
    stage.steps(vec![Step::ForgetUploads(vec![one])]).await.unwrap();
    assert!(stale(&stage).await.is_empty());
}

pub async fn only_old_notes_are_stale(stage: Stage) {
    stage.collection("docs", DOCS).await;
    note(&stage, vec![key(&stage, "a", "one.txt")]).await;
    assert!(stage.store().stale_uploads(Timestamp(0), 10).await.unwrap().is_empty());
    assert_eq!(stale(&stage).await.len(), 1);
}
