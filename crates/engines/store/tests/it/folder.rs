use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use store::sqlite::{Options, SqliteStore};

use crate::fresh;

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
