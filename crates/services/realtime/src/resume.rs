//! What clients may ask for that connect again, beyond the contract. Clients that do not ask see none of it.
//!
//! A client opens its stream as `GET /api/realtime?gs_resume=1`. Its messages then carry where they stand, as
//! `{"record":{…},"action":"…","seq":"…"}`, and each setting of topics is followed by a message `GS_RESUMED` with
//! `{"seq":"…"}`. When it connects again, in the same way, it sends the last `seq` that it saw and its topics:
//! `POST /api/realtime` `{"clientId":"…","subscriptions":[…],"seq":"…"}`. It gets what it missed, judged by what it may
//! know by now, then `GS_RESUMED`; or `GS_RESYNC` when that is no longer known, and then has to read anew. A `seq` is
//! to be kept, not understood.
//!
//! What was missed is known from the last events, kept in memory from the first such client on. They are bounded,
//! and are gone when nobody followed any for a while, when events were lost, and with the process.

use std::collections::VecDeque;
use std::sync::Arc;

use contract::event::ChangeEvent;
use model::context::Caller;
use model::json::{Json, JsonObject};
use rand::RngExt;
use tokio::sync::oneshot;

use crate::hub::{ClientKey, Full, Generation};
use crate::topic::Topic;

/// Events that are kept. Others wait while a client is told them, and its queue has to hold them.
const EVENTS: usize = 500;
/// Rough bytes of the rows that are kept.
const BYTES: usize = 8 << 20;

/// Sets a client's topics between two events, and tells it what it missed.
pub(crate) struct Resume {
    pub(crate) key: ClientKey,
    pub(crate) caller: Caller,
    pub(crate) topics: Vec<Topic>,
    pub(crate) generation: Option<Generation>,
    /// What the client saw last.
    pub(crate) since: Option<String>,
    /// As [`crate::hub::Hub::set`] answers.
    pub(crate) reply: oneshot::Sender<Result<bool, Full>>,
}

/// The last events of one time of following.
pub(crate) struct Recent {
    session: String,
    events: VecDeque<(Arc<ChangeEvent>, usize)>,
    bytes: usize,
    /// All after this are here.
    floor: u64,
    newest: u64,
}

// === impl Recent ===

impl Recent {
    /// Nothing is known of before.
    pub(crate) fn new() -> Recent {
        let session = format!("{:016x}", rand::rng().random::<u64>());
        Recent { session, events: VecDeque::new(), bytes: 0, floor: 0, newest: 0 }
    }

    /// Notes an event, and keeps it if somebody may ask for it.
    pub(crate) fn note(&mut self, event: &Arc<ChangeEvent>, is_kept: bool) {
        self.newest = event.sequence;
        if !is_kept {
            self.floor = event.sequence;
            return;
        }
        let bytes = 200 + [&event.before, &event.after].into_iter().flatten().map(row_bytes).sum::<usize>();
        self.events.push_back((event.clone(), bytes));
        self.bytes += bytes;
        while self.events.len() > EVENTS || self.bytes > BYTES {
            let Some((dropped, bytes)) = self.events.pop_front() else { break };
            self.bytes -= bytes;
            self.floor = dropped.sequence;
        }
    }

    /// Where the stream of events stands.
    pub(crate) fn mark(&self) -> String {
        self.mark_of(self.newest)
    }

    /// Where it stood after an event.
    pub(crate) fn mark_of(&self, sequence: u64) -> String {
        format!("{}.{sequence}", self.session)
    }

    /// What came after a mark, unless some of it is gone.
    pub(crate) fn since(&self, mark: &str) -> Option<Vec<Arc<ChangeEvent>>> {
        let (session, sequence) = mark.split_once('.')?;
        let sequence: u64 = sequence.parse().ok()?;
        if session != self.session || sequence < self.floor || sequence > self.newest {
            return None;
        }
        let missed = self.events.iter().filter(|(event, _)| event.sequence > sequence);
        Some(missed.map(|(event, _)| event.clone()).collect())
    }
}

fn row_bytes(row: &JsonObject) -> usize {
    row.iter().map(|(name, value)| name.len() + json_bytes(value)).sum()
}

fn json_bytes(json: &Json) -> usize {
    const VALUE: usize = size_of::<Json>();
    match json {
        Json::Text(text) => VALUE + text.len(),
        Json::Array(items) => VALUE + items.iter().map(json_bytes).sum::<usize>(),
        Json::Object(object) => VALUE + row_bytes(object),
        Json::Null | Json::Bool(_) | Json::Number(_) => VALUE,
    }
}

#[cfg(test)]
mod tests {
    use contract::event::Action;
    use model::time::Timestamp;

    use super::*;

    fn event(sequence: u64) -> Arc<ChangeEvent> {
        Arc::new(ChangeEvent {
            sequence,
            batch: sequence,
            collection: String::new(),
            record: String::new(),
            action: Action::Create,
            schema_version: 0,
            caller: String::new(),
            written: Timestamp(0),
            before: None,
            after: None,
        })
    }

    fn missed(recent: &Recent, mark: &str) -> Option<Vec<u64>> {
        Some(recent.since(mark)?.iter().map(|event| event.sequence).collect())
    }

    #[test]
    fn what_came_after_a_mark_is_known_within_bounds() {
        let mut recent = Recent::new();
        let start = recent.mark();
        recent.note(&event(3), true);
        let first = recent.mark();
        recent.note(&event(5), true);
        assert_eq!(missed(&recent, &start), Some(vec![3, 5]));
        assert_eq!(missed(&recent, &first), Some(vec![5]));
        assert_eq!(missed(&recent, &recent.mark()), Some(vec![]));
        for sequence in 6..6 + EVENTS as u64 {
            recent.note(&event(sequence), true);
        }
        assert_eq!(missed(&recent, &first), None, "an event after it is gone");
        for mark in ["", "x", "1.2", &Recent::new().mark(), &format!("{}.99999999", recent.session)] {
            assert_eq!(missed(&recent, mark), None, "{mark}");
        }
    }

    #[test]
    fn what_was_not_kept_is_not_known() {
        let mut recent = Recent::new();
        let start = recent.mark();
        recent.note(&event(1), false);
        let first = recent.mark();
        recent.note(&event(2), true);
        assert_eq!(missed(&recent, &start), None);
        assert_eq!(missed(&recent, &first), Some(vec![2]));
    }
}
