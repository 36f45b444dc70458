//! What hooks are sent, as JSON: `type`, `timestamp` and `hook`, then what it is about. Passwords, token keys and hidden
//! fields are never among it.

use contract::event::ChangeEvent;
use kit::app::now;
use kit::before_hooks::Question;
use kit::record_json::{RecordShape, Visibility};
use model::collection::Collection;
use model::context::Caller;
use model::field::FieldKind;
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

/// A change that was committed. Without its rows, if it `is_cut`.
pub(crate) fn after(hook: &str, event: &ChangeEvent, collection: &Collection, rows: Rows) -> Json {
    let name = HookEvent::new(false, event.action).as_str();
    let mut message = head(name, hook, now(), collection);
    let mut put = |name: &str, value: Json| _ = message.insert(name.to_owned(), value);
    put("batch", Json::from(event.batch as f64));
    put("callerId", Json::from(event.caller.as_str()));
    put("recordId", Json::from(event.record.as_str()));
    put("sequence", Json::from(event.sequence as f64));
    match rows {
        Rows::Of { before, after } => {
            put("before", before);
            put("record", after);
        }
        Rows::Cut => put("isCut", Json::Bool(true)),
    }
    Json::Object(message)
}

/// What superusers send to see whether a hook answers.
pub(crate) fn ping(hook: &str) -> Json {
    Json::Object(JsonObject::from([
        ("hook".to_owned(), Json::from(hook)),
        ("timestamp".to_owned(), Json::from(now().to_text())),
        ("type".to_owned(), Json::from("ping")),
    ]))
}

/// The rows of a change.
pub(crate) enum Rows {
    /// Null where there is none.
    Of { before: Json, after: Json },
    /// They are too large.
    Cut,
}

/// A record as hooks see it: what its owner sees.
pub(crate) fn record_json(record: &Record) -> Json {
    let mut text = String::with_capacity(256);
    RecordShape::new(&record.collection).write(record, Visibility::OWN, None, &mut text);
    Json::parse_whole(&text).unwrap_or_default()
}

fn head(event: &str, hook: &str, now: Timestamp, collection: &Collection) -> JsonObject {
    let names = JsonObject::from([
        ("id".to_owned(), Json::from(collection.id.as_str())),
        ("name".to_owned(), Json::from(collection.name.as_str())),
    ]);
    JsonObject::from([
        ("collection".to_owned(), Json::Object(names)),
        ("hook".to_owned(), Json::from(hook)),
        ("timestamp".to_owned(), Json::from(now.to_text())),
        ("type".to_owned(), Json::from(event)),
    ])
}

/// A body without secrets and hidden fields; keys that are no fields stay, as they may be meant for the hook.
fn visible_body(collection: &Collection, body: &JsonObject) -> JsonObject {
    let is_visible = |key: &str| match field_of_key(collection, key) {
        Some(field) => {
            !field.hidden && !is_secret(collection, field) && !matches!(field.kind, FieldKind::Password(_))
        }
        None => !(collection.is_auth() && PASSWORDS.contains(&key)),
    };
    let visible = body.iter().filter(|(key, _)| is_visible(key));
    visible.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn caller_json(caller: &Caller) -> Json {
    let Some(record) = caller.record() else { return Json::Null };
    Json::Object(JsonObject::from([
        ("collectionName".to_owned(), Json::from(record.collection.name.as_str())),
        ("id".to_owned(), Json::from(record.id())),
        ("isSuperuser".to_owned(), Json::Bool(caller.is_superuser())),
    ]))
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
