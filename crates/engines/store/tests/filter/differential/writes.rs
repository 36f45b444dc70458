//! Rules of writes: what a create rule sees of a row that is not there yet, and what both kinds of
//! rules see of the body.

use std::sync::Arc;

use model::collection::Collection;
use model::context::RuleBody;
use model::field::FieldKind;
use model::filter::{Filter, Scope, Verdict, check};
use model::json::Json;
use model::record::Record;
use model::value::Value;
use store::sqlite::filter_sql::{self, Expected, Root, RootKind};

use super::{Bench, context};
use crate::tables;

/// Bodies as they are after coercion, so that they are what a rule sees.
const BODIES: &[&str] = &[
    "{}",
    r#"{"title":"one","n":1,"b":true,"s":"a","sm":["a","b"],"d":"2022-01-01 00:00:00.000Z"}"#,
    r#"{"title":"2","n":2,"b":false,"j":{"a":1,"b":["x"]},"g":{"lat":2,"lon":1},"sm":[]}"#,
    r#"{"title":"","n":0,"j":"x","cat":"cat000000000001","cats":["cat000000000001","cat000000000004"]}"#,
    r#"{"owner":"user00000000000","users":["user00000000000","user00000000001"],"team":"team00000000000","j":5,"n":-1.5}"#,
    r#"{"users":["user00000000001"],"team":"team00000000002","cat":"","cats":[],"j":null,"title":"ada"}"#,
];

const RULES: &[&str] = &[
    "n=1",
    "n='1'",
    "'1'=n",
    "n>'0'",
    "n>0",
    "n=-1.5",
    "n~1",
    "n~'1.0'",
    "n~'-1.5'",
    "title='2'",
    "title=2",
    "title=2.0",
    "title>0",
    "title=n",
    "title=s",
    "n=m",
    "b=true",
    "b='1'",
    "b=1",
    "b~'1'",
    "b=n",
    "title=''",
    "title!=''",
    "s=''",
    "cat=''",
    "cat!=null",
    "cats='[]'",
    "sm='[]'",
    "sm~'a'",
    "sm:each='a'",
    "sm:each?='a'",
    "sm:each!='c'",
    "sm:length=2",
    "s:length=1",
    "s:each='a'",
    "cats:length>1",
    "d=''",
    "d>'2021'",
    "d>2021",
    "j=null",
    "j=5",
    "j='5'",
    "j='x'",
    "j.a=1",
    "j.b.0='x'",
    "j!=1",
    "g.lon=1",
    "g.lon=0",
    "g='{\"lon\":1,\"lat\":2}'",
    "id!=''",
    "id=''",
    "made=''",
    "secret=''",
    "cat.name='Bob'",
    "cat.name=''",
    "cats.name?='Bob'",
    "cats.name='Bob'",
    "cats.name!='Bob'",
    "cats.rank>0",
    "cats.id?=cat",
    "team.members.id?=@request.auth.id",
    "users.id?=@request.auth.id",
    "users.id=@request.auth.id",
    "users:each?=@request.auth.id",
    "owner=@request.auth.id",
    "owner.name='ada'",
    "team.memberships_via_team.user?=@request.auth.id",
    "team.groups_via_teams.user?=@request.auth.id",
    "@collection.cats.id?=cat",
    "@collection.main.id?=id",
    "@collection.memberships.user?=owner&&@collection.memberships.team?=team",
    "details_via_main.note=''",
    "strftime('%Y',d)='2022'",
    "strftime('%Y',d)=''",
    "geoDistance(g.lon,g.lat,1,2)=0",
    "geoDistance(g.lon,g.lat,1,2)<1",
    "@request.body.title='one'",
    "@request.body.title=''",
    "@request.body.title=null",
    "@request.body.title!=''",
    "@request.body.title=title",
    "@request.body.title!=title",
    "@request.body.title:isset=true",
    "@request.body.title:isset=false",
    "@request.body.title:changed=true",
    "@request.body.title:changed=false",
    "@request.body.n:changed=true",
    "@request.body.n:changed=false",
    "@request.body.sm:changed=true",
    "@request.body.j:changed=true",
    "@request.body.j:changed=false",
    "@request.body.cats:changed=true",
    "@request.body.d:changed=true",
    "@request.body.g:changed=true",
    "@request.body.b:changed=true",
    "@request.body.title:lower='one'",
    "@request.body.title~'O'",
    "title~@request.body.title",
    "'xtruex'~@request.body.b",
    "'x2x'~@request.body.n",
    "'x-1.5x'~@request.body.n",
    "@request.body.n=1",
    "@request.body.n='1'",
    "@request.body.n>0",
    "@request.body.n=n",
    "n=@request.body.n",
    "title=@request.body.n",
    "@request.body.n=title",
    "@request.body.b=true",
    "@request.body.b='true'",
    "@request.body.b=b",
    "@request.body.b:isset=true&&@request.body.b=false",
    "@request.body.sm='[\"a\",\"b\"]'",
    "@request.body.sm='[]'",
    "@request.body.sm=sm",
    "@request.body.sm:length=2",
    "@request.body.sm:length>n",
    "@request.body.sm:each='a'",
    "@request.body.sm:each?='a'",
    "@request.body.sm:each!='c'",
    "@request.body.sm:each?=s",
    "@request.body.sm:each=s",
    "@request.body.sm:each=sm:each",
    "@request.body.sm:each?=sm:each",
    "@request.body.sm:each~'a'",
    "@request.body.s:each='a'",
    "@request.body.s:length=1",
    "@request.body.sm.0='a'",
    "@request.body.sm.5=''",
    "@request.body.sm~'b'",
    "@request.body.j.a=1",
    "@request.body.j='5'",
    "@request.body.j=5",
    "@request.body.j='\"x\"'",
    "@request.body.j='x'",
    "@request.body.j=null",
    "@request.body.j='null'",
    "@request.body.j.b.0='x'",
    "@request.body.j.b='[\"x\"]'",
    "@request.body.j=j",
    "@request.body.j!=j",
    "@request.body.g.lon=1",
    "@request.body.g='{\"lon\":1,\"lat\":2}'",
    "@request.body.g=g",
    "@request.body.d='2022-01-01 00:00:00.000Z'",
    "@request.body.d=d",
    "@request.body.d<@now",
    "@request.body.cat.name='Bob'",
    "@request.body.cat.name!='Bob'",
    "@request.body.cat.name=''",
    "@request.body.cat.id=cat",
    "@request.body.cat=cat",
    "@request.body.cat.owner.name!=''",
    "@request.body.cats.name='Bob'",
    "@request.body.cats.name?='Bob'",
    "@request.body.cats.name!='zed'",
    "@request.body.cats.name?!='Bob'",
    "@request.body.cats.id?=cat",
    "@request.body.cats.id=cat",
    "@request.body.cats.tags:each?='a'",
    "@request.body.cats.rank>0",
    "@request.body.cats.rank?>n",
    "@request.body.users.id?=@request.auth.id",
    "@request.body.users.id=@request.auth.id",
    "@request.body.users:each?=@request.auth.id",
    "@request.body.users:each=@request.auth.id",
    "@request.body.users~@request.auth.id",
    "@request.body.team.members.id?=@request.auth.id",
    "@request.body.owner=@request.auth.id",
    "@request.body.owner.teams.id?=team",
    "@request.body.team.memberships_via_team.user?=@request.auth.id",
    "@request.body.nope=''",
    "@request.body.nope:isset=false",
    "@request.method='POST'",
    "@request.method='PATCH'",
    "@request.auth.id!=''&&(@request.body.title:isset=false||@request.body.title='one')",
];

impl Bench {
    pub(super) fn write_rules(&mut self) {
        let main = self.schema.find("main").unwrap().clone();
        for rule in RULES {
            for kind in ["createRule", "updateRule"] {
                let body = format!(r#"{{"{kind}":{}}}"#, Json::from(*rule));
                self.server.ask("PATCH", "/api/collections/main", Some(&body));
            }
            let filter = match check(&self.schema, &main, rule, Scope::Rule) {
                Ok(filter) => filter,
                Err(error) => {
                    self.failures.push(format!("{rule}: refused here: {error}"));
                    continue;
                }
            };
            for (number, body) in BODIES.iter().enumerate() {
                let caller = (number + rule.len()) % self.callers.len();
                self.create(&main, rule, &filter, body, caller);
                self.update(&main, rule, &filter, body, caller);
            }
        }
    }

    fn create(&mut self, main: &Arc<Collection>, rule: &str, filter: &Filter, body: &str, caller: usize) {
        let (name, token, who) = self.callers[caller].clone();
        let (status, answer) = self.server.call("POST", "/api/collections/main/records", &token, Some(body));
        let label = format!("create by {name} under {rule} of {body}");
        let wanted = match (status, answer.get("data")) {
            (200, _) => true,
            // Field errors mean that the rule was passed.
            (400, Some(Json::Object(data))) => !data.is_empty(),
            _ => return self.failures.push(format!("{label}: {status} {answer}")),
        };
        if let Some(id) = answer.get("id").and_then(Json::as_str) {
            self.server.ask("DELETE", &format!("/api/collections/main/records/{id}"), None);
        }
        let values = Json::parse_whole(body).unwrap();
        let record = new_record(main, &values);
        let mut context = context(who, "");
        context.method = "POST";
        let body = RuleBody { values: values.as_object().unwrap().clone() };
        self.compared += 1;
        let verdict = filter.judge_new(&record, &context, &body);
        if verdict != Verdict::NeedsStore && (verdict == Verdict::Yes) != wanted {
            self.failures.push(format!("{label}: judged {verdict:?}, wanted {wanted}"));
        }
        let row = filter_sql::new_row(&record);
        let root = Root { alias: "r", kind: RootKind::NewRow, expected: Expected::One };
        let condition = filter_sql::condition(filter, &context, &body, root);
        let sql = format!("SELECT id FROM {} AS r WHERE {}", row.sql, condition.sql);
        let values = [row.values, condition.values].concat();
        match self.ids(&sql, values) {
            Ok(found) if found.len() == usize::from(wanted) => {}
            other => self.failures.push(format!("{label}: {other:?}, wanted {wanted}\n    {sql}")),
        }
    }

    fn update(&mut self, main: &Arc<Collection>, rule: &str, filter: &Filter, body: &str, caller: usize) {
        let (name, token, who) = self.callers[caller].clone();
        let stored = tables::records(&self.db, main).remove((rule.len() * 7 + body.len()) % 60);
        let id = stored.id().to_owned();
        let path = format!("/api/collections/main/records/{id}");
        let (status, answer) = self.server.call("PATCH", &path, &token, Some(body));
        let label = format!("update by {name} under {rule} of {body} on {id}");
        let wanted = match status {
            200 => true,
            400 if answer.get("data").and_then(Json::as_object).is_some_and(|data| !data.is_empty()) => true,
            404 => false,
            _ => return self.failures.push(format!("{label}: {status} {answer}")),
        };
        let values = Json::parse_whole(body).unwrap();
        let mut context = context(who, "");
        context.method = "PATCH";
        let body = RuleBody { values: values.as_object().unwrap().clone() };
        self.compared += 1;
        let verdict = filter.judge(&stored, &context, &body);
        if verdict != Verdict::NeedsStore && (verdict == Verdict::Yes) != wanted {
            self.failures.push(format!("{label}: judged {verdict:?}, wanted {wanted}"));
        }
        if wanted {
            // The row as it was, so that SQL judges what the rule saw.
            self.server.ask("PATCH", &path, Some(&restore(&stored, &values)));
        }
        let root = Root { alias: "r", kind: RootKind::Table, expected: Expected::One };
        let condition = filter_sql::condition(filter, &context, &body, root);
        let sql = format!("SELECT id FROM main AS r WHERE r.id = '{id}' AND {}", condition.sql);
        match self.ids(&sql, condition.values) {
            Ok(found) if found.len() == usize::from(wanted) => {}
            other => self.failures.push(format!("{label}: {other:?}, wanted {wanted}\n    {sql}")),
        }
    }
}

fn restore(stored: &Record, changed: &Json) -> String {
    let mut body = changed.as_object().unwrap().clone();
    for (key, value) in &mut body {
        *value = match stored.get(key) {
            Value::Null => Json::Null,
            Value::Number(number) => Json::Number(*number),
            Value::Text(text) => Json::Text(text.clone()),
            Value::Json(text) => Json::parse_whole(text).unwrap(),
        };
    }
    Json::Object(body).to_string()
}

/// The row that a create rule sees: zero values where the body says nothing.
fn new_record(main: &Arc<Collection>, values: &Json) -> Record {
    let mut record = Record::empty(main.clone());
    for (field, stored) in main.fields.iter().zip(&mut record.values) {
        let given = values.get(&field.name);
        *stored = match (&field.kind, given) {
            (FieldKind::Number(_), given) => Value::Number(given.and_then(Json::as_number).unwrap_or(0.0)),
            (FieldKind::Bool, given) => Value::bool(given.and_then(Json::as_bool).unwrap_or(false)),
            (FieldKind::Json(_), None | Some(Json::Null)) => Value::Null,
            (FieldKind::Json(_), Some(json)) => Value::Json(json.to_string()),
            (FieldKind::GeoPoint, given) => {
                let part =
                    |key| given.and_then(|point| point.get(key)).and_then(Json::as_number).unwrap_or(0.0);
                Value::Json(format!(r#"{{"lon":{},"lat":{}}}"#, part("lon"), part("lat")))
            }
            (_, Some(list)) if field.is_multiple() => Value::Json(list.to_string()),
            (_, None) if field.is_multiple() => Value::Json("[]".to_owned()),
            (_, given) => Value::Text(given.and_then(Json::as_str).unwrap_or("").to_owned()),
        };
    }
    record.set("id", Value::Text("abcdefghijklmno".to_owned()));
    record
}
