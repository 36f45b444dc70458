//! Names and values at PostgreSQL's edges.

use model::json::Json;
use model::step::{Step, Why};
use model::value::Value;

use crate::{Fresh, with_server};

#[test]
fn names_longer_than_postgresqls_stay_apart_and_can_be_changed() {
    with_server(|| async {
        let fresh = Fresh::open("names").await;
        let long = "n".repeat(70);
        let fields = format!(
            r#"[{{"id": "f1", "name": "{long}1", "type": "json"}}, {{"id": "f2", "name": "{long}2", "type": "json"}}]"#
        );
        fresh.collection("notes", &fields, "[]").await;
        fresh.create("notes", &format!(r#"{{"{long}1": [1], "{long}2": [2]}}"#)).await;
        let renamed = format!(
            r#"{{"fields": [{{"id": "f1", "name": "{long}3", "type": "json"}}, {{"id": "f2", "name": "short", "type": "json"}}]}}"#
        );
        fresh.change("notes", &renamed).await.unwrap();
        let record = fresh.all("notes").await.remove(0);
        assert_eq!(record.get(&format!("{long}3")).as_str(), "[1]");
        assert_eq!(record.get("short").as_str(), "[2]");
    });
}

#[test]
fn a_text_with_nul_is_an_error_of_its_field() {
    with_server(|| async {
        let fresh = Fresh::open("nul").await;
        fresh.collection("notes", r#"[{"name": "title", "type": "text"}]"#, "[]").await;
        let Step::Create(mut create) = fresh.creating("notes", "{}") else { panic!("no create") };
        create.body.insert("title".to_owned(), Json::Text("a\0b".to_owned()));
        let refused = fresh.steps(vec![Step::Create(create)]).await.unwrap_err();
        assert!(matches!(refused.why, Why::Fields(errors) if errors.contains("title")));
    });
}

#[test]
fn numbers_come_back_as_they_were_and_nought_without_a_sign() {
    with_server(|| async {
        let fresh = Fresh::open("numbers").await;
        fresh.collection("notes", r#"[{"name": "n", "type": "number"}]"#, "[]").await;
        let numbers = [1e308, 5e-324, 0.1 + 0.2, -1.5, 9_007_199_254_740_993.0, 1e21];
        for number in numbers {
            fresh.create("notes", &format!(r#"{{"n": {number:e}}}"#)).await;
        }
        fresh.create("notes", r#"{"n": -0.0}"#).await;
        let stored: Vec<Value> = fresh.all("notes").await.iter().map(|note| note.get("n").clone()).collect();
        let expected: Vec<Value> = numbers.into_iter().chain([0.0]).map(Value::Number).collect();
        assert_eq!(stored, expected);
        let Value::Number(nought) = stored[6] else { panic!("{stored:?}") };
        assert!(nought.is_sign_positive());
    });
}

#[test]
fn a_long_text_in_an_indexed_column_can_be_stored_and_found() {
    with_server(|| async {
        let fresh = Fresh::open("long").await;
        let index = r#"["CREATE INDEX idx_text ON notes (text)"]"#;
        fresh.collection("notes", r#"[{"name": "text", "type": "text", "max": 100000}]"#, index).await;
        // Of letters that do not compress well: an entry of a B-tree takes 2,704 bytes.
        let mut state = 1_u64;
        let mut letter = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + ((state >> 33) % 26) as u8)
        };
        let long: String = (0..20_000).map(|_| letter()).collect();
        fresh.create("notes", &format!(r#"{{"text": "{long}"}}"#)).await;
        assert_eq!(fresh.all("notes").await[0].get("text").as_str().len(), 20_000);
    });
}
