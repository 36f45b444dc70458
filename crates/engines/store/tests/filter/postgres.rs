//! PostgreSQL's SQL finds what SQLite's finds and what the evaluator says, on random records and random texts; and
//! sorts as SQLite does.

use std::cell::RefCell;
use std::sync::Arc;

use model::context::{Caller, RuleBody};
use model::filter::{Scope, Verdict, check, check_sort};
use model::json::Json;
use model::record::Record;
use model::schema::Schema;
use proptest::prelude::*;
use rusqlite::Connection;
use store::postgres::filter_sql as postgres_sql;
use store::postgres::sql::{Param, Sql};
use store::postgres::{create_table, insert};
use store::sqlite::filter_sql::{self as sqlite_sql, Expected, Root, RootKind};
use testkit::postgres::{Database, Postgres};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

use crate::agreement::{COLLECTIONS, cases, context, ids, insert as insert_in_sqlite, record, text_filter};
use crate::tables;

const ROOT: Root<'static> = Root { alias: "r", kind: RootKind::Table, expected: Expected::Many };

const SORTS: &[&str] = &[
    "title",
    "-title",
    "n",
    "-n,title",
    "b",
    "d,-n",
    "sm",
    "-sm",
    "tag.name",
    "-tag.rank",
    "tags.name",
    "j",
    "-j",
    "j.a",
    "-j.a",
    "g.lon",
    "-g.lat",
    "n:lower",
    "-id",
    "@rowid",
    "-@rowid",
];

/// A database with the tables of the collections, and one connection to it.
struct Bench {
    runtime: Runtime,
    client: Client,
    _database: Database,
}

impl Bench {
    fn set(schema: &Schema) -> Bench {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let database = Postgres::shared().unwrap().database("filters").unwrap();
        let url = database.url();
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute("CREATE SCHEMA groundswell").await.unwrap();
            client.batch_execute(postgres_sql::FUNCTIONS_SQL).await.unwrap();
            for collection in schema.collections() {
                client.batch_execute(&create_table(&collection.name, &collection.fields)).await.unwrap();
            }
            client
        });
        Bench { runtime, client, _database: database }
    }

    fn run(&self, sql: &Sql) -> Vec<String> {
        let params: Vec<_> = sql
            .params
            .iter()
            .map(|param| (param as &(dyn tokio_postgres::types::ToSql + Sync), param.pg_type()))
            .collect();
        let rows = self.runtime.block_on(self.client.query_typed(&sql.text, &params));
        let rows = rows.unwrap_or_else(|error| panic!("{:?}: {}", error.as_db_error(), sql.text));
        rows.iter().map(|row| row.get(0)).collect()
    }

    fn begin(&self) {
        self.runtime.block_on(self.client.batch_execute("ROLLBACK; BEGIN")).unwrap();
    }

    fn roll_back(&self) {
        self.runtime.block_on(self.client.batch_execute("ROLLBACK")).unwrap();
    }

    fn insert(&self, record: &Record) {
        let Sql { text, params } = insert(record);
        self.run(&Sql { text: format!("{text} RETURNING \"id\""), params });
    }
}

thread_local! {
    static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
}

/// The bench of this thread, which is made once: cases are many.
fn with_bench<T>(schema: &Schema, work: impl FnOnce(&Bench) -> T) -> T {
    BENCH.with_borrow_mut(|bench| work(bench.get_or_insert_with(|| Bench::set(schema))))
}

/// Random records in both databases.
fn fill(schema: &Schema, rolls: &[u32], db: &Connection, bench: &Bench) -> (Vec<Record>, Vec<Record>) {
    let (mut callers, mut mains) = (Vec::new(), Vec::new());
    for (name, count) in [("users", 2), ("tags", 3), ("main", 5)] {
        let collection = schema.find(name).unwrap();
        for number in 0..count {
            let rolls: Vec<u32> = rolls.iter().map(|roll| roll.rotate_left(number * 5 + count)).collect();
            let record = record(collection, &format!("{}{number}", &name[..1]), &rolls);
            insert_in_sqlite(db, &record);
            bench.insert(&record);
            match name {
                "users" => callers.push(record),
                "main" => mains.push(record),
                _ => {}
            }
        }
    }
    (callers, mains)
}

fn values(records: &[Record]) -> Vec<&[model::value::Value]> {
    records.iter().map(|record| record.values.as_slice()).collect()
}

fn sqlite(schema: &Schema) -> Connection {
    let db = Connection::open_in_memory().unwrap();
    sqlite_sql::add_functions(&db).unwrap();
    for collection in schema.collections() {
        db.execute(&tables::create_table(collection), []).unwrap();
    }
    db
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn postgresql_finds_what_sqlite_finds_and_the_evaluator_says(
        text in text_filter(),
        rolls in proptest::collection::vec(any::<u32>(), 24),
        body in proptest::sample::select(vec!["{}", r#"{"title":"a","n":1,"sm":["a","b"],"tags":["t0"],"j":{"a":1}}"#, r#"{"title":"","n":2.5,"sm":[],"tags":["t1","gone"],"j":5}"#]),
        signed_in in any::<bool>(),
    ) {
        if Postgres::is_missing() {
            return Ok(());
        }
        let schema: Schema = tables::schema(&Json::parse_whole(COLLECTIONS).unwrap());
        let main = schema.find("main").unwrap();
        let Ok(filter) = check(&schema, main, &text, Scope::Rule) else { return Ok(()) };
        with_bench(&schema, |bench| {
            let db = sqlite(&schema);
            bench.begin();
            let (mut callers, mains) = fill(&schema, &rolls, &db, bench);
            let caller = if signed_in { Caller::Record(Arc::new(callers.remove(0))) } else { Caller::Guest };
            let context = context(caller);
            let body = RuleBody { values: Json::parse_whole(body).unwrap().as_object().unwrap().clone() };
            let condition = sqlite_sql::condition(&filter, &context, &body, ROOT);
            let expected = ids(&db, &format!("SELECT id FROM main AS r WHERE {}", condition.sql), condition.values);
            let mut sql = Sql::new("SELECT r.id FROM main AS r WHERE ");
            postgres_sql::push_filter(&filter, (&context, &body), main, ROOT, &mut sql);
            let mut found = bench.run(&sql);
            found.sort();
            prop_assert_eq!(&found, &expected, "{}\n{:?}", sql.text, values(&mains));
            for record in &mains {
                let verdict = filter.judge(record, &context, &body);
                if verdict != Verdict::NeedsStore {
                    prop_assert_eq!(verdict == Verdict::Yes, found.contains(&record.id().to_owned()), "{:?}", record.values);
                }
                let verdict = filter.judge_new(record, &context, &body);
                if verdict != Verdict::NeedsStore {
                    let root = Root { kind: RootKind::NewRow, expected: Expected::One, ..ROOT };
                    let mut sql = Sql::new("SELECT r.id FROM ");
                    sql.append(postgres_sql::new_row(record));
                    sql.push(" AS r WHERE ");
                    postgres_sql::push_filter(&filter, (&context, &body), main, root, &mut sql);
                    prop_assert_eq!(verdict == Verdict::Yes, !bench.run(&sql).is_empty(), "new {:?}: {}", record.values, sql.text);
                }
            }
            bench.roll_back();
            Ok(())
        })?;
    }

    #[test]
    fn postgresql_sorts_as_sqlite_does(
        text in proptest::sample::select(SORTS),
        rolls in proptest::collection::vec(any::<u32>(), 24),
    ) {
        if Postgres::is_missing() {
            return Ok(());
        }
        let schema: Schema = tables::schema(&Json::parse_whole(COLLECTIONS).unwrap());
        let main = schema.find("main").unwrap();
        let Ok(sort) = check_sort(&schema, main, text, Scope::Rule) else { return Ok(()) };
        with_bench(&schema, |bench| {
            let db = sqlite(&schema);
            bench.begin();
            let (_, mains) = fill(&schema, &rolls, &db, bench);
            let order = sqlite_sql::order_by(&sort, ROOT);
            let mut statement = db.prepare(&format!("SELECT id FROM main AS r ORDER BY {}", order.sql)).unwrap();
            let expected: Vec<String> = statement
                .query_map(rusqlite::params_from_iter(order.values), |row| row.get(0))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            let mut sql = Sql::new("SELECT r.id FROM main AS r ORDER BY ");
            postgres_sql::push_order_by(&sort, main, ROOT, &mut sql);
            prop_assert_eq!(bench.run(&sql), expected, "{}\n{:?}", sql.text, values(&mains));
            bench.roll_back();
            Ok(())
        })?;
    }

    #[test]
    fn texts_are_alike_as_they_are_to_the_model(text in "[a-cA-C%_\\\\é]{0,6}", pattern in "[a-cA-C%_\\\\é]{0,6}") {
        if Postgres::is_missing() {
            return Ok(());
        }
        let schema: Schema = tables::schema(&Json::parse_whole(COLLECTIONS).unwrap());
        let sql = Sql {
            text: "SELECT groundswell.like_($1, $2)::text".to_owned(),
            params: vec![Param::from(text.as_str()), Param::from(pattern.as_str())],
        };
        let matched = with_bench(&schema, |bench| bench.run(&sql).remove(0));
        prop_assert_eq!(matched == "true", model::filter::semantics::like(&text, &pattern));
    }

    #[test]
    fn what_is_a_number_in_a_text_is_one_to_the_model(text in "[ ]?[-+]?[0-9]{0,4}[.]?[0-9]{0,3}(e[-+]?[0-9]{1,3})?[ x]?") {
        if Postgres::is_missing() {
            return Ok(());
        }
        let schema: Schema = tables::schema(&Json::parse_whole(COLLECTIONS).unwrap());
        let sql = Sql {
            text: "SELECT coalesce(groundswell.number_in($1)::text, '')".to_owned(),
            params: vec![Param::from(text.as_str())],
        };
        let found = with_bench(&schema, |bench| bench.run(&sql).remove(0));
        let number = model::filter::semantics::number_in_text(&text).and_then(|cell| cell.to_number());
        prop_assert_eq!(found.parse::<f64>().ok(), number, "{:?}", text);
    }
}
