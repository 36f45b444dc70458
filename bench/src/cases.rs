//! What is asked of the servers. A flat list; the order is the order of the run: what reads comes before what adds rows,
//! since the quicker server adds more of them.

use anyhow::{Result, bail};
use serde_json::json;

use crate::client::{Caller, Request};
use crate::data::{self, PASSWORD, RARE_WORD, SIGNED_IN, Sizes, id};
use crate::fan_out::{FanOut, PUBLIC, RULED};
use crate::files::FileSize;

pub(crate) const DELETES_PER_ROUND: usize = 2;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) load: Load,
    /// The least ratio of throughput to the peer's that the issue of the case asks for.
    pub(crate) asked: Option<f64>,
    /// Requests whose answers must be equal before anything is timed. They leave the rows as they were.
    pub(crate) samples: fn(&Sizes) -> Vec<Request>,
}

pub(crate) enum Load {
    /// As many requests as the server answers, over so many connections. The script defines `request`.
    Wrk {
        connections: usize,
        script: &'static str,
    },
    /// One caller, one request after the other; these are the requests of a round.
    OneByOne(fn(round: usize) -> Vec<Request>),
    /// Views at a steady rate, without and with sign-ins beside them.
    SignIns {
        views: &'static str,
    },
    /// The same through the batch API, which is off by default and is switched on for it.
    Batches {
        connections: usize,
        script: &'static str,
    },
    Downloads {
        connections: usize,
        size: FileSize,
    },
    Uploads {
        connections: usize,
        size: FileSize,
    },
    /// Events to so many subscribers, from one writer and from four.
    FanOut(FanOut),
    /// So many streams without an event, and the memory they take; measured once.
    IdleStreams(usize),
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
            // Before the files and the rows, which would be in the server's memory beside the streams.
            Self {
                name: "idle-streams",
                title: "10,000 idle streams, resident memory",
                load: Load::IdleStreams(10_000),
                asked: None,
                samples: |_| Vec::new(),
            },
            Self {
                name: "view",
                title: "view by random id",
                load: wrk(VIEW),
                asked: None,
                samples: |sizes| {
                    [0, 1, sizes.items - 1].map(|n| guest(format!("{ITEMS}/{}", id("itm", n)))).into()
                },
            },
            Self {
                name: "list",
                title: "30 by filter and sort, skipTotal",
                load: wrk(LIST),
                asked: None,
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
                asked: None,
                samples: |_| {
                    vec![guest(format!("{ITEMS}?perPage=30&sort=-score,id&filter=score%3E%3D950000"))]
                },
            },
            Self {
                name: "list-total",
                title: "30 without a filter, with total",
                load: wrk(LIST_TOTAL),
                asked: None,
                samples: |_| {
                    vec![guest(format!("{ITEMS}?perPage=30")), guest(format!("{ITEMS}?perPage=30&page=17"))]
                },
            },
            Self {
                name: "auth-refresh",
                title: "auth-refresh",
                load: wrk(AUTH_REFRESH),
                asked: None,
                samples: |_| vec![by(3, "POST", "/api/collections/accounts/auth-refresh".to_owned(), None)],
            },
            Self {
                name: "owner-view",
                title: "view with the owner rule and a token",
                load: wrk(OWNER_VIEW),
                asked: None,
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
                asked: None,
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
                asked: None,
                samples: |_| vec![guest(format!("{ITEMS}?filter=title~%27{RARE_WORD}%27"))],
            },
            Self {
                name: "rule-members",
                title: "list rule through a multiple relation: team.members.id ?= caller, 10,000 documents",
                load: slow_wrk(RULE_MEMBERS),
                asked: None,
                samples: |_| {
                    vec![by(2, "GET", "/api/collections/documents/records?sort=id".to_owned(), None)]
                },
            },
            Self {
                name: "rule-shared",
                title: "list rule own or shared with me: back-relation over a multiple field, 500 projects, 500 grants (one at a time)",
                load: Load::OneByOne(rule_shared),
                asked: None,
                samples: |_| vec![by(1, "GET", "/api/collections/projects/records?sort=id".to_owned(), None)],
            },
            Self {
                name: "sign-ins",
                title: "views at 500/s, sign-ins at 200/s beside them",
                load: Load::SignIns { views: VIEW },
                asked: None,
                samples: |_| vec![Request::new("POST", SIGN_IN.to_owned(), Some(sign_in(0)))],
            },
            download("file-download-64k", "download of one of 64 files of 64 KiB", 64, FileSize::Small, None),
            download(
                "file-download-1m",
                "download of one of 16 files of 1 MiB",
                16,
                FileSize::Large,
                Some(3.0),
            ),
            Self {
                name: "create",
                title: "create",
                load: wrk(CREATE),
                asked: None,
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
                asked: None,
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
                asked: None,
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
                asked: None,
                samples: |_| Vec::new(),
            },
            Self {
                name: "cascade",
                title: "delete of a user who owns thousands of rows (one at a time)",
                load: Load::OneByOne(cascade),
                asked: None,
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
            Self {
                name: "batch-100",
                title: "batches of 100 creates; a hundred times as many records",
                load: Load::Batches { connections: FEW_CONNECTIONS, script: BATCH },
                asked: Some(5.0),
                samples: |_| batch_samples(),
            },
            upload("file-upload-64k", "upload of a file of 64 KiB", 64, FileSize::Small),
            upload("file-upload-1m", "upload of a file of 1 MiB", 16, FileSize::Large),
            fan_out("fan-out-public-100", PUBLIC, 100, None),
            fan_out("fan-out-public-1000", PUBLIC, 1_000, Some(4.0)),
            fan_out("fan-out-public-5000", PUBLIC, 5_000, None),
            fan_out("fan-out-rule-100", RULED, 100, None),
            fan_out("fan-out-rule-1000", RULED, 1_000, Some(8.0)),
            fan_out("fan-out-rule-5000", RULED, 5_000, None),
        ]
    }

    /// The subscribers of a case of fan-out.
    pub(crate) fn subscribers(&self) -> Option<usize> {
        match self.load {
            Load::FanOut(FanOut { subscribers, .. }) => Some(subscribers),
            _ => None,
        }
    }
}

fn download(
    name: &'static str,
    title: &'static str,
    connections: usize,
    size: FileSize,
    asked: Option<f64>,
) -> Case {
    Case { name, title, load: Load::Downloads { connections, size }, asked, samples: |_| Vec::new() }
}

fn upload(name: &'static str, title: &'static str, connections: usize, size: FileSize) -> Case {
    Case { name, title, load: Load::Uploads { connections, size }, asked: None, samples: |_| Vec::new() }
}

fn fan_out(name: &'static str, collection: &'static str, subscribers: usize, asked: Option<f64>) -> Case {
    let title = match collection {
        PUBLIC => "events a second over all subscribers, public; latencies from write to delivery",
        _ => "events a second over all subscribers, rule on two fields; latencies from write to delivery",
    };
    let load = Load::FanOut(FanOut { collection, subscribers });
    Case { name, title, load, asked, samples: |_| Vec::new() }
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

/// A hundred records made and taken away again.
fn batch_samples() -> Vec<Request> {
    const BATCH_SIZE: usize = 100;
    let records = format!("/api/collections/{}/records", data::BATCHED);
    let batch = |of: &dyn Fn(usize) -> serde_json::Value| {
        let requests: Vec<_> = (0..BATCH_SIZE).map(of).collect();
        Request::new("POST", "/api/batch".to_owned(), Some(json!({ "requests": requests })))
    };
    let create = |n| {
        let body = json!({ "id": id("bat", n), "title": "new", "body": "text", "score": n });
        json!({ "method": "POST", "url": records, "body": body })
    };
    let delete = |n| json!({ "method": "DELETE", "url": format!("{records}/{}", id("bat", n)) });
    vec![batch(&create), batch(&delete)]
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

const BATCH: &str = r#"
function request()
  local requests = {}
  for n = 1, 100 do
    requests[n] = '{"method":"POST","url":"/api/collections/batch_items/records","body":' .. item() .. "}"
  end
  return ask("POST", "/api/batch", nil, '{"requests":[' .. table.concat(requests, ",") .. "]}")
end
"#;
