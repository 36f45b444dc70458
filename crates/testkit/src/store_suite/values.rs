//! Values: what was answered is what is read, in the contract's forms.

use model::value::Value;

use super::Stage;

pub async fn values_come_back_as_they_were_answered(stage: Stage) {
    stage.collection("tags", r#"{"fields": []}"#).await;
    let body = r#"{"fields": [
        {"name": "text", "type": "text"},
        {"name": "number", "type": "number"},
        {"name": "bool", "type": "bool"},
        {"name": "date", "type": "date"},
        {"name": "one", "type": "select", "values": ["x", "y"]},
        {"name": "many", "type": "select", "values": ["x", "y"], "maxSelect": 2},
        {"name": "tags", "type": "relation", "collectionId": "tags", "maxSelect": 2},
        {"name": "point", "type": "geoPoint"},
        {"name": "made", "type": "autodate", "onCreate": true}
    ]}"#;
    stage.collection("things", body).await;
    stage.create("tags", r#"{"id": "red"}"#).await;
    stage.create("tags", r#"{"id": "blue"}"#).await;
    let full = r#"{"id": "full", "text": "a'\"\\\n ü 🦀", "number": -0.1, "bool": true,
        "date": "2024-02-29 12:00:00.000Z", "one": "x", "many": ["y", "x"], "tags": ["red", "blue"],
        "point": {"lon": 13.4, "lat": -52.5}}"#;
    for body in [full, r#"{"id": "empty"}"#, r#"{"id": "large", "number": 123456789012345680000}"#] {
        let answered = stage.create("things", body).await;
        let read = stage.get("things", answered.id()).await.unwrap();
        assert_eq!(read.values, answered.values);
    }
    let read = stage.get("things", "full").await.unwrap();
    assert_eq!(*read.get("many"), Value::Json(r#"["y","x"]"#.to_owned()));
    assert_eq!(*read.get("tags"), Value::Json(r#"["red","blue"]"#.to_owned()));
    assert_eq!(*read.get("number"), Value::Number(-0.1));
}

/// Keys in byte order, numbers as JavaScript writes them, nothing rewritten.
pub async fn json_comes_back_in_its_exact_form(stage: Stage) {
    stage.collection("things", r#"{"fields": [{"name": "data", "type": "json"}]}"#).await;
    for (id, sent, stored) in [
        (
            "object",
            r#"{"b": 1.50, "aa": [1e21, 0.0000001], "é": "é", "a": {}}"#,
            r#"{"a":{},"aa":[1e+21,1e-7],"b":1.5,"é":"é"}"#,
        ),
        ("array", r#"[ ]"#, "[]"),
        ("number", "1e2", "100"),
        ("text", r#""plain""#, r#""plain""#),
        ("word", "true", "true"),
    ] {
        let answered = stage.create("things", &format!(r#"{{"id": "{id}", "data": {sent}}}"#)).await;
        assert_eq!(*answered.get("data"), Value::Json(stored.to_owned()), "{id}");
        assert_eq!(stage.get("things", id).await.unwrap().values, answered.values, "{id}");
    }
    assert_eq!(stage.filtered("things", "data.b = 1.5").await, "object");
    assert_eq!(stage.filtered("things", "data.aa.0 > 1").await, "object");
}
