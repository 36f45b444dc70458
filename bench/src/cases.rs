//! What is asked of the servers. A flat list; the order is the order of the run: what reads comes before what adds rows,
//! since the quicker server adds more of them.

use anyhow::{Result, bail};
use serde_json::json;

use crate::client::{Caller, Request};
use crate::data::{self, PASSWORD, RARE_WORD, SIGNED_IN, Sizes, id};

pub(crate) const DELETES_PER_ROUND: usize = 2;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) load: Load,
    /// Requests whose answers must be equal before anything is timed. They leave the rows as they were.
    pub(crate) samples: fn(&Sizes) -> Vec<Request>,
}

pub(crate) enum Load {
    /// As many requests as the server answers, over so many connections. The script defines `request`.
    Wrk { connections: usize, script: &'static str },
    /// One caller, one request after the other; these are the requests of a round.
    OneByOne(fn(round: usize) -> Vec<Request>),
    /// Views at a steady rate, without and with sign-ins beside them.
    SignIns { views: &'static str },
}

impl Case {
    pub(crate) fn named(names: &[String]) -> Result<Vec<Self>> {
        if let Some(unknown) = names.iter().find(|name| Self::all().iter().all(|case| case.name != *name)) {
            bail!("no case {unknown}; see --help");
        }
        let is_chosen = |case: &Self| names.is_empty() || names.iter().any(|name| name == case.name);
        Ok(Self::all().into_iter().filter(is_chosen).collect())
    }

    pub(crate) fn all() -> Vec<Self> {
        const CONNECTIONS: usize = 32;
        // Where one request keeps a core busy for tens of milliseconds, more would only wait in line.
        const FEW_CONNECTIONS: usize = 4;
        let wrk = |script| Load::Wrk { connections: CONNECTIONS, script };
        let slow_wrk = |script| Load::Wrk { connections: FEW_CONNECTIONS, script };
        vec![
            Self {
                name: "view",
                title: "view by random id",
                load: wrk(VIEW),
                samples: |sizes| {
                    [0, 1, sizes.items - 1].map(|n| guest(format!("{ITEMS}/{}", id("itm", n)))).into()
                },
            },
            Self {
                name: "list",
                title: "30 by filter and sort, skipTotal",
                load: wrk(LIST),
                samples: |_| {
                    [0, 123_456, 999_000]
                        .map(|x| {
                            guest(format!(
                                "{ITEMS}?perPage=30&skipTotal=1&sort=-score,id&filter=score%3E%3D{x}"
                            ))
                        })
                        .into()
                },
            },
            Self {
                name: "list-total-filter",
                title: "30 by filter and sort, with total",
                load: wrk(LIST_TOTAL_FILTER),
                samples: |_| {
                    vec![guest(format!("{ITEMS}?perPage=30&sort=-score,id&filter=score%3E%3D950000"))]
                },
            },
            Self {
                name: "list-total",
                title: "30 without a filter, with total",
                load: wrk(LIST_TOTAL),
                samples: |_| {
                    vec![guest(format!("{ITEMS}?perPage=30")), guest(format!("{ITEMS}?perPage=30&page=17"))]
                },
            },
            Self {
                name: "auth-refresh",
                title: "auth-refresh",
                load: wrk(AUTH_REFRESH),
                samples: |_| vec![by(3, "POST", "/api/collections/accounts/auth-refresh".to_owned(), None)],
            },
            Self {
                name: "owner-view",
                title: "view with the owner rule and a token",
                load: wrk(OWNER_VIEW),
                samples: |_| {
                    // Item n belongs to account n, so the second is another's: 404.
                    vec![
                        by(5, "GET", format!("{OWNED}/{}", id("itm", 5)), None),
                        by(5, "GET", format!("{OWNED}/{}", id("itm", 6)), None).expecting(404),
                    ]
                },
            },
            Self {
                name: "owner-list",
                title: "30 by filter and sort, skipTotal, owner rule and token",
                load: wrk(OWNER_LIST),
                samples: |_| {
                    vec![by(
                        7,
                        "GET",
                        format!("{OWNED}?perPage=30&sort=-score,id&filter=score%3E%3D250000"),
                        None,
                    )]
                },
            },
            Self {
                name: "search",
                title: "title ~ a rare word over all rows",
                load: slow_wrk(SEARCH),
                samples: |_| vec![guest(format!("{ITEMS}?filter=title~%27{RARE_WORD}%27"))],
            },
            Self {
                name: "rule-members",
                title: "list rule through a multiple relation: team.members.id ?= caller, 10,000 documents",
                load: slow_wrk(RULE_MEMBERS),
                samples: |_| {
                    vec![by(2, "GET", "/api/collections/documents/records?sort=id".to_owned(), None)]
                },
            },
            Self {
                name: "rule-shared",
                title: "list rule own or shared with me: back-relation over a multiple field, 500 projects, 500 grants (one at a time)",
                load: Load::OneByOne(rule_shared),
                samples: |_| vec![by(1, "GET", "/api/collections/projects/records?sort=id".to_owned(), None)],
            },
            Self {
                name: "sign-ins",
                title: "views at 500/s, sign-ins at 200/s beside them",
                load: Load::SignIns { views: VIEW },
                samples: |_| vec![Request::new("POST", SIGN_IN.to_owned(), Some(sign_in(0)))],
            },
            Self {
                name: "create",
                title: "create",
                load: wrk(CREATE),
                samples: |sizes| {
                    let path = format!("{ITEMS}/{}", id("itm", sizes.items));
                    let body =
                        json!({ "id": id("itm", sizes.items), "title": "new", "body": "text", "score": 12 });
                    vec![
                        Request::new("POST", ITEMS.to_owned(), Some(body)),
                        Request::new("DELETE", path, None).expecting(204),
                    ]
                },
            },
            Self {
                name: "owner-create",
                title: "create with the owner rule and a token",
                load: wrk(OWNER_CREATE),
                samples: |sizes| {
                    let new = id("itm", sizes.items);
                    let body = json!({ "id": new, "title": "new", "body": "text", "score": 12, "owner": id("acc", 4) });
                    vec![
                        by(5, "POST", OWNED.to_owned(), Some(body.clone())).expecting(400),
                        by(4, "POST", OWNED.to_owned(), Some(body)),
                        by(4, "DELETE", format!("{OWNED}/{new}"), None).expecting(204),
                    ]
                },
            },
            Self {
                name: "update",
                title: "update by random id",
                load: wrk(UPDATE),
                samples: |_| {
                    let patch = |score: usize| {
                        Request::new(
                            "PATCH",
                            format!("{ITEMS}/{}", id("itm", 9)),
                            Some(json!({ "score": score })),
                        )
                    };
                    vec![patch(1_000_001), patch(data::score(9))]
                },
            },
            Self {
                name: "mix",
                title: "40 % view, 40 % list, 10 % create, 10 % update",
                load: wrk(MIX),
                samples: |_| Vec::new(),
            },
            Self {
                name: "cascade",
                title: "delete of a user who owns thousands of rows (one at a time)",
                load: Load::OneByOne(cascade),
                samples: |_| {
                    let notes = || {
                        guest(format!(
                            "/api/collections/notes/records?sort=id&filter=owner%3D%27{}%27",
                            id("cus", 0)
                        ))
                    };
                    vec![notes(), delete_customer(0), notes()]
                },
            },
        ]
    }
}

pub(crate) const SIGN_IN: &str = "/api/collections/accounts/auth-with-password";
const ITEMS: &str = "/api/collections/items/records";
const OWNED: &str = "/api/collections/owned_items/records";

pub(crate) fn sign_in(n: usize) -> serde_json::Value {
    json!({ "identity": data::email("account", n % SIGNED_IN), "password": PASSWORD })
}

fn guest(path: String) -> Request {
    Request::new("GET", path, None)
}

fn by(account: usize, method: &'static str, path: String, body: Option<serde_json::Value>) -> Request {
    Request::new(method, path, body).by(Caller::Account(account))
}

fn rule_shared(round: usize) -> Vec<Request> {
    let list =
        |n: usize| by(n % SIGNED_IN, "GET", "/api/collections/projects/records?sort=id".to_owned(), None);
    (0..3).map(|k| list(round * 3 + k)).collect()
}

fn cascade(round: usize) -> Vec<Request> {
    // Number 0 went when the answers were compared.
    (0..DELETES_PER_ROUND).map(|k| delete_customer(1 + round * DELETES_PER_ROUND + k)).collect()
}

fn delete_customer(n: usize) -> Request {
    let path = format!("/api/collections/customers/records/{}", id("cus", n));
    Request::new("DELETE", path, None).by(Caller::Superuser).expecting(204)
}

// The scripts: see `wrk.rs` for what they can use.

const VIEW: &str = r#"
function request() return ask("GET", "/api/collections/items/records/" .. id("itm", any(items))) end
"#;

const LIST: &str = r#"
function request()
  return ask("GET", "/api/collections/items/records?perPage=30&skipTotal=1&sort=-score&filter=score%3E%3D" .. any(1000000))
end
"#;

const LIST_TOTAL_FILTER: &str = r#"
function request()
  return ask("GET", "/api/collections/items/records?perPage=30&sort=-score&filter=score%3E%3D" .. (900000 + any(90000)))
end
"#;

const LIST_TOTAL: &str = r#"
function request() return ask("GET", "/api/collections/items/records?perPage=30") end
"#;

const AUTH_REFRESH: &str = r#"
function request() return ask("POST", "/api/collections/accounts/auth-refresh", any(accounts)) end
"#;

const OWNER_VIEW: &str = r#"
function request()
  local account = any(accounts)
  local item = account + accounts * any(items / accounts)
  return ask("GET", "/api/collections/owned_items/records/" .. id("itm", item), account)
end
"#;

const OWNER_LIST: &str = r#"
function request()
  return ask("GET", "/api/collections/owned_items/records?perPage=30&skipTotal=1&sort=-score&filter=score%3E%3D" .. any(1000000), any(accounts))
end
"#;

const SEARCH: &str = r#"
function request() return ask("GET", "/api/collections/items/records?filter=title~%27zyzzyva%27") end
"#;

const RULE_MEMBERS: &str = r#"
function request() return ask("GET", "/api/collections/documents/records", any(accounts)) end
"#;

const CREATE: &str = r#"
function request() return ask("POST", "/api/collections/items/records", nil, item()) end
"#;

const OWNER_CREATE: &str = r#"
function request()
  local account = any(accounts)
  local owner = ',"owner":"' .. id("acc", account) .. '"'
  return ask("POST", "/api/collections/owned_items/records", account, item(owner))
end
"#;

const UPDATE: &str = r#"
function request()
  return ask("PATCH", "/api/collections/items/records/" .. id("itm", any(items)), nil, '{"score":' .. any(1000000) .. "}")
end
"#;

const MIX: &str = r#"
function request()
  local dice = any(10)
  if dice < 4 then
    return ask("GET", "/api/collections/items/records/" .. id("itm", any(items)))
  elseif dice < 8 then
    return ask("GET", "/api/collections/items/records?perPage=30&skipTotal=1&sort=-score&filter=score%3E%3D" .. any(1000000))
  elseif dice < 9 then
    return ask("POST", "/api/collections/items/records", nil, item())
  end
  return ask("PATCH", "/api/collections/items/records/" .. id("itm", any(items)), nil, '{"score":' .. any(1000000) .. "}")
end
"#;
