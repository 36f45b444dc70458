//! What views may read. SQLite asks when it compiles a statement: for what is read inside of a view, or of a
//! named part of a statement, it says so.
//!
//! A view reads the tables of collections, and nothing of the server's own. Passwords and token keys are
//! NULL in it, however the query names them: neither a column, nor an expression, nor a condition of a view
//! tells anything of them.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use model::field::FieldKind;
use model::schema::Schema;
use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

/// The columns that are NULL in views, by table. Names are in lower case.
#[derive(Debug, Default)]
pub(super) struct Secrets(ArcSwap<HashSet<(String, String)>>);

/// Holds the views that a connection reads to what they may read.
pub(super) fn install(conn: &mut Connection, secrets: &Arc<Secrets>) -> rusqlite::Result<()> {
    let secrets = secrets.clone();
    conn.authorizer(Some(move |context: AuthContext<'_>| {
        let is_judged = context.accessor.is_some() || IS_STRICT.get();
        if is_judged { secrets.judge(&context.action) } else { Authorization::Allow }
    }))
}

thread_local! {
    static IS_STRICT: Cell<bool> = const { Cell::new(false) };
}

/// Holds everything that this thread compiles to what views may read. Of a table whose rows alone count
/// and no column, as in `EXISTS (SELECT 1 FROM …)`, SQLite does not say that it is read inside of a view.
pub(super) fn strictly<T>(work: impl FnOnce() -> T) -> T {
    /// Also where the work panics.
    struct Unset;
    impl Drop for Unset {
        fn drop(&mut self) {
            IS_STRICT.set(false);
        }
    }
    let _unset = Unset;
    IS_STRICT.set(true);
    work()
}

// === impl Secrets ===

impl Secrets {
    pub(super) fn of(schema: &Schema) -> Secrets {
        Secrets(ArcSwap::from_pointee(columns(schema)))
    }

    /// From now on those of a schema.
    pub(super) fn set(&self, schema: &Schema) {
        self.0.store(Arc::new(columns(schema)));
    }

    /// From now on those of a schema, too: until it is clear which one counts.
    pub(super) fn add(&self, schema: &Schema) {
        let mut all = (**self.0.load()).clone();
        all.extend(columns(schema));
        self.0.store(Arc::new(all));
    }

    fn judge(&self, action: &AuthAction<'_>) -> Authorization {
        match action {
            AuthAction::Select | AuthAction::Recursive | AuthAction::Function { .. } => Authorization::Allow,
            AuthAction::Read { table_name, .. } if is_internal(table_name) => Authorization::Deny,
            AuthAction::Read { table_name, column_name } => {
                let column = (table_name.to_lowercase(), column_name.to_lowercase());
                if self.0.load().contains(&column) { Authorization::Ignore } else { Authorization::Allow }
            }
            _ => Authorization::Deny,
        }
    }
}

fn columns(schema: &Schema) -> HashSet<(String, String)> {
    let mut columns = HashSet::new();
    for collection in schema.collections().filter(|collection| !collection.is_view()) {
        for field in &collection.fields {
            let is_token_key = collection.is_auth() && field.name == "tokenKey";
            if is_token_key || matches!(field.kind, FieldKind::Password(_)) {
                columns.insert((collection.name.to_lowercase(), field.name.to_lowercase()));
            }
        }
    }
    columns
}

/// The server's own tables, and those that SQLite makes up to show its inside.
fn is_internal(table: &str) -> bool {
    let table = table.to_ascii_lowercase();
    let starts = ["_gs_", "sqlite_", "pragma_", "dbstat"];
    if table == super::views::TRIAL {
        return false;
    }
    matches!(table.as_str(), "_collections" | "_params" | "_migrations")
        || starts.iter().any(|start| table.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded() -> Connection {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE TABLE users (id TEXT, password TEXT, tokenKey TEXT, name TEXT); \
             CREATE TABLE notes (id TEXT, tokenKey TEXT); CREATE TABLE _params (id TEXT, value TEXT); \
             CREATE TABLE _gs_hooks (name TEXT, definition TEXT); CREATE TABLE _gs_secrets (value TEXT); CREATE TABLE _gs_attempts (queue TEXT, note TEXT); \
             INSERT INTO users VALUES ('a', 'hash', 'key', 'ann'); INSERT INTO notes VALUES ('n', 'key')",
        )
        .unwrap();
        let secrets = Secrets::default();
        let names = ["password", "tokenkey"].map(|column| ("users".to_owned(), column.to_owned()));
        secrets.0.store(Arc::new(HashSet::from(names)));
        install(&mut conn, &Arc::new(secrets)).unwrap();
        conn
    }

    /// The only value of a view's only row; an error if there is no view.
    fn seen(conn: &Connection, select: &str) -> Result<Option<String>, String> {
        conn.execute_batch(&format!("DROP VIEW IF EXISTS v; CREATE VIEW v AS {select}")).unwrap();
        strictly(|| conn.prepare("SELECT * FROM v")).map_err(|error| error.to_string())?;
        conn.query_row("SELECT * FROM v", [], |row| row.get(0)).map_err(|error| error.to_string())
    }

    #[test]
    fn secrets_are_null_in_views_however_they_are_named() {
        let conn = guarded();
        for select in [
            "SELECT password FROM users",
            "SELECT TOKENKEY FROM Users AS u",
            "SELECT substr(tokenKey, 1, 1) FROM users",
            "SELECT x FROM (SELECT tokenKey AS x FROM users)",
            "SELECT tokenKey FROM (SELECT * FROM users) AS sub",
            "WITH c AS (SELECT * FROM users) SELECT password FROM c",
            "SELECT (SELECT tokenKey FROM users LIMIT 1)",
            "SELECT max(password) FROM users",
            "SELECT tokenKey FROM users UNION SELECT password FROM users",
            "SELECT iif(tokenKey > 'a', 'more', NULL) FROM users",
        ] {
            assert_eq!(seen(&conn, select), Ok(None), "{select}");
        }
        let told = seen(&conn, "SELECT count(*) FROM users WHERE tokenKey LIKE 'k%'");
        assert!(told.is_err() || told == Ok(Some("0".to_owned())), "{told:?}");
        assert_eq!(seen(&conn, "SELECT name FROM users"), Ok(Some("ann".to_owned())));
        assert_eq!(seen(&conn, "SELECT tokenKey FROM notes"), Ok(Some("key".to_owned())));
        let whole: String = conn.query_row("SELECT password FROM users", [], |row| row.get(0)).unwrap();
        assert_eq!(whole, "hash");
    }

    #[test]
    fn views_over_what_is_not_a_collections_are_refused() {
        let conn = guarded();
        for select in [
            "SELECT value FROM _params",
            "SELECT count(*) FROM _params",
            "SELECT sql FROM sqlite_master",
            "SELECT name FROM sqlite_schema",
            "SELECT name FROM pragma_table_info('users')",
            "SELECT id FROM notes WHERE EXISTS (SELECT 1 FROM _params)",
            "SELECT definition FROM _gs_hooks",
            "SELECT value FROM _gs_secrets",
            "SELECT x.DEFINITION FROM _GS_Hooks AS x",
            "WITH c AS (SELECT * FROM _gs_hooks) SELECT count(*) FROM c",
            "SELECT id FROM notes WHERE EXISTS (SELECT 1 FROM _gs_hooks)",
            "SELECT note FROM _gs_attempts",
        ] {
            let error = seen(&conn, select).unwrap_err();
            assert!(error.contains("prohibited") || error.contains("not authorized"), "{select}: {error}");
        }
    }
}
