//! Secrets of the server: rows of `_gs_secrets`.

use contract::secrets::{MAX_SECRET_BYTES, Secret, SecretStore};
use contract::store::Answer;

use super::error::Error;
use super::sql::{Param, Sql};
use super::{PostgresStore, small};

impl SecretStore for PostgresStore {
    fn secret(&self, name: String) -> Answer<'_, Option<Secret>> {
        Box::pin(async move {
            let outcome = self.inner.run(select(&name)).await?;
            let value = outcome.rows.first().map(|row| row.try_get(0).map(Secret)).transpose();
            value.map_err(|error| Error::from(error).into_store_error())
        })
    }

    fn save_secret(&self, name: String, secret: Secret, before: Option<Secret>) -> Answer<'_, bool> {
        Box::pin(small::run(&self.inner, async move |transaction| {
            if secret.0.len() > MAX_SECRET_BYTES {
                return Ok(false);
            }
            transaction.tell(Sql::new("LOCK TABLE _gs_secrets IN SHARE ROW EXCLUSIVE MODE")).await?;
            let found = transaction.ask(select(&name)).await?;
            let found: Option<String> = found.rows.first().map(|row| row.try_get(0)).transpose()?;
            if found.as_ref() != before.as_ref().map(|before| &before.0) {
                return Ok(false);
            }
            let text = "INSERT INTO _gs_secrets (name, value) VALUES ($1, $2) \
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value";
            let params = vec![Param::Text(name), Param::Text(secret.0)];
            transaction.tell(Sql { text: text.to_owned(), params }).await?;
            Ok(true)
        }))
    }
}

fn select(name: &str) -> Sql {
    Sql { text: "SELECT value FROM _gs_secrets WHERE name = $1".to_owned(), params: vec![Param::from(name)] }
}
