//! `bench --postgres`: what the API costs over PostgreSQL. The same statements, sent by `pgbench` in its prepared mode, and
//! by Groundswell for requests over HTTP, in turns, on one database and the same cores.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use testkit::postgres::{Database, Postgres, PostgresOptions};
use testkit::{Groundswell, ROOT_EMAIL, ROOT_PASSWORD, Request, Server};

use crate::args::Args;
use crate::data::Tokens;
use crate::rounds::median;
use crate::{machine, report, stop, wrk};

/// As many on either side.
const CONNECTIONS: usize = 16;
const ROWS: usize = 100_000;

/// The SELECT that a view is; the id as the load script makes it.
const VIEW: &str = "\\set n random(0, 99999)\n\
    SELECT v.schema, r.\"id\" IS NOT NULL, r.\"id\", r.\"title\", r.\"body\", r.\"score\" FROM _gs_versions AS v \
    LEFT JOIN \"items\" AS r ON r.\"id\" = 'itm' || lpad((:n::bigint * 742938285 % 2147483647)::text, 12, '0');\n";

/// The transaction that a create is, in one trip as there.
const CREATE: &str = "\\set n random(0, 999999)\n\\startpipeline\n\
    BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE;\n\
    SELECT 1 / (schema = schema AND consumers = consumers)::int FROM _gs_versions;\n\
    INSERT INTO \"items\" (\"id\", \"title\", \"body\", \"score\") VALUES (substr(md5(random()::text || clock_timestamp()), 1, 15), \
    'amber river ' || :n, 'river stone cloud garden lantern meadow harbor copper willow signal rx', :n::double precision);\n\
    COMMIT;\n\\endpipeline\n";

const HTTP_VIEW: &str =
    "request = function() return ask('GET', '/api/collections/items/records/' .. id('itm', any(100000))) end";
const HTTP_CREATE: &str =
    "request = function() return ask('POST', '/api/collections/items/records', nil, item()) end";

struct Case {
    name: &'static str,
    sql: &'static str,
    http: &'static str,
    /// The ratio that was asked for.
    asked: f64,
}

const CASES: [Case; 2] = [
    Case { name: "view by random id", sql: VIEW, http: HTTP_VIEW, asked: 0.5 },
    Case { name: "create", sql: CREATE, http: HTTP_CREATE, asked: 0.4 },
];

/// Runs both cases in turns, prints a table and saves it.
pub(crate) fn compare(args: &Args) -> Result<()> {
    let (rounds, seconds) = if args.is_quick { (2, 3) } else { (5, 10) };
    let load_before = machine::load_average();
    // As it comes: commits reach the disk.
    let postgres = Postgres::start(PostgresOptions { fsync: true, ..PostgresOptions::default() })?;
    let database = postgres.database("bench")?;
    let launch = Groundswell::default().env("GROUNDSWELL__STORE__URL", database.url());
    let first = Instant::now();
    let mut server = launch.launch()?;
    let on_empty = first.elapsed();
    seed(&server, &database)?;
    let again = Instant::now();
    server.restart()?;
    let on_existing = again.elapsed();
    let nobody = Tokens { superuser: String::new(), accounts: Vec::new() };
    let mut lines = Vec::new();
    for case in &CASES {
        let (mut by_http, mut by_pgbench) = (Vec::new(), Vec::new());
        for number in 0..rounds {
            stop::check()?;
            let load = wrk::Load {
                script: case.http,
                connections: CONNECTIONS,
                items: ROWS,
                duration: Duration::from_secs(seconds),
                seed: number,
            };
            by_http.push(wrk::run_at(&load, &server.base_url(), server.pid(), &nobody)?.per_second);
            by_pgbench.push(pgbench(case.sql, &database, seconds)?);
            println!("{}: {:.0} by HTTP, {:.0} by pgbench", case.name, by_http[number], by_pgbench[number]);
        }
        lines.push((case, median(by_http), median(by_pgbench)));
    }
    let page = table(&lines, (on_empty, on_existing), (rounds, seconds), load_before);
    println!("\n{page}");
    let data: Vec<Value> = lines
        .iter()
        .map(|(case, http, pgbench)| {
            json!({"case": case.name, "http": http, "pgbench": pgbench, "ratio": http / pgbench, "asked": case.asked})
        })
        .collect();
    let quick = if args.is_quick { "-quick" } else { "" };
    let name = format!("{}-{}-postgres{quick}", report::today(), machine::commit());
    for path in report::save(&name, &Value::Array(data), &page)? {
        println!("wrote {}", path.display());
    }
    Ok(())
}

fn table(
    lines: &[(&Case, f64, f64)],
    (on_empty, on_existing): (Duration, Duration),
    (rounds, seconds): (usize, u64),
    load_before: f64,
) -> String {
    let mut page = format!(
        "Over PostgreSQL, {CONNECTIONS} connections, {ROWS} rows, medians of {rounds} rounds of {seconds} s; {}, {} cores, which \
         server, database and load share. Commit {}; load average before the run: {load_before}.\n\n\
         | | by HTTP /s | pgbench -M prepared /s | ratio | asked |\n|---|---:|---:|---:|---:|\n",
        machine::cpu_model(),
        machine::cores(),
        machine::commit(),
    );
    for (case, http, pgbench) in lines {
        let ratio = http / pgbench;
        page += &format!("| {} | {http:.0} | {pgbench:.0} | {ratio:.2} | {} |\n", case.name, case.asked);
    }
    page += &format!(
        "\nFrom the start of the process to its first answer: {} ms on an existing database (300 asked); with the making of the \
         tables and the superuser's account {} ms.\n",
        on_existing.as_millis(),
        on_empty.as_millis(),
    );
    page
}

/// Makes the collection through the API, and its rows behind it.
fn seed(server: &Server, database: &Database) -> Result<()> {
    let client = server.client();
    let body = json!({"identity": ROOT_EMAIL, "password": ROOT_PASSWORD}).to_string();
    let path = "/api/collections/_superusers/auth-with-password";
    let answer = client.send(&Request::new("POST", path).json(body))?;
    let answer: Value = serde_json::from_str(&answer.text())?;
    let token = answer["token"].as_str().context("the superuser cannot sign in")?;
    let collection = json!({
        "name": "items", "type": "base", "listRule": "", "viewRule": "", "createRule": "",
        "fields": [
            {"name": "title", "type": "text"}, {"name": "body", "type": "text"}, {"name": "score", "type": "number"},
        ],
        "indexes": ["CREATE INDEX `idx_items_score` ON `items` (`score`)"],
    });
    let request =
        Request::new("POST", "/api/collections").header("Authorization", token).json(collection.to_string());
    let made = client.send(&request)?;
    ensure!(made.status == 200, "the collection was not made: {}", made.text());
    database.sql(&format!(
        "INSERT INTO items (id, title, body, score) SELECT \
         'itm' || lpad((n::bigint * 742938285 % 2147483647)::text, 12, '0'), 'amber river ' || n, \
         'river stone cloud garden lantern meadow harbor copper willow signal rx', n * 7919 % 1000000 \
         FROM generate_series(0, {ROWS} - 1) AS n"
    ))?;
    database.sql("VACUUM ANALYZE items")?;
    Ok(())
}

/// Transactions a second.
fn pgbench(script: &str, database: &Database, seconds: u64) -> Result<f64> {
    let folder = tempfile::Builder::new().prefix("groundswell-pgbench.").tempdir()?;
    let file = folder.path().join("script.sql");
    std::fs::write(&file, script)?;
    let address: SocketAddr = database.postgres().address();
    let output = Command::new(program())
        .args(["--no-vacuum", "--protocol", "prepared", "--jobs", "1", "--file"])
        .arg(&file)
        .args(["--client", &CONNECTIONS.to_string(), "--time", &seconds.to_string()])
        .args(["--host", &address.ip().to_string(), "--port", &address.port().to_string()])
        .args(["--username", database.owner(), database.name()])
        .env("PGPASSWORD", database.password())
        .output()
        .context("start pgbench (Debian package postgresql-contrib)")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    match tps {
        Some(tps) if output.status.success() => Ok(tps),
        _ => bail!("pgbench: {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr)),
    }
}

/// Debian keeps it beside the server.
fn program() -> std::path::PathBuf {
    let folder = std::env::var_os("POSTGRES_BIN").unwrap_or_else(|| "/usr/lib/postgresql/15/bin".into());
    Path::new(&folder).join("pgbench")
}
