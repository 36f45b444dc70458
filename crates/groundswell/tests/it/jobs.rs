//! What superusers do to the jobs of one queue.

use rusqlite::Connection;
use serde_json::json;

use crate::app::{App, json_of};

/// In queues that nobody serves.
const DEAD: &str =
    "INSERT INTO `_gs_dead_jobs` (`queue`, `payload`, `created`, `attempts`, `died`, `error`) VALUES
    ('hooks/a', '1', 1, 10, 2, 'no'), ('hooks/b', '2', 1, 10, 2, 'no'), ('hooks/a', '3', 1, 10, 2, 'no')";

#[test]
fn the_jobs_of_one_queue_are_listed_replayed_and_forgotten() {
    let app = App::start();
    Connection::open(app.server.folder().join("gs_data/data.db")).unwrap().execute_batch(DEAD).unwrap();
    let dead = |query: &str| {
        let page = app.done("GET", &format!("/api/gs/jobs/dead{query}"), &json!({}));
        let payloads = page["items"].as_array().unwrap().iter().map(|job| job["payload"].as_i64().unwrap());
        (page["totalItems"].as_i64().unwrap(), payloads.collect::<Vec<_>>())
    };
    assert_eq!(dead(""), (3, vec![3, 2, 1]));
    assert_eq!(dead("?queue="), (3, vec![3, 2, 1]));
    assert_eq!(dead("?queue=hooks/a&perPage=1"), (2, vec![3]));

    let replay = "/api/gs/jobs/dead/replay?queue=hooks%2Fa";
    assert_eq!(app.done("POST", replay, &json!({})), json!({"replayed": 2}));
    assert_eq!(app.done("POST", replay, &json!({})), json!({"replayed": 0}));
    let queues = app.done("GET", "/api/gs/jobs", &json!({}))["queues"].clone();
    assert_eq!((&queues[0]["name"], &queues[0]["waiting"]), (&json!("hooks/a"), &json!(2)));
    assert_eq!(dead(""), (1, vec![2]));

    let clear = |queue: &str| app.done("DELETE", &format!("/api/gs/jobs?queue={queue}"), &json!({}));
    assert_eq!(clear("hooks/a"), json!({"cleared": 2}));
    assert_eq!(clear("hooks/b"), json!({"cleared": 1}));
    assert_eq!(app.done("GET", "/api/gs/jobs", &json!({}))["queues"], json!([]));
}

#[test]
fn what_is_done_to_a_queue_names_it_and_is_for_superusers() {
    let app = App::start();
    let refusal = json!({
        "data": {"queue": {"code": "validation_required", "message": "Cannot be blank."}},
        "message": "An error occurred while validating the submitted data.",
        "status": 400
    });
    for (method, target) in [("POST", "/api/gs/jobs/dead/replay"), ("DELETE", "/api/gs/jobs")] {
        for query in ["", "?queue=", "?Queue=q"] {
            let answer = app.send(method, &format!("{target}{query}"), &json!({}));
            assert_eq!((answer.status, json_of(&answer)), (400, refusal.clone()), "{method} {target}{query}");
        }
        let of_guest = app.server.send_json(method, &format!("{target}?queue=q"), &[], "{}");
        assert_eq!(of_guest.status, 401, "{}", of_guest.text());
    }
    assert_eq!(app.send("DELETE", "/api/gs/jobs/dead/replay", &json!({})).status, 404, "no job is called so");
}
