//! The sample: every type of field, every kind of relation.

use model::json::Json;

use super::random::Random;
use crate::pocketbase::PocketBase;

pub(super) const CATS: usize = 12;
pub(super) const PEOPLE: usize = 8;
pub(super) const TEAMS: usize = 5;

/// Ids are known beforehand, so that texts can name them.
pub(super) fn id(kind: &str, number: usize) -> String {
    format!("{kind:0<10}{number:05}")
}

pub(super) fn fill(server: &PocketBase) {
    collections(server);
    let mut random = Random::new(1);
    let post = |collection: &str, body: String| {
        server.ask("POST", &format!("/api/collections/{collection}/records"), Some(&body));
    };
    for number in 0..TEAMS {
        post("teams", format!(r#"{{"id":"{}","name":"team{number}"}}"#, id("team", number)));
    }
    let users = [
        ("ada", "admin", 3, "[0,1]", true),
        ("bob", "", 0, "[]", false),
        ("cid", "user", 1, "[2]", true),
        ("dan", "admin", 2, "[1,3,4]", false),
    ];
    for (number, (name, role, level, teams, visible)) in users.into_iter().enumerate() {
        let teams = list("team", teams);
        post(
            "users",
            format!(
                r#"{{"id":"{}","email":"{name}@example.com","password":"1234567890","passwordConfirm":"1234567890","name":"{name}","role":"{role}","level":{level},"teams":{teams},"team":"{}","emailVisibility":{visible}}}"#,
                id("user", number),
                if number == 1 { String::new() } else { id("team", number) }
            ),
        );
    }
    for number in 0..TEAMS {
        let members = ["[0,1]", "[]", "[1,2,3]", "[3]", "[0]"][number];
        let body = format!(
            r#"{{"members":{},"lead":"{}"}}"#,
            list("user", members),
            if number == 1 { String::new() } else { id("user", number % 4) }
        );
        server.ask("PATCH", &format!("/api/collections/teams/records/{}", id("team", number)), Some(&body));
    }
    for number in 0..PEOPLE {
        post(
            "people",
            format!(
                r#"{{"id":"{}","name":"{}"}}"#,
                id("person", number),
                ["Tom", "ann", "", "Zoë", "bob", "Ann", "x_y", "50%"][number]
            ),
        );
    }
    for number in 0..PEOPLE {
        let friends: Vec<usize> = (0..PEOPLE).filter(|_| random.below(4) == 0).collect();
        let boss = if number == 0 { String::new() } else { id("person", random.below(number)) };
        let body = format!(r#"{{"friends":{},"boss":"{boss}"}}"#, ids("person", &friends));
        server.ask(
            "PATCH",
            &format!("/api/collections/people/records/{}", id("person", number)),
            Some(&body),
        );
    }
    for number in 0..CATS {
        let name = ["tom", "Bob", "ann", "zed", "", "100%", "a_b", "tom", "x", "Ünï", "2", "1.5"][number];
        let owner = if number % 4 == 3 { String::new() } else { id("person", random.below(PEOPLE)) };
        let tags = ["[]", r#"["a"]"#, r#"["a","b"]"#, r#"["c"]"#][number % 4];
        let json = ["null", "1", "\"x\"", r#"{"a":1}"#, "[1,2]", "0", "\"\"", "true"][number % 8];
        post(
            "cats",
            format!(
                r#"{{"id":"{}","name":"{name}","rank":{},"owner":"{owner}","tags":{tags},"j":{json},"born":"{}"}}"#,
                id("cat", number),
                [-1, 0, 1, 2, 3][number % 5],
                ["", "2020-01-01", "2022-06-15 10:00:00"][number % 3]
            ),
        );
    }
    for number in 0..60 {
        post("main", main_record(number, &mut random));
    }
    for number in 0..14 {
        let (team, user) = (id("team", random.below(TEAMS)), id("user", random.below(4)));
        let role = ["", "owner", "guest"][random.below(3)];
        post(
            "memberships",
            format!(r#"{{"team":"{team}","user":"{user}","role":"{role}","rank":{number}}}"#),
        );
        let teams: Vec<usize> = (0..TEAMS).filter(|_| random.below(3) == 0).collect();
        post("groups", format!(r#"{{"teams":{},"user":"{user}","role":"{role}"}}"#, ids("team", &teams)));
    }
    for number in (0..60).step_by(7) {
        post(
            "details",
            format!(r#"{{"main":"{}","note":"{}"}}"#, id("main", number), ["", "n1", "n2"][number % 3]),
        );
    }
}

fn collections(server: &PocketBase) {
    let create = |body: &str| {
        let answer = server.ask("POST", "/api/collections", Some(body));
        answer.get("id").and_then(Json::as_str).unwrap().to_owned()
    };
    let people =
        create(r#"{"name":"people","type":"base","listRule":"","fields":[{"type":"text","name":"name"}]}"#);
    server.ask("PATCH", "/api/collections/people", Some(&format!(
        r#"{{"fields":[{{"type":"text","name":"id","primaryKey":true,"required":true,"system":true,"pattern":"^[a-z0-9]+$","autogeneratePattern":"[a-z0-9]{{15}}","min":15,"max":15}},{{"type":"text","name":"name"}},{{"type":"relation","name":"friends","collectionId":"{people}","maxSelect":9}},{{"type":"relation","name":"boss","collectionId":"{people}"}}]}}"#
    )));
    let cats = create(&format!(
        r#"{{"name":"cats","type":"base","listRule":"","fields":[{{"type":"text","name":"name"}},{{"type":"number","name":"rank"}},{{"type":"relation","name":"owner","collectionId":"{people}"}},{{"type":"select","name":"tags","values":["a","b","c"],"maxSelect":3}},{{"type":"json","name":"j"}},{{"type":"date","name":"born"}},{{"type":"text","name":"hush","hidden":true}}]}}"#
    ));
    let teams = create(
        r#"{"name":"teams","type":"base","listRule":"","fields":[{"type":"text","name":"name"},{"type":"relation","name":"members","collectionId":"_pb_users_auth_","maxSelect":99},{"type":"relation","name":"lead","collectionId":"_pb_users_auth_"}]}"#,
    );
    let users = server.ask("GET", "/api/collections/users", None);
    let mut fields = users.get("fields").and_then(Json::as_array).unwrap().to_vec();
    for extra in [
        r#"{"type":"text","name":"role"}"#.to_owned(),
        r#"{"type":"number","name":"level"}"#.to_owned(),
        format!(r#"{{"type":"relation","name":"teams","collectionId":"{teams}","maxSelect":9}}"#),
        format!(r#"{{"type":"relation","name":"team","collectionId":"{teams}"}}"#),
    ] {
        fields.push(Json::parse_whole(&extra).unwrap());
    }
    server.ask(
        "PATCH",
        "/api/collections/users",
        Some(&format!(r#"{{"fields":{},"listRule":""}}"#, Json::Array(fields))),
    );
    let main = create(&format!(
        r#"{{"name":"main","type":"base","listRule":"","viewRule":"","fields":[{{"type":"text","name":"title"}},{{"type":"number","name":"n"}},{{"type":"number","name":"m"}},{{"type":"bool","name":"b"}},{{"type":"editor","name":"e"}},{{"type":"email","name":"em"}},{{"type":"url","name":"u"}},{{"type":"date","name":"d"}},{{"type":"autodate","name":"made","onCreate":true}},{{"type":"select","name":"s","values":["a","b","c","1"]}},{{"type":"select","name":"sm","values":["a","b","c","1"],"maxSelect":4}},{{"type":"relation","name":"cat","collectionId":"{cats}"}},{{"type":"relation","name":"cats","collectionId":"{cats}","maxSelect":9}},{{"type":"json","name":"j"}},{{"type":"geoPoint","name":"g"}},{{"type":"relation","name":"team","collectionId":"{teams}"}},{{"type":"relation","name":"owner","collectionId":"_pb_users_auth_"}},{{"type":"relation","name":"users","collectionId":"_pb_users_auth_","maxSelect":9}},{{"type":"text","name":"secret","hidden":true}},{{"type":"file","name":"f"}}]}}"#
    ));
    create(&format!(
        r#"{{"name":"memberships","type":"base","listRule":"","fields":[{{"type":"relation","name":"team","collectionId":"{teams}"}},{{"type":"relation","name":"user","collectionId":"_pb_users_auth_"}},{{"type":"text","name":"role"}},{{"type":"number","name":"rank"}}]}}"#
    ));
    create(&format!(
        r#"{{"name":"groups","type":"base","listRule":"","fields":[{{"type":"relation","name":"teams","collectionId":"{teams}","maxSelect":9}},{{"type":"relation","name":"user","collectionId":"_pb_users_auth_"}},{{"type":"text","name":"role"}}]}}"#
    ));
    create(&format!(
        r#"{{"name":"details","type":"base","listRule":"","fields":[{{"type":"relation","name":"main","collectionId":"{main}"}},{{"type":"text","name":"note"}}],"indexes":["CREATE UNIQUE INDEX `idx_details` ON `details` (`main`)"]}}"#
    ));
    create(
        r#"{"name":"brief","type":"view","listRule":"","viewQuery":"SELECT id, title, n, cat, cats, j, (n*2) as twice, max(n,1) as top FROM main"}"#,
    );
    create(r#"{"name":"hushed","type":"base","listRule":null,"fields":[{"type":"text","name":"name"}]}"#);
}

fn main_record(number: usize, random: &mut Random) -> String {
    let title = random.pick(&[
        "",
        "one",
        "One",
        "two",
        "a_b",
        "100%",
        "axb",
        "2",
        "2.0",
        "O'Brien",
        "é",
        "back\\\\slash",
        "line\\nbreak",
        "[1]",
        "\\\"q\\\"",
    ]);
    let n = random.pick(&["0", "1", "2", "-1.5", "100", "0.1", "12345678901234567890", "2", "1"]);
    let json = random.pick(&[
        "null",
        "1",
        "0",
        "1.5",
        "\"1\"",
        "\"x\"",
        "\"\\\"\"",
        "true",
        "false",
        "[]",
        "{}",
        "[1,\"x\",null]",
        r#"{"a":1,"b":{"c":"x"},"arr":[1,2,{"k":"v"}]}"#,
        r#"{"a":"1","ab":2,"bc":3}"#,
        r#"{"a":null}"#,
        r#"{"a":true,"arr":["x"]}"#,
        "1e30",
        "\"2022-01-01 00:00:00.000Z\"",
        r#"{"a":[1]}"#,
        "\"é\"",
    ]);
    let date = random.pick(&[
        "",
        "2022-01-01",
        "2022-01-01 10:20:30.456",
        "2023-12-31 23:59:59.999",
        "1999-02-28 12:00:00",
    ]);
    let select = random.pick(&["", "a", "b", "1"]);
    let selects = random.pick(&["[]", r#"["a"]"#, r#"["b","a"]"#, r#"["c","1"]"#, r#"["a","b","c","1"]"#]);
    let geo = random.pick(&["{}", r#"{"lon":23.3,"lat":42.7}"#, r#"{"lon":-0.1,"lat":51.5}"#]);
    let cat = if random.below(3) == 0 { String::new() } else { id("cat", random.below(CATS)) };
    let cats: Vec<usize> = match random.below(4) {
        0 => Vec::new(),
        1 => vec![random.below(CATS)],
        _ => (0..CATS).filter(|_| random.below(4) == 0).collect(),
    };
    let team = if random.below(5) == 0 { String::new() } else { id("team", random.below(TEAMS)) };
    let owner = if random.below(4) == 0 { String::new() } else { id("user", random.below(4)) };
    let users: Vec<usize> = (0..4).filter(|_| random.below(3) == 0).collect();
    format!(
        r#"{{"id":"{}","title":"{title}","n":{n},"m":{},"b":{},"e":"<b>{title}</b>","em":"{}","u":"{}","d":"{date}","s":"{select}","sm":{selects},"cat":"{cat}","cats":{},"j":{json},"g":{geo},"team":"{team}","owner":"{owner}","users":{},"secret":"{}"}}"#,
        id("main", number),
        random.below(4),
        random.below(2) == 0,
        random.pick(&["", "a@b.co", "A@b.co"]),
        random.pick(&["", "https://a.co/x"]),
        ids("cat", &cats),
        ids("user", &users),
        random.pick(&["", "s1"]),
    )
}

fn ids(kind: &str, numbers: &[usize]) -> String {
    let ids: Vec<String> = numbers.iter().map(|number| format!("\"{}\"", id(kind, *number))).collect();
    format!("[{}]", ids.join(","))
}

fn list(kind: &str, numbers: &str) -> String {
    let numbers = Json::parse_whole(numbers).unwrap();
    let numbers: Vec<usize> =
        numbers.as_array().unwrap().iter().map(|number| number.as_number().unwrap() as usize).collect();
    ids(kind, &numbers)
}
