//! `bench --edge`: what TLS to clients costs ourselves and others, what each layer of the edge costs a request that goes
//! through it to a server, and what the edge costs a request to the services of this process.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::args::Args;
use crate::client::Client;
use crate::servers::{Kind, SUPERUSER_EMAIL, SUPERUSER_PASSWORD, Server};
use crate::{machine, stop};

use super::checks::{self, Witness};
use super::config::{self, Layer};
use super::peers::{self, Field};
use super::report::{Report, Title};
use super::running::Running;
use super::tls::Certificate;
use super::{Around, Shape, run};

/// The parts, as `--case` names them.
const TLS: &str = "tls";
const LAYERS: &str = "layers";
const IN_PROCESS: &str = "in-process";
const PARTS: [&str; 3] = [TLS, LAYERS, IN_PROCESS];

const TITLE: Title = Title { text: "Edge", file: "edge", transport: "TLS 1.3 where it says so" };

const ENCRYPTED: [Shape; 2] = [
    Shape { name: "TLS, small", path: config::SMALL, title: "an answer of 50 bytes, by TLS" },
    Shape { name: "TLS, 64 KiB", path: config::LARGE, title: "a file of 64 KiB, by TLS" },
];

pub(super) const LAYERED: Shape = Shape {
    name: "layers",
    path: config::SMALL,
    title: "an answer of 50 bytes through the gateway, asked with a signed-in user's token",
};

const SERVICES: [Shape; 2] = [
    Shape { name: "health", path: "/api/health", title: "GET /api/health in process" },
    Shape {
        name: "view",
        path: "/api/collections/items/records/itm000000000001",
        title: "one record in process",
    },
];

/// The first is what the others are compared with.
pub(super) const NO_LAYERS: &str = "plain";
pub(super) const ALL_DEFAULT: &str = "all default, log";
const WITH_LAYERS: [(&str, &[Layer]); 7] = [
    (NO_LAYERS, &[]),
    (ALL_DEFAULT, &[Layer::AccessLog]),
    ("traces", &[Layer::Traces]),
    ("rate limit", &[Layer::RateLimit]),
    ("scanners", &[Layer::Scanners]),
    ("callers", &[Layer::Callers]),
    ("everything", &[Layer::Traces, Layer::AccessLog, Layer::RateLimit, Layer::Scanners, Layer::Callers]),
];

/// How services are reached, as the program `in_process` names it.
pub(super) const BARE: &str = "bare";
pub(super) const CONNECTIONS_ALONE: &str = "connections";
pub(super) const GATEWAY: &str = "gateway";

/// An application with a record that anybody may see, and the token of a signed-in user.
struct Seed {
    /// Has ended, and keeps the folder.
    server: Server,
    token: String,
}

/// Runs all parts, or those that are named, prints a table and writes it to `bench/results`.
pub(crate) fn compare(args: &Args) -> Result<()> {
    if let Some(unknown) = args.cases.iter().find(|name| !PARTS.contains(&name.as_str())) {
        bail!("no case {unknown} of --edge: there are {}", PARTS.join(", "));
    }
    let is_wanted = |part: &str| args.cases.is_empty() || args.cases.iter().any(|name| name == part);
    machine::raise_open_files()?;
    let load_before = machine::load_average();
    let field = peers::find()?;
    let (behind, nginx) =
        field.upstream().context("no NGINX for the upstream: scripts/install-bench-tools")?;
    let mut report = Report::new(&TITLE, args, load_before, &field, behind);
    let upstream = Running::upstream(nginx)?;
    if is_wanted(TLS) {
        by_tls(&field, &upstream, args, &mut report)?;
    }
    if is_wanted(LAYERS) || is_wanted(IN_PROCESS) {
        let seed = Seed::plant()?;
        if is_wanted(LAYERS) {
            layer_by_layer(&field, &upstream, &seed, args, &mut report)?;
        }
        if is_wanted(IN_PROCESS) {
            in_process(&seed, args, &mut report)?;
        }
    }
    println!("\n{}", report.markdown());
    for path in report.save()? {
        println!("wrote {}", path.display());
    }
    Ok(())
}

fn by_tls(field: &Field, upstream: &Running, args: &Args, report: &mut Report) -> Result<()> {
    let certificate = Arc::new(Certificate::new()?);
    let mut servers = Vec::new();
    for (proxy, binary) in &field.present {
        servers.push(Running::proxy(*proxy, binary, upstream.ports, Some(&certificate))?);
    }
    for server in &servers {
        checks::compare_answers(upstream, server)?;
        checks::compare_connections(server)?;
        let suite = server.suite()?.context("a server without TLS")?;
        println!("same: {}, {suite}", server.name);
        report.note(format!("{} by TLS 1.3: {suite}", server.name));
    }
    let witness = Witness::of(upstream);
    let around = Around { args, witness: Some(&witness), token: None };
    for shape in &ENCRYPTED {
        report.add(run(shape, &servers, &around)?);
    }
    Ok(())
}

fn layer_by_layer(
    field: &Field,
    upstream: &Running,
    seed: &Seed,
    args: &Args,
    report: &mut Report,
) -> Result<()> {
    let (_, groundswell) = &field.present[0];
    let database = seed.server.database();
    let mut servers = Vec::new();
    for (name, layers) in WITH_LAYERS {
        let server = Running::with_layers(name, layers, groundswell, upstream.ports, &database)?;
        checks::compare_answers(upstream, &server)?;
        checks::compare_layers(&server, layers, &seed.token)?;
        println!("as it should be: {name}");
        servers.push(server);
    }
    let witness = Witness::of(upstream);
    let around = Around { args, witness: Some(&witness), token: Some(&seed.token) };
    report.add(run(&LAYERED, &servers, &around)?);
    for (server, (name, layers)) in servers.iter().zip(WITH_LAYERS) {
        if layers.contains(&Layer::AccessLog) {
            report.note(format!("{name}: {} lines lost to the access log", checks::lines_lost(server)?));
        }
    }
    Ok(())
}

fn in_process(seed: &Seed, args: &Args, report: &mut Report) -> Result<()> {
    let program = program()?;
    let database = seed.server.database();
    let mut servers = Vec::new();
    for way in [BARE, CONNECTIONS_ALONE, GATEWAY] {
        stop::check()?;
        servers.push(Running::in_process(way, &program, &database)?);
    }
    let around = Around { args, witness: None, token: None };
    for shape in &SERVICES {
        checks::compare_in_process(&servers, shape.path)?;
        report.add(run(shape, &servers, &around)?);
    }
    Ok(())
}

/// Built beside this program: an example of the package, as only these may stand on the other packages.
fn program() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("examples").join("in_process");
    if !path.is_file() {
        bail!("no {}: cargo build --release -p bench --example in_process", path.display());
    }
    Ok(path)
}

// === impl Seed ===

impl Seed {
    fn plant() -> Result<Self> {
        const EMAIL: &str = "caller@example.com";
        const PASSWORD: &str = "correct-horse-battery";
        let mut server = Server::start(Kind::Groundswell, "FULL")?;
        let client = Client::new(server.base_url());
        let superuser = client.sign_in("_superusers", SUPERUSER_EMAIL, SUPERUSER_PASSWORD)?;
        let superuser = client.with_token(&superuser);
        let create = |path: &str, body: serde_json::Value| superuser.call("POST", path, Some(&body));
        let fields = json!([
            { "name": "title", "type": "text" },
            { "name": "body", "type": "text" },
            { "name": "score", "type": "number" },
        ]);
        create(
            "/api/collections",
            json!({ "name": "items", "type": "base", "viewRule": "", "fields": fields }),
        )?;
        let id = SERVICES[1].path.rsplit('/').next();
        let body = "river stone cloud garden lantern meadow harbor copper willow signal rx";
        create(
            "/api/collections/items/records",
            json!({ "id": id, "title": "amber river", "body": body, "score": 7 }),
        )?;
        create("/api/collections", json!({ "name": "callers", "type": "auth" }))?;
        create(
            "/api/collections/callers/records",
            json!({ "email": EMAIL, "password": PASSWORD, "passwordConfirm": PASSWORD }),
        )?;
        let token = client.sign_in("callers", EMAIL, PASSWORD)?;
        server.pause()?;
        Ok(Self { server, token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_is_measured_alone_and_with_all_others() {
        let all = WITH_LAYERS[WITH_LAYERS.len() - 1].1;
        for layer in all {
            assert!(WITH_LAYERS.iter().any(|(_, layers)| layers == &[*layer]), "{layer:?}");
        }
        assert!(WITH_LAYERS[0].1.is_empty());
    }
}
