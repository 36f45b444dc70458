use super::*;
use crate::field::{
    AutodateOptions, DateOptions, DomainOptions, EditorOptions, FileOptions, JsonOptions, NumberOptions,
    PasswordOptions, RelationOptions, SelectOptions, TextOptions,
};
use crate::record::testing::field;

/// Checks a table of JSON texts and what a field holds for them, as JSON texts too, `-` being NULL.
fn check(kind: FieldKind, cases: &[(&str, &str)]) {
    let field = field("f", kind);
    for (input, expected) in cases {
        let held = match coerce(&field, &Json::parse_first(input.as_bytes()).unwrap()) {
            Value::Null => "-".to_owned(),
            Value::Number(number) => Json::Number(number).to_string(),
            Value::Text(text) => Json::Text(text).to_string(),
            Value::Json(text) => text,
        };
        assert_eq!(held, *expected, "{input}");
    }
}

#[test]
fn texts() {
    let cases = [
        ("\"a\"", "\"a\""),
        ("12.5", "\"12.5\""),
        ("1e21", "\"1000000000000000000000\""),
        ("1e-7", "\"0.0000001\""),
        ("-0", "\"-0\""),
        ("123456789012345678", "\"123456789012345680\""),
        ("true", "\"true\""),
        ("null", "\"\""),
        ("[1]", "\"\""),
        ("{\"a\":1}", "\"\""),
    ];
    check(FieldKind::Text(TextOptions::default()), &cases);
    check(FieldKind::Editor(EditorOptions::default()), &cases);
    check(FieldKind::Email(DomainOptions::default()), &cases);
    check(FieldKind::Url(DomainOptions::default()), &cases);
    check(FieldKind::Password(PasswordOptions::default()), &cases);
}

#[test]
fn numbers() {
    let cases = [
        ("2.5", "2.5"),
        ("-0", "-0"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("713.7270811394341", "713.7270811394341"),
        ("\"5\"", "5"),
        ("\"1e3\"", "1000"),
        ("\"-0\"", "-0"),
        ("true", "1"),
        ("false", "0"),
        ("\"true\"", "0"),
        ("\" 5 \"", "0"),
        ("null", "0"),
        ("[5]", "0"),
        ("{}", "0"),
    ];
    check(FieldKind::Number(NumberOptions::default()), &cases);
}

#[test]
fn booleans() {
    let yes = ["true", "1", "-0.5", "\"1\"", "\"t\"", "\"T\"", "\"true\"", "\"True\"", "\"TRUE\""];
    let no = ["false", "0", "null", "[]", "{}", "\"\"", "\"yes\"", "\"on\"", "\"2\"", "\" true\"", "\"f\""];
    check(FieldKind::Bool, &yes.map(|input| (input, "1")));
    check(FieldKind::Bool, &no.map(|input| (input, "0")));
}

#[test]
fn dates_are_read_from_texts_only() {
    let cases = [
        ("\"2022-01-02\"", "\"2022-01-02 00:00:00.000Z\""),
        ("\"2022-01-02 03:04\"", "\"\""),
        ("1641092645", "\"\""),
        ("true", "\"\""),
        ("null", "\"\""),
        ("{}", "\"\""),
    ];
    check(FieldKind::Date(DateOptions::default()), &cases);
    check(FieldKind::Autodate(AutodateOptions::default()), &[("\"2022-01-02\"", "\"\"")]);
}

#[test]
fn lists() {
    let multiple = [
        ("1", "[\"1\"]"),
        ("true", "[\"true\"]"),
        ("2.5", "[\"2.5\"]"),
        ("[null,\"a\"]", "[\"a\"]"),
        ("{\"a\":1}", "[]"),
        ("[[\"a\"]]", "[]"),
        ("\"a,1\"", "[\"a,1\"]"),
        ("[\"a\",\"b\",\"a\",\"\"]", "[\"a\",\"b\"]"),
        ("\"[\\\"a\\\",null,\\\"b\\\"]\"", "[\"a\",\"b\"]"),
        ("\"[x\"", "[\"[x\"]"),
        ("\"[1]\"", "[\"[1]\"]"),
        ("null", "[]"),
        ("\"\"", "[]"),
    ];
    let single = [
        ("\"a\"", "\"a\""),
        ("[\"a\",\"b\"]", "\"b\""),
        ("\"[\\\"a\\\",\\\"b\\\"]\"", "\"b\""),
        ("[\"[\\\"a\\\"]\"]", "\"a\""),
        ("\"[x\"", "\"[x\""),
        ("[]", "\"\""),
        ("null", "\"\""),
    ];
    check(FieldKind::Select(SelectOptions { max_select: 2, ..Default::default() }), &multiple);
    check(FieldKind::Relation(RelationOptions { max_select: 2, ..Default::default() }), &multiple);
    check(FieldKind::Select(SelectOptions::default()), &single);
    check(FieldKind::Relation(RelationOptions::default()), &single);
    check(FieldKind::File(FileOptions::default()), &single);
    let files = FileOptions { max_select: 2, ..Default::default() };
    check(FieldKind::File(files), &[("[[\"a\"],[[\"b\"]],[\"c\",\"d\"],5]", "[\"a\",\"b\",\"5\"]")]);
}

#[test]
fn long_lists_lose_their_doubles_too() {
    let names: Vec<String> = (0..100).map(|number| (number % 40).to_string()).collect();
    assert_eq!(without_doubles(names.clone()), names[..40]);
}

#[test]
fn json_values() {
    let cases = [
        ("null", "-"),
        ("{\"b\":1,\"a\":1.0}", "{\"a\":1,\"b\":1}"),
        ("\"\"", "\"\""),
        ("\"null\"", "null"),
        ("\"true\"", "true"),
        ("\"True\"", "\"True\""),
        ("\"123\"", "123"),
        ("\"-0\"", "-0"),
        ("\"1.50\"", "1.50"),
        ("\"123456789012345678\"", "123456789012345678"),
        ("\"[1, 2]\"", "[1,2]"),
        ("\"{\\\"b\\\":1, \\\"a\\\":[1.50]}\"", "{\"b\":1,\"a\":[1.50]}"),
        ("\"\\\"s\\\"\"", "\"s\""),
        ("\" 1\"", "\" 1\""),
        ("\"1a\"", "\"1a\""),
        ("\"nul\"", "\"nul\""),
        ("\"{bad}\"", "\"{bad}\""),
        ("\"{\\\"a\\\":1,\\\"a\\\":2}\"", ""),
        ("\"1e400\"", ""),
        ("\"a\\u0007\"", ""),
        ("\"\\b\\f\\n\"", "\"\\b\\f\\n\""),
    ];
    check(FieldKind::Json(JsonOptions::default()), &cases);
}

#[test]
fn points() {
    let cases = [
        ("{\"lat\":2,\"lon\":1,\"z\":3}", "{\"lon\":1,\"lat\":2}"),
        ("{\"lat\":2}", "{\"lon\":0,\"lat\":2}"),
        ("{\"LAT\":2}", "{\"lon\":0,\"lat\":0}"),
        ("{\"lat\":null,\"lon\":1}", "{\"lon\":1,\"lat\":0}"),
        ("{\"lat\":2,\"lon\":\"1\"}", "{\"lon\":0,\"lat\":2}"),
        ("\"{\\\"lon\\\":1.50,\\\"lat\\\":2}\"", "{\"lon\":1.5,\"lat\":2}"),
        ("\"{\\\"lon\\\":1,\\\"lat\\\":\\\"x\\\"}\"", "{\"lon\":1,\"lat\":0}"),
        ("\"{\\\"lon\\\":1,\\\"lon\\\":2}\"", "{\"lon\":1,\"lat\":0}"),
        ("\"{\\\"lon\\\":5,\\\"lat\\\":6} x\"", "{\"lon\":5,\"lat\":6}"),
        ("\"x\"", "{\"lon\":0,\"lat\":0}"),
        ("[1,2]", "{\"lon\":0,\"lat\":0}"),
        ("null", "{\"lon\":0,\"lat\":0}"),
    ];
    check(FieldKind::GeoPoint, &cases);
}
