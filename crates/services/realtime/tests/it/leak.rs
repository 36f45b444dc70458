//! Nobody is told of a record that a list, or a view, would have refused him at that state: random rules,
//! filters, callers and changes.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::node::{Client, Node, filtered};

const USERS: [&str; 3] = ["ann000000000000", "bob000000000000", "eve000000000000"];

/// Rules and filters; the last ones ask for other records.
const RULES: [&str; 12] = [
    "",
    "n > 2",
    "owner = @request.auth.id",
    "owner != '' && owner = @request.auth.id || open = true",
    "@request.auth.team = team",
    "tags:length > 1 || @request.auth.id = ''",
    "t ~ 'a' && @request.auth.verified = false",
    "tags ?= 'a'",
    "board.open = true",
    "board.members.id ?= @request.auth.id",
    "@collection.boards.open ?= true && @collection.boards.id ?= board",
    "items_via_next.open ?= true || n = 0",
];
const FILTERS: [&str; 6] =
    ["", "n >= 1", "open = true && t != 'b'", "board.open = false", "tags ?!= 'b'", "owner = 'x' || n < 4"];

struct Seen {
    who: String,
    filter: &'static str,
    is_list: bool,
    client: Client,
}

fn pick<'a, T: ?Sized>(rng: &mut StdRng, from: &[&'a T]) -> &'a T {
    from[rng.random_range(0..from.len())]
}

/// One that is never deleted.
const LAST_ITEM: &str = "item00000000003";

fn body(rng: &mut StdRng) -> String {
    let owner = pick(rng, &["", USERS[0], USERS[1], USERS[2]]);
    let board = pick(rng, &["", "board0000000001", "board0000000002"]);
    let next = pick(rng, &["", LAST_ITEM]);
    let tags = pick(rng, &["[]", r#"["a"]"#, r#"["a","b"]"#, r#"["b"]"#]);
    let (n, open) = (rng.random_range(0..6), rng.random_bool(0.5));
    let (t, team) = (pick(rng, &["", "a", "b", "ab"]), pick(rng, &["", "a", "b"]));
    format!(
        r#"{{"owner": "{owner}", "board": "{board}", "next": "{next}", "tags": {tags}, "n": {n}, "open": {open},
            "t": "{t}", "team": "{team}"}}"#
    )
}

async fn collections(node: &Node) {
    node.users("", &USERS).await;
    node.update("users", USERS[1], r#"{"team": "b"}"#).await;
    let boards = r#"{"name": "boards", "listRule": "", "fields": [{"name": "open", "type": "bool"},
        {"name": "members", "type": "relation", "collectionId": "users", "maxSelect": 9}]}"#;
    let schema = node.store.schema();
    let boards = boards.replace(
        r#""collectionId": "users""#,
        &format!(r#""collectionId": "{}""#, schema.by_name("users").unwrap().id),
    );
    let id = node.collection(&boards).await.get("id").unwrap().as_str().unwrap().to_owned();
    let items = node
        .collection(&format!(
            r#"{{"name": "items", "fields": [{{"name": "n", "type": "number"}}, {{"name": "owner", "type": "text"}},
            {{"name": "open", "type": "bool"}}, {{"name": "team", "type": "text"}}, {{"name": "t", "type": "text"}},
            {{"name": "tags", "type": "select", "maxSelect": 2, "values": ["a", "b"]}},
            {{"name": "board", "type": "relation", "collectionId": "{id}"}}]}}"#
        ))
        .await;
    let mut fields = items.get("fields").unwrap().as_array().unwrap().to_vec();
    let own = items.get("id").unwrap().as_str().unwrap();
    let next = format!(r#"{{"name": "next", "type": "relation", "collectionId": "{own}"}}"#);
    fields.push(model::json::Json::parse_whole(&next).unwrap());
    let change = format!(r#"{{"fields": {}}}"#, model::json::Json::Array(fields));
    node.must("root", "PATCH", "/api/collections/items", &change).await;
    let members =
        format!(r#"{{"id": "board0000000001", "open": true, "members": ["{}", "{}"]}}"#, USERS[0], USERS[1]);
    node.create("boards", &members).await;
    node.create("boards", &format!(r#"{{"id": "board0000000002", "members": ["{}"]}}"#, USERS[2])).await;
}

/// Whether a list, or a view, by this caller has the record now.
async fn may_see(node: &Node, seen: &Seen, id: &str) -> bool {
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let path = if seen.is_list {
        let filter = match seen.filter {
            "" => format!("id='{id}'"),
            filter => format!("id='{id}' && ({filter})"),
        };
        format!("/api/collections/items/records?filter={}", encode(&filter))
    } else {
        format!("/api/collections/items/records/{id}")
    };
    let (status, text) = node.call(&seen.who, "GET", &path, "").await;
    if seen.is_list { text.contains(&format!(r#""id":"{id}""#)) } else { status.is_success() }
}

async fn round(node: &Node, rng: &mut StdRng) {
    let rules = format!(r#"{{"listRule": "{}", "viewRule": "{}"}}"#, pick(rng, &RULES), pick(rng, &RULES));
    node.must("root", "PATCH", "/api/collections/items", &rules).await;
    let mut all = Vec::new();
    for who in ["", "users/ann000000000000", "users/bob000000000000", "users/eve000000000000", "root"] {
        let filter = pick(rng, &FILTERS);
        let topic = if filter.is_empty() { "items".to_owned() } else { filtered("items/*", filter) };
        let client = node.follower(who, &[&topic]).await;
        all.push(Seen { who: who.to_owned(), filter, is_list: true, client });
        let client = node.follower(who, &["items/item00000000001"]).await;
        all.push(Seen { who: who.to_owned(), filter: "", is_list: false, client });
    }
    for _ in 0..8 {
        let id = format!("item{:011}", rng.random_range(0..4));
        let path = format!("/api/collections/items/records/{id}");
        let exists = node.call("root", "GET", &path, "").await.0.is_success();
        let is_delete = exists && id != LAST_ITEM && rng.random_bool(0.3);
        let mut expected = Vec::new();
        if is_delete {
            // Only records that nothing points to: what points back is judged as it is after the delete.
            let pointing = node
                .call("root", "GET", &format!("/api/collections/items/records?filter=next%3D%22{id}%22"), "")
                .await
                .1;
            if !pointing.contains(r#""items":[]"#) {
                continue;
            }
            for seen in &all {
                expected.push(may_see(node, seen, &id).await);
            }
            node.delete("items", &id).await;
        } else {
            let body = body(rng);
            if exists {
                node.update("items", &id, &body).await;
            } else {
                node.create("items", &body.replacen('{', &format!(r#"{{"id": "{id}","#), 1)).await;
            }
            for seen in &all {
                expected.push(may_see(node, seen, &id).await);
            }
        }
        for (seen, expected) in all.iter_mut().zip(expected) {
            let is_meant = seen.is_list || id == "item00000000001";
            let told = node.told(&mut seen.client).await;
            let told: Vec<String> =
                told.iter().map(crate::node::Message::said).filter(|said| said.ends_with(&id)).collect();
            assert_eq!(
                told.len(),
                usize::from(expected && is_meant),
                "{told:?} for {:?}, filter {:?}, list {}, rules {rules}, delete {is_delete}",
                seen.who,
                seen.filter,
                seen.is_list
            );
        }
    }
}

#[tokio::test]
async fn nobody_is_told_more_or_less_than_a_read_would_have_shown() {
    let seed = std::env::var("SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let node = Node::start().await;
    collections(&node).await;
    node.create("items", &format!(r#"{{"id": "{}"}}"#, LAST_ITEM)).await;
    for _ in 0..12 {
        round(&node, &mut rng).await;
    }
}
