use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use contract::hooks::{HookStore, Saved, StoredHook};
use contract::store::Store;
use model::json::Json;
use rusqlite::Connection;
use store::sqlite::{FORMAT, Inspection, OpenError, Options, SqliteStore, inspect};

use crate::{block_on, fresh};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_folder_that_is_made_is_for_this_user_only() {
    let (folder, _store) = fresh();
    let data = folder.path().join("data");
    assert_eq!(mode(&data), 0o700);
    for name in ["data.db", "data.db-wal", "data.db-shm", ".gs.lock"] {
        assert_eq!(mode(&data.join(name)), 0o600, "{name}");
    }
}

#[test]
fn a_folder_that_is_there_keeps_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let _store = SqliteStore::open(Options::new(folder.path())).unwrap();
    assert_eq!((mode(folder.path()), mode(&folder.path().join("data.db"))), (0o755, 0o600));
}

#[test]
fn an_inspection_sees_the_format_and_who_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    // Characters that mean something in a URI.
    let data = folder.path().join("a ?b#c%41");
    let store = SqliteStore::open(Options::new(&data)).unwrap();
    assert_eq!(inspect(&data).unwrap(), Inspection { format: Some(FORMAT), is_held: true });
    block_on(store.close()).unwrap();
    drop(store);
    assert!(!data.join("data.db-wal").exists());
    assert_eq!(inspect(&data).unwrap(), Inspection { format: Some(FORMAT), is_held: false });
    assert!(!data.join("data.db-wal").exists(), "looking made a file");
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(inspect(empty.path()).unwrap(), Inspection { format: None, is_held: false });
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0, "looking made a file");
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_as_it_is() {
    for (tables, what) in
        [("CREATE TABLE _collections (a)", "a PocketBase database"), ("CREATE TABLE x (a)", "other tables")]
    {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data.db");
        Connection::open(&file).unwrap().execute_batch(tables).unwrap();
        let before = fs::read(&file).unwrap();
        let refusal = SqliteStore::open(Options::new(folder.path())).err().unwrap().to_string();
        assert!(refusal.contains(what), "{refusal}");
        assert!(fs::read(&file).unwrap() == before, "the file was changed");
    }
}

/// What its server has not yet moved into the file stands in the log.
#[test]
fn a_foreign_file_is_recognised_by_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.db");
    let conn = Connection::open(&file).unwrap();
    conn.pragma_update(None, "journal_mode", "WAL").unwrap();
    conn.execute_batch("CREATE TABLE _collections (a)").unwrap();
    assert!(matches!(inspect(folder.path()), Err(OpenError::Foreign { .. })));
}

#[test]
fn a_newer_format_is_refused() {
    let (folder, store) = fresh();
    drop(store);
    let data = folder.path().join("data");
    let conn = Connection::open(data.join("data.db")).unwrap();
    conn.execute_batch("UPDATE _gs_meta SET value = value + 1 WHERE key = 'format'").unwrap();
    drop(conn);
    let refusal = inspect(&data).unwrap_err();
    assert!(
        matches!(refusal, OpenError::Newer { found, known, .. } if (found, known) == (FORMAT + 1, FORMAT))
    );
    assert!(matches!(SqliteStore::open(Options::new(data)), Err(OpenError::Newer { .. })));
}

#[test]
fn webhooks_are_there_after_a_restart() {
    let (folder, store) = fresh();
    let hook = StoredHook { name: "orders".to_owned(), definition: Json::from("whsec") };
    assert_eq!(block_on(store.save_hook(hook.clone(), None)).unwrap(), Saved::Kept);
    drop(store);
    let store = SqliteStore::open(Options::new(folder.path().join("data"))).unwrap();
    assert_eq!(block_on(store.hooks()).unwrap(), [hook]);
}
