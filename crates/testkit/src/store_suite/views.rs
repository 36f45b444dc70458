//! Views: what their queries give, what they must not, and what becomes of them when collections change.

use std::sync::Arc;
use std::time::Instant;

use contract::store::{GetRecords, ListRecords, ReferringRecords, StoreError, TriedView, TryView};
use futures_util::future::join;
use model::collection::view::{Fault, unsaved};
use model::field::FieldKind;
use model::record::Record;
use model::step::{Step, Why, WriteBatch};
use model::value::Value;

use super::Stage;

const NOTES: &str = r#"{"fields": [
    {"id": "f1", "name": "title", "type": "text", "max": 20},
    {"id": "f2", "name": "n", "type": "number"},
    {"id": "f3", "name": "spare", "type": "text"}
]}"#;

/// Sorted before it gives its first record, it has none.
const ENDLESS: &str = "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x) \
                       SELECT n AS id FROM x ORDER BY n DESC";

async fn notes(stage: &Stage) {
    stage.collection("notes", NOTES).await;
    for (id, n) in [("a", 1), ("b", 2), ("c", 3)] {
        stage.create("notes", &format!(r#"{{"id": "{id}", "title": "T{n}", "n": {n}}}"#)).await;
    }
}

async fn view(stage: &Stage, name: &str, query: &str) {
    stage.collection(name, &format!(r#"{{"type": "view", "viewQuery": {query:?}}}"#)).await;
}

async fn try_view(stage: &Stage, query: &str) -> Result<TriedView, StoreError> {
    let schema_version = stage.store().schema().version();
    let collection = unsaved(query.to_owned(), &mut rand::rng());
    stage.store().try_view(TryView { schema_version, collection }).await
}

/// Saves a view that nobody has looked at.
async fn save(stage: &Stage, query: &str) -> Result<(), Why> {
    let schema = stage.store().schema();
    let mut after = unsaved(query.to_owned(), &mut rand::rng());
    "looked".clone_into(&mut after.name);
    let step = Step::SaveCollection { before: None, after: Arc::new(after) };
    let batch =
        WriteBatch { steps: vec![step], schema_version: Some(schema.version()), ..WriteBatch::default() };
    stage.write(batch).await.map(drop).map_err(|refused| refused.why)
}

fn texts(records: &[Record], field: &str) -> Vec<String> {
    records.iter().map(|record| record.get(field).as_str().to_owned()).collect()
}

pub async fn a_view_has_the_records_of_its_query(stage: Stage) {
    notes(&stage).await;
    view(&stage, "big", "SELECT id, id AS note, title, (n * 2) AS twice FROM notes WHERE n > 1").await;
    assert_eq!(stage.sorted("big", "-title").await, "c b");
    assert_eq!(stage.filtered("big", "twice = 6").await, "c");
    assert_eq!(stage.filtered("big", "note.n = 2").await, "b");
    assert_eq!(stage.filtered("notes", "big_via_note.twice > 4").await, "c");
    let page = stage.store().list(ListRecords { limit: 1, with_total: true, ..stage.all("big") }).await;
    assert_eq!(page.unwrap().total, Some(2));
    let schema_version = stage.store().schema().version();
    let some = GetRecords {
        schema_version,
        collection: stage.find("big"),
        ids: vec!["a".to_owned(), "b".to_owned()],
        conditions: Vec::new(),
    };
    assert_eq!(texts(&stage.store().get_many(some).await.unwrap(), "title"), ["T2"]);
    let referring = ReferringRecords {
        schema_version,
        collection: stage.find("big"),
        field: "note".to_owned(),
        id: "c".to_owned(),
        conditions: Vec::new(),
        limit: 10,
    };
    assert_eq!(texts(&stage.store().referring(referring).await.unwrap(), "title"), ["T3"]);
    stage.patch("notes", "a", r#"{"n": 9}"#).await;
    assert_eq!(stage.sorted("big", "id").await, "a b c");
}

pub async fn ids_of_a_view_are_texts(stage: Stage) {
    notes(&stage).await;
    view(&stage, "numbered", "SELECT (row_number() OVER (ORDER BY id)) AS id, title FROM notes").await;
    assert_eq!(stage.sorted("numbered", "-id").await, "3 2 1");
    assert_eq!(stage.filtered("numbered", "id = '2'").await, "2");
    assert_eq!(stage.get("numbered", "2").await.unwrap().id(), "2");
}

pub async fn an_id_that_a_view_has_twice_counts_once(stage: Stage) {
    let query = "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x WHERE n < 50) \
                 SELECT (n % 15) AS id FROM x";
    view(&stage, "doubles", query).await;
    for limit in [1, 100] {
        let page = stage.store().list(ListRecords { limit, with_total: true, ..stage.all("doubles") }).await;
        assert_eq!(page.unwrap().total, Some(15));
    }
}

pub async fn fields_of_a_view_follow_its_sources(stage: Stage) {
    notes(&stage).await;
    view(&stage, "v", "SELECT id, title FROM notes").await;
    view(&stage, "vv", "SELECT id, title AS again FROM v").await;
    stage.write(stage.change_collection("notes", &NOTES.replace("20", "7"))).await.unwrap();
    let (v, vv) = (stage.find("v"), stage.find("vv"));
    for field in [v.field("title").unwrap(), vv.field("again").unwrap()] {
        assert!(matches!(&field.kind, FieldKind::Text(options) if options.max == 7), "{field:?}");
    }
    stage.write(stage.change_collection("notes", r#"{"name": "pages"}"#)).await.unwrap();
    assert_eq!(stage.sorted("vv", "id").await, "a b c");
}

pub async fn what_a_view_is_made_of_stays(stage: Stage) {
    notes(&stage).await;
    view(&stage, "v", "SELECT id, title FROM notes").await;
    view(&stage, "vv", "SELECT id, title FROM v").await;
    let dropped = r#"{"fields": [{"id": "f2", "name": "n", "type": "number"}]}"#;
    let refused = stage.write(stage.change_collection("notes", dropped)).await.unwrap_err();
    assert!(matches!(refused.why, Why::Engine(text) if text.contains("title")));
    for name in ["notes", "v"] {
        let step = Step::DeleteCollection { collection: stage.find(name), check_views: true };
        let version = Some(stage.store().schema().version());
        let refused = stage
            .write(WriteBatch { steps: vec![step], schema_version: version, ..WriteBatch::default() })
            .await;
        assert!(matches!(refused.unwrap_err().why, Why::Engine(_)), "{name}");
    }
    assert_eq!(stage.filtered("vv", "title = 'T1'").await, "a");
    for name in ["vv", "v", "notes"] {
        let step = Step::DeleteCollection { collection: stage.find(name), check_views: true };
        stage.steps(vec![step]).await.unwrap();
    }
}

pub async fn a_query_that_does_more_than_read_is_refused(stage: Stage) {
    notes(&stage).await;
    for query in [
        "DELETE FROM notes",
        "INSERT INTO notes (id) VALUES ('x')",
        "UPDATE notes SET title = '' RETURNING id",
        "DROP TABLE notes",
        "SELECT id FROM notes; DELETE FROM notes",
        "SELECT id FROM notes) ; DELETE FROM notes; --",
        "SELECT 'a\\') AS id; DELETE FROM notes; --' AS id",
        "PRAGMA query_only",
        "ATTACH DATABASE 'other' AS other",
        "SELECT id FROM missing",
        "SELECT title FROM notes",
        "SELECT * FROM notes",
        "",
    ] {
        let tried = try_view(&stage, query).await.unwrap();
        assert!(matches!(tried.trial.fault, Some(Fault::Query(_))), "{query}: {tried:?}");
        assert!(matches!(save(&stage, query).await, Err(Why::Engine(_))), "{query}");
    }
    assert_eq!(stage.sorted("notes", "id").await, "a b c");
}

pub async fn a_view_with_empty_or_equal_ids_is_refused(stage: Stage) {
    notes(&stage).await;
    for query in ["SELECT '' AS id", "SELECT NULL AS id", "SELECT 1 AS id FROM notes"] {
        let tried = try_view(&stage, query).await.unwrap();
        assert!(matches!(tried.trial.fault, Some(Fault::Records(_))), "{query}: {tried:?}");
        let refused = save(&stage, query).await;
        assert!(matches!(refused, Err(Why::Fields(errors)) if errors.contains("viewQuery")), "{query}");
    }
    assert!(stage.store().schema().by_name("looked").is_none());
}

pub async fn trying_a_view_keeps_nothing(stage: Stage) {
    notes(&stage).await;
    let version = stage.store().schema().version();
    let tried = try_view(&stage, "SELECT id, title, n FROM notes ORDER BY id").await.unwrap();
    assert_eq!(tried.trial.fault, None);
    assert_eq!(texts(&tried.records, "title"), ["T1", "T2", "T3"]);
    assert_eq!(stage.store().schema().version(), version);
    view(&stage, "v", "SELECT id FROM notes").await;
}

/// Neither a column nor what is worked out of it.
pub async fn passwords_and_token_keys_are_in_no_view(stage: Stage) {
    stage.collection("people", r#"{"type": "auth", "fields": []}"#).await;
    stage.create_user("people", "ann").await;
    let query = "SELECT id, password, \"tokenKey\", (password) AS hash, substr(\"tokenKey\", 1, 3) AS start, \
                 (\"tokenKey\" > '') AS is_more, email FROM people";
    let tried = try_view(&stage, query).await.unwrap();
    assert_eq!(tried.trial.fault, None);
    view(&stage, "v", query).await;
    view(&stage, "vv", "SELECT id, hash, start AS is_more, password, \"tokenKey\", email FROM v").await;
    let seen =
        [tried.records, vec![stage.get("v", "ann").await.unwrap(), stage.get("vv", "ann").await.unwrap()]];
    for record in seen.iter().flatten() {
        assert_eq!(record.get("email").as_str(), "ann@example.com");
        for field in ["password", "tokenKey", "hash", "start", "is_more"] {
            assert_eq!(*record.get(field), Value::Null, "{field}");
        }
    }
    for filter in ["hash = 'hash'", "hash ~ 'h'", "password = 'hash'", "is_more = true", "tokenKey != ''"] {
        assert_eq!(stage.filtered("v", filter).await, "", "{filter}");
    }
    assert_eq!(stage.filtered("people", "tokenKey != ''").await, "ann");
}

pub async fn a_query_without_an_end_is_refused_while_others_write(stage: Stage) {
    notes(&stage).await;
    let refusal = async { (try_view(&stage, ENDLESS).await.unwrap(), Instant::now()) };
    let writes = async {
        for _ in 0..50 {
            stage.create("notes", "{}").await;
        }
        Instant::now()
    };
    let ((tried, refused_at), wrote_at) = join(refusal, writes).await;
    assert!(matches!(tried.trial.fault, Some(Fault::Records(_))), "{tried:?}");
    assert!(wrote_at < refused_at);
}

pub async fn a_view_without_an_end_is_stopped_when_it_is_read(stage: Stage) {
    notes(&stage).await;
    save(&stage, ENDLESS).await.unwrap();
    let list = stage.store().list(stage.all("looked"));
    let write = async { stage.create("notes", "{}").await };
    let (list, _) = join(list, write).await;
    assert!(matches!(list, Err(StoreError::Deadline(_))), "{list:?}");
    let delete = Step::DeleteCollection { collection: stage.find("looked"), check_views: true };
    stage.steps(vec![delete]).await.unwrap();
}

/// Its source got another name for a field, or another view has gone: it says so, and nothing else fails.
pub async fn a_view_that_no_longer_fits_has_no_answer(stage: Stage) {
    notes(&stage).await;
    view(&stage, "v", "SELECT id, title FROM notes").await;
    view(&stage, "vv", "SELECT id, title FROM v").await;
    stage.write(stage.change_collection("v", r#"{"name": "w"}"#)).await.unwrap();
    let list = stage.store().list(stage.all("vv")).await;
    assert!(matches!(list, Err(StoreError::BrokenView(_))), "{list:?}");
    assert_eq!(stage.sorted("w", "id").await, "a b c");
    stage.write(stage.change_collection("w", r#"{"name": "v"}"#)).await.unwrap();
    assert_eq!(stage.sorted("vv", "id").await, "a b c");
}
