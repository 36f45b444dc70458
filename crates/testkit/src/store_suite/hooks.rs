//! Webhooks: kept by name, and told to nobody.

use contract::event::Interest;
use contract::hooks::{MAX_HOOKS, Saved, StoredHook};
use model::json::Json;

use super::Stage;

fn hook(name: &str, definition: &str) -> StoredHook {
    StoredHook { name: name.to_owned(), definition: Json::parse_whole(definition).unwrap() }
}

async fn save(stage: &Stage, name: &str, definition: &str, before: Option<&str>) -> Saved {
    let before = before.map(|before| Json::parse_whole(before).unwrap());
    stage.hooks().save_hook(hook(name, definition), before).await.unwrap()
}

/// Names and definitions, as `name: definition`.
async fn kept(stage: &Stage) -> Vec<String> {
    let hooks = stage.hooks().hooks().await.unwrap();
    hooks.iter().map(|hook| format!("{}: {}", hook.name, hook.definition)).collect()
}

pub async fn webhooks_are_kept_by_name(stage: Stage) {
    assert_eq!(kept(&stage).await, [""; 0]);
    for (name, definition) in [("b", "1"), ("a", r#"{"z":[1,"é"],"a":null}"#), ("B", "2")] {
        assert_eq!(save(&stage, name, definition, None).await, Saved::Kept);
    }
    assert_eq!(kept(&stage).await, ["B: 2", r#"a: {"a":null,"z":[1,"é"]}"#, "b: 1"]);
    assert_eq!(save(&stage, "b", "3", Some("1")).await, Saved::Kept);
    assert!(stage.hooks().remove_hook("a".to_owned()).await.unwrap());
    assert!(!stage.hooks().remove_hook("a".to_owned()).await.unwrap());
    assert_eq!(kept(&stage).await, ["B: 2", "b: 3"]);
}

pub async fn a_webhook_is_replaced_only_as_it_was_known(stage: Stage) {
    assert_eq!(save(&stage, "a", "2", Some("1")).await, Saved::Changed, "there is none");
    assert_eq!(save(&stage, "a", r#"{"x":1,"y":2}"#, None).await, Saved::Kept);
    assert_eq!(save(&stage, "a", "2", None).await, Saved::Changed, "there is one");
    assert_eq!(save(&stage, "a", "2", Some("1")).await, Saved::Changed);
    assert_eq!(kept(&stage).await, [r#"a: {"x":1,"y":2}"#]);
    assert_eq!(save(&stage, "a", "2", Some(r#"{"y": 2, "x": 1}"#)).await, Saved::Kept);
    assert_eq!(kept(&stage).await, ["a: 2"]);
}

pub async fn no_more_webhooks_are_kept_than_may_be(stage: Stage) {
    for number in 0..MAX_HOOKS {
        assert_eq!(save(&stage, &format!("h{number}"), "1", None).await, Saved::Kept);
    }
    assert_eq!(save(&stage, "more", "1", None).await, Saved::TooMany);
    assert_eq!(kept(&stage).await.len() as u64, MAX_HOOKS);
    assert_eq!(save(&stage, "h7", "2", Some("1")).await, Saved::Kept, "one that is there is replaced");
    assert!(stage.hooks().remove_hook("h8".to_owned()).await.unwrap());
    assert_eq!(save(&stage, "more", "1", None).await, Saved::Kept);
    let kept = kept(&stage).await;
    assert!(kept.contains(&"h7: 2".to_owned()) && kept.contains(&"more: 1".to_owned()));
}

pub async fn nobody_is_told_of_a_webhook(stage: Stage) {
    stage.collection("notes", r#"{"fields": []}"#).await;
    stage.register("all", Interest::All).await;
    stage.take_commits();
    save(&stage, "a", r#"{"secret": "whsec"}"#, None).await;
    stage.hooks().remove_hook("a".to_owned()).await.unwrap();
    assert_eq!(stage.take_commits(), []);
    stage.create("notes", r#"{"id": "a"}"#).await;
    let events = stage.events("all", 1).await;
    assert_eq!(events.iter().map(|event| event.record.as_str()).collect::<Vec<_>>(), ["a"]);
}
