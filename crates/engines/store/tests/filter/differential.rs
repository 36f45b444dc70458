//! The same texts through PocketBase's API and through our SQL on the same database file.
//!
//! Runs when `POCKETBASE_BIN` names the program; is skipped otherwise, and fails where `CI=true`.

mod cases;
mod data;
mod random;
mod writes;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::context::{Caller, Origin, RequestContext, RuleBody};
use model::filter::{Filter, Scope, Verdict, check, check_sort, forbidden_for_clients};
use model::json::Json;
use model::record::Record;
use model::schema::Schema;
use model::time::Timestamp;
use rusqlite::{Connection, OpenFlags, params_from_iter};
use store::sqlite::filter_sql::{self, Expected, Root, RootKind};

use crate::pocketbase::PocketBase;
use crate::tables;

/// A server with the sample data, and the same data as we see it.
struct Bench {
    server: PocketBase,
    schema: Schema,
    db: Connection,
    callers: Vec<(&'static str, String, Caller)>,
    failures: Vec<String>,
    compared: usize,
    decided: usize,
}

#[test]
fn texts_mean_what_they_mean_to_pocketbase() {
    let Some((mut bench, mut random, count)) = prepare() else { return };
    for filter in cases::FILTERS {
        bench.superuser_filter("main", filter);
    }
    for (collection, filter) in cases::OTHER_FILTERS {
        bench.superuser_filter(collection, filter);
    }
    for filter in cases::combinations() {
        bench.superuser_filter("main", &filter);
    }
    for _ in 0..count {
        bench.superuser_filter("main", &random.filter());
    }
    bench.finish();
}

#[test]
fn rules_mean_what_they_mean_to_pocketbase() {
    let Some((mut bench, mut random, count)) = prepare() else { return };
    for rule in cases::RULES {
        bench.rule("main", rule);
    }
    for _ in 0..count / 5 {
        let rule = random.rule();
        // There PocketBase makes a pattern of the list itself, and its query fails.
        if !rule.contains("~@request.body.sm:each") {
            bench.rule("main", &rule);
        }
    }
    for (rules, filter) in cases::CLIENT_FILTERS {
        bench.client_filter(rules, filter);
    }
    bench.client_filter(cases::CLIENT_RULES, "title!=''");
    for _ in 0..count / 5 {
        bench.client_filter(&[], &random.filter());
    }
    bench.client_filter(
        &[("main", Some("")), ("cats", Some("")), ("teams", Some("")), ("people", Some(""))],
        "id!=''",
    );
    for sort in cases::SORTS {
        bench.sort("main", sort);
    }
    bench.write_rules();
    bench.finish();
}

/// A bench over the sample data, and how many random texts from which generator; none without a server.
fn prepare() -> Option<(Bench, random::Random, usize)> {
    let Some(server) = PocketBase::start() else {
        let missing = "POCKETBASE_BIN does not name a PocketBase to compare with";
        assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "{missing}");
        println!("skipped: {missing}");
        return None;
    };
    data::fill(&server);
    let seed = number_in_env("SEED", 7);
    let usual = if std::env::var_os("SOAK").is_some() { 1500 } else { 150 };
    let count = number_in_env("RANDOM_FILTERS", usual);
    println!("SEED={seed} RANDOM_FILTERS={count}");
    Some((Bench::new(server), random::Random::new(seed as u64), count))
}

impl Bench {
    fn new(server: PocketBase) -> Bench {
        let db = Connection::open_with_flags(server.database(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        filter_sql::add_functions(&db).unwrap();
        let schema = load_schema(&server);
        let users = schema.find("users").unwrap();
        let mut callers = vec![("guest", String::new(), Caller::Guest)];
        for (name, email) in [("ada", "ada@example.com"), ("bob", "bob@example.com")] {
            let record = tables::records(&db, users)
                .into_iter()
                .find(|record| record.get("email").as_str() == email)
                .unwrap();
            callers.push((name, server.sign_in("users", email), Caller::Record(Arc::new(record))));
        }
        Bench { server, schema, db, callers, failures: Vec::new(), compared: 0, decided: 0 }
    }

    fn superuser_filter(&mut self, collection: &str, filter: &str) {
        if filter.is_empty() {
            return;
        }
        let expected = self.server.list(collection, filter, "", &self.server.token);
        let superusers = self.schema.find("_superusers").unwrap();
        let record = tables::records(&self.db, superusers).remove(0);
        let context = context(Caller::Superuser(Arc::new(record)), filter);
        self.compare(collection, filter, Scope::Rule, &context, expected, "superuser");
    }

    /// The text as a list rule, for each caller.
    fn rule(&mut self, collection: &str, rule: &str) {
        let path = format!("/api/collections/{collection}");
        let (status, answer) =
            self.server.call("PATCH", &path, &self.server.token, Some(&rules_body(Some(rule))));
        let ours = check(&self.schema, self.schema.find(collection).unwrap(), rule, Scope::Rule);
        if (status == 200) != ours.is_ok() {
            self.failures.push(format!("rule {rule}: saved with {status} {answer}, ours {:?}", ours.err()));
            return;
        }
        if status != 200 {
            self.compared += 1;
            return;
        }
        for (name, token, caller) in self.callers.clone() {
            let expected = self.server.list(collection, "", "", &token);
            let context = context(caller, "");
            self.compare(collection, rule, Scope::Rule, &context, expected, name);
        }
    }

    fn client_filter(&mut self, rules: &[(&str, Option<&str>)], filter: &str) {
        for (collection, rule) in rules {
            self.server.ask("PATCH", &format!("/api/collections/{collection}"), Some(&rules_body(*rule)));
        }
        self.schema = load_schema(&self.server);
        for (name, token, caller) in self.callers.clone() {
            let expected = self.server.list("main", filter, "", &token);
            let context = context(caller, filter);
            let main = self.schema.find("main").unwrap();
            let rule = main.rules.list.clone().unwrap();
            let ours = check(&self.schema, main, filter, Scope::Client);
            let ours = match (ours, rule.is_empty()) {
                (Ok(filter), false) => {
                    check(&self.schema, main, &rule, Scope::Rule).and_then(|rule| rule.and(&filter))
                }
                (ours, _) => ours,
            };
            let label = format!("{filter} under {rules:?} by {name}");
            if forbidden_for_clients(filter).is_some() {
                assert_eq!(expected, Err(403), "{label}");
                continue;
            }
            match ours {
                Ok(filter) => self.compare_filter("main", &label, &filter, &context, expected),
                Err(error) => self.expect_refusal(&label, &error.to_string(), expected),
            }
        }
    }

    fn sort(&mut self, collection: &str, sort: &str) {
        for scope in [Scope::Rule, Scope::Client] {
            let token = if scope == Scope::Rule { self.server.token.clone() } else { String::new() };
            let expected = self.server.list(collection, "", sort, &token);
            let main = self.schema.find(collection).unwrap();
            let ours = check_sort(&self.schema, main, sort, scope);
            let label = format!("sort {sort} as {scope:?}");
            let sorted = match ours {
                Err(error) => {
                    self.expect_refusal(&label, &error.to_string(), expected);
                    continue;
                }
                Ok(sorted) => sorted,
            };
            let root = Root { alias: "main", kind: RootKind::Table, expected: Expected::Many };
            let order = filter_sql::order_by(&sorted, root);
            let mut sql = "SELECT id FROM main".to_owned();
            let mut values = Vec::new();
            if let Some(condition) = &sorted.condition {
                let context = context(Caller::Guest, "");
                let condition = filter_sql::condition(condition, &context, &RuleBody::default(), root);
                sql.push_str(&format!(" WHERE {}", condition.sql));
                values.extend(condition.values);
            }
            sql.push_str(&format!(" ORDER BY {}", order.sql));
            values.extend(order.values);
            let found = self.ids(&sql, values);
            self.compared += 1;
            match (expected, found) {
                (Ok(expected), Ok(found)) if expected == found => {}
                (expected, found) => {
                    self.failures.push(format!("{label}: {expected:?} ours {found:?}\n    {sql}"))
                }
            }
        }
    }

    fn compare(
        &mut self,
        collection: &str,
        text: &str,
        scope: Scope,
        context: &RequestContext,
        expected: Result<Vec<String>, u16>,
        who: &str,
    ) {
        let label = format!("{text} on {collection} by {who}");
        match check(&self.schema, self.schema.find(collection).unwrap(), text, scope) {
            Ok(filter) => self.compare_filter(collection, &label, &filter, context, expected),
            Err(error) => self.expect_refusal(&label, &error.to_string(), expected),
        }
    }

    fn expect_refusal(&mut self, label: &str, error: &str, expected: Result<Vec<String>, u16>) {
        self.compared += 1;
        if expected.is_ok() {
            self.failures.push(format!("{label}: accepted there, refused here: {error}"));
        }
    }

    fn compare_filter(
        &mut self,
        collection: &str,
        label: &str,
        filter: &Filter,
        context: &RequestContext,
        expected: Result<Vec<String>, u16>,
    ) {
        self.compared += 1;
        let mut expected = match expected {
            Ok(expected) => expected,
            Err(status) => return self.failures.push(format!("{label}: {status} there, accepted here")),
        };
        expected.sort();
        let collection = self.schema.find(collection).unwrap().clone();
        let body = RuleBody::default();
        for how in [Expected::Many, Expected::One] {
            let kind = if collection.is_view() { RootKind::View } else { RootKind::Table };
            let condition =
                filter_sql::condition(filter, context, &body, Root { alias: "r", kind, expected: how });
            let sql = format!("SELECT id FROM \"{}\" AS r WHERE {}", collection.name, condition.sql);
            match self.ids(&sql, condition.values) {
                Ok(mut found) => {
                    found.sort();
                    if found != expected {
                        let line =
                            format!("{label}: {} there, {} here\n    {sql}", expected.len(), found.len());
                        return self.failures.push(line);
                    }
                }
                Err(error) => return self.failures.push(format!("{label}: {error}\n    {sql}")),
            }
        }
        for record in tables::records(&self.db, &collection) {
            let verdict = filter.judge(&record, context, &body);
            let wanted = expected.binary_search(&record.id().to_owned()).is_ok();
            self.decided += usize::from(verdict != Verdict::NeedsStore);
            if verdict != Verdict::NeedsStore && (verdict == Verdict::Yes) != wanted {
                let line = format!("{label}: judged {verdict:?}, wanted {wanted}: {}", show(&record));
                return self.failures.push(line);
            }
        }
    }

    fn ids(&self, sql: &str, values: Vec<rusqlite::types::Value>) -> Result<Vec<String>, rusqlite::Error> {
        let mut statement = self.db.prepare(sql)?;
        statement.query_map(params_from_iter(values), |row| row.get(0))?.collect()
    }

    fn finish(self) {
        println!(
            "{} texts compared, {} judgements decided in memory, {} differences",
            self.compared,
            self.decided,
            self.failures.len()
        );
        for failure in &self.failures {
            println!("- {failure}");
        }
        assert!(self.failures.is_empty());
    }
}

fn load_schema(server: &PocketBase) -> Schema {
    let answer = server.ask("GET", "/api/collections?perPage=200&sort=@rowid", None);
    tables::schema(answer.get("items").unwrap())
}

fn number_in_env(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

fn rules_body(rule: Option<&str>) -> String {
    let rule = rule.map_or(Json::Null, Json::from);
    format!(r#"{{"listRule":{rule}}}"#)
}

fn context(caller: Caller, filter: &str) -> RequestContext {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let query = [("perPage", "500"), ("skipTotal", "1"), ("fields", "id"), ("filter", filter), ("sort", "")];
    RequestContext {
        origin: Origin::Default,
        method: "GET",
        query: query.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        headers: BTreeMap::from([("x_test".to_owned(), "Some".to_owned())]),
        caller,
        now: Timestamp(now as i64),
    }
}

fn show(record: &Record) -> String {
    let fields = record.collection.fields.iter().zip(&record.values);
    fields.map(|(field, value)| format!("{}={value:?} ", field.name)).collect()
}
