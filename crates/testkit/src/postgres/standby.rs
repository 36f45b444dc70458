use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{Postgres, SUPERUSER, configuration, programs};

/// A standby that nothing keeps from it is there within a second; a loaded machine needs longer.
const DEADLINE: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

impl Postgres {
    /// Copies the primary and follows it, on a port of its own. If synchronous, the primary's commits wait from now on
    /// until this one has them, also when it is stopped or gone.
    pub fn standby_of(primary: &Postgres, synchronous: bool) -> Result<Postgres> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("standby_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = programs::server_folder()?;
        let data = folder.path().join("data");
        let (port, password) = (primary.cluster.port, &primary.cluster.password);
        let from = format!(
            "host=127.0.0.1 port={port} user={SUPERUSER} password={password} application_name={name}"
        );
        let data_text = data.to_str().context("a temporary folder's name is text")?;
        let arguments = ["-D", data_text, "-d", &from, "-R", "-X", "stream", "-c", "fast", "--no-sync"];
        programs::run("pg_basebackup", arguments)?;
        std::fs::write(
            data.join("postgresql.conf"),
            configuration(folder.path(), &primary.cluster.options)?,
        )?;
        // Once promoted it waits for nobody that the primary waited for.
        let mut overrides = OpenOptions::new().append(true).open(data.join("postgresql.auto.conf"))?;
        writeln!(overrides, "synchronous_standby_names = ''")?;

        let standby = Self::launch(folder, password.clone(), primary.cluster.options.clone())?;
        let state = if synchronous { "sync" } else { "async" };
        if synchronous {
            primary.sql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'"))?;
            primary.sql("SELECT pg_reload_conf()")?;
        }
        let follows = format!(
            "SELECT count(*) FROM pg_stat_replication \
             WHERE application_name = '{name}' AND state = 'streaming' AND sync_state = '{state}'"
        );
        primary.wait_until(&follows, "1")?;
        Ok(standby)
    }

    /// Makes a standby a primary, and returns when it takes writes.
    pub fn promote(&self) -> Result<()> {
        let promoted = self.sql("SELECT pg_promote(true, 30)")?;
        ensure!(first(&promoted) == Some("t"), "the standby was not promoted:\n{}", self.log());
        Ok(())
    }

    /// Has a standby receive what the primary does and show nothing of it.
    pub fn pause_replay(&self) -> Result<()> {
        self.sql("SELECT pg_wal_replay_pause()")?;
        self.wait_until("SELECT pg_get_wal_replay_pause_state()", "paused")
    }

    /// Has it show it after all.
    pub fn resume_replay(&self) -> Result<()> {
        self.sql("SELECT pg_wal_replay_resume()")?;
        Ok(())
    }

    /// Returns when this standby shows all that the primary has committed by now.
    pub fn catch_up_with(&self, primary: &Postgres) -> Result<()> {
        let rows = primary.sql("SELECT pg_current_wal_lsn()")?;
        let position = first(&rows).context("a primary has a position")?;
        self.wait_until(&format!("SELECT pg_last_wal_replay_lsn() >= '{position}'"), "t")
    }

    fn wait_until(&self, query: &str, wanted: &str) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let rows = self.sql(query)?;
            if first(&rows) == Some(wanted) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{query}: {:?} and not {wanted:?} after {DEADLINE:?}\n{}", first(&rows), self.log());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

fn first(rows: &super::Rows) -> Option<&str> {
    rows.first()?.first()?.as_deref()
}
