//! What hooks are sent, as JSON: `type`, `timestamp` and `hook`, then what it is about. Passwords, token keys and hidden
//! fields are never among it.

use std::sync::Arc;

use contract::event::{self, ChangeEvent};
use kit::app::now;
use kit::before_hooks::Question;
use kit::record_json::{RecordShape, Visibility};
use model::collection::Collection;
use model::context::Caller;
use model::json::{Json, JsonObject};
use model::plan::is_secret;
use model::record::Record;
use model::record::field_of_key;
use model::time::Timestamp;

use crate::event::HookEvent;

/// Keys of a body that are passwords without being fields.
const PASSWORDS: [&str; 3] = ["password", "passwordConfirm", "oldPassword"];

/// A question to one hook; `values` are what the fields that are set would hold.
pub(crate) fn before(hook: &str, question: &Question<'_>, values: &JsonObject) -> Json {
    let collection = question.collection;
    let event = HookEvent::new(true, question.action);
    let mut message = head(event.as_str(), hook, now(), collection);
    let mut put = |name: &str, value: Json| _ = message.insert(name.to_owned(), value);
    put("body", Json::Object(visible_body(collection, question.body)));
    put("caller", caller_json(question.call.caller()));
    put("ip", Json::from(question.call.client_ip_text()));
    put("record", question.record.map_or(Json::Null, record_json));
    put("recordId", question.id.map_or(Json::Null, Json::from));
    put("requestId", Json::from(question.call.request_id().as_str()));
    put("values", Json::Object(visible_body(collection, values)));
    Json::Object(message)
}

/// A change that was committed, for no hook yet: see [`address`].
pub(crate) fn after(event: &ChangeEvent, collection: &Arc<Collection>) -> Json {
    let row = |row: &Option<JsonObject>| match row {
        Some(row) => record_json(&event::record(collection, row)),
        None => Json::Null,
    };
    let name = HookEvent::new(false, event.action).as_str();
    let mut message = head(name, "", event.written, collection);
    let mut put = |name: &str, value: Json| _ = message.insert(name.to_owned(), value);
    put("batch", Json::from(event.batch as f64));
    put("before", row(&event.before));
    put("callerId", Json::from(event.caller.as_str()));
    put("record", row(&event.after));
    put("recordId", Json::from(event.record.as_str()));
    put("sequence", Json::from(event.sequence as f64));
    Json::Object(message)
}

/// Makes a message of a change one to this hook. Its id is the same at every attempt, and for an event that comes
/// twice; with the time in it, it is another one when a store that was restored gives sequences a second time.
pub(crate) fn address(message: &mut Json, hook: &str, event: &ChangeEvent) {
    let Json::Object(message) = message else { return };
    message.insert("hook".to_owned(), Json::from(hook));
    let id = format!("{hook}-{}-{}", event.sequence, event.written.0);
    message.insert("id".to_owned(), Json::from(id));
}

/// Takes the rows out of a message that is too large.
pub(crate) fn cut(message: &mut Json) {
    let Json::Object(message) = message else { return };
    message.remove("before");
    message.remove("record");
    message.insert("isCut".to_owned(), Json::Bool(true));
}

/// What superusers send to see whether a hook answers.
pub(crate) fn ping(hook: &str) -> Json {
    Json::object([
        ("hook", Json::from(hook)),
        ("timestamp", Json::from(now().to_text())),
        ("type", Json::from("ping")),
    ])
}

/// A record as hooks see it: what its owner sees.
pub(crate) fn record_json(record: &Record) -> Json {
    let mut text = String::with_capacity(256);
    RecordShape::new(&record.collection).write(record, Visibility::OWN, None, &mut text);
    Json::parse_whole(&text).unwrap_or_default()
}

fn head(event: &str, hook: &str, now: Timestamp, collection: &Collection) -> JsonObject {
    let names = Json::object([
        ("id", Json::from(collection.id.as_str())),
        ("name", Json::from(collection.name.as_str())),
    ]);
    JsonObject::from([
        ("collection".to_owned(), names),
        ("hook".to_owned(), Json::from(hook)),
        ("timestamp".to_owned(), Json::from(now.to_text())),
        ("type".to_owned(), Json::from(event)),
    ])
}

/// A body without secrets and hidden fields; keys that are no fields stay, as they may be meant for the hook.
fn visible_body(collection: &Collection, body: &JsonObject) -> JsonObject {
    let is_visible = |key: &str| match field_of_key(collection, key) {
        Some(field) => !field.hidden && !is_secret(collection, field),
        None => !(collection.is_auth() && PASSWORDS.contains(&key)),
    };
    let visible = body.iter().filter(|(key, _)| is_visible(key));
    visible.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn caller_json(caller: &Caller) -> Json {
    let Some(record) = caller.record() else { return Json::Null };
    Json::object([
        ("collectionName", Json::from(record.collection.name.as_str())),
        ("id", Json::from(record.id())),
        ("isSuperuser", Json::Bool(caller.is_superuser())),
    ])
}

#[cfg(test)]
mod tests {
    use model::collection::create;
    use model::schema::Schema;

    use super::*;

    #[test]
    fn a_body_is_sent_without_what_nobody_may_see() {
        let body = r#"{"name": "people", "type": "auth", "fields": [
            {"name": "title", "type": "text"}, {"name": "score", "type": "number", "hidden": true},
            {"name": "pin", "type": "password"}
        ]}"#;
        let body = Json::parse_whole(body).unwrap();
        let collection =
            create::create(&Schema::new(0, Vec::new()), &body, None, Timestamp(0), &mut rand::rng()).unwrap();
        let sent = r#"{"title": "a", "score": 1, "score+": 2, "+score": 3, "pin": "p", "password": "p",
            "passwordConfirm": "p", "oldPassword": "p", "tokenKey": "k", "tokenKey:autogenerate": "", "captcha": "c"}"#;
        let Json::Object(sent) = Json::parse_whole(sent).unwrap() else { panic!() };
        let visible = Json::Object(visible_body(&collection, &sent));
        assert_eq!(visible.to_string(), r#"{"captcha":"c","title":"a"}"#);
    }
}
