//! The event streams of one server, and what came on them as messages to compare.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use testkit::{Client, Request, Response, Stream};

use crate::json::Json;
use crate::normalise::Seen;

/// How long nothing may have come before a change counts as told.
const QUIET: Duration = Duration::from_millis(500);
/// How long a subject that has told less than the reference is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long streams that are never quiet are listened to, and how long a first message may take.
const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);
const END_OF_MESSAGE: &str = "\n\n";

/// The open streams of a server, by name.
#[derive(Debug, Default)]
pub(crate) struct Streams(BTreeMap<String, Listening>);

#[derive(Debug)]
struct Listening {
    stream: Stream,
    received: Vec<u8>,
}

/// A message and what it is sorted by: its text, but for generated values.
struct Message {
    fixed: String,
    text: String,
}

impl Streams {
    /// Opens one. The answer's body is its first message, or what else the server had to say.
    pub(crate) fn open(&mut self, name: &str, client: &Client, request: &Request) -> Result<Response> {
        let mut stream = client.open(request)?;
        let mut received = Vec::new();
        let started = Instant::now();
        while end_of_message(&received).is_none() && !stream.has_ended() && started.elapsed() < LIMIT {
            received.extend(stream.read(POLL)?);
        }
        let rest = received.split_off(end_of_message(&received).unwrap_or(received.len()));
        let answer = Response { body: received, ..stream.head.clone() };
        self.0.insert(name.to_owned(), Listening { stream, received: rest });
        Ok(answer)
    }

    /// What came since the last call, sorted: the reference itself keeps no order, not even of one record.
    pub(crate) fn take_messages(&mut self, seen: &mut Seen) -> Vec<String> {
        let mut taken = Vec::new();
        for (name, listening) in &mut self.0 {
            let mut messages = listening.take_messages(seen);
            messages.sort_by(|left, right| left.fixed.cmp(&right.fixed));
            taken.extend(messages.into_iter().map(|message| format!("{name}: {}", message.text)));
            if listening.stream.has_ended() {
                taken.push(format!("{name}: the stream has ended"));
            }
        }
        taken
    }

    /// Whether anything has come.
    fn poll(&mut self) -> Result<bool> {
        let mut anything = false;
        for listening in self.0.values_mut().filter(|listening| !listening.stream.has_ended()) {
            let body = listening.stream.read(POLL)?;
            anything |= !body.is_empty();
            listening.received.extend(body);
        }
        Ok(anything)
    }

    fn count(&self) -> usize {
        let of_one = |listening: &Listening| {
            String::from_utf8_lossy(&listening.received).matches(END_OF_MESSAGE).count()
        };
        self.0.values().map(of_one).sum()
    }
}

/// Listens until nothing has come for a while and the subject has told as much as the reference, or is
/// not going to.
pub(crate) fn settle(reference: &mut Streams, subject: &mut Streams) -> Result<()> {
    let started = Instant::now();
    let mut last = started;
    loop {
        let heard = [reference.poll().context("the reference")?, subject.poll().context("the subject")?];
        if heard.contains(&true) {
            last = Instant::now();
        }
        let waits = subject.count() < reference.count() && started.elapsed() < PATIENCE;
        if (last.elapsed() >= QUIET && !waits) || started.elapsed() > LIMIT {
            return Ok(());
        }
        if reference.0.is_empty() {
            std::thread::sleep(POLL);
        }
    }
}

/// The id that a first message tells.
pub(crate) fn client_id(answer: &Response) -> Option<String> {
    let text = answer.text();
    Some(text.lines().find_map(|line| line.strip_prefix("id:"))?.to_owned())
}

impl Listening {
    fn take_messages(&mut self, seen: &mut Seen) -> Vec<Message> {
        let text = String::from_utf8_lossy(&std::mem::take(&mut self.received)).into_owned();
        text.split_inclusive(END_OF_MESSAGE).map(|text| Message::new(text, seen)).collect()
    }
}

impl Message {
    fn new(text: &str, seen: &mut Seen) -> Self {
        let value = |name| text.lines().find_map(|line: &str| line.strip_prefix(name)).unwrap_or_default();
        let (topic, data) = (value("event:"), value("data:"));
        let mut text = text.to_owned();
        // As in answers, picked fields come in any order.
        if let Some(mut json) = Json::parse(data).filter(|_| topic.contains("fields")) {
            json.sort_keys();
            text = text.replace(data, &json.to_string());
        }
        Self { fixed: seen.fixed_part(&text), text }
    }
}

fn end_of_message(received: &[u8]) -> Option<usize> {
    let end = END_OF_MESSAGE.as_bytes();
    received.windows(end.len()).position(|window| window == end).map(|at| at + end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_do_not_sort() {
        let message = |id| format!("id:x\nevent:cats/*\ndata:{{\"record\":{{\"id\":\"{id}\"}}}}\n\n");
        let fixed = |id| Message::new(&message(id), &mut Seen::new("cat000000000001")).fixed;
        assert_eq!(fixed("abcde0123456789"), fixed("zbcde0123456789"));
        assert_ne!(fixed("abcde0123456789"), fixed("cat000000000001"));
    }

    #[test]
    fn picked_fields_come_in_any_order() {
        let text = "event:cats?options=%7Bfields\ndata:{\"record\":{\"b\":1,\"a\":2}}\n\n";
        let sorted = "event:cats?options=%7Bfields\ndata:{\"record\":{\"a\":2,\"b\":1}}\n\n";
        assert_eq!(Message::new(text, &mut Seen::new("")).text, sorted);
    }
}
