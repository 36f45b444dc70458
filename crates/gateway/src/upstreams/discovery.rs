//! The servers that a name stands for, looked up again and again: those of its addresses, or of its SRV records.

mod lookup;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::net::NetError;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Discovery, Place, Pool, ServerUrl};

/// How long an answer counts, whatever it says itself.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// How long a look-up may take, with all its questions.
const DEADLINE: Duration = Duration::from_secs(5);
/// When it is tried again after one that failed or found nobody.
const AGAIN: Duration = Duration::from_secs(5);
/// That there is nobody is believed when it was answered for so long: a name may be gone for a moment while it is being
/// written anew, but later the addresses may be those of others.
const BELIEVED_AFTER: Duration = Duration::from_secs(60);

/// Servers, and where they stand among each other.
type Servers = BTreeMap<ServerUrl, Place>;

/// What a look-up found.
#[derive(Debug)]
struct Found {
    servers: Servers,
    /// For how long that counts.
    lasts: Duration,
}

/// What look-ups found so far, beside the servers themselves.
#[derive(Debug, Default)]
struct Record {
    /// Since when it has been answered that there is nobody.
    nobody_since: Option<Instant>,
    /// The last one failed, which has been told.
    is_failing: bool,
}

/// Looks a pool's name up until it is told to stop. Ends at once where there is none. A look-up that fails changes
/// nothing: those that are known may still be there.
pub(crate) async fn follow(pool: Arc<Pool>, name_servers: Vec<SocketAddr>, stop: CancellationToken) {
    let Some(name) = pool.settings.discovery.clone() else { return };
    tokio::select! {
        () = stop.cancelled() => {}
        () = follow_name(&pool, &name, &name_servers) => {}
    }
}

async fn follow_name(pool: &Pool, name: &Discovery, name_servers: &[SocketAddr]) {
    let mut record = Record::default();
    loop {
        let answer = timeout(DEADLINE, lookup::look_up(name, name_servers)).await;
        let answer = answer.unwrap_or(Err(NetError::Timeout));
        let pause = match &answer {
            Ok(found) if !found.servers.is_empty() => found.lasts.clamp(SHORTEST, LONGEST),
            Ok(_) | Err(_) => AGAIN,
        };
        if let Some(servers) = record.judge(answer, name, Instant::now())
            && servers != pool.places()
        {
            info!(%name, servers = servers.len(), "a name stands for other servers");
            pool.set_servers(servers.into_iter().collect());
        }
        sleep(pause).await;
    }
}

// === impl Record ===

impl Record {
    /// The servers that there are by an answer; none where those that are known stay.
    fn judge(&mut self, answer: Result<Found, NetError>, name: &Discovery, now: Instant) -> Option<Servers> {
        let servers = match answer {
            Ok(found) => found.servers,
            Err(error) => {
                if std::mem::replace(&mut self.is_failing, true) {
                    debug!(%name, %error, "a name still cannot be looked up");
                } else {
                    warn!(%name, %error, "a name cannot be looked up: the servers that are known stay");
                }
                return None;
            }
        };
        self.is_failing = false;
        if !servers.is_empty() {
            self.nobody_since = None;
            return Some(servers);
        }
        if self.nobody_since.is_none() {
            warn!(%name, "a name stands for no server");
        }
        let since = *self.nobody_since.get_or_insert(now);
        (now.duration_since(since) >= BELIEVED_AFTER).then_some(servers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ports: &[u16]) -> Result<Found, NetError> {
        let server = |port: &u16| (ServerUrl::parse(&format!("http://a:{port}")).unwrap(), Place::default());
        Ok(Found { servers: ports.iter().map(server).collect(), lasts: LONGEST })
    }

    #[tokio::test(start_paused = true)]
    async fn that_there_is_nobody_is_believed_after_a_minute_of_it_and_a_failure_never() {
        let name = Discovery::Addresses(ServerUrl::parse("http://a:1").unwrap());
        let (mut record, start) = (Record::default(), Instant::now());
        let mut judge = |answer, after: u64| {
            let servers = record.judge(answer, &name, start + Duration::from_secs(after));
            servers.map(|servers| servers.len())
        };
        assert_eq!(judge(found(&[1, 2]), 0), Some(2));
        for after in [10, 100, 1_000] {
            assert_eq!(judge(Err(NetError::Timeout), after), None);
        }
        assert_eq!(judge(found(&[]), 1_000), None);
        assert_eq!(judge(found(&[]), 1_059), None);
        assert_eq!(judge(found(&[1]), 1_060), Some(1));
        assert_eq!(judge(found(&[]), 1_061), None);
        assert_eq!(judge(Err(NetError::Timeout), 1_100), None);
        assert_eq!(judge(found(&[]), 1_121), Some(0));
    }
}
