//! Many writers at once.

use serde_json::json;

use crate::app::{Root, is_soak, json_of, start};

#[test]
fn four_hundred_concurrent_increments_of_one_record_all_count() {
    let (_server, root) = start();
    let id = create_one(&root);
    let target = format!("/api/collections/items/records/{id}");
    in_parallel(16, 25, |_| {
        let answer = root.send("PATCH", &target, Some(json!({"n+": 1})));
        assert_eq!(answer.status, 200, "{}", answer.text());
    });
    assert_eq!(json_of(&root.send("GET", &target, None))["n"], 401);
}

#[test]
fn thirty_two_concurrent_creates_share_their_commits() {
    let (_server, root) = start();
    // One at a time is the measure: each takes a commit of its own.
    let alone =
        commits_during(&root, || in_parallel(1, 8, |number| create(&root, &format!("alone-{number}"))));
    assert_eq!(alone, 8);
    let together = commits_during(&root, || {
        in_parallel(32, 10, |number| create(&root, &format!("together-{number}")));
    });
    assert!(together * 4 < 320, "320 creates by 32 clients took {together} commits");
}

#[test]
fn many_updates_of_one_record_leave_the_folder_small() {
    let (server, root) = start();
    for number in 0..200 {
        create(&root, &format!("{number}: {}", "x".repeat(1000)));
    }
    let id = create_one(&root);
    let target = format!("/api/collections/items/records/{id}");
    let before = folder_bytes(&server.dir());
    let updates = if is_soak() { 1_000_000 } else { 20_000 };
    in_parallel(32, updates / 32, |number| {
        let answer = root.send("PATCH", &target, Some(json!({"n": number})));
        assert_eq!(answer.status, 200, "{}", answer.text());
    });
    let after = folder_bytes(&server.dir());
    println!("{updates} updates: the folder was {before} bytes and is {after}");
    assert!(after < before * 3, "the folder grew from {before} to {after} bytes");
}

fn create_one(root: &Root) -> String {
    let answer = root.create("one").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    json_of(&answer)["id"].as_str().unwrap().to_owned()
}

fn create(root: &Root, title: &str) {
    let answer = root.create(title).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Calls `work` `threads * each` times, with a number of its own each time.
fn in_parallel(threads: usize, each: usize, work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let work = &work;
            scope.spawn(move || (0..each).for_each(|number| work(thread * each + number)));
        }
    });
}

fn commits_during(root: &Root, work: impl FnOnce()) -> u64 {
    let commits = || json_of(&root.send("GET", "/api/gs/status", None))["store"]["commits"].as_u64().unwrap();
    let before = commits();
    work();
    commits() - before
}

fn folder_bytes(dir: &std::path::Path) -> u64 {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}
