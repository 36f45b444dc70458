//! What is kept in the store: the account, and the certificate of each host with its key.

use std::fmt;

use anyhow::{Context, bail};
use contract::secrets::{Secret, SecretStore};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::warn;

/// The certificate of a host. Empty texts stand for one that is not there yet.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The authority that gave it.
    pub(super) directory: String,
    /// As PEM, the host's first.
    pub(super) chain: String,
    /// As PEM.
    pub(super) key: String,
    /// When the newest orders were made, in seconds of Unix time.
    pub(super) orders: Vec<i64>,
}

/// A secret of the store, as it is known here.
pub(super) struct Place<T> {
    name: String,
    before: Option<Secret>,
    pub(super) value: Option<T>,
}

// === impl Kept ===

/// The key is not shown.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("directory", &self.directory).finish_non_exhaustive()
    }
}

// === impl Place ===

impl<T: Serialize + DeserializeOwned> Place<T> {
    /// Reads it. What cannot be understood counts as nothing, and is replaced.
    pub(super) async fn open(secrets: &dyn SecretStore, name: String) -> anyhow::Result<Self> {
        let before = secrets.secret(name.clone()).await?;
        let value = before.as_ref().and_then(|kept| serde_json::from_str(&kept.0).ok());
        if before.is_some() && value.is_none() {
            warn!(name, "what the store keeps under this name cannot be read, and is replaced");
        }
        Ok(Self { name, before, value })
    }

    /// Replaces it.
    pub(super) async fn keep(&mut self, secrets: &dyn SecretStore, value: T) -> anyhow::Result<()> {
        let secret = Secret(serde_json::to_string(&value).context("write it as JSON")?);
        let is_kept = secrets.save_secret(self.name.clone(), secret.clone(), self.before.clone()).await?;
        if !is_kept {
            *self = Self::open(secrets, self.name.clone()).await?;
            bail!("the store did not keep it: it is too long, or another process has replaced it");
        }
        self.before = Some(secret);
        self.value = Some(value);
        Ok(())
    }
}
