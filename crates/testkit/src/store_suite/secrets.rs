//! Secrets of the server: kept by name, and told to nobody.

use contract::event::Interest;
use contract::secrets::{MAX_SECRET_BYTES, Secret};

use super::Stage;

async fn save(stage: &Stage, name: &str, secret: &str, before: Option<&str>) -> bool {
    let before = before.map(|before| Secret(before.to_owned()));
    stage.secrets().save_secret(name.to_owned(), Secret(secret.to_owned()), before).await.unwrap()
}

async fn kept(stage: &Stage, name: &str) -> Option<String> {
    stage.secrets().secret(name.to_owned()).await.unwrap().map(|secret| secret.0)
}

pub async fn a_secret_is_replaced_only_as_it_was_known(stage: Stage) {
    assert_eq!(kept(&stage, "a").await, None);
    assert!(!save(&stage, "a", "2", Some("1")).await, "there is none");
    assert!(save(&stage, "a", "1", None).await);
    assert!(save(&stage, "b", "x", None).await);
    assert!(!save(&stage, "a", "2", None).await, "there is one");
    assert!(!save(&stage, "a", "2", Some("0")).await);
    assert_eq!(kept(&stage, "a").await.as_deref(), Some("1"));
    assert!(save(&stage, "a", "2", Some("1")).await);
    assert_eq!(kept(&stage, "a").await.as_deref(), Some("2"));
    assert!(!save(&stage, "c", &"x".repeat(MAX_SECRET_BYTES + 1), None).await);
}

pub async fn nobody_is_told_of_a_secret(stage: Stage) {
    stage.collection("notes", r#"{"fields": []}"#).await;
    stage.register("all", Interest::All).await;
    stage.take_commits();
    assert!(save(&stage, "a", "1", None).await);
    assert_eq!(stage.take_commits(), []);
    stage.create("notes", r#"{"id": "a"}"#).await;
    assert_eq!(stage.events("all", 1).await.len(), 1);
}
