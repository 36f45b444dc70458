//! Changes of the schema under load.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::app::{Root, json_of, start};

#[test]
fn reads_go_on_while_a_field_is_renamed_again_and_again() {
    let (_server, root) = start();
    for number in 0..50 {
        assert_eq!(root.create(&number.to_string()).unwrap().status, 200);
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..6).map(|_| scope.spawn(|| read_until(&root, &is_over))).collect();
        for round in 0..30 {
            rename(&root, if round % 2 == 0 { "m" } else { "n" });
        }
        is_over.store(true, Ordering::Relaxed);
        let pages: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert!(pages > 30, "only {pages} pages were read");
    });
}

/// Reads pages until it is told to stop; each must be whole and of one schema.
fn read_until(root: &Root, is_over: &AtomicBool) -> usize {
    let mut pages = 0;
    while !is_over.load(Ordering::Relaxed) {
        let answer = root.send("GET", "/api/collections/items/records?sort=title&perPage=50", None);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = json_of(&answer);
        let items = page["items"].as_array().unwrap();
        assert_eq!(items.len(), 50);
        let with_n = items.iter().filter(|item| item["n"] == 1).count();
        let with_m = items.iter().filter(|item| item["m"] == 1).count();
        assert!((with_n, with_m) == (50, 0) || (with_n, with_m) == (0, 50), "{with_n} and {with_m}");
        pages += 1;
    }
    pages
}

/// Gives the number field another name; its id stays.
fn rename(root: &Root, name: &str) {
    let collection = json_of(&root.send("GET", "/api/collections/items", None));
    let mut fields = collection["fields"].clone();
    for field in fields.as_array_mut().unwrap() {
        if field["type"] == "number" {
            field["name"] = json!(name);
        }
    }
    let answer = root.send("PATCH", "/api/collections/items", Some(json!({"fields": fields})));
    assert_eq!(answer.status, 200, "{}", answer.text());
}
