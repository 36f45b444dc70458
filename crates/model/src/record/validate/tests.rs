use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::collection::Collection;
use crate::field::{
    EditorOptions, FileOptions, NumberOptions, PasswordOptions, Pattern, RelationOptions, SelectOptions,
    TextOptions,
};
use crate::json::Json;
use crate::record::fill::fill_generated;
use crate::record::resolve::{Upload, WriteInput, resolve_body};
use crate::record::testing::{auth, base, field, id, required};

fn findings(
    collection: &Arc<Collection>,
    old: Option<&Record>,
    body: &str,
    uploads: &[Upload],
) -> (String, Vec<Lookup>) {
    let body = Json::parse_first(body.as_bytes()).unwrap();
    let input = WriteInput { body: body.as_object().unwrap(), uploads, is_superuser: true };
    let mut random = StdRng::seed_from_u64(1);
    let mut resolved = resolve_body(collection, old, input, &mut random);
    if old.is_none() {
        fill_generated(&mut resolved.record, &mut random);
    }
    let (errors, lookups) = validate(&resolved, old);
    let mut text = String::new();
    errors.write(&mut text);
    (text, lookups)
}

/// Checks a table of values and the error that a field has with each: its code and message, and its
/// parameters if any; nothing for a good value.
fn check(field: Field, cases: &[(&str, &str)]) {
    let name = field.name.clone();
    let collection = base(vec![field]);
    for (value, expected) in cases {
        let (found, _) = findings(&collection, None, &format!("{{\"{name}\":{value}}}"), &[]);
        let expected = match expected.split('|').collect::<Vec<_>>()[..] {
            [code, message] => format!("{{\"{name}\":{{\"code\":\"{code}\",\"message\":\"{message}\"}}}}"),
            [code, message, params] => format!(
                "{{\"{name}\":{{\"code\":\"{code}\",\"message\":\"{message}\",\"params\":{{{params}}}}}}}"
            ),
            _ => "{}".to_owned(),
        };
        assert_eq!(found, expected, "{value}");
    }
}

const BLANK: &str = "validation_required|Cannot be blank.";
const FORMAT: &str = "validation_invalid_format|Invalid value format.";

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

#[test]
fn texts_have_lengths_and_patterns() {
    let options = TextOptions { min: 3, max: 5, pattern: Pattern::new("^[a-zé]+$"), ..Default::default() };
    let short = "validation_min_text_constraint|Must be at least 3 character(s).|\"min\":3";
    let long = "validation_max_text_constraint|Must be no more than 5 character(s).|\"max\":5";
    let cases =
        [("\"éé\"", short), ("\"ééééé\"", ""), ("\"éééééé\"", long), ("\"abc1\"", FORMAT), ("\"\"", "")];
    check(field("t", FieldKind::Text(options)), &cases);
    let long = format!("\"{}\"", "x".repeat(5001));
    let error = "validation_max_text_constraint|Must be no more than 5000 character(s).|\"max\":5000";
    check(required(field("t", FieldKind::Text(TextOptions::default()))), &[("null", BLANK), (&long, error)]);
}

#[test]
fn editors_have_a_size_in_bytes() {
    let options = EditorOptions { max_size: 5, convert_urls: false };
    let error = "validation_content_size_limit|The maximum allowed content size is 5 bytes.|\"maxSize\":5";
    let cases = [("\"éé\"", ""), ("\"ééé\"", error), ("\"\"", BLANK)];
    check(required(field("e", FieldKind::Editor(options))), &cases);
}

#[test]
fn numbers_have_a_range_unless_they_are_zero() {
    let options = NumberOptions { min: Some(1.0), max: Some(5.5), only_int: true };
    let cases = [
        ("0", ""),
        ("2", ""),
        ("2.5", "validation_only_int_constraint|Decimal numbers are not allowed."),
        ("1e19", "validation_only_int_constraint|Decimal numbers are not allowed."),
        ("-1", "validation_min_number_constraint|Must be greater or equal than 1.|\"min\":1"),
        ("6", "validation_max_number_constraint|Must be less or equal than 5.5.|\"max\":5.5"),
        ("\"NaN\"", "validation_not_a_number|The submitted number is not properly formatted."),
    ];
    check(field("n", FieldKind::Number(options)), &cases);
    check(required(field("n", FieldKind::Number(NumberOptions::default()))), &[("0", BLANK), ("-1", "")]);
    check(required(field("b", FieldKind::Bool)), &[("false", BLANK), ("true", "")]);
}

#[test]
fn addresses_have_domains() {
    let only = DomainOptions { only_domains: strings(&["x.com"]), except_domains: Vec::new() };
    let except = DomainOptions { only_domains: Vec::new(), except_domains: strings(&["x.com"]) };
    let refused = "validation_email_domain_not_allowed|Email domain is not allowed.";
    let cases = [
        ("\"a@x.com\"", ""),
        ("\"a@X.com\"", refused),
        ("\"a\"", "validation_is_email|Must be a valid email address."),
        ("\"\"", BLANK),
    ];
    check(required(field("e", FieldKind::Email(only.clone()))), &cases);
    check(field("e", FieldKind::Email(except.clone())), &[("\"a@x.com\"", refused), ("\"a@y.com\"", "")]);
    let refused = "validation_url_domain_not_allowed|Url domain is not allowed.";
    let cases = [
        ("\"http://x.com/a\"", ""),
        ("\"http://x.com:80\"", refused),
        ("\"x.com\"", refused),
        ("\"/\"", "validation_invalid_url|Must be a valid url."),
        ("null", BLANK),
    ];
    check(required(field("u", FieldKind::Url(only))), &cases);
    check(field("u", FieldKind::Url(except)), &[("\"http://x.com\"", refused), ("\"x.com\"", "")]);
}

#[test]
fn dates_have_a_range() {
    let options = DateOptions {
        min: "2020-01-01 00:00:00.000Z".to_owned(),
        max: "2021-01-01 00:00:00.120Z".to_owned(),
    };
    let early = "validation_min_greater_equal_than_required|Must be no less than 2020-01-01 00:00:00 +0000 UTC.|\
                 \"threshold\":\"2020-01-01T00:00:00Z\"";
    let late = "validation_max_less_equal_than_required|Must be no greater than 2021-01-01 00:00:00.12 +0000 UTC.|\
                \"threshold\":\"2021-01-01T00:00:00.12Z\"";
    let cases = [
        ("\"2019-12-31\"", early),
        ("\"2020-01-01\"", ""),
        ("\"2021-01-01 00:00:00.12Z\"", ""),
        ("\"2021-01-02\"", late),
        ("\"x\"", BLANK),
    ];
    check(required(field("d", FieldKind::Date(options))), &cases);
}

#[test]
fn selects_know_their_values() {
    let options = |max_select| SelectOptions { values: strings(&["a", "b", "c"]), max_select };
    let many = "validation_too_many_values|Select no more than 2.|\"maxSelect\":2";
    let cases = [
        ("[\"a\",\"c\"]", ""),
        ("[\"a\",\"b\",\"c\"]", many),
        ("[\"a\",\"x.\"]", "validation_invalid_value|Invalid value x.|\"value\":\"x.\""),
        ("[]", BLANK),
    ];
    check(required(field("s", FieldKind::Select(options(2)))), &cases);
    let cases = [
        ("[\"x\",\"a\"]", ""),
        ("\"x?\"", "validation_invalid_value|Invalid value x?|\"value\":\"x?\""),
        ("\"\"", BLANK),
    ];
    check(required(field("s", FieldKind::Select(options(0)))), &cases);
}

#[test]
fn json_has_a_size_and_a_content() {
    let options = JsonOptions { max_size: 6 };
    let large = "validation_json_size_limit|The maximum allowed JSON size is 6 bytes.|\"maxSize\":6";
    let cases = [
        ("[1,2]", ""),
        ("\"[1, 2]\"", ""),
        ("\"[1,  2]\"", large),
        ("[1,2,3]", large),
        ("\"1e400\"", "validation_invalid_json|Must be a valid json value."),
        ("null", BLANK),
        ("\"null\"", BLANK),
        ("\"\"", BLANK),
        ("[]", BLANK),
        ("{}", BLANK),
        ("\"[ ]\"", ""),
        ("0", ""),
    ];
    check(required(field("j", FieldKind::Json(options))), &cases);
}

#[test]
fn points_lie_on_the_globe() {
    let latitude = "validation_invalid_latitude|Latitude must be between -90 and 90 degrees.";
    let longitude = "validation_invalid_longitude|Longitude must be between -180 and 180 degrees.";
    let cases = [
        ("{\"lon\":180,\"lat\":-90}", ""),
        ("{\"lon\":181,\"lat\":91}", latitude),
        ("{\"lon\":-181,\"lat\":1}", longitude),
        ("{\"lon\":0,\"lat\":0}", BLANK),
    ];
    check(required(field("g", FieldKind::GeoPoint)), &cases);
}

#[test]
fn passwords_are_checked_in_plain() {
    let options = PasswordOptions { min: 3, max: 5, pattern: Pattern::new("^[a-zé]+$"), cost: 0 };
    let cases = [
        ("\"ab\"", "validation_min_text_constraint|Must be at least 3 character(s)."),
        ("\"abcdef\"", "validation_max_text_constraint|Must be less than 5 character(s)."),
        ("\"ab1\"", FORMAT),
        ("\"abé\"", ""),
        ("\"\"", BLANK),
    ];
    check(required(field("p", FieldKind::Password(options))), &cases);
    let default = PasswordOptions::default();
    assert_eq!(validate_password(&default, &"é".repeat(36)), Ok(()));
    assert_eq!(validate_password(&default, &"é".repeat(37)), Err(FieldError::invalid_value()));
    assert!(validate_password(&default, &"x".repeat(72)).is_err());
    assert_eq!(validate_password(&default, ""), Ok(()));
}

#[test]
fn relations_are_counted_and_then_looked_up() {
    let options = RelationOptions {
        collection_id: "c".to_owned(),
        min_select: 2,
        max_select: 3,
        ..RelationOptions::default()
    };
    let few = "validation_not_enough_values|Select at least 2.|\"minSelect\":2";
    let many = "validation_too_many_values|Select no more than 3.|\"maxSelect\":3";
    let relation = required(field("r", FieldKind::Relation(options)));
    let cases = [
        ("[]", BLANK),
        ("\"a\"", few),
        ("[\"a\",\"a\"]", few),
        ("[\"a\",\"b\",\"c\",\"d\"]", many),
        ("[\"a\",\"b\"]", ""),
    ];
    check(relation.clone(), &cases);

    let collection = base(vec![relation]);
    let (_, lookups) = findings(&collection, None, "{\"r\":[\"a\",\"b\"]}", &[]);
    let expected = Lookup::RecordsExist {
        field: "r".to_owned(),
        collection_id: "c".to_owned(),
        ids: strings(&["a", "b"]),
    };
    assert_eq!(lookups, std::slice::from_ref(&expected));
    assert_eq!(expected.error().code, "validation_missing_rel_records");

    let mut old = Record::zero(collection.clone());
    old.set("r", Value::from_list(&["a", "b"]));
    assert_eq!(findings(&collection, Some(&old), "{}", &[]), ("{}".to_owned(), Vec::new()));
}

#[test]
fn files_are_stored_or_new_and_fit_their_field() {
    let options = FileOptions {
        max_select: 2,
        max_size: 5,
        mime_types: strings(&["text/plain", "image/png"]),
        ..FileOptions::default()
    };
    let collection = base(vec![required(field("f", FieldKind::File(options)))]);
    let mut old = Record::zero(collection.clone());
    old.set("f", Value::from_list(&["old.txt"]));
    let upload = |name: &str, size, mime_type: &str| Upload {
        key: "f+".to_owned(),
        name: name.to_owned(),
        original_name: "a b.txt".to_owned(),
        size,
        mime_type: mime_type.to_owned(),
    };
    let good = upload("n1.txt", 5, "text/plain; charset=utf-8");
    let cases = [
        ("{\"f\":[]}", vec![], r#"{"f":{"code":"validation_required","message":"Cannot be blank."}}"#),
        ("{}", vec![good.clone()], "{}"),
        (
            "{\"f\":[\"x\",\"old.txt\",\"y\"]}",
            vec![],
            r#"{"f":{"code":"validation_invalid_file","message":"Invalid new files: [x y].","params":{"invalidFiles":["x","y"]}}}"#,
        ),
        (
            "{}",
            vec![good, upload("n2.txt", 1, "text/plain")],
            r#"{"f":{"code":"validation_too_many_files","message":"The maximum allowed files is 2.","params":{"maxSelect":2}}}"#,
        ),
        (
            "{}",
            vec![upload("n1.txt", 6, "text/plain")],
            r#"{"f":{"code":"validation_file_size_limit","message":"Failed to upload a b.txt - the maximum allowed file size is 5 bytes.","params":{"file":"a b.txt","maxSize":5}}}"#,
        ),
        (
            "{}",
            vec![upload("n1.txt", 1, "application/pdf")],
            r#"{"f":{"code":"validation_invalid_mime_type","message":"\"n1.txt\" mime type must be one of: text/plain, image/png."}}"#,
        ),
    ];
    for (body, uploads, expected) in cases {
        assert_eq!(findings(&collection, Some(&old), body, &uploads).0, expected, "{body}");
    }
}

#[test]
fn an_id_is_checked_once_and_never_changes() {
    let collection = base(Vec::new());
    let error = |body: &str, old: Option<&Record>| findings(&collection, old, body, &[]).0;
    assert_eq!(error("{}", None), "{}");
    assert!(error("{\"id\":\"abc\"}", None).contains("Must be at least 15 character(s)."));
    assert!(error("{\"id\":\"ABCDEABCDE12345\"}", None).contains("validation_invalid_format"));
    let mut old = Record::zero(collection.clone());
    old.set("id", Value::Text("short".to_owned()));
    assert_eq!(error("{\"id\":\"short\"}", Some(&old)), "{}");
    let changed =
        r#"{"id":{"code":"validation_pk_change","message":"The record primary key cannot be changed."}}"#;
    assert_eq!(error("{\"id\":\"\"}", Some(&old)), changed);
}

#[test]
fn ids_of_other_patterns_name_folders_and_have_no_twins() {
    let mut id = id();
    id.kind = FieldKind::Text(TextOptions {
        min: 2,
        pattern: Pattern::new(".+"),
        autogenerate_pattern: "[a-z]{5}".to_owned(),
        primary_key: true,
        ..TextOptions::default()
    });
    let mut collection = Arc::unwrap_or_clone(base(Vec::new()));
    collection.fields[0] = id;
    let collection = Arc::new(collection);
    let cases = [
        ("É1", "{}"),
        (
            "a.b",
            r#"{"id":{"code":"validation_forbidden_pk_character","message":"'.' is not a valid primary key character.","params":{"ch":"."}}}"#,
        ),
        (
            "con",
            r#"{"id":{"code":"validation_reserved_pk","message":"The primary key 'CON' is reserved and cannot be used.","params":{"reserved":"CON"}}}"#,
        ),
    ];
    for (id, expected) in cases {
        let (found, lookups) = findings(&collection, None, &format!("{{\"id\":\"{id}\"}}"), &[]);
        assert_eq!(found, expected);
        assert_eq!(lookups, [Lookup::NoIdTwin { id: id.to_lowercase() }]);
    }
}

#[test]
fn all_fields_are_reported_together() {
    let collection = auth(vec![required(field("n", FieldKind::Number(NumberOptions::default())))]);
    let (found, lookups) = findings(&collection, None, "{\"email\":\"x\",\"password\":\"1234567\"}", &[]);
    for part in ["\"email\":{\"code\":\"validation_is_email\"", "\"n\":{", "Must be at least 8"] {
        assert!(found.contains(part), "{found}");
    }
    assert!(matches!(lookups[..], [Lookup::NoAuthTwin { .. }]));
}
