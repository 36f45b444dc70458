use model::collection::{CollectionKind, Rules};
use model::field::{JsonOptions, NumberOptions, PasswordOptions, SelectOptions, TextOptions};
use model::json::Json;
use proptest::prelude::*;

use super::*;

fn field(name: &str, hidden: bool, kind: FieldKind) -> Field {
    let name = name.to_owned();
    Field {
        id: name.clone(),
        name,
        system: false,
        hidden,
        presentable: false,
        required: false,
        help: String::new(),
        kind,
    }
}

fn text(name: &str) -> Field {
    field(name, false, FieldKind::Text(TextOptions::default()))
}

fn collection(name: &str, kind: CollectionKind, fields: Vec<Field>) -> Arc<Collection> {
    Arc::new(Collection {
        id: format!("pbc_{name}"),
        name: name.to_owned(),
        system: false,
        rules: Rules::default(),
        fields,
        indexes: Vec::new(),
        created: String::new(),
        updated: String::new(),
        kind,
    })
}

fn auth_kind() -> CollectionKind {
    CollectionKind::Auth(Box::default())
}

fn write(record: &Record, visibility: Visibility) -> String {
    let mut out = String::new();
    RecordShape::new(&record.collection).write(record, visibility, None, &mut out);
    out
}

fn every_type() -> Arc<Collection> {
    let many = || SelectOptions { values: Vec::new(), max_select: 3 };
    let fields = vec![
        text("id"),
        text("t"),
        field("n", false, FieldKind::Number(NumberOptions::default())),
        field("b", false, FieldKind::Bool),
        field("j", false, FieldKind::Json(JsonOptions::default())),
        field("sm", false, FieldKind::Select(many())),
        field("s1", false, FieldKind::Select(SelectOptions::default())),
        field("g", false, FieldKind::GeoPoint),
        field("pw", true, FieldKind::Password(PasswordOptions::default())),
        field("hid", true, FieldKind::Text(TextOptions::default())),
        text("Up"),
        text("_u"),
    ];
    collection("all", CollectionKind::Base, fields)
}

#[test]
fn an_empty_record_shows_the_zero_of_each_type() {
    let record = Record::empty(every_type());
    assert_eq!(
        write(&record, Visibility::PUBLIC),
        r#"{"Up":"","_u":"","b":false,"collectionId":"pbc_all","collectionName":"all","g":{"lon":0,"lat":0},"id":"","j":null,"n":0,"s1":"","sm":[],"t":""}"#
    );
    let superusers = write(&record, Visibility::SUPERUSER);
    assert!(superusers.contains(r#""hid":"""#) && superusers.contains(r#""pw":"""#), "{superusers}");
}

#[test]
fn secrets_of_auth_records_are_never_written() {
    let fields = ["id", "email", "tokenKey", "name"].map(text).into_iter().chain([
        field("password", false, FieldKind::Password(PasswordOptions::default())),
        field("emailVisibility", false, FieldKind::Bool),
    ]);
    let mut record = Record::empty(collection("users", auth_kind(), fields.collect()));
    record.set("email", Value::Text("a@x.com".to_owned()));
    record.set("tokenKey", Value::Text("secret".to_owned()));
    record.set("password", Value::Text("secret".to_owned()));
    let public =
        r#"{"collectionId":"pbc_users","collectionName":"users","emailVisibility":false,"id":"","name":""}"#;
    let own = r#"{"collectionId":"pbc_users","collectionName":"users","email":"a@x.com","emailVisibility":false,"id":"","name":""}"#;
    assert_eq!(write(&record, Visibility::PUBLIC), public);
    assert_eq!(write(&record, Visibility::OWN), own);
    assert_eq!(write(&record, Visibility::SUPERUSER), own);
    record.set("emailVisibility", Value::bool(true));
    assert!(write(&record, Visibility::PUBLIC).contains("a@x.com"));
}

#[test]
fn visibility_follows_the_caller() {
    let users = collection("users", auth_kind(), vec![text("id")]);
    let others = collection("others", auth_kind(), vec![text("id")]);
    let with_id = |collection: &Arc<Collection>, id: &str| {
        let mut record = Record::empty(collection.clone());
        record.set("id", Value::Text(id.to_owned()));
        Arc::new(record)
    };
    let record = with_id(&users, "a");
    let seen_by = |caller: Caller, is_manager| Visibility::of(&caller, &record, is_manager);
    assert_eq!(seen_by(Caller::Guest, false), Visibility::PUBLIC);
    assert_eq!(seen_by(Caller::Record(with_id(&users, "a")), false), Visibility::OWN);
    assert_eq!(seen_by(Caller::Record(with_id(&users, "b")), false), Visibility::PUBLIC);
    assert_eq!(seen_by(Caller::Record(with_id(&others, "a")), false), Visibility::PUBLIC);
    assert_eq!(seen_by(Caller::Record(with_id(&users, "b")), true), Visibility::OWN);
    assert_eq!(seen_by(Caller::Superuser(with_id(&others, "b")), false), Visibility::SUPERUSER);
}

#[test]
fn expand_sorts_among_the_keys() {
    let cats = collection("cats", CollectionKind::Base, vec![text("id"), text("zed"), text("aye")]);
    let shape = Arc::new(RecordShape::new(&cats));
    let inner = ShapedRecord {
        record: Arc::new(Record::empty(cats.clone())),
        shape: shape.clone(),
        visibility: Visibility::PUBLIC,
        expand: None,
    };
    let one = r#"{"aye":"","collectionId":"pbc_cats","collectionName":"cats","id":"","zed":""}"#;
    let mut outer = inner.clone();
    let expand = outer.expand.get_or_insert_default();
    expand.insert("one".to_owned(), Expanded::One(Box::new(inner.clone())));
    expand.insert("many".to_owned(), Expanded::Many(vec![inner.clone(), inner]));
    let mut out = String::new();
    outer.write(&mut out);
    assert_eq!(
        out,
        format!(
            r#"{{"aye":"","collectionId":"pbc_cats","collectionName":"cats","expand":{{"many":[{one},{one}],"one":{one}}},"id":"","zed":""}}"#
        )
    );
}

#[test]
fn the_cache_follows_the_collection() {
    let cache = ShapeCache::default();
    let first = every_type();
    let shape = cache.get(&first);
    assert!(Arc::ptr_eq(&shape, &cache.get(&first)));
    assert!(!Arc::ptr_eq(&shape, &cache.get(&every_type())));
}

#[test]
fn a_real_record_is_written_to_the_byte() {
    // What the contract's server answered, and what lay in its database.
    let seen = "{\"Up\":\"U\",\"_u\":\"_\",\"b\":true,\"collectionId\":\"pbc_all\",\"collectionName\":\"all\",\"g\":{\"lon\":-2,\"lat\":1.5},\"hid\":\"secret\",\"id\":\"ifugzr4huk4x0ns\",\"j\":{\"z\":1,\"a\":\"b \\\" c\"},\"n\":-1.5e-7,\"pw\":\"\",\"s1\":\"a\",\"sm\":[\"b\",\"a\"],\"t\":\"a\\\"b\\\\\\n\u{2028}<&>\\u0001é\"}";
    let mut record = Record::empty(every_type());
    let texts = [
        ("id", "ifugzr4huk4x0ns"),
        ("t", "a\"b\\\n\u{2028}<&>\u{1}é"),
        ("s1", "a"),
        ("pw", "$2a$10$CuZqx0TU"),
        ("hid", "secret"),
        ("Up", "U"),
        ("_u", "_"),
    ];
    for (name, text) in texts {
        record.set(name, Value::Text(text.to_owned()));
    }
    for (name, json) in [
        ("j", "{\"z\": 1,\n\"a\": \"b \\\" c\"}"),
        ("sm", "[\"b\",\"a\"]"),
        ("g", "{\"lon\":-2,\"lat\":1.5}"),
    ] {
        record.set(name, Value::Json(json.to_owned()));
    }
    record.set("n", Value::Number(-1.5e-07));
    record.set("b", Value::bool(true));
    assert_eq!(write(&record, Visibility::SUPERUSER), seen);
}

/// The plain way: every member as a text of its own, sorted at the end.
fn naive(record: &Record, visibility: Visibility) -> String {
    let collection = &record.collection;
    let mut members = BTreeMap::new();
    members.insert("collectionId".to_owned(), Json::from(collection.id.as_str()).to_string());
    members.insert("collectionName".to_owned(), Json::from(collection.name.as_str()).to_string());
    for (field, value) in collection.fields.iter().zip(&record.values) {
        if field.hidden && !visibility.shows_hidden {
            continue;
        }
        let member = match (&field.kind, value) {
            (FieldKind::Password(_), _) => "\"\"".to_owned(),
            (FieldKind::Bool, value) => Json::Bool(value.as_bool()).to_string(),
            (FieldKind::Number(_), Value::Number(number)) => Json::Number(*number).to_string(),
            (FieldKind::Number(_), _) => "0".to_owned(),
            (_, Value::Json(json)) => json.clone(),
            (FieldKind::Json(_), _) => "null".to_owned(),
            (FieldKind::GeoPoint, _) => r#"{"lon":0,"lat":0}"#.to_owned(),
            (FieldKind::Select(options), _) if options.max_select > 1 => "[]".to_owned(),
            (_, value) => Json::from(value.as_str()).to_string(),
        };
        members.insert(field.name.clone(), member);
    }
    let members: Vec<_> =
        members.into_iter().map(|(key, value)| format!("{}:{value}", Json::from(key))).collect();
    format!("{{{}}}", members.join(","))
}

fn any_value(field: &Field) -> BoxedStrategy<Value> {
    match &field.kind {
        FieldKind::Bool => any::<bool>().prop_map(Value::bool).boxed(),
        FieldKind::Number(_) => prop_oneof![
            any::<i32>().prop_map(f64::from),
            any::<f64>().prop_filter("finite", |n| n.is_finite())
        ]
        .prop_map(Value::Number)
        .boxed(),
        FieldKind::Json(_) => prop_oneof![
            Just(Value::Null),
            any::<String>().prop_map(|text| {
                Value::Json(Json::Array(vec![Json::from(text), Json::Null]).to_string())
            })
        ]
        .boxed(),
        FieldKind::Select(options) if options.max_select > 1 => {
            prop::collection::vec(any::<String>(), 0..3).prop_map(|items| Value::from_list(&items)).boxed()
        }
        FieldKind::GeoPoint => Just(Value::Json(r#"{"lon":1.5,"lat":-2}"#.to_owned())).boxed(),
        _ => "(?s).{0,20}".prop_map(Value::Text).boxed(),
    }
}

proptest! {
    #[test]
    fn one_pass_equals_the_plain_way(
        values in every_type().fields.iter().map(any_value).collect::<Vec<_>>(),
        is_superuser: bool,
    ) {
        let record = Record { collection: every_type(), values };
        let visibility = if is_superuser { Visibility::SUPERUSER } else { Visibility::PUBLIC };
        prop_assert_eq!(write(&record, visibility), naive(&record, visibility));
    }

    #[test]
    fn compact_json_means_the_same(text in "(?s)[ a\\\\\"\n\u{0}é]{0,20}", number: i32) {
        let compact = Json::Array(vec![Json::from(text), Json::from(f64::from(number)), Json::Null]).to_string();
        let spaced = compact.replace(",", " ,\n\t");
        let mut out = String::new();
        push_compact(&spaced, &mut out);
        prop_assert_eq!(out, compact);
    }

    #[test]
    fn short_ways_equal_the_long_ones(text in "(?s)[\u{0}-\u{7f}é\u{2028}😀]{0,40}", number: f64) {
        let (mut short, mut long) = (String::new(), String::new());
        push_string(&text, &mut short);
        write_string(&text, &mut long);
        prop_assert_eq!(short, long);
        if number.is_finite() {
            for number in [number, number.trunc(), (number % 1e6).trunc()] {
                let (mut short, mut long) = (String::new(), String::new());
                push_number(number, &mut short);
                write_number(number, &mut long);
                prop_assert_eq!(short, long);
            }
        }
    }
}

/// `cargo test -p kit --release -- --ignored --nocapture speed`
#[test]
#[ignore = "a measurement, not a claim"]
fn speed_of_a_record() {
    let mut record = Record::empty(every_type());
    record.set("id", Value::Text("abcdefghijklmno".to_owned()));
    record.set("t", Value::Text("a title of the usual length, some forty chars".to_owned()));
    record.set("n", Value::Number(12345.0));
    record.set("sm", Value::from_list(&["a", "b"]));
    let shape = RecordShape::new(&record.collection);
    let mut out = String::with_capacity(1 << 10);
    const ROUNDS: u32 = 1_000_000;
    let start = std::time::Instant::now();
    for _ in 0..ROUNDS {
        out.clear();
        shape.write(std::hint::black_box(&record), Visibility::PUBLIC, None, &mut out);
        std::hint::black_box(&out);
    }
    println!("{:?} a record of {} bytes", start.elapsed() / ROUNDS, out.len());
}
