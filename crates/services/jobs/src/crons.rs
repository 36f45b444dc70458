//! Scheduled work: started once at each minute that its expression names (UTC), by this process. What fell
//! into a time when it did not run is not made up for, and work that still runs is not started again.

pub(crate) mod expired;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use contract::jobs::JobError;
use contract::store::Store;
use model::collection::AuthOptions;
use model::cron::Schedule;
use model::time::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::attempt::attempt;

/// How long one run may take.
const DEADLINE: Duration = Duration::from_secs(600);
/// How long runs may go on when the process stops.
const GRACE: Duration = Duration::from_secs(5);
/// Runs that were asked for and wait to be started; one more is refused.
const ASKED: usize = 16;
const MINUTE: i64 = 60_000;

/// What a cron does. Called once for each run.
pub type Task = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), JobError>> + Send>> + Send + Sync>;

/// Work with its times.
pub struct Cron {
    id: &'static str,
    expression: String,
    schedule: Schedule,
    task: Task,
}

/// Scheduled work, and the task that starts it.
pub struct Crons {
    /// Ids and expressions.
    list: Vec<(&'static str, String)>,
    asked: mpsc::Sender<usize>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Why a cron was not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStarted {
    /// No cron has this id.
    Unknown,
    /// Too many were asked for, or they are stopped.
    Busy,
}

/// The contract's crons (CONTRACT §8.3), each with what it has to do here.
pub fn built_in(store: Arc<dyn Store>) -> Vec<Cron> {
    let of_expired = store.clone();
    let expired = |collection: &'static str, lifetime: fn(&AuthOptions) -> i64| -> Task {
        let store = of_expired.clone();
        Arc::new(move || Box::pin(expired::remove(store.clone(), collection, lifetime)))
    };
    let optimize: Task = Arc::new(move || {
        let store = store.clone();
        Box::pin(async move { store.optimize().await.map_err(|error| JobError::Again(error.to_string())) })
    });
    // Logs go to standard error and are kept by whoever reads it: here are none to remove.
    let logs: Task = Arc::new(|| Box::pin(std::future::ready(Ok(()))));
    let crons = [
        ("__pbDBOptimize__", "0 0 * * *", optimize),
        ("__pbMFACleanup__", "0 * * * *", expired("_mfas", |options| options.mfa.duration)),
        ("__pbOTPCleanup__", "0 * * * *", expired("_otps", |options| options.otp.duration)),
        ("__pbLogsCleanup__", "0 */6 * * *", logs),
    ];
    crons.into_iter().filter_map(|(id, expression, task)| Cron::new(id, expression, task).ok()).collect()
}

// === impl Cron ===

impl Cron {
    /// The error says what is wrong with the expression.
    pub fn new(id: &'static str, expression: &str, task: Task) -> Result<Cron, String> {
        Ok(Cron { id, schedule: Schedule::parse(expression)?, expression: expression.to_owned(), task })
    }
}

// === impl Crons ===

impl Crons {
    /// Starts them on the runtime of the caller, by a clock.
    pub fn start(crons: Vec<Cron>, clock: impl Fn() -> Timestamp + Send + 'static) -> Crons {
        let (asked, requests) = mpsc::channel(ASKED);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let list = crons.iter().map(|cron| (cron.id, cron.expression.clone())).collect();
        let scheduler = Scheduler { is_running: vec![false; crons.len()], crons, running: JoinSet::new() };
        tasks.spawn(scheduler.run(requests, clock, stop.clone()));
        tasks.close();
        Crons { list, asked, stop, tasks }
    }

    /// Starts nothing more, and waits a moment for what runs.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }

    /// Ids and expressions.
    pub(crate) fn list(&self) -> &[(&'static str, String)] {
        &self.list
    }

    /// Has one run now.
    pub fn run_now(&self, id: &str) -> Result<(), NotStarted> {
        let index = self.list.iter().position(|(known, _)| *known == id).ok_or(NotStarted::Unknown)?;
        self.asked.try_send(index).map_err(|_| NotStarted::Busy)
    }
}

impl Drop for Crons {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Scheduler {
    crons: Vec<Cron>,
    is_running: Vec<bool>,
    /// Each gives its index.
    running: JoinSet<usize>,
}

// === impl Scheduler ===

impl Scheduler {
    async fn run(
        mut self,
        mut asked: mpsc::Receiver<usize>,
        clock: impl Fn() -> Timestamp,
        stop: CancellationToken,
    ) {
        let mut next = next_minute(clock());
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(index) = asked.recv() => self.start(index),
                Some(ended) = self.running.join_next() => {
                    if let Ok(index) = ended {
                        self.is_running[index] = false;
                    }
                }
                () = tokio::time::sleep(wait(clock(), next)) => {
                    let now = clock();
                    if now.0 >= next {
                        self.start_due(now);
                    }
                    // Also when the clock was set back.
                    next = next_minute(now);
                }
            }
        }
        let ended = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            warn!("scheduled work was not done in time, and is cut off");
        }
    }

    fn start_due(&mut self, now: Timestamp) {
        for index in 0..self.crons.len() {
            if self.crons[index].schedule.is_due(now) {
                self.start(index);
            }
        }
    }

    fn start(&mut self, index: usize) {
        let Cron { id, task, .. } = &self.crons[index];
        if std::mem::replace(&mut self.is_running[index], true) {
            warn!(cron = id, "not started: it still runs");
            return;
        }
        debug!(cron = id, "started");
        let (id, task) = (*id, task.clone());
        self.running.spawn(async move {
            // The call itself may panic too.
            if let Err(error) = attempt(async { task().await }, DEADLINE).await {
                warn!(cron = id, %error, "scheduled work failed");
            }
            index
        });
    }
}

fn next_minute(now: Timestamp) -> i64 {
    (now.0.div_euclid(MINUTE) + 1) * MINUTE
}

/// A timer may end a little early: it is set a little late.
fn wait(now: Timestamp, next: i64) -> Duration {
    Duration::from_millis((next - now.0).clamp(0, MINUTE).unsigned_abs() + 1)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    /// 2022-01-02 03:04:05.078Z
    const START: i64 = 1_641_092_645_078;

    /// A clock that follows the runtime's, which runs at once while everybody waits.
    fn clock() -> impl Fn() -> Timestamp + Send + Clone + 'static {
        let started = Instant::now();
        move || Timestamp(START + i64::try_from(started.elapsed().as_millis()).unwrap())
    }

    /// A cron that notes when it ran.
    fn noted(
        id: &'static str,
        expression: &str,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> (Cron, Arc<Mutex<Vec<String>>>) {
        let runs = Arc::new(Mutex::new(Vec::new()));
        let kept = runs.clone();
        let task: Task = Arc::new(move || {
            kept.lock().unwrap().push(clock().to_text()[11..16].to_owned());
            Box::pin(std::future::ready(Ok(())))
        });
        (Cron::new(id, expression, task).unwrap(), runs)
    }

    #[tokio::test(start_paused = true)]
    async fn each_starts_once_at_each_of_its_minutes() {
        let (five, fives) = noted("five", "*/5 * * * *", clock());
        let (ten, tens) = noted("ten", "10,11 3 * * *", clock());
        let crons = Crons::start(vec![five, ten], clock());
        tokio::time::sleep(Duration::from_secs(16 * 60)).await;
        crons.stop().await;
        assert_eq!(*fives.lock().unwrap(), ["03:05", "03:10", "03:15", "03:20"]);
        assert_eq!(*tens.lock().unwrap(), ["03:10", "03:11"]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_runs_when_it_is_asked_for() {
        let (cron, runs) = noted("yearly", "@yearly", clock());
        let crons = Crons::start(vec![cron], clock());
        assert_eq!(crons.run_now("other"), Err(NotStarted::Unknown));
        assert_eq!(crons.run_now("yearly"), Ok(()));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(runs.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_still_runs_or_panicked_holds_up_nobody() {
        let runs = Arc::new(Mutex::new(0));
        let kept = runs.clone();
        let slow: Task = Arc::new(move || {
            *kept.lock().unwrap() += 1;
            Box::pin(async {
                tokio::time::sleep(Duration::from_secs(150)).await;
                Ok(())
            })
        });
        let panicking: Task = Arc::new(|| panic!("on purpose"));
        let (quick, quick_runs) = noted("quick", "* * * * *", clock());
        let crons = vec![
            Cron::new("panicking", "* * * * *", panicking).unwrap(),
            Cron::new("slow", "* * * * *", slow).unwrap(),
            quick,
        ];
        let crons = Crons::start(crons, clock());
        tokio::time::sleep(Duration::from_secs(6 * 60)).await;
        crons.stop().await;
        assert_eq!(quick_runs.lock().unwrap().len(), 6);
        assert_eq!(*runs.lock().unwrap(), 2);
    }
}
