//! What a node that runs the services tells gateways: lines of JSON. No secret is in them.

use model::json::{Json, JsonObject};
use model::settings::Settings;

/// The first line of a stream.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hello {
    /// The code with which ids of the node's clients begin.
    pub(super) node: String,
    /// The number of the newest notice.
    pub(super) number: u64,
    /// Whether all notices after the one that was asked for follow. Otherwise some may be missing.
    pub(super) continues: bool,
    pub(super) edge: EdgeSettings,
}

/// What became of one commit.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Notice {
    pub(super) number: u64,
    /// Collection and id of records whose tokens may count no more.
    pub(super) records: Vec<(String, String)>,
    /// No token may count any more.
    pub(super) all_tokens: bool,
    /// The settings, where they were saved.
    pub(super) edge: Option<EdgeSettings>,
}

/// The settings that the edge goes by.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct EdgeSettings {
    pub(super) proxy_headers: Vec<String>,
    pub(super) use_leftmost_ip: bool,
    pub(super) superuser_ips: Vec<String>,
}

/// Whose a token is, and until when, in seconds since 1970.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Whose {
    Nobody,
    Record { collection: String, name: String, id: String, expires_at: i64 },
}

/// What a server is told of a caller.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    pub(super) token: String,
    pub(super) expires_at: i64,
}

// === impl Hello ===

impl Hello {
    pub(super) fn line(&self) -> String {
        line(Json::object([
            ("node", self.node.as_str().into()),
            ("number", number(self.number)),
            ("continues", self.continues.into()),
            ("edge", self.edge.json()),
        ]))
    }

    pub(super) fn read(line: &str) -> Option<Self> {
        let json = Json::parse_whole(line).ok()?;
        let hello = Self {
            node: json.get("node")?.as_str()?.to_owned(),
            number: whole(json.get("number")?)?,
            continues: json.get("continues")?.as_bool()?,
            edge: EdgeSettings::read(json.get("edge")?)?,
        };
        let is_code = !hello.node.is_empty() && hello.node.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_code.then_some(hello)
    }
}

// === impl Notice ===

impl Notice {
    pub(super) fn line(&self) -> String {
        let mut members = JsonObject::from([("number".to_owned(), number(self.number))]);
        if self.all_tokens {
            members.insert("allTokens".to_owned(), true.into());
        }
        if !self.records.is_empty() {
            let pair = |(collection, id): &(String, String)| {
                Json::Array(vec![collection.as_str().into(), id.as_str().into()])
            };
            members.insert("records".to_owned(), Json::Array(self.records.iter().map(pair).collect()));
        }
        if let Some(edge) = &self.edge {
            members.insert("edge".to_owned(), edge.json());
        }
        line(Json::Object(members))
    }

    pub(super) fn read(line: &str) -> Option<Self> {
        let json = Json::parse_whole(line).ok()?;
        let pair = |json: &Json| match json.as_array()? {
            [collection, id] => Some((collection.as_str()?.to_owned(), id.as_str()?.to_owned())),
            _ => None,
        };
        let records = match json.get("records") {
            Some(list) => list.as_array()?.iter().map(pair).collect::<Option<_>>()?,
            None => Vec::new(),
        };
        let edge = match json.get("edge") {
            Some(edge) => Some(EdgeSettings::read(edge)?),
            None => None,
        };
        let all_tokens = json.get("allTokens").and_then(Json::as_bool).unwrap_or(false);
        Some(Self { number: whole(json.get("number")?)?, records, all_tokens, edge })
    }
}

// === impl EdgeSettings ===

impl EdgeSettings {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            proxy_headers: settings.trusted_proxy.headers.clone(),
            use_leftmost_ip: settings.trusted_proxy.use_leftmost_ip,
            superuser_ips: settings.superuser_ips.clone(),
        }
    }

    /// As the layers of the edge read them. All others are as they are by default.
    pub(super) fn into_settings(self) -> Settings {
        let mut settings = Settings::default();
        settings.trusted_proxy.headers = self.proxy_headers;
        settings.trusted_proxy.use_leftmost_ip = self.use_leftmost_ip;
        settings.superuser_ips = self.superuser_ips;
        settings
    }

    fn json(&self) -> Json {
        Json::object([
            ("proxyHeaders", texts(&self.proxy_headers)),
            ("useLeftmostIP", self.use_leftmost_ip.into()),
            ("superuserIPs", texts(&self.superuser_ips)),
        ])
    }

    fn read(json: &Json) -> Option<Self> {
        Some(Self {
            proxy_headers: read_texts(json.get("proxyHeaders")?)?,
            use_leftmost_ip: json.get("useLeftmostIP")?.as_bool()?,
            superuser_ips: read_texts(json.get("superuserIPs")?)?,
        })
    }
}

// === impl Whose ===

impl Whose {
    pub(super) fn text(&self) -> String {
        line(match self {
            Self::Nobody => Json::object([]),
            Self::Record { collection, name, id, expires_at } => Json::object([
                ("collection", collection.as_str().into()),
                ("name", name.as_str().into()),
                ("id", id.as_str().into()),
                ("expires", (*expires_at as f64).into()),
            ]),
        })
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        let json = Json::parse_whole(text.trim_end()).ok()?;
        if json.as_object()?.is_empty() {
            return Some(Self::Nobody);
        }
        let text = |key: &str| Some(json.get(key)?.as_str()?.to_owned());
        Some(Self::Record {
            collection: text("collection")?,
            name: text("name")?,
            id: text("id")?,
            expires_at: json.get("expires")?.as_number()? as i64,
        })
    }
}

// === impl Told ===

impl Told {
    pub(super) fn text(&self) -> String {
        line(Json::object([
            ("token", self.token.as_str().into()),
            ("expires", (self.expires_at as f64).into()),
        ]))
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        let json = Json::parse_whole(text.trim_end()).ok()?;
        let token = json.get("token")?.as_str()?.to_owned();
        Some(Self { token, expires_at: json.get("expires")?.as_number()? as i64 })
    }
}

fn line(json: Json) -> String {
    let mut line = String::new();
    json.write(&mut line);
    line.push('\n');
    line
}

/// Numbers begin anew with the process, and stay far below 2^53.
fn number(number: u64) -> Json {
    (number as f64).into()
}

fn whole(json: &Json) -> Option<u64> {
    let number = json.as_number()?;
    (number >= 0.0 && number.fract() == 0.0).then_some(number as u64)
}

fn texts(texts: &[String]) -> Json {
    Json::Array(texts.iter().map(|text| text.as_str().into()).collect())
}

fn read_texts(json: &Json) -> Option<Vec<String>> {
    json.as_array()?.iter().map(|text| Some(text.as_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge() -> EdgeSettings {
        EdgeSettings {
            proxy_headers: vec!["X-Real-IP".to_owned()],
            use_leftmost_ip: true,
            superuser_ips: vec!["10.0.0.0/8".to_owned()],
        }
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        let hello = Hello { node: "aB3d".to_owned(), number: 7, continues: true, edge: edge() };
        assert_eq!(Hello::read(hello.line().trim_end()), Some(hello));
        for notice in [
            Notice { number: 1, ..Notice::default() },
            Notice { number: 2, records: vec![("c".to_owned(), "r\n".to_owned())], ..Notice::default() },
            Notice { number: 3, all_tokens: true, edge: Some(edge()), ..Notice::default() },
        ] {
            let line = notice.line();
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert_eq!(Notice::read(line.trim_end()), Some(notice));
        }
        let of = |text: &str| text.to_owned();
        let record = Whose::Record { collection: of("c"), name: of("n"), id: of("r"), expires_at: 9 };
        for whose in [record, Whose::Nobody] {
            assert_eq!(Whose::read(&whose.text()), Some(whose));
        }
    }

    #[test]
    fn other_lines_are_none() {
        for line in
            ["", "{}", "[]", "{\"number\":-1}", "{\"number\":1,\"records\":[[\"a\"]]}", "{\"number\":1,"]
        {
            assert_eq!(Notice::read(line), None, "{line}");
            assert_eq!(Hello::read(line), None, "{line}");
        }
    }

    #[test]
    fn settings_come_as_the_edge_reads_them() {
        let settings = edge().into_settings();
        assert_eq!(EdgeSettings::of(&settings), edge());
    }
}
