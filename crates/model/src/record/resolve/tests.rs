use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::field::{
    AutodateOptions, FileOptions, JsonOptions, NumberOptions, PasswordOptions, SelectOptions, TextOptions,
};
use crate::record::fill::fill_generated;
use crate::record::testing::{auth, base, field, hidden};

fn things() -> Arc<Collection> {
    let generated = TextOptions { autogenerate_pattern: "[a-c]{3}".to_owned(), ..TextOptions::default() };
    let select = |max_select| FieldKind::Select(SelectOptions { values: Vec::new(), max_select });
    let files = |max_select| FieldKind::File(FileOptions { max_select, ..FileOptions::default() });
    base(vec![
        field("text", FieldKind::Text(generated)),
        field("n", FieldKind::Number(NumberOptions::default())),
        field("tags", select(9)),
        field("tag", select(1)),
        field("files", files(9)),
        field("file", files(1)),
        field("json", FieldKind::Json(JsonOptions::default())),
        field("on", FieldKind::Bool),
        field("created", FieldKind::Autodate(AutodateOptions { on_create: true, on_update: false })),
        hidden(field("secret", FieldKind::Text(TextOptions::default()))),
    ])
}

fn stored() -> Record {
    let mut record = Record::zero(things());
    record.set("id", Value::Text("abcdeabcde12345".to_owned()));
    record.set("n", Value::Number(5.0));
    record.set("tags", Value::from_list(&["a", "b"]));
    record.set("tag", Value::Text("a".to_owned()));
    record.set("files", Value::from_list(&["a.txt", "b.txt"]));
    record.set("file", Value::Text("a.txt".to_owned()));
    record
}

fn object(body: &str) -> JsonObject {
    Json::parse_first(body.as_bytes()).unwrap().as_object().unwrap().clone()
}

fn upload(key: &str, name: &str) -> Upload {
    Upload {
        key: key.to_owned(),
        name: name.to_owned(),
        original_name: name.to_owned(),
        size: 3,
        mime_type: "text/plain".to_owned(),
    }
}

fn resolve(old: Option<&Record>, body: &str, uploads: &[Upload], is_superuser: bool) -> Resolved {
    let collection = old.map_or_else(things, |old| old.collection.clone());
    let input = WriteInput { body: &object(body), uploads, is_superuser };
    resolve_body(&collection, old, input, &mut StdRng::seed_from_u64(3))
}

/// The value of `name` after a body was applied to [`stored`], as text.
fn after(body: &str, name: &str) -> String {
    match resolve(Some(&stored()), body, &[], true).record.get(name) {
        Value::Number(number) => number.to_string(),
        value => value.as_str().to_owned(),
    }
}

#[test]
fn modifiers_change_the_stored_value() {
    let cases = [
        ("{\"n+\":2}", "n", "7"),
        ("{\"n-\":\"2.5\"}", "n", "2.5"),
        ("{\"+n\":2}", "n", "5"),
        ("{\"n\":1,\"n+\":2,\"n-\":4}", "n", "-1"),
        ("{\"tags+\":[\"c\",\"a\"]}", "tags", "[\"a\",\"b\",\"c\"]"),
        ("{\"+tags\":\"b\"}", "tags", "[\"b\",\"a\"]"),
        ("{\"tags-\":[\"a\",\"x\"]}", "tags", "[\"b\"]"),
        ("{\"tags\":[\"x\"],\"tags+\":\"y\"}", "tags", "[\"x\",\"y\"]"),
        ("{\"tag+\":\"b\"}", "tag", "b"),
        ("{\"+tag\":\"b\"}", "tag", "a"),
        ("{\"tag-\":\"a\"}", "tag", ""),
        ("{\"files-\":\"a.txt\"}", "files", "[\"b.txt\"]"),
        ("{\"files\":null}", "files", "[]"),
        ("{\"on+\":true,\"text+\":\"x\"}", "on", "0"),
        ("{}", "n", "5"),
    ];
    for (body, name, expected) in cases {
        assert_eq!(after(body, name), expected, "{body}");
    }
}

#[test]
fn a_prefix_can_be_completed() {
    let text = after("{\"text:autogenerate\":\"x-\"}", "text");
    assert!(text.starts_with("x-") && text.len() == 5, "{text}");
}

#[test]
fn only_superusers_set_hidden_fields() {
    let body = "{\"secret\":\"x\",\"secret:autogenerate\":\"y\",\"created\":\"2020-01-01\"}";
    assert_eq!(resolve(None, body, &[], false).record.get("secret").as_str(), "");
    assert_eq!(resolve(None, body, &[], true).record.get("secret").as_str(), "y");
    assert_eq!(resolve(None, body, &[], true).record.get("created").as_str(), "");
}

#[test]
fn uploads_replace_extend_or_precede() {
    let cases = [
        ("{}", vec![upload("files", "n1"), upload("files", "n2")], "[\"n1\",\"n2\"]"),
        ("{\"files\":[\"b.txt\",\"\"]}", vec![upload("files", "n1")], "[\"b.txt\",\"n1\"]"),
        ("{\"files-\":\"a.txt\"}", vec![upload("files", "n1")], "[\"n1\"]"),
        ("{\"files-\":\"a.txt\"}", vec![upload("files+", "n1")], "[\"b.txt\",\"n1\"]"),
        ("{}", vec![upload("+files", "n1"), upload("+files", "n2")], "[\"n1\",\"n2\",\"a.txt\",\"b.txt\"]"),
        ("{}", vec![upload("nope", "n1")], "[\"a.txt\",\"b.txt\"]"),
    ];
    for (body, uploads, expected) in cases {
        let resolved = resolve(Some(&stored()), body, &uploads, false);
        assert_eq!(resolved.record.get("files").as_str(), expected, "{body}");
    }
}

#[test]
fn a_single_file_is_the_last_and_only_named_uploads_are_kept() {
    let uploads = [upload("file", "n1"), upload("file", "n2"), upload("nope", "n3")];
    let resolved = resolve(Some(&stored()), "{}", &uploads, false);
    assert_eq!(resolved.record.get("file").as_str(), "n2");
    assert_eq!(resolved.uploads, [upload("file", "n2")]);
}

#[test]
fn rules_see_resolved_values_and_other_keys_as_sent() {
    let body = "{\"n+\":\"2\",\"on\":\"t\",\"json\":\"{\\\"a\\\":1}\",\"tags\":\"x\",\"secret\":\"s\",\"other\":[1],\
                \"created\":\"2020-01-01\"}";
    let resolved = resolve(Some(&stored()), body, &[upload("file", "n1")], false);
    let seen = Json::Object(resolved.rule_body(&object(body)).values).to_string();
    let expected = "{\"created\":\"\",\"file\":{\"name\":\"n1\",\"originalName\":\"n1\",\"size\":3},\
                    \"json\":{\"a\":1},\"n\":7,\"on\":true,\"other\":[1],\"tags\":[\"x\"]}";
    assert_eq!(seen, expected);
}

#[test]
fn passwords_stay_out_of_the_row() {
    let collection = auth(vec![field("pin", FieldKind::Password(PasswordOptions::default()))]);
    let mut old = Record::zero(collection);
    old.set("password", Value::Text("hash".to_owned()));
    let body = "{\"password\":12345678,\"passwordConfirm\":\"x\",\"oldPassword\":true,\"pin\":\"1\"}";
    let resolved = resolve(Some(&old), body, &[], false);
    assert_eq!(resolved.record.get("password").as_str(), "hash");
    assert_eq!(resolved.password(1), Some("12345678"));
    assert_eq!(resolved.passwords.len(), 2);
    assert_eq!(resolved.auth.password_confirm, "x");
    assert_eq!(resolved.auth.old_password, "true");
    assert!(!format!("{resolved:?}").contains("12345678"));
}

#[test]
fn the_create_rule_judges_a_row_without_generated_values() {
    let collection = auth(Vec::new());
    let body = object("{\"verified\":true}");
    let input = WriteInput { body: &body, uploads: &[], is_superuser: false };
    let mut random = StdRng::seed_from_u64(3);
    let mut resolved = resolve_body(&collection, None, input, &mut random);
    let row = resolved.row_for_create_rule("temporary");
    assert_eq!(row.id(), "temporary");
    assert!(!row.get("verified").as_bool() && resolved.record.get("verified").as_bool());
    assert_eq!(row.get("tokenKey").as_str(), "");
    fill_generated(&mut resolved.record, &mut random);
    assert_eq!(resolved.record.id().len(), 15);
    assert_eq!(resolved.record.get("tokenKey").as_str().len(), 50);
}
