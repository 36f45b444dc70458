//! Pools whose servers a DNS server tells of, as its records change.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hickory_server::proto::rr::rdata::{A, SOA, SRV};
use hickory_server::proto::rr::{Name, RData, Record, RecordSet, RecordType, RrKey};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;

use crate::app::wait_until;
use crate::server::{Server, connect, read_response, request};
use crate::upstreams::{Process, read_head, reply, upstream, upstream_that_says};

const SERVICE: &str = "_http._tcp.shop.test.";
const HOST: &str = "here.test.";
/// How long records count.
const TTL: u32 = 1;

/// A DNS server for `test.` on a free port, until it is dropped.
struct Dns {
    address: String,
    zone: Arc<InMemoryZoneHandler>,
    server: hickory_server::Server<Catalog>,
    runtime: Runtime,
}

impl Dns {
    fn start() -> Dns {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let origin = name("test.");
        let zone = InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
        let zone = Arc::new(zone);
        let mut catalog = Catalog::new();
        catalog.upsert(origin.clone().into(), vec![zone.clone()]);
        let soa = SOA::new(origin.clone(), origin.clone(), 1, 60, 60, 60, TTL);
        let mut server = hickory_server::Server::new(catalog);
        let address = runtime.block_on(async {
            zone.upsert(Record::from_rdata(origin, TTL, RData::SOA(soa)), 1).await;
            let here = RData::A(A(Ipv4Addr::LOCALHOST));
            zone.upsert(Record::from_rdata(name(HOST), TTL, here), 1).await;
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let address = socket.local_addr().unwrap().to_string();
            server.register_socket(socket);
            address
        });
        Dns { address, zone, server, runtime }
    }

    /// Has these servers from now on, each with its priority and its weight.
    fn set(&self, servers: &[(u16, u16, &str)]) {
        let mut records = RecordSet::new(name(SERVICE), RecordType::SRV, 1);
        for (priority, weight, address) in servers {
            let port = address.rsplit(':').next().unwrap().parse().unwrap();
            let record = SRV::new(*priority, *weight, port, name(HOST));
            records.insert(Record::from_rdata(name(SERVICE), TTL, RData::SRV(record)), 1);
        }
        let key = RrKey::new(name(SERVICE).into(), RecordType::SRV);
        let mut all = self.runtime.block_on(self.zone.records_mut());
        if servers.is_empty() {
            all.remove(&key)
        } else {
            all.insert(key, Arc::new(records))
        };
    }

    fn stop(mut self) {
        self.runtime.block_on(self.server.shutdown_gracefully()).unwrap();
    }

    /// A gateway that asks it.
    fn gateway(&self, pool: &str) -> Server {
        let config = format!(
            "[gateway]\nresolver = \"{}\"\n[gateway.upstreams.pool]\n{pool}\n\
             [[gateway.routes]]\nupstream = \"pool\"\n",
            self.address
        );
        let prepare = |folder: &std::path::Path| std::fs::write(folder.join("g.toml"), config).unwrap();
        Server::start_with(prepare, &["--config", "g.toml"])
    }

    fn gateway_to_service(&self, more: &str) -> Server {
        self.gateway(&format!("srv = \"{SERVICE}\"\n{more}"))
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// Whom so many requests reach.
fn reached(server: &Server, count: usize) -> BTreeSet<String> {
    (0..count).map(|_| server.get("/").text()).collect()
}

#[test]
fn requests_follow_the_records() {
    let (one, two) = (upstream_that_says("one"), upstream_that_says("two"));
    let dns = Dns::start();
    dns.set(&[(0, 1, &one)]);
    let server = dns.gateway_to_service("");
    assert_eq!(reached(&server, 20), ["one".to_owned()].into());
    let changed = Instant::now();
    dns.set(&[(0, 1, &two)]);
    wait_until("the other server", || server.get("/").text() == "two");
    assert!(changed.elapsed() < Duration::from_secs(4), "{:?}", changed.elapsed());
    assert_eq!(reached(&server, 20), ["two".to_owned()].into());
    dns.set(&[(0, 1, &one), (0, 1, &two)]);
    wait_until("both servers", || reached(&server, 20).len() == 2);
}

#[test]
fn the_addresses_of_a_name_are_found_by_the_same_resolver() {
    let one = upstream_that_says("one");
    let dns = Dns::start();
    let port = one.rsplit(':').next().unwrap();
    let server = dns.gateway(&format!("dns = \"http://{}:{port}\"", HOST.trim_end_matches('.')));
    assert_eq!(server.get("/").text(), "one");
}

#[test]
fn a_server_that_leaves_finishes_what_it_has() {
    let (is_held, is_let_go) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let one = {
        let (is_held, is_let_go) = (is_held.clone(), is_let_go.clone());
        upstream(move |stream| {
            while let Some(head) = read_head(stream) {
                if head[0].contains("/held") {
                    is_held.store(true, Ordering::SeqCst);
                    wait_until("to be let go", || is_let_go.load(Ordering::SeqCst));
                }
                if !reply(stream, 200, "one") {
                    return;
                }
            }
        })
    };
    let dns = Dns::start();
    dns.set(&[(0, 1, &one)]);
    let server = dns.gateway_to_service("");
    let mut stream = connect(&server.address);
    stream.write_all(&request("GET", "/held", &[])).unwrap();
    wait_until("the request at its server", || is_held.load(Ordering::SeqCst));
    dns.set(&[(0, 1, &upstream_that_says("two"))]);
    wait_until("the other server", || server.get("/").text() == "two");
    is_let_go.store(true, Ordering::SeqCst);
    assert_eq!(read_response(&mut stream).text(), "one");
}

#[test]
fn the_next_priority_answers_while_the_first_is_down() {
    let mut first = Process::start();
    let dns = Dns::start();
    dns.set(&[(10, 1, &first.address), (20, 1, &upstream_that_says("second"))]);
    let server = dns.gateway_to_service("health = { path = \"/me\", every = \"50ms\" }");
    let answer = || server.get("/me").text();
    assert!((0..20).all(|_| answer() == "here"));
    first.kill();
    assert!((0..20).all(|_| answer() == "second"));
    first.restart();
    wait_until("the first priority", || answer() == "here");
    assert!((0..20).all(|_| answer() == "here"));
}

#[test]
fn without_its_name_server_a_pool_keeps_its_servers() {
    let dns = Dns::start();
    dns.set(&[(0, 1, &upstream_that_says("one"))]);
    let server = dns.gateway_to_service("");
    assert_eq!(server.get("/").text(), "one");
    // That there is nobody is not believed at once either.
    dns.set(&[]);
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_secs(2) {
        assert_eq!(server.get("/").text(), "one");
    }
    dns.stop();
    let stopped = Instant::now();
    // Past what the records counted for, and the next look-up.
    while stopped.elapsed() < Duration::from_secs(7) {
        assert_eq!(server.get("/").text(), "one");
    }
}

#[test]
fn a_server_that_is_down_stays_so_when_others_come() {
    let asked = Arc::<AtomicUsize>::default();
    let sick = {
        let asked = asked.clone();
        upstream(move |stream| {
            while let Some(head) = read_head(stream) {
                let is_check = head[0].contains("/health");
                asked.fetch_add(usize::from(!is_check), Ordering::SeqCst);
                if !reply(stream, if is_check { 500 } else { 200 }, "sick") {
                    return;
                }
            }
        })
    };
    let (one, two) = (upstream_that_says("one"), upstream_that_says("two"));
    let dns = Dns::start();
    dns.set(&[(0, 1, &sick), (0, 1, &one)]);
    // Slow enough that one that was forgotten would be taken for well for a while.
    let server = dns
        .gateway_to_service("balance = \"round_robin\"\nhealth = { path = \"/health\", every = \"500ms\" }");
    wait_until("the checks", || reached(&server, 20).len() == 1);
    let before = asked.load(Ordering::SeqCst);
    dns.set(&[(0, 1, &sick), (0, 1, &one), (0, 1, &two)]);
    wait_until("the new server", || server.get("/").text() == "two");
    reached(&server, 50);
    assert_eq!(asked.load(Ordering::SeqCst), before);
}
