use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;

use super::admin::Rows;
use super::{Postgres, programs};

/// PostgreSQL cuts names after 63 bytes; what is left is for the number.
const MAX_HINT: usize = 40;

/// A database and its owner, who is no superuser and can make neither databases nor roles. Both are gone when it is dropped.
#[derive(Debug)]
pub struct Database {
    postgres: Postgres,
    name: String,
    password: String,
}

impl Database {
    pub(crate) fn create(postgres: &Postgres, hint: &str) -> Result<Database> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let is_plain = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let hint: String = hint.chars().map(|c| if is_plain(&c) { c } else { '_' }).take(MAX_HINT).collect();
        let name = format!("db_{hint}_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let password = programs::random_password();
        postgres.sql(&format!(
            "CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '{password}'"
        ))?;
        postgres.sql(&format!("CREATE DATABASE {name} OWNER {name} TEMPLATE template0"))?;
        Ok(Database { postgres: postgres.clone(), name, password })
    }

    /// `postgres://OWNER:PASSWORD@127.0.0.1:PORT/NAME`
    pub fn url(&self) -> String {
        self.url_at(self.postgres.address())
    }

    /// The same by another way: a proxy, a pooler or a standby.
    pub fn url_at(&self, address: SocketAddr) -> String {
        format!("postgres://{}:{}@{address}/{}", self.owner(), self.password, self.name)
    }

    /// A URL of the superuser in this database.
    pub fn superuser_url(&self) -> String {
        self.postgres.superuser_url_of(&self.name)
    }

    /// Runs SQL as the superuser in this database. May be called anywhere, also in async code, which then waits.
    pub fn sql(&self, sql: &str) -> Result<Rows> {
        self.postgres.sql_in(&self.name, sql)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The role that owns it.
    pub fn owner(&self) -> &str {
        &self.name
    }

    /// The owner's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The server that it lies on.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A server that a test has stopped takes its databases along.
        if !self.postgres.is_answering() {
            return;
        }
        let _ = self.postgres.sql(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        let _ = self.postgres.sql(&format!("DROP ROLE IF EXISTS {}", self.owner()));
    }
}
