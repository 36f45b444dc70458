//! Webhooks: rows of `_gs_hooks`.

use contract::hooks::{HookStore, MAX_HOOKS, Saved, StoredHook};
use contract::store::{Answer, StoreError};
use model::json::Json;
use tokio_postgres::Row;

use super::error::Error;
use super::sql::{Param, Sql};
use super::{PostgresStore, small};

impl HookStore for PostgresStore {
    fn hooks(&self) -> Answer<'_, Vec<StoredHook>> {
        Box::pin(async {
            let sql = Sql::new("SELECT name, definition FROM _gs_hooks ORDER BY name");
            let outcome = self.inner.run(sql).await?;
            let rows = outcome.rows.iter().map(stored_hook);
            rows.collect::<Result<_, Error>>().map_err(Error::into_store_error)
        })
    }

    fn save_hook(&self, hook: StoredHook, before: Option<Json>) -> Answer<'_, Saved> {
        Box::pin(small::run(&self.inner, async move |transaction| {
            // One at a time, so that none is made past the bound.
            transaction.tell(Sql::new("LOCK TABLE _gs_hooks IN SHARE ROW EXCLUSIVE MODE")).await?;
            let stored = transaction.ask(Sql::new("SELECT name, definition FROM _gs_hooks")).await?;
            let stored = stored.rows.iter().map(stored_hook).collect::<Result<Vec<_>, Error>>()?;
            let found = stored.iter().find(|stored| stored.name == hook.name);
            if found.map(|stored| &stored.definition) != before.as_ref() {
                return Ok(Saved::Changed);
            }
            if found.is_none() && stored.len() as u64 >= MAX_HOOKS {
                return Ok(Saved::TooMany);
            }
            let text = "INSERT INTO _gs_hooks (name, definition) VALUES ($1, $2) \
                 ON CONFLICT (name) DO UPDATE SET definition = excluded.definition";
            let params = vec![Param::from(hook.name.as_str()), Param::Text(hook.definition.to_string())];
            transaction.tell(Sql { text: text.to_owned(), params }).await?;
            Ok(Saved::Kept)
        }))
    }

    fn remove_hook(&self, name: String) -> Answer<'_, bool> {
        Box::pin(async move {
            let text = "DELETE FROM _gs_hooks WHERE name = $1".to_owned();
            let removed = self.inner.run(Sql { text, params: vec![Param::Text(name)] }).await;
            removed.map(|outcome| outcome.affected > 0).map_err(|error: StoreError| error)
        })
    }
}

fn stored_hook(row: &Row) -> Result<StoredHook, Error> {
    let definition: &str = row.try_get(1)?;
    Ok(StoredHook { name: row.try_get(0)?, definition: Json::parse_whole(definition).unwrap_or_default() })
}
