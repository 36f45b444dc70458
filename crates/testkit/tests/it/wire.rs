use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use testkit::postgres::Postgres;
use testkit::wire::{Counted, Proxy};

use crate::{connect, wait_until};

#[tokio::test]
async fn a_round_trip_is_one_wait_for_the_server() {
    if Postgres::is_missing() {
        return;
    }
    let database = Postgres::shared().unwrap().database("counted").unwrap();
    let proxy = Proxy::before(database.postgres().address()).unwrap();
    let client = connect(&database.url_at(proxy.address())).await.unwrap();
    let statement = client.prepare("SELECT $1::int4").await.unwrap();
    let trips = |then: Counted| proxy.counted().since(then).round_trips;

    let then = proxy.counted();
    client.query_one(&statement, &[&1]).await.unwrap();
    assert_eq!(trips(then), 1);

    let then = proxy.counted();
    for n in 0..3 {
        client.query_one(&statement, &[&n]).await.unwrap();
    }
    assert_eq!(trips(then), 3);

    let then = proxy.counted();
    let ask = |n: i32| {
        let (client, statement) = (&client, &statement);
        async move { client.query_one(statement, &[&n]).await.unwrap() }
    };
    let pipelined = async { tokio::join!(ask(1), ask(2), ask(3)) };
    pipelined.await;
    assert_eq!(trips(then), 1);
    assert_eq!(proxy.counted().connections, 1);
}

#[test]
fn bytes_are_counted_in_both_directions() {
    let echo = Echo::start();
    let proxy = Proxy::before(echo.address).unwrap();
    let mut client = open(&proxy);
    exchange(&mut client, b"four");
    exchange(&mut client, b"and seven");
    let counted = proxy.counted();
    assert_eq!((counted.connections, counted.round_trips), (1, 2));
    assert_eq!((counted.to_server, counted.to_client), (13, 13));
}

#[test]
fn held_bytes_pass_later_also_those_of_connections_that_came_meanwhile() {
    let echo = Echo::start();
    let proxy = Proxy::before(echo.address).unwrap();
    let mut old = open(&proxy);
    exchange(&mut old, b"before");
    proxy.hold();
    let mut new = open(&proxy);
    for client in [&mut old, &mut new] {
        client.write_all(b"held").unwrap();
        assert!(is_silent(client));
    }
    assert_eq!(proxy.counted().to_server, 6);

    proxy.pass();
    for client in [&mut old, &mut new] {
        assert_eq!(read(client, 4), b"held");
    }
}

#[test]
fn a_server_may_hear_what_it_cannot_answer() {
    let echo = Echo::start();
    let proxy = Proxy::before(echo.address).unwrap();
    let mut client = open(&proxy);
    proxy.hold_answers();
    client.write_all(b"heard").unwrap();
    wait_until("the server hears", || proxy.counted().to_server == 5);
    assert!(is_silent(&mut client));

    proxy.cut();
    assert!(has_ended(&mut client));
    assert_eq!(proxy.counted().to_client, 0);
}

#[test]
fn a_cut_ends_what_is_open_and_a_refusal_also_what_comes() {
    let echo = Echo::start();
    let proxy = Proxy::before(echo.address).unwrap();
    let mut client = open(&proxy);
    exchange(&mut client, b"open");
    proxy.cut();
    assert!(has_ended(&mut client));
    exchange(&mut open(&proxy), b"again");

    proxy.refuse();
    assert!(has_ended(&mut open(&proxy)));
    proxy.pass();
    exchange(&mut open(&proxy), b"again");
}

#[test]
fn a_dropped_proxy_ends_its_connections_also_held_ones() {
    let echo = Echo::start();
    let proxy = Proxy::before(echo.address).unwrap();
    let mut client = open(&proxy);
    exchange(&mut client, b"open");
    proxy.hold();
    client.write_all(b"held").unwrap();
    let address = proxy.address();
    drop(proxy);
    assert!(has_ended(&mut client));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_client_of_a_server_that_is_gone_is_told() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Proxy::before(gone).unwrap();
    assert!(has_ended(&mut open(&proxy)));
}

/// A server that says what it hears.
struct Echo {
    address: std::net::SocketAddr,
}

impl Echo {
    fn start() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // It ends with the process: nothing but the proxies of this file connects to it.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
            }
        });
        Echo { address }
    }
}

fn open(proxy: &Proxy) -> TcpStream {
    let client = TcpStream::connect(proxy.address()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client
}

fn exchange(client: &mut TcpStream, bytes: &[u8]) {
    client.write_all(bytes).unwrap();
    assert_eq!(read(client, bytes.len()), bytes);
}

fn read(client: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    client.read_exact(&mut bytes).unwrap();
    bytes
}

/// Nothing comes for a moment. Never fails where bytes are only late, and often enough where they pass.
fn is_silent(client: &mut TcpStream) -> bool {
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let result = client.read(&mut [0]);
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    result.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

fn has_ended(client: &mut TcpStream) -> bool {
    match client.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}
