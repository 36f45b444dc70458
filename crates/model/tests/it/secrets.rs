//! Secrets are kept, renewed when they must be, and never shown.

use std::sync::Arc;

use model::collection::{Collection, create, update};
use model::json::Json;
use model::schema::Schema;
use model::settings::Settings;
use model::time::Timestamp;
use rand::SeedableRng;
use rand::rngs::StdRng;

const NOW: Timestamp = Timestamp(0);

fn auth_collection() -> Collection {
    let body = Json::parse_whole(r#"{"name":"t","type":"auth"}"#).unwrap();
    create::create(&Schema::new(0, Vec::new()), &body, None, NOW, &mut StdRng::seed_from_u64(1)).unwrap()
}

fn updated(old: &Collection, body: &str) -> Collection {
    let schema = Schema::new(0, vec![Arc::new(old.clone())]);
    let body = Json::parse_whole(body).unwrap();
    update::update(&schema, old, &body, None, NOW, &mut StdRng::seed_from_u64(2)).unwrap()
}

fn auth_secret(collection: &Collection) -> &str {
    &collection.auth().unwrap().auth_token.secret
}

#[test]
fn a_changed_auth_rule_renews_the_auth_tokens_secret_alone() {
    let old = auth_collection();
    assert_eq!(auth_secret(&old).len(), 50);
    let renamed = updated(&old, r#"{"name":"u","authRule":""}"#);
    assert_eq!(auth_secret(&renamed), auth_secret(&old));
    let changed = updated(&old, r#"{"authRule":"id != ''"}"#);
    assert_ne!(auth_secret(&changed), auth_secret(&old));
    let file_secret = |collection: &Collection| collection.auth().unwrap().file_token.secret.clone();
    assert_eq!(file_secret(&changed), file_secret(&old));
}

#[test]
fn null_and_the_empty_auth_rule_are_one_to_the_secret() {
    let old = auth_collection();
    let locked = updated(&old, r#"{"authRule":null}"#);
    assert_eq!(auth_secret(&locked), auth_secret(&old));
}

#[test]
fn secrets_are_stored_and_not_shown() {
    let collection = auth_collection();
    let mut shown = String::new();
    collection.write_json(&mut shown);
    let secret = auth_secret(&collection);
    assert!(!shown.contains(secret) && collection.to_stored().options.contains(secret));
    let debugged = format!("{collection:?}");
    assert!(!debugged.contains(secret));
}

#[test]
fn a_provider_sent_without_its_secret_keeps_it() {
    let provider = r#"{"name":"google","clientId":"a","clientSecret":"kept"}"#;
    let old = updated(&auth_collection(), &format!(r#"{{"oauth2":{{"providers":[{provider}]}}}}"#));
    let again = r#"{"oauth2":{"providers":[{"name":"github"},{"name":"google","clientId":"b"}]}}"#;
    let new = updated(&old, again);
    let providers = &new.auth().unwrap().oauth2.providers;
    assert_eq!((providers[0].client_secret.as_str(), providers[1].client_secret.as_str()), ("", "kept"));
    assert_eq!(providers[1].client_id, "b");
}

#[test]
fn the_secrets_of_settings_stay_until_others_come() {
    let merge = |settings: &Settings, body: &str| settings.merge(&Json::parse_whole(body).unwrap()).unwrap();
    let with_secret = merge(&Settings::default(), r#"{"smtp":{"password":"p"},"s3":{"secret":"s"}}"#);
    let merged = merge(&with_secret, r#"{"smtp":{"host":"b.com"},"s3":null}"#);
    assert_eq!((merged.smtp.password.as_str(), merged.s3.secret.as_str()), ("p", "s"));
    let mut shown = String::new();
    merged.write_json(&mut shown);
    assert!(!shown.contains("password") && !shown.contains("\"secret\""));
    assert!(!format!("{merged:?}").contains("\"p\""));
}
