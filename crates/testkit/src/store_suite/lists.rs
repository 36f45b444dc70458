//! Lists: filters, the order, pages. What each sign means is held in full by the filter's own tests; here
//! stands that the adapter asks what the filter says.

use contract::store::ListRecords;

use super::Stage;

/// Books by several authors: `dune` by ann and bob, `emma` by ann, `faust` by bob, `gita` by none.
async fn library(stage: &Stage) {
    let authors = r#"{"fields": [{"name": "name", "type": "text"}, {"name": "age", "type": "number"}]}"#;
    stage.collection("authors", authors).await;
    let books = r#"{"fields": [
        {"name": "title", "type": "text"},
        {"name": "pages", "type": "number"},
        {"name": "authors", "type": "relation", "collectionId": "authors", "maxSelect": 9}
    ]}"#;
    stage.collection("books", books).await;
    stage.create("authors", r#"{"id": "ann", "name": "Ann", "age": 30}"#).await;
    stage.create("authors", r#"{"id": "bob", "name": "Bob", "age": 50}"#).await;
    stage
        .create("books", r#"{"id": "dune", "title": "Dune", "pages": 400, "authors": ["ann", "bob"]}"#)
        .await;
    stage.create("books", r#"{"id": "emma", "title": "emma", "pages": 90, "authors": ["ann"]}"#).await;
    stage.create("books", r#"{"id": "faust", "title": "Faust", "pages": 400, "authors": ["bob"]}"#).await;
    stage.create("books", r#"{"id": "gita", "pages": 1000}"#).await;
}

pub async fn any_of_several_relations_may_fit_a_sign_with_a_question_mark(stage: Stage) {
    library(&stage).await;
    assert_eq!(stage.filtered("books", "authors.name ?= 'Ann'").await, "dune emma");
    assert_eq!(stage.filtered("books", "authors.age ?> 40").await, "dune faust");
    assert_eq!(stage.filtered("books", "authors:each ?= 'bob'").await, "dune faust");
}

pub async fn all_of_several_relations_must_fit_a_sign_without(stage: Stage) {
    library(&stage).await;
    assert_eq!(stage.filtered("books", "authors.name = 'Ann'").await, "emma");
    assert_eq!(stage.filtered("books", "authors.age > 20").await, "dune emma faust");
    assert_eq!(stage.filtered("books", "authors.id = 'bob'").await, "faust");
}

pub async fn two_conditions_on_one_path_speak_of_the_same_record(stage: Stage) {
    library(&stage).await;
    assert_eq!(stage.filtered("books", "authors.name ?= 'Ann' && authors.age ?= 50").await, "");
    assert_eq!(stage.filtered("books", "authors.name ?= 'Bob' && authors.age ?= 50").await, "dune faust");
}

pub async fn records_that_point_back_can_be_asked(stage: Stage) {
    library(&stage).await;
    assert_eq!(stage.filtered("authors", "books_via_authors.pages ?< 100").await, "ann");
    assert_eq!(stage.filtered("authors", "books_via_authors.pages = 400").await, "bob");
}

pub async fn text_is_found_inside_of_text_whatever_its_case(stage: Stage) {
    library(&stage).await;
    assert_eq!(stage.filtered("books", "title ~ 'U'").await, "dune faust");
    assert_eq!(stage.filtered("books", "title !~ '%m%a'").await, "dune faust gita");
    assert_eq!(stage.filtered("books", "title = 'dune'").await, "");
}

/// An adapter may keep texts that are searched often; it must not keep them past a write.
pub async fn a_word_is_found_among_many_texts_as_they_are_by_now(stage: Stage) {
    const MANY: usize = 6_000;
    stage
        .collection(
            "notes",
            r#"{"fields": [{"name": "text", "type": "text"}, {"name": "tag", "type": "text"}]}"#,
        )
        .await;
    for first in (0..MANY).step_by(500) {
        let steps = (first..first + 500).map(|n| {
            let word = if n % 1_000 == 7 { "Needle" } else { "straw" };
            let body = format!(r#"{{"id": "n{n}", "text": "some {word} of 100%", "tag": "t{}"}}"#, n % 3);
            stage.create_step("notes", &body, super::stage::server())
        });
        stage.steps(steps.collect()).await.unwrap();
    }
    let searches = [
        ("text ~ 'needle'", "n7 n1007 n2007 n3007 n4007 n5007"),
        ("text ~ 'some needle%' && tag = 't1' && text ~ '100\\%'", "n7 n3007"),
        ("text ~ 'needle' && (tag ~ '1' || text ~ 'nowhere')", "n7 n3007"),
        ("text ~ 'n_edle' || tag ~ 'x'", ""),
    ];
    for _ in 0..4 {
        for (filter, expected) in searches {
            assert_eq!(stage.filtered("notes", filter).await, expected, "{filter}");
        }
    }
    stage.patch("notes", "n7", r#"{"text": "none"}"#).await;
    stage.delete("notes", "n1007").await.unwrap();
    stage.create("notes", r#"{"id": "new", "text": "a nEEdle"}"#).await;
    for _ in 0..4 {
        assert_eq!(stage.filtered("notes", "text ~ 'NEEDLE'").await, "n2007 n3007 n4007 n5007 new");
    }
    let page = ListRecords {
        conditions: vec![stage.condition("notes", "text ~ 'needle'")],
        offset: 2,
        limit: 2,
        with_total: true,
        ..stage.all("notes")
    };
    let found = stage.store().list(page).await.unwrap();
    assert_eq!((super::stage::ids(&found.records).as_str(), found.total), ("n4007 n5007", Some(5)));
    assert_eq!(
        stage.filtered("notes", "text !~ 'straw' && text ~ 'ne'").await,
        "n7 n2007 n3007 n4007 n5007 new"
    );
}

pub async fn empty_and_unset_are_the_same(stage: Stage) {
    library(&stage).await;
    assert_eq!(stage.filtered("books", "title = null").await, "gita");
    assert_eq!(stage.filtered("books", "title != ''").await, "dune emma faust");
    assert_eq!(stage.filtered("books", "authors.name = ''").await, "gita");
    assert_eq!(stage.filtered("books", "authors:length = 0 || pages < 100").await, "emma gita");
}

pub async fn pages_are_cut_from_one_order_and_counted_whole(stage: Stage) {
    library(&stage).await;
    let page = |offset, filter: &str| ListRecords {
        conditions: vec![stage.condition("books", filter)],
        offset,
        limit: 2,
        with_total: true,
        ..stage.all("books")
    };
    let first = stage.store().list(page(0, "pages > 100")).await.unwrap();
    let second = stage.store().list(page(2, "pages > 100")).await.unwrap();
    assert_eq!((super::stage::ids(&first.records).as_str(), first.total), ("dune faust", Some(3)));
    assert_eq!((super::stage::ids(&second.records).as_str(), second.total), ("gita", Some(3)));
    let everything = ListRecords { limit: 0, with_total: true, ..stage.all("books") };
    let nothing = stage.store().list(everything.clone()).await.unwrap();
    assert_eq!((nothing.records.len(), nothing.total), (0, Some(4)));
    stage.delete("books", "dune").await.unwrap();
    assert_eq!(stage.store().list(everything).await.unwrap().total, Some(3));
    assert_eq!(stage.store().list(page(0, "pages > 5000")).await.unwrap().total, Some(0));
}

/// Equal terms leave the order in which records were made.
pub async fn text_is_sorted_by_its_bytes_and_numbers_by_value(stage: Stage) {
    library(&stage).await;
    assert_eq!(stage.sorted("books", "title").await, "gita dune faust emma");
    assert_eq!(stage.sorted("books", "-pages").await, "gita dune faust emma");
    assert_eq!(stage.sorted("books", "pages,-title").await, "emma faust dune gita");
    assert_eq!(stage.sorted("books", "authors.name").await, "gita dune emma faust");
    assert_eq!(stage.sorted("books", "-authors.name,-@rowid").await, "faust emma dune gita");
}

pub async fn records_come_in_the_order_in_which_they_were_made(stage: Stage) {
    stage.collection("things", r#"{"fields": [{"name": "n", "type": "number"}]}"#).await;
    for id in ["m", "z", "a", "k"] {
        stage.create("things", &format!(r#"{{"id": "{id}"}}"#)).await;
    }
    stage.patch("things", "m", r#"{"n": 1}"#).await;
    stage.delete("things", "a").await.unwrap();
    stage.create("things", r#"{"id": "b"}"#).await;
    assert_eq!(stage.ids(stage.all("things")).await, "m z k b");
    assert_eq!(stage.sorted("things", "-@rowid").await, "b k z m");
}

pub async fn equal_records_come_newest_first_where_an_index_is_read_backwards(stage: Stage) {
    let things = r#"{"fields": [{"name": "n", "type": "number"}, {"name": "m", "type": "number"}],
        "indexes": ["CREATE INDEX `idx_n` ON `things` (`n`)"]}"#;
    stage.collection("things", things).await;
    for (id, n) in [("a", 1), ("b", 2), ("c", 2), ("d", 1)] {
        stage.create("things", &format!(r#"{{"id": "{id}", "n": {n}, "m": {n}}}"#)).await;
    }
    assert_eq!(stage.sorted("things", "-n").await, "c b d a");
    assert_eq!(stage.sorted("things", "n").await, "a d b c");
    assert_eq!(stage.sorted("things", "-m").await, "b c a d");
}
