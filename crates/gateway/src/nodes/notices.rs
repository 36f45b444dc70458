//! What gateways must know of this node's commits, in order and with numbers, for those who follow and those who come back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use contract::store::{Commit, CommitObserver, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::message::{EdgeSettings, Hello, Notice};

/// Notices that are kept for who comes back; who needs an older one is told that some are missing.
const KEPT: usize = 1_024;
/// More records of one commit are all.
const MOST_RECORDS: usize = 64;
/// How often a stream says something. A gateway trusts it for some of these (`service_nodes.rs`).
const BEAT: Duration = Duration::from_millis(200);

/// The notices of this process. Its number and those of the notices begin anew with it.
#[derive(Debug)]
pub struct Notices {
    node: String,
    kept: Mutex<VecDeque<(u64, Bytes)>>,
    newest: watch::Sender<u64>,
}

/// A stream of them, being read.
struct Following {
    notices: Arc<Notices>,
    changes: watch::Receiver<u64>,
    hello: Option<Bytes>,
    number: u64,
    stop: CancellationToken,
}

// === impl Notices ===

impl Notices {
    /// Of the node with this code.
    pub fn new(node: String) -> Self {
        Self { node, kept: Mutex::default(), newest: watch::Sender::new(0) }
    }

    /// What a gateway is told that has seen the notices of a node up to a number, until `stop`.
    pub(super) fn stream(
        self: &Arc<Self>,
        seen: Option<(&str, u64)>,
        store: &dyn Store,
        stop: CancellationToken,
    ) -> Body {
        let changes = self.newest.subscribe();
        // The number first: what is saved between is told once more.
        let number = *changes.borrow();
        let after = seen.filter(|(node, after)| *node == self.node && self.has_all_after(*after, number));
        let hello = Hello {
            node: self.node.clone(),
            number,
            continues: after.is_some(),
            edge: EdgeSettings::of(&store.settings()),
        };
        let following = Following {
            notices: self.clone(),
            changes,
            hello: Some(Bytes::from(hello.line())),
            number: after.map_or(number, |(_, after)| after),
            stop,
        };
        let pieces = futures_util::stream::unfold(following, |mut following| async {
            let piece = following.next().await?;
            Some((Ok::<_, std::convert::Infallible>(piece), following))
        });
        Body::from_stream(pieces)
    }

    fn has_all_after(&self, after: u64, newest: u64) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = kept.front().map_or(newest + 1, |(number, _)| *number);
        after <= newest && after + 1 >= oldest
    }

    /// All after a number and the number of the last. None if some are gone.
    fn after(&self, after: u64) -> Option<(Bytes, u64)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.front().is_some_and(|(oldest, _)| after + 1 < *oldest) {
            return None;
        }
        let first = kept.partition_point(|(number, _)| *number <= after);
        let lines: Vec<u8> = kept.range(first..).flat_map(|(_, line)| line.iter().copied()).collect();
        Some((Bytes::from(lines), kept.back().map_or(after, |(number, _)| *number)))
    }
}

impl CommitObserver for Notices {
    fn committed(&self, commit: &Commit) {
        if commit.auth_records.is_empty() && !commit.schema_changed && commit.settings.is_none() {
            return;
        }
        let is_all = commit.schema_changed || commit.auth_records.len() > MOST_RECORDS;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let notice = Notice {
            number: *self.newest.borrow() + 1,
            records: if is_all { Vec::new() } else { commit.auth_records.clone() },
            all_tokens: is_all,
            edge: commit.settings.as_deref().map(EdgeSettings::of),
        };
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((notice.number, Bytes::from(notice.line())));
        self.newest.send_replace(notice.number);
    }
}

// === impl Following ===

impl Following {
    /// What is said next: the hello, notices, or an empty line. None at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(hello) = self.hello.take() {
            return Some(hello);
        }
        loop {
            self.changes.borrow_and_update();
            // Who is so far behind begins anew.
            let (lines, number) = self.notices.after(self.number)?;
            if !lines.is_empty() {
                self.number = number;
                return Some(lines);
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                _ = self.changes.changed() => {}
                () = tokio::time::sleep(BEAT) => return Some(Bytes::from_static(b"\n")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use model::settings::Settings;
    use store::sqlite::{Options, SqliteStore};

    use super::*;

    struct Case {
        notices: Arc<Notices>,
        store: SqliteStore,
        _folder: tempfile::TempDir,
    }

    impl Case {
        fn new() -> Case {
            let folder = tempfile::tempdir().unwrap();
            let store = SqliteStore::open(Options::new(folder.path())).unwrap();
            Case { notices: Arc::new(Notices::new("n0d3".to_owned())), store, _folder: folder }
        }

        fn change(&self, record: &str) {
            let auth_records = vec![("c".to_owned(), record.to_owned())];
            self.notices.committed(&Commit { auth_records, ..Commit::default() });
        }

        /// The first lines that somebody is told, without beats.
        async fn told(&self, seen: Option<(&str, u64)>, lines: usize) -> (Hello, Vec<Notice>) {
            let body = self.notices.stream(seen, &self.store, CancellationToken::new());
            let mut pieces = body.into_data_stream();
            let mut text = String::new();
            while text.lines().filter(|line| !line.is_empty()).count() < lines {
                text.push_str(str::from_utf8(&pieces.next().await.unwrap().unwrap()).unwrap());
            }
            let mut lines = text.lines().filter(|line| !line.is_empty());
            let hello = Hello::read(lines.next().unwrap()).unwrap();
            (hello, lines.map(|line| Notice::read(line).unwrap()).collect())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_is_told_what_he_missed() {
        let case = Case::new();
        for record in ["a", "b", "d"] {
            case.change(record);
        }
        let (hello, notices) = case.told(Some(("n0d3", 1)), 3).await;
        assert!(hello.continues && hello.number == 3);
        let numbers: Vec<u64> = notices.iter().map(|notice| notice.number).collect();
        assert_eq!(numbers, [2, 3]);
        assert_eq!(notices[1].records, [("c".to_owned(), "d".to_owned())]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_new_or_too_late_or_knew_another_process_begins_anew() {
        let case = Case::new();
        for number in 0..KEPT + 5 {
            case.change(&number.to_string());
        }
        let newest = KEPT as u64 + 5;
        for seen in [None, Some(("n0d3", 3)), Some(("othr", newest)), Some(("n0d3", newest + 1))] {
            let (hello, _) = case.told(seen, 1).await;
            assert!(!hello.continues && hello.number == newest, "{seen:?}");
        }
        assert!(case.told(Some(("n0d3", 5)), 1).await.0.continues);
        assert!(case.told(Some(("n0d3", newest)), 1).await.0.continues);
    }

    #[tokio::test(start_paused = true)]
    async fn what_concerns_no_edge_is_not_told_and_what_concerns_many_is_told_at_once() {
        let case = Case::new();
        case.notices.committed(&Commit { newest_event: Some(1), ..Commit::default() });
        let many = (0..MOST_RECORDS + 1).map(|number| ("c".to_owned(), number.to_string())).collect();
        case.notices.committed(&Commit { auth_records: many, ..Commit::default() });
        let superuser_ips = vec!["10.0.0.1".to_owned()];
        let settings = Some(Arc::new(Settings { superuser_ips, ..Settings::default() }));
        case.notices.committed(&Commit { settings, ..Commit::default() });
        let (_, notices) = case.told(Some(("n0d3", 0)), 3).await;
        assert!(notices[0].all_tokens && notices[0].records.is_empty() && notices[0].number == 1);
        assert_eq!(notices[1].edge.as_ref().unwrap().superuser_ips, ["10.0.0.1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_says_something_now_and_then_and_ends_when_it_is_told() {
        let case = Case::new();
        let stop = CancellationToken::new();
        let mut pieces = case.notices.stream(None, &case.store, stop.clone()).into_data_stream();
        assert!(pieces.next().await.unwrap().unwrap().starts_with(b"{"));
        assert_eq!(pieces.next().await.unwrap().unwrap(), "\n");
        stop.cancel();
        assert!(pieces.next().await.is_none());
    }
}
