//! Whatever is submitted is answered: nothing panics, and what is accepted can be stored and read back.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::collection::json::RowHead;
use model::collection::{Collection, create, import, index, system, update};
use model::field::Pattern;
use model::field::generate::generate;
use model::json::Json;
use model::schema::Schema;
use model::settings::Settings;
use model::time::Timestamp;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

const NOW: Timestamp = Timestamp(0);

const NAMES: &[&str] = &[
    "name",
    "type",
    "id",
    "fields",
    "indexes",
    "system",
    "listRule",
    "viewRule",
    "created",
    "authRule",
    "manageRule",
    "oauth2",
    "providers",
    "mappedFields",
    "passwordAuth",
    "identityFields",
    "enabled",
    "mfa",
    "otp",
    "duration",
    "length",
    "rule",
    "authToken",
    "secret",
    "min",
    "max",
    "pattern",
    "autogeneratePattern",
    "primaryKey",
    "hidden",
    "required",
    "values",
    "maxSelect",
    "minSelect",
    "maxSize",
    "collectionId",
    "thumbs",
    "onlyDomains",
    "exceptDomains",
    "onCreate",
    "cost",
    "help",
    "smtp",
    "host",
    "port",
    "s3",
    "backups",
    "cron",
    "cronMaxKeep",
    "meta",
    "appURL",
    "senderAddress",
    "accentColor",
    "rateLimits",
    "rules",
    "label",
    "audience",
    "superuserIPs",
    "collections",
    "deleteMissing",
];

const TEXTS: &[&str] = &[
    "",
    "base",
    "auth",
    "view",
    "text",
    "number",
    "bool",
    "email",
    "url",
    "date",
    "autodate",
    "select",
    "file",
    "relation",
    "json",
    "password",
    "editor",
    "geoPoint",
    "id",
    "tokenKey",
    "users",
    "t1",
    "a",
    "_pb_users_auth_",
    "pbc_3142635823",
    "create unique index i on t (a, b desc) where a > 1",
    "[a-z]{2,",
    "a{3}",
    "google",
    "1.2.3.4/8",
    "* * * * *",
    "*/2 1-5 * * *",
    "http://a.b",
    "é",
    "2020-01-01",
    "_superusers",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(TEXTS).prop_map(str::to_owned),
        1 => ".{0,12}",
    ]
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        1 => Just(Json::Null),
        2 => any::<bool>().prop_map(Json::Bool),
        2 => prop::sample::select(&[0.0, 1.0, -1.0, 2.0, 15.0, 1.5, 1e18, 1e300, -1e19]).prop_map(Json::Number),
        4 => text().prop_map(Json::Text),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let member = (prop::sample::select(NAMES).prop_map(str::to_owned), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Json::Array),
            prop::collection::vec(member, 0..8)
                .prop_map(|members| Json::Object(members.into_iter().collect::<BTreeMap<_, _>>())),
        ]
    })
}

fn fresh(rng: &mut StdRng) -> Schema {
    Schema::new(1, system::fresh_install(NOW, rng).into_iter().map(Arc::new).collect())
}

fn stored_and_read(collection: &Collection) -> Collection {
    let head = RowHead {
        id: collection.id.clone(),
        name: collection.name.clone(),
        type_name: collection.type_name().to_owned(),
        system: collection.system,
        rules: collection.rules.clone(),
        created: collection.created.clone(),
        updated: collection.updated.clone(),
    };
    Collection::from_stored(head, &collection.to_stored()).unwrap()
}

proptest! {
    #[test]
    fn any_body_creates_a_collection_or_is_refused(body in json()) {
        let mut rng = StdRng::seed_from_u64(1);
        let schema = fresh(&mut rng);
        if let Ok(collection) = create::create(&schema, &body, None, NOW, &mut rng) {
            prop_assert_eq!(stored_and_read(&collection), collection);
        }
    }

    #[test]
    fn any_body_changes_a_collection_or_is_refused(body in json()) {
        let mut rng = StdRng::seed_from_u64(1);
        let schema = fresh(&mut rng);
        for name in ["users", "_mfas"] {
            let old = schema.find(name).unwrap();
            if let Ok(collection) = update::update(&schema, old, &body, None, NOW, &mut rng) {
                prop_assert_eq!(&collection.id, &old.id);
                prop_assert_eq!(stored_and_read(&collection), collection);
            }
        }
    }

    #[test]
    fn any_body_is_imported_or_refused(items in prop::collection::vec(json(), 1..3), delete_missing: bool) {
        let mut rng = StdRng::seed_from_u64(1);
        let schema = fresh(&mut rng);
        let members = [("collections", Json::Array(items)), ("deleteMissing", Json::Bool(delete_missing))];
        let body = Json::Object(members.map(|(name, value)| (name.to_owned(), value)).into());
        let _ = import::plan(&schema, &body, NOW, &mut rng);
    }

    #[test]
    fn any_body_changes_the_settings_or_is_refused(body in json()) {
        if let Ok(settings) = Settings::default().merge(&body) {
            prop_assert_eq!(Settings::from_stored(&settings.to_stored()).unwrap(), settings);
        }
    }

    #[test]
    fn a_statement_is_made_for_a_table_once(
        statement in r#"(create|CREATE )? ?(unique )?index [`\[]?[a-z.]{0,4}[`\]]? on [`'a-z]{0,3} ?\([a-z`,() ]{0,12}\)( where .{0,6})?"#
    ) {
        let once = index::for_table(&statement, "t");
        prop_assert_eq!(index::for_table(&once, "t"), once);
    }

    #[test]
    fn any_text_is_a_pattern_or_not(pattern in r"[\[\](){}*+?|^$.,:<>P=!iawdsbQEp\\0-9x&~-]{0,12}", value in ".{0,4}") {
        let compiled = Pattern::new(pattern.as_str());
        compiled.matches(&value);
        if compiled.is_valid() {
            let _ = generate(&pattern, &mut StdRng::seed_from_u64(1));
        }
    }
}
