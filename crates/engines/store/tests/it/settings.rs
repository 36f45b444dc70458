use std::sync::Arc;

use contract::store::Store;
use model::json::Json;
use model::step::{Guard, Step, Why, WriteBatch};

use crate::{block_on, fresh};

/// Two changes that were worked out on the same settings: the second would undo the first.
#[test]
fn a_change_of_settings_that_are_no_longer_current_is_refused() {
    let (_folder, store) = fresh();
    let change = |body: &str| {
        let before = store.settings();
        let after = Arc::new(before.merge(&Json::parse_whole(body).unwrap()).unwrap());
        WriteBatch::one(Step::SaveSettings { before, after })
    };
    let first = change(r#"{"meta":{"appName":"first"}}"#);
    let second = change(r#"{"batch":{"maxRequests":7}}"#);
    block_on(async {
        assert!(store.write(first).await.unwrap().is_ok());
        let refused = store.write(second).await.unwrap().unwrap_err();
        assert_eq!(refused.why, Why::Guard(Guard::Settings));
        let again = change(r#"{"batch":{"maxRequests":7}}"#);
        assert!(store.write(again).await.unwrap().is_ok());
    });
    let settings = store.settings();
    assert_eq!((settings.meta.app_name.as_str(), settings.batch.max_requests), ("first", 7));
}

#[test]
fn a_batch_may_change_the_settings_more_than_once() {
    let (_folder, store) = fresh();
    let before = store.settings();
    let merged = |settings: &model::settings::Settings, name: &str| {
        let body = Json::parse_whole(&format!(r#"{{"meta":{{"appName":"{name}"}}}}"#)).unwrap();
        Arc::new(settings.merge(&body).unwrap())
    };
    let between = merged(&before, "between");
    let after = merged(&between, "after");
    let batch = WriteBatch {
        steps: vec![
            Step::SaveSettings { before, after: between.clone() },
            Step::SaveSettings { before: between, after },
        ],
        schema_version: None,
    };
    assert!(block_on(store.write(batch)).unwrap().is_ok());
    assert_eq!(store.settings().meta.app_name, "after");
}
