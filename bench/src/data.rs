//! The collections and their rows: computed from the row's number alone, so both servers hold the same.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result};
use rusqlite::types::Value as SqlValue;
use serde_json::{Value, json};

use crate::args::Args;
use crate::client::Client;
use crate::servers::{SUPERUSER_EMAIL, SUPERUSER_PASSWORD, Server};
use crate::stop;

/// Accounts with a real password, made through the API: the ones that sign in and own rows.
pub(crate) const SIGNED_IN: usize = 40;
pub(crate) const PASSWORD: &str = "correct-horse-battery";
pub(crate) const RARE_WORD: &str = "zyzzyva";
pub(crate) const BATCHED: &str = "batch_items";

const ACCOUNTS: usize = 2_000;
const TEAMS: usize = 500;
const TEAM_SIZE: usize = 20;
const DOCUMENTS: usize = 10_000;
/// Few, because the peer takes over a second for one list of 500 projects beside 500 grants.
const PROJECTS: usize = 500;
const GRANTS: usize = 500;

/// The whole data set for one run.
pub(crate) struct Sizes {
    pub(crate) items: usize,
    pub(crate) customers: usize,
    pub(crate) notes_per_customer: usize,
}

struct Table<'a> {
    collection: &'static str,
    first: usize,
    end: usize,
    row: Box<dyn Fn(usize) -> Vec<(&'static str, Value)> + Sync + 'a>,
}

/// Tokens of a filled server.
pub(crate) struct Tokens {
    pub(crate) superuser: String,
    /// By account number, up to [`SIGNED_IN`].
    pub(crate) accounts: Vec<String>,
}

impl Sizes {
    pub(crate) fn of(args: &Args) -> Self {
        Self {
            items: args.item_count(),
            // One to compare the answers with, the rest to time.
            customers: 1 + args.rounds() * crate::cases::DELETES_PER_ROUND,
            notes_per_customer: if args.is_quick { 1_000 } else { 5_000 },
        }
    }
}

/// Makes the collections through the API and puts the rows in: straight into the database of the stopped server, or
/// through the API.
pub(crate) fn seed(server: &mut Server, args: &Args) -> Result<Tokens> {
    let client = Client::new(server.base_url());
    let superuser = client.sign_in("_superusers", SUPERUSER_EMAIL, SUPERUSER_PASSWORD)?;
    let as_superuser = client.with_token(&superuser);
    if !args.peer_logs {
        switch_request_logs_off(&as_superuser)?;
    }
    create_collections(&as_superuser)?;

    let sizes = Sizes::of(args);
    let tables = tables(&sizes);
    let (through_api, rest) = tables.split_at(1);
    insert_by_http(&as_superuser, through_api)?;
    if args.seeds_by_http {
        insert_by_http(&as_superuser, rest)?;
    } else {
        server.pause()?;
        insert_by_sql(&server.database(), rest)?;
        server.resume()?;
    }

    let client = Client::new(server.base_url());
    let sign_in = |n| client.sign_in("accounts", &email("account", n), PASSWORD);
    Ok(Tokens { superuser, accounts: (0..SIGNED_IN).map(sign_in).collect::<Result<_>>()? })
}

/// Makes a collection unless it is there.
pub(crate) fn create_once(client: &Client, definition: &Value) -> Result<()> {
    let name = definition["name"].as_str().context("a collection without a name")?;
    match client.send("GET", &format!("/api/collections/{name}"), None)? {
        (200, _) => Ok(()),
        _ => client.call("POST", "/api/collections", Some(definition)).map(|_| ()),
    }
}

/// The collection that batches write to, and leave to use batches.
pub(crate) fn prepare_batches(client: &Client) -> Result<()> {
    let limits = json!({ "enabled": true, "maxRequests": 100, "timeout": 30, "maxBodySize": 0 });
    client.call("PATCH", "/api/settings", Some(&json!({ "batch": limits })))?;
    let fields = [("title", "text"), ("body", "text"), ("score", "number")];
    let fields = fields.map(|(name, kind)| json!({ "name": name, "type": kind }));
    create_once(
        client,
        &json!({ "name": BATCHED, "type": "base", "fields": fields, "listRule": "", "viewRule": "",
                 "createRule": "", "updateRule": "", "deleteRule": "" }),
    )
}

/// A record id of 15 characters; consecutive numbers lie far apart, like random ids. The Lua scripts compute the same.
pub(crate) fn id(prefix: &str, n: usize) -> String {
    format!("{prefix}{:012}", n * 742_938_285 % 2_147_483_647)
}

pub(crate) fn email(name: &str, n: usize) -> String {
    format!("{name}{n}@example.com")
}

/// Of item `n`; spread evenly over 0 to 999,999.
pub(crate) fn score(n: usize) -> usize {
    random("score", n) % 1_000_000
}

/// PocketBase writes every request to `auxiliary.db` by default; Groundswell has no such log.
fn switch_request_logs_off(client: &Client) -> Result<()> {
    client.call("PATCH", "/api/settings", Some(&json!({ "logs": { "maxDays": 0 } })))?;
    Ok(())
}

fn create_collections(client: &Client) -> Result<()> {
    let create = |definition: Value| -> Result<String> {
        let made = client.call("POST", "/api/collections", Some(&definition))?;
        Ok(made["id"].as_str().context("a collection without an id")?.to_owned())
    };
    let text = |name: &str| json!({ "name": name, "type": "text" });
    let number = |name: &str| json!({ "name": name, "type": "number" });
    let relation = |name: &str, target: &str, max_select: usize, cascades: bool| {
        json!({ "name": name, "type": "relation", "collectionId": target, "maxSelect": max_select,
                "cascadeDelete": cascades })
    };
    let auth = |name: &str| {
        let own = "id = @request.auth.id";
        json!({ "name": name, "type": "auth", "listRule": own, "viewRule": own, "deleteRule": own,
                "authAlert": { "enabled": false } })
    };
    let base = |name: &str, rule: &str, fields: &[Value], indexes: &[&str]| {
        json!({ "name": name, "type": "base", "fields": fields, "indexes": indexes,
                "listRule": rule, "viewRule": rule, "createRule": rule, "updateRule": rule, "deleteRule": rule })
    };

    let accounts = create(auth("accounts"))?;
    let customers = create(auth("customers"))?;
    let item = [text("title"), text("body"), number("score")];
    create(base("items", "", &item, &["CREATE INDEX `idx_items_score` ON `items` (`score`)"]))?;
    let owned = [&item[..], &[relation("owner", &accounts, 1, false)]].concat();
    let by_owner = "CREATE INDEX `idx_owned_items_owner_score` ON `owned_items` (`owner`, `score`)";
    create(base("owned_items", "owner = @request.auth.id", &owned, &[by_owner]))?;

    let teams = create(base("teams", "", &[text("name"), relation("members", &accounts, 999, false)], &[]))?;
    let document = [text("title"), relation("team", &teams, 1, false)];
    create(base("documents", "team.members.id ?= @request.auth.id", &document, &[]))?;

    let project = [text("title"), relation("owner", &accounts, 1, false)];
    let projects = create(base("projects", "", &project, &[]))?;
    let grant = [relation("projects", &projects, 99, false), relation("user", &accounts, 1, false)];
    create(base("grants", "", &grant, &[]))?;
    let own_or_shared = "owner = @request.auth.id || grants_via_projects.user ?= @request.auth.id";
    client.call("PATCH", "/api/collections/projects", Some(&json!({ "listRule": own_or_shared })))?;

    let note = [text("title"), relation("owner", &customers, 1, true)];
    create(base("notes", "", &note, &["CREATE INDEX `idx_notes_owner` ON `notes` (`owner`)"]))?;
    create(base("scratch", "", &[text("title")], &[]))?;
    Ok(())
}

/// The first goes through the API always, since its passwords must be real.
fn tables(sizes: &Sizes) -> Vec<Table<'_>> {
    fn table<'a>(
        collection: &'static str,
        end: usize,
        row: impl Fn(usize) -> Vec<(&'static str, Value)> + Sync + 'a,
    ) -> Table<'a> {
        Table { collection, first: 0, end, row: Box::new(row) }
    }
    let account = |n| auth_row("acc", "account", n);
    let item = |n| {
        vec![
            ("id", json!(id("itm", n))),
            ("title", json!(title(n))),
            ("body", json!(words("body", n, 70))),
            ("score", json!(score(n))),
        ]
    };
    vec![
        table("accounts", SIGNED_IN, account),
        Table { first: SIGNED_IN, ..table("accounts", ACCOUNTS, account) },
        table("items", sizes.items, item),
        table("owned_items", sizes.items, move |n| {
            let mut row = item(n);
            row.push(("owner", json!(id("acc", n % SIGNED_IN))));
            row
        }),
        table("teams", TEAMS, |n| {
            // 97 and ACCOUNTS have no common divisor, so no member comes twice.
            let first = random("team", n) % ACCOUNTS;
            let members: Vec<_> = (0..TEAM_SIZE).map(|k| id("acc", (first + k * 97) % ACCOUNTS)).collect();
            vec![
                ("id", json!(id("tea", n))),
                ("name", json!(words("team", n, 20))),
                ("members", json!(members)),
            ]
        }),
        table("documents", DOCUMENTS, |n| {
            let team = id("tea", random("document", n) % TEAMS);
            vec![
                ("id", json!(id("doc", n))),
                ("title", json!(words("document", n, 30))),
                ("team", json!(team)),
            ]
        }),
        table("projects", PROJECTS, |n| {
            let owner = id("acc", random("project", n) % ACCOUNTS);
            vec![
                ("id", json!(id("pro", n))),
                ("title", json!(words("project", n, 30))),
                ("owner", json!(owner)),
            ]
        }),
        table("grants", GRANTS, |n| {
            let first = random("grant", n);
            let shared: Vec<_> = (0..3).map(|k| id("pro", (first + k * 7) % PROJECTS)).collect();
            // Every fifth is for an account that signs in, so that those see a few projects each.
            let user = random("user", n) % if n.is_multiple_of(5) { SIGNED_IN } else { ACCOUNTS };
            vec![("id", json!(id("gra", n))), ("projects", json!(shared)), ("user", json!(id("acc", user)))]
        }),
        table("customers", sizes.customers, |n| auth_row("cus", "customer", n)),
        table("notes", sizes.customers * sizes.notes_per_customer, |n| {
            let owner = id("cus", n % sizes.customers);
            vec![("id", json!(id("not", n))), ("title", json!(words("note", n, 30))), ("owner", json!(owner))]
        }),
    ]
}

fn auth_row(prefix: &str, name: &str, n: usize) -> Vec<(&'static str, Value)> {
    vec![
        ("id", json!(id(prefix, n))),
        ("email", json!(email(name, n))),
        ("password", json!(PASSWORD)),
        ("tokenKey", json!(format!("{name}{n:0>40}"))),
    ]
}

fn title(n: usize) -> String {
    let title = words("title", n, 24);
    if n % 5_000 == 4_999 { format!("{title} {RARE_WORD}") } else { title }
}

/// Words up to about `length` characters.
fn words(stream: &str, n: usize, length: usize) -> String {
    const WORDS: [&str; 16] = [
        "amber", "river", "stone", "cloud", "garden", "lantern", "meadow", "harbor", "copper", "willow",
        "signal", "thread", "winter", "orchard", "pebble", "canyon",
    ];
    let mut bits = random(stream, n);
    let mut text = String::new();
    while text.len() + 4 < length {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(WORDS[bits % WORDS.len()]);
        bits = random(stream, bits);
    }
    text
}

/// The finaliser of splitmix64 over the row and the stream's name.
pub(crate) fn random(stream: &str, n: usize) -> usize {
    let seed = stream.bytes().fold(0_u64, |seed, byte| seed.wrapping_mul(131).wrapping_add(byte.into()));
    let mut z = (n as u64).wrapping_add(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    // 32 bits, so that no sum or product of a few of them overflows.
    ((z ^ (z >> 31)) >> 32) as usize
}

/// Both servers keep a table per collection with a column per field, so one statement fits both.
fn insert_by_sql(database: &Path, tables: &[Table<'_>]) -> Result<()> {
    let mut connection = rusqlite::Connection::open(database)?;
    let transaction = connection.transaction()?;
    for table in tables {
        stop::check()?;
        let columns: Vec<_> =
            (table.row)(table.first).into_iter().map(|(name, _)| format!("`{name}`")).collect();
        let holes = vec!["?"; columns.len()].join(",");
        let sql = format!("INSERT INTO `{}` ({}) VALUES ({holes})", table.collection, columns.join(","));
        let mut insert = transaction.prepare(&sql)?;
        for n in table.first..table.end {
            let values = (table.row)(n).into_iter().map(|(name, value)| sql_value(name, value));
            insert.execute(rusqlite::params_from_iter(values)).with_context(|| sql.clone())?;
        }
    }
    transaction.commit()?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}

fn sql_value(column: &str, value: Value) -> SqlValue {
    match value {
        // These accounts never sign in: no hash, which nothing matches.
        Value::String(_) if column == "password" => SqlValue::Text(String::new()),
        Value::String(text) => SqlValue::Text(text),
        Value::Number(number) => number.as_i64().map_or(SqlValue::Null, SqlValue::Integer),
        other => SqlValue::Text(other.to_string()),
    }
}

fn insert_by_http(client: &Client, tables: &[Table<'_>]) -> Result<()> {
    const CONNECTIONS: usize = 8;
    for table in tables {
        let next = AtomicUsize::new(table.first);
        let insert_some = || -> Result<()> {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= table.end {
                    return Ok(());
                }
                stop::check()?;
                let mut body: serde_json::Map<_, _> =
                    (table.row)(n).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                if let Some(password) = body.get("password").cloned() {
                    body.insert("passwordConfirm".to_owned(), password);
                }
                let path = format!("/api/collections/{}/records", table.collection);
                client.call("POST", &path, Some(&Value::Object(body)))?;
            }
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(insert_some)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("no panic in a seeding thread"))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_distinct_and_of_the_contracts_length() {
        let ids: HashSet<_> = (0..100_000).map(|n| id("itm", n)).collect();
        assert_eq!(ids.len(), 100_000);
        assert!(ids.iter().all(|id| id.len() == 15));
    }

    #[test]
    fn bodies_are_of_about_seventy_characters() {
        let total: usize = (0..1_000).map(|n| words("body", n, 70).len()).sum();
        assert!((66..76).contains(&(total / 1_000)), "{}", total / 1_000);
    }
}
