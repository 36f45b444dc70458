//! `kill -9` under concurrent writes.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use crate::app::{Root, is_soak, register_consumer, start, stored_titles};

const WRITERS: usize = 8;
/// Acknowledged writes after which a round's server is killed.
const ACKNOWLEDGED_BEFORE_KILL: usize = 60;

/// What the clients were told.
#[derive(Default)]
struct Told {
    acknowledged: BTreeSet<String>,
    refused: BTreeSet<String>,
}

#[test]
fn acknowledged_writes_and_their_events_survive_kill_nine() {
    let (mut server, _) = start();
    server.kill().unwrap();
    register_consumer(&server.dir());
    let mut acknowledged = BTreeSet::new();
    let rounds = if is_soak() { 100 } else { 20 };
    for round in 0..rounds {
        server.restart().unwrap();
        let root = Root::sign_in(&server);
        let told = Mutex::new(Told::default());
        write_until_killed(round, &root, &told, || server.kill().unwrap());

        let told = told.into_inner().unwrap();
        assert!(told.acknowledged.len() >= ACKNOWLEDGED_BEFORE_KILL);
        acknowledged.extend(told.acknowledged);
        let (titles, events) = stored_titles(&server.dir());
        let stored: BTreeSet<String> = titles.iter().cloned().collect();
        assert_eq!(stored.len(), titles.len(), "a title is stored twice");
        let lost: Vec<_> = acknowledged.difference(&stored).collect();
        assert!(lost.is_empty(), "round {round} lost {lost:?}");
        let with_event: BTreeSet<String> = events.iter().cloned().collect();
        assert_eq!(with_event, stored, "rows and create events differ in round {round}");
        assert!(told.refused.iter().all(|title| !stored.contains(title)), "a refused write is stored");
    }
    println!("{rounds} kills, {} acknowledged writes, none lost", acknowledged.len());
}

/// Runs writers until enough is acknowledged, then calls `kill` while they go on.
fn write_until_killed(round: usize, root: &Root, told: &Mutex<Told>, kill: impl FnOnce()) {
    let count = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let (enough, wait) = mpsc::channel();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (enough, count, is_over) = (enough.clone(), &count, &is_over);
            scope.spawn(move || {
                for number in 0.. {
                    let title = format!("{round}-{writer}-{number}");
                    if is_over.load(Ordering::Relaxed) || !write_one(root, told, &title) {
                        break;
                    }
                    if count.fetch_add(1, Ordering::Relaxed) + 1 == ACKNOWLEDGED_BEFORE_KILL {
                        let _ = enough.send(());
                    }
                }
            });
        }
        drop(enough);
        let reached = wait.recv();
        kill();
        is_over.store(true, Ordering::Relaxed);
        assert!(reached.is_ok(), "the writers stopped before the server was killed");
    });
}

/// One good write and one that must be refused. False when the server is gone.
fn write_one(root: &Root, told: &Mutex<Told>, title: &str) -> bool {
    let Some(answer) = root.create(title) else { return false };
    assert_eq!(answer.status, 200, "{}", answer.text());
    told.lock().unwrap().acknowledged.insert(title.to_owned());

    let bad = format!("refused-{title}");
    let body = serde_json::json!({"id": "no", "title": bad});
    let Some(answer) = root.try_send("POST", "/api/collections/items/records", Some(body)) else {
        return false;
    };
    assert_eq!(answer.status, 400, "{}", answer.text());
    told.lock().unwrap().refused.insert(bad);
    true
}
