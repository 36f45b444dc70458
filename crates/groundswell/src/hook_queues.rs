//! A queue of jobs for each hook that is called after writes, as hooks come and go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hooks::{ATTEMPTS_LOGGED, DEADLINE, Deliver, Hooks};
use jobs::{Backoff, Policy, Queue, Worker};
use kit::outbound::Outbound;
use tokio_util::sync::CancellationToken;

/// How messages are delivered: 15 attempts within some 14 hours, each at another time. A slow target has eight
/// messages at once.
const POLICY: Policy = Policy {
    concurrency: 8,
    deadline: DEADLINE,
    max_attempts: 15,
    backoff: Backoff { first: Duration::from_secs(5), most: Duration::from_secs(4 * 3_600) },
    log: ATTEMPTS_LOGGED,
};

/// Keeps them until it is told to stop; the worker ends them then.
pub(crate) async fn keep(
    hooks: Hooks,
    worker: Arc<Worker>,
    outbound: Arc<Outbound>,
    stop: CancellationToken,
) {
    let mut changes = hooks.changes();
    let mut open = BTreeSet::new();
    while !stop.is_cancelled() {
        changes.borrow_and_update();
        let set = hooks.set();
        let wanted: BTreeSet<String> =
            set.iter().filter(|hook| hook.has_deliveries()).map(|hook| hook.name.clone()).collect();
        for name in wanted.difference(&open) {
            let handler = Arc::new(Deliver::new(hooks.clone(), outbound.clone(), name.clone()));
            worker.open(Queue { name: hooks::queue_of(name), handler, policy: POLICY });
        }
        for name in open.difference(&wanted) {
            worker.close(&hooks::queue_of(name));
        }
        open = wanted;
        tokio::select! {
            () = stop.cancelled() => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}
