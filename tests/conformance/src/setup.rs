//! One server during a scenario: its variables, and requests made from steps and pairs.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};
use testkit::{Client, ROOT_EMAIL, ROOT_PASSWORD, Request, Response};

use crate::compare::Relation;
use crate::encoding::{base64_decode, percent_encode};
use crate::json::Json;
use crate::normalise::{Seen, order};
use crate::scenario::{
    ActorStep, CollectionStep, FilePart, Pair, Part, RecordsStep, Scenario, Step, StreamStep, uploads,
};
use crate::streams::{Streams, client_id};

const BOUNDARY: &str = "conformance-boundary";

/// One of the two servers.
#[derive(Debug)]
pub(crate) struct Side {
    client: Client,
    vars: BTreeMap<String, String>,
    pub(crate) seen: Seen,
    pub(crate) streams: Streams,
    /// Whether what is made at once may be dated a millisecond apart: so in the reference, never in ours.
    pub(crate) reads_clock_twice: bool,
}

impl Side {
    /// Signs in as the superuser and runs the setup; any answer but 2xx is an error.
    pub(crate) fn set_up(client: Client, scenario: &Scenario) -> Result<Self> {
        let seen = Seen::new(&scenario.text);
        let mut side = Self {
            client,
            vars: BTreeMap::new(),
            seen,
            streams: Streams::default(),
            reads_clock_twice: true,
        };
        side.sign_in("root", "_superusers", ROOT_EMAIL, ROOT_PASSWORD)?;
        for step in &scenario.setup {
            match step {
                Step::Collection(step) => side.make_collection(step)?,
                Step::Records(step) => side.make_records(step)?,
                Step::Actor(step) => side.make_actor(step)?,
                Step::Stream(step) => side.open_stream(step)?,
                Step::Request(pair) => side.request(pair)?,
            }
        }
        Ok(side)
    }

    /// Sends a pair's request, without saving anything but the client id of a stream.
    pub(crate) fn send(&mut self, pair: &Pair) -> Result<Response> {
        let request = self.build(pair)?;
        let Some(stream) = &pair.stream else { return self.client.send(&request) };
        let answer = self.streams.open(stream, &self.client, &request)?;
        self.set(stream, client_id(&answer).unwrap_or_else(|| format!("no-{stream}")));
        Ok(answer)
    }

    /// Sends a pair's request as often as it is to be sent before.
    pub(crate) fn repeat(&mut self, pair: &Pair) -> Result<()> {
        (0..pair.repeats).try_for_each(|_| self.send(pair).map(drop))
    }

    /// Takes variables from an answer. What is not there becomes a value that no server knows.
    pub(crate) fn save(&mut self, pair: &Pair, answer: &Response) -> Result<()> {
        let body = Json::parse(&answer.text());
        let mut missing = Vec::new();
        for (name, pointer) in &pair.save {
            let value = if pointer.starts_with('/') {
                body.as_ref().and_then(|body| body.at(pointer)).map(Json::plain_text)
            } else {
                answer.header(pointer).map(str::to_owned)
            };
            if value.is_none() {
                missing.push(pointer.as_str());
            }
            self.set(name, value.unwrap_or_else(|| format!("no-{name}")));
        }
        ensure!(missing.is_empty(), "nothing to save at {}", missing.join(", "));
        Ok(())
    }

    /// How the terms of each `relate` stand to each other in an answer.
    pub(crate) fn relations(&self, pair: &Pair, answer: &Response) -> Result<Vec<Relation>> {
        let body = Json::parse(&answer.text());
        let value = |term: &str| {
            let pointed = term.starts_with('/');
            if pointed { body.as_ref()?.at(term).map(Json::plain_text) } else { Some(term.to_owned()) }
        };
        let relation = |(left, right): &(String, String)| {
            let (left, right) = (self.substitute(left)?, self.substitute(right)?);
            let compare = |left: String, right: String| match self.reads_clock_twice {
                true => order(&left, &right),
                false => left.cmp(&right),
            };
            Ok(value(&left).zip(value(&right)).map(|(left, right)| compare(left, right)))
        };
        pair.relate.iter().map(relation).collect()
    }

    /// Replaces each `{{name}}`, and each `{{text*COUNT}}` by so many of the text.
    pub(crate) fn substitute(&self, text: &str) -> Result<String> {
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, behind) =
                after.split_once("}}").with_context(|| format!("unclosed {{{{ in {text:?}"))?;
            result.push_str(before);
            match name.rsplit_once('*') {
                Some((repeated, count)) => {
                    let count = count.parse().with_context(|| format!("no number of times in {name:?}"))?;
                    result.push_str(&repeated.repeat(count));
                }
                None => {
                    result.push_str(self.vars.get(name).with_context(|| format!("no variable {name:?}"))?)
                }
            }
            rest = behind;
        }
        Ok(result + rest)
    }

    fn set(&mut self, name: &str, value: String) {
        self.seen.learn(&value);
        self.vars.insert(name.to_owned(), value);
    }

    fn make_collection(&mut self, step: &CollectionStep) -> Result<()> {
        let save = [(step.collection.clone(), "/id".to_owned())];
        let request = "POST /api/collections".to_owned();
        self.request(&Pair { request, body: Some(step.body()?), save: save.into(), ..Pair::default() })
    }

    fn make_records(&mut self, step: &RecordsStep) -> Result<()> {
        for row in &step.rows {
            let request = format!("POST /api/collections/{}/records", step.records);
            self.request(&Pair { request, body: Some(row.clone()), ..Pair::default() })?;
        }
        Ok(())
    }

    fn make_actor(&mut self, step: &ActorStep) -> Result<()> {
        let text = |key: &str| step.record.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut record = step.record.clone();
        record.insert("passwordConfirm".to_owned(), text("password").into());
        let request = format!("POST /api/collections/{}/records", step.collection);
        self.request(&Pair { request, body: Some(record.into()), ..Pair::default() })?;
        self.sign_in(&step.actor, &step.collection, &text("email"), &text("password"))
    }

    fn open_stream(&mut self, step: &StreamStep) -> Result<()> {
        let request = "GET /api/realtime".to_owned();
        let stream = Some(step.stream.clone());
        self.request(&Pair { request, actor: Some("guest".to_owned()), stream, ..Pair::default() })?;
        let client = format!("{{{{{}}}}}", step.stream);
        self.request(&Pair {
            request: "POST /api/realtime".to_owned(),
            actor: step.actor.clone().or_else(|| Some("guest".to_owned())),
            body: Some(json!({"clientId": client, "subscriptions": step.topics})),
            ..Pair::default()
        })
    }

    fn sign_in(&mut self, actor: &str, collection: &str, identity: &str, password: &str) -> Result<()> {
        let save =
            [(actor.to_owned(), "/record/id".to_owned()), (format!("{actor}_token"), "/token".to_owned())];
        self.request(&Pair {
            request: format!("POST /api/collections/{collection}/auth-with-password"),
            actor: Some("guest".to_owned()),
            body: Some(json!({"identity": identity, "password": password})),
            save: save.into(),
            ..Pair::default()
        })
    }

    /// Sends a setup request, as the superuser unless it says otherwise.
    fn request(&mut self, pair: &Pair) -> Result<()> {
        let mut pair = pair.clone();
        pair.actor.get_or_insert_with(|| "root".to_owned());
        let answer = self.send(&pair)?;
        let accepted = (200..300).contains(&answer.status);
        ensure!(accepted, "{} was answered {} {}", pair.request, answer.status, answer.text());
        self.save(&pair, &answer)
    }

    fn build(&self, pair: &Pair) -> Result<Request> {
        let (method, target) = pair
            .request
            .split_once(' ')
            .with_context(|| format!("{:?} is not METHOD TARGET", pair.request))?;
        let mut request = Request::new(method, self.target(target, pair)?);
        match pair.actor.as_deref().unwrap_or("guest") {
            "guest" => {}
            actor => {
                request = request.header("Authorization", self.substitute(&format!("{{{{{actor}_token}}}}"))?)
            }
        }
        if let Some((content_type, body)) = self.body(pair)? {
            request.body = body;
            let given = pair.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type"));
            if !given {
                request = request.header("Content-Type", content_type);
            }
        }
        for (name, value) in pair.headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(name, self.substitute(value)?);
        }
        Ok(request)
    }

    fn target(&self, target: &str, pair: &Pair) -> Result<String> {
        let mut target = self.substitute(target)?;
        for (name, value) in &pair.query {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(&format!("{name}={}", percent_encode(&self.substitute(value)?)));
        }
        Ok(target)
    }

    fn body(&self, pair: &Pair) -> Result<Option<(String, Vec<u8>)>> {
        let json_type = "application/json".to_owned();
        Ok(if let Some(body) = &pair.body {
            Some((json_type, self.substitute_value(body)?.to_string().into_bytes()))
        } else if let Some(raw) = &pair.raw {
            Some((json_type, self.substitute(raw)?.into_bytes()))
        } else if let Some(base64) = &pair.base64 {
            Some((json_type, base64_decode(base64).context("decode base64")?))
        } else if let Some(parts) = &pair.multipart {
            Some((format!("multipart/form-data; boundary={BOUNDARY}"), self.multipart(parts)?))
        } else {
            None
        })
    }

    fn multipart(&self, parts: &[(String, Part)]) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        for (name, part) in parts {
            let disposition = format!("Content-Disposition: form-data; name=\"{name}\"");
            let (head, content) = match part {
                Part::Text(value) => (disposition, self.substitute(value)?.into_bytes()),
                Part::File(file) => {
                    let file_name = self.substitute(&file.file)?;
                    let content_type =
                        file.content_type.as_ref().map(|value| format!("\r\nContent-Type: {value}"));
                    let content_type = content_type.unwrap_or_default();
                    (format!("{disposition}; filename=\"{file_name}\"{content_type}"), self.content(file)?)
                }
            };
            body.extend(format!("--{BOUNDARY}\r\n{head}\r\n\r\n").into_bytes());
            body.extend(content);
            body.extend(b"\r\n");
        }
        body.extend(format!("--{BOUNDARY}--\r\n").into_bytes());
        Ok(body)
    }

    fn content(&self, file: &FilePart) -> Result<Vec<u8>> {
        match (&file.text, &file.base64, &file.upload) {
            (Some(text), None, None) => Ok(self.substitute(text)?.into_bytes()),
            (None, Some(base64), None) => base64_decode(base64).context("decode base64"),
            (None, None, Some(name)) => {
                std::fs::read(uploads().join(name)).with_context(|| format!("read {name:?} of the uploads"))
            }
            _ => bail!("the file {:?} has not one content", file.file),
        }
    }

    fn substitute_value(&self, value: &Value) -> Result<Value> {
        Ok(match value {
            Value::String(text) => self.substitute(text)?.into(),
            Value::Array(items) => {
                items.iter().map(|item| self.substitute_value(item)).collect::<Result<_>>()?
            }
            Value::Object(members) => {
                let substituted = members
                    .iter()
                    .map(|(key, value)| Ok((self.substitute(key)?, self.substitute_value(value)?)));
                substituted.collect::<Result<Map<_, _>>>()?.into()
            }
            other => other.clone(),
        })
    }
}
