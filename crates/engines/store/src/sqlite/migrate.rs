//! Bringing the data file of an older version to the format of this one.
//!
//! A copy is made beside it first, whole or not at all; then everything is changed in one transaction. A
//! crash leaves a file of the old format or one of the new, and the next start goes on from there.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::folder;

/// Why a data file was left in its old format.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The copy could not be made.
    #[error("it could not be copied to {}: {detail}", copy.display())]
    Copy {
        /// Where the copy was to be.
        copy: PathBuf,
        /// What went wrong.
        detail: String,
    },
    /// The file could not be changed.
    #[error("{0}")]
    Change(#[from] rusqlite::Error),
}

/// Copies the file and brings it from an older format to the present one.
pub(super) fn migrate(conn: &mut Connection, file: &Path, from: i64) -> Result<(), MigrateError> {
    let copy = beside(file, &format!(".format-{from}"));
    keep_copy(conn, &copy)?;
    let transaction = conn.transaction()?;
    if from < 2 {
        transaction.execute_batch(TO_FORMAT_2)?;
    }
    if from < 3 {
        transaction.execute_batch(TO_FORMAT_3)?;
    }
    if from < 4 {
        transaction.execute_batch(TO_FORMAT_4)?;
    }
    transaction.commit()?;
    tracing::warn!(
        from,
        to = super::layout::FORMAT,
        copy = %copy.display(),
        "the data folder was migrated; to go back to an older version, stop the server, remove {0}, {0}-wal and \
         {0}-shm, and rename the copy to {0}: what is written from now on is lost then",
        file.display()
    );
    Ok(())
}

/// What was added to the tables of the server itself: interests, intents of uploads, jobs. The outbox is made
/// anew, because a column that is looked at alone has to lie before those that are long.
const TO_FORMAT_2: &str = "
ALTER TABLE `_gs_consumers` ADD COLUMN `interest` TEXT NOT NULL DEFAULT '*';
CREATE TABLE `_gs_outbox_2` (
    `sequence`       INTEGER PRIMARY KEY AUTOINCREMENT,
    `batch`          INTEGER NOT NULL,
    `collection`     TEXT NOT NULL,
    `record`         TEXT NOT NULL,
    `action`         TEXT NOT NULL,
    `schema_version` INTEGER NOT NULL,
    `caller`         TEXT NOT NULL,
    `written`        INTEGER NOT NULL,
    `loses_files`    INTEGER NOT NULL,
    `total`          INTEGER NOT NULL,
    `before`         TEXT,
    `after`          TEXT
);
INSERT INTO `_gs_outbox_2`
    SELECT `sequence`, `batch`, `collection`, `record`, `action`, `schema_version`, `caller`, `written`, 1,
           sum(200 + coalesce(length(`before`), 0) + coalesce(length(`after`), 0)) OVER (ORDER BY `sequence`),
           `before`, `after`
    FROM `_gs_outbox` ORDER BY `sequence`;
DELETE FROM `sqlite_sequence` WHERE `name` = '_gs_outbox_2';
INSERT INTO `sqlite_sequence` SELECT '_gs_outbox_2', `seq` FROM `sqlite_sequence` WHERE `name` = '_gs_outbox';
DROP TABLE `_gs_outbox`;
ALTER TABLE `_gs_outbox_2` RENAME TO `_gs_outbox`;
CREATE TABLE `_gs_uploads` (
    `key`     TEXT PRIMARY KEY NOT NULL,
    `written` INTEGER NOT NULL,
    `doomed`  INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE `_gs_jobs` (
    `id`         INTEGER PRIMARY KEY AUTOINCREMENT,
    `queue`      TEXT NOT NULL,
    `payload`    TEXT NOT NULL,
    `created`    INTEGER NOT NULL,
    `due`        INTEGER NOT NULL,
    `attempts`   INTEGER NOT NULL DEFAULT 0,
    `is_running` INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX `_gs_jobs_due` ON `_gs_jobs` (`queue`, `due`);
CREATE TABLE `_gs_dead_jobs` (
    `id`       INTEGER PRIMARY KEY AUTOINCREMENT,
    `queue`    TEXT NOT NULL,
    `payload`  TEXT NOT NULL,
    `created`  INTEGER NOT NULL,
    `attempts` INTEGER NOT NULL,
    `died`     INTEGER NOT NULL,
    `error`    TEXT NOT NULL
);
INSERT INTO `_gs_meta` VALUES ('dead_jobs_dropped', 0);
UPDATE `_gs_meta` SET `value` = 2 WHERE `key` = 'format';
";

/// What was added then: the log of attempts, and webhooks.
const TO_FORMAT_3: &str = "
CREATE TABLE `_gs_attempts` (
    `id`      INTEGER PRIMARY KEY AUTOINCREMENT,
    `queue`   TEXT NOT NULL,
    `job`     INTEGER NOT NULL,
    `attempt` INTEGER NOT NULL,
    `started` INTEGER NOT NULL,
    `took_ms` INTEGER NOT NULL,
    `outcome` TEXT NOT NULL,
    `error`   TEXT NOT NULL,
    `note`    TEXT NOT NULL
);
CREATE INDEX `_gs_attempts_queue` ON `_gs_attempts` (`queue`, `id`);
CREATE TABLE `_gs_hooks` (
    `name`       TEXT PRIMARY KEY NOT NULL,
    `definition` TEXT NOT NULL
) WITHOUT ROWID;
UPDATE `_gs_meta` SET `value` = 3 WHERE `key` = 'format';
";

/// What was added then: keys that the server makes.
const TO_FORMAT_4: &str = "
CREATE TABLE `_gs_secrets` (
    `name`  TEXT PRIMARY KEY NOT NULL,
    `value` TEXT NOT NULL
) WITHOUT ROWID;
UPDATE `_gs_meta` SET `value` = 4 WHERE `key` = 'format';
";

/// Makes a copy of the data, with what stands in the log. One that is there is of an earlier attempt, or from
/// before the folder went back to this format: it is replaced.
fn keep_copy(conn: &Connection, copy: &Path) -> Result<(), MigrateError> {
    let part = beside(copy, ".part");
    let failed = |detail: String| MigrateError::Copy { copy: copy.to_owned(), detail };
    remove_if_there(&part).map_err(|error| failed(error.to_string()))?;
    let copied = copy_pages(conn, &part)
        .map_err(|error| failed(error.to_string()))
        .and_then(|()| put_in_place(&part, copy).map_err(|error| failed(error.to_string())));
    if copied.is_err() {
        let _ = remove_if_there(&part);
    }
    copied
}

fn copy_pages(conn: &Connection, part: &Path) -> rusqlite::Result<()> {
    folder::open_private(part).map_err(|_| rusqlite::Error::InvalidPath(part.to_owned()))?;
    let mut target = Connection::open(part)?;
    let done = Backup::new(conn, &mut target)?.step(-1)?;
    if done != StepResult::Done {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            Some("the data file is in use".to_owned()),
        ));
    }
    target.close().map_err(|(_, error)| error)
}

fn put_in_place(part: &Path, copy: &Path) -> io::Result<()> {
    File::open(part)?.sync_all()?;
    fs::rename(part, copy)?;
    folder::sync_folder_of(copy)
}

fn remove_if_there(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use contract::store::Store as _;

    use super::super::{Inspection, Options, SqliteStore, inspect};
    use super::*;

    /// The tables of the server itself as format 1 had them, with a consumer and two events.
    const FORMAT_1: &str = "
        DROP TABLE `_gs_secrets`; DROP TABLE `_gs_attempts`; DROP TABLE `_gs_hooks`;
        DROP TABLE `_gs_consumers`; DROP TABLE `_gs_outbox`; DROP TABLE `_gs_uploads`;
        DROP TABLE `_gs_jobs`; DROP TABLE `_gs_dead_jobs`;
        DELETE FROM `_gs_meta` WHERE `key` = 'dead_jobs_dropped';
        UPDATE `_gs_meta` SET `value` = 1 WHERE `key` = 'format';
        CREATE TABLE `_gs_consumers` (`name` TEXT PRIMARY KEY NOT NULL, `position` INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE `_gs_outbox` (
            `sequence` INTEGER PRIMARY KEY AUTOINCREMENT, `batch` INTEGER NOT NULL, `collection` TEXT NOT NULL,
            `record` TEXT NOT NULL, `action` TEXT NOT NULL, `schema_version` INTEGER NOT NULL,
            `caller` TEXT NOT NULL, `written` INTEGER NOT NULL, `before` TEXT, `after` TEXT
        );
        INSERT INTO `_gs_consumers` VALUES ('first', 3);
        INSERT INTO `_gs_outbox` VALUES (9, 9, 'c', 'r', 'create', 1, '', 0, NULL, '{}');
        DELETE FROM `_gs_outbox`;
        INSERT INTO `_gs_outbox` VALUES (3, 3, 'c', 'r', 'create', 1, '', 5000000000000, NULL, '{\"n\":1}'),
                                        (4, 4, 'c', 'r', 'delete', 1, '', 5000000000000, '{\"n\":1}', NULL);
    ";

    /// As format 2 had them, with the same and a job of each kind.
    const FORMAT_2: &str = "
        DROP TABLE `_gs_secrets`; DROP TABLE `_gs_attempts`; DROP TABLE `_gs_hooks`;
        UPDATE `_gs_meta` SET `value` = 2 WHERE `key` = 'format';
        INSERT INTO `_gs_consumers` VALUES ('first', 3, '*');
        INSERT INTO `_gs_outbox` VALUES (9, 9, 'c', 'r', 'create', 1, '', 0, 0, 200, NULL, '{}');
        DELETE FROM `_gs_outbox`;
        INSERT INTO `_gs_outbox` VALUES
            (3, 3, 'c', 'r', 'create', 1, '', 5000000000000, 0, 200, NULL, '{\"n\":1}'),
            (4, 4, 'c', 'r', 'delete', 1, '', 5000000000000, 0, 400, '{\"n\":1}', NULL);
        INSERT INTO `_gs_jobs` VALUES (7, 'q', '1', 1, 5000000000000, 2, 0);
        INSERT INTO `_gs_dead_jobs` VALUES (8, 'q', '2', 1, 3, 2, 'no use');
    ";

    /// As format 3 had them, with the same and a webhook.
    const FORMAT_3: &str = "
        DROP TABLE `_gs_secrets`;
        UPDATE `_gs_meta` SET `value` = 3 WHERE `key` = 'format';
        INSERT INTO `_gs_consumers` VALUES ('first', 3, '*');
        INSERT INTO `_gs_outbox` VALUES (9, 9, 'c', 'r', 'create', 1, '', 0, 0, 200, NULL, '{}');
        DELETE FROM `_gs_outbox`;
        INSERT INTO `_gs_outbox` VALUES
            (3, 3, 'c', 'r', 'create', 1, '', 5000000000000, 0, 200, NULL, '{\"n\":1}'),
            (4, 4, 'c', 'r', 'delete', 1, '', 5000000000000, 0, 400, '{\"n\":1}', NULL);
        INSERT INTO `_gs_hooks` VALUES ('h', '{}');
    ";

    fn format_1() -> tempfile::TempDir {
        older(FORMAT_1)
    }

    /// A folder whose tables were brought back to what they were.
    fn older(tables: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        drop(SqliteStore::open(Options::new(folder.path())).unwrap());
        data(folder.path()).execute_batch(tables).unwrap();
        folder
    }

    fn data(dir: &Path) -> Connection {
        Connection::open(dir.join("data.db")).unwrap()
    }

    fn tables(conn: &Connection) -> Vec<String> {
        let mut statement = conn.prepare("SELECT `name` || `sql` FROM `sqlite_master` ORDER BY 1").unwrap();
        let rows = statement.query_map([], |row| row.get::<_, Option<String>>(0)).unwrap();
        // SQLite keeps the blanks as they were written, and has quotes of its own for a renamed table.
        rows.filter_map(|row| row.unwrap()).map(|sql| sql.replace(['"', '`', ' ', '\n'], "")).collect()
    }

    fn number(conn: &Connection, sql: &str) -> i64 {
        conn.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Opens the folder, which must have become one of this format, with all that it held.
    fn check_migrated(dir: &Path, from: i64) {
        let store = SqliteStore::open(Options::new(dir)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let page = runtime.block_on(store.events("first".to_owned(), 0, 10)).unwrap();
        let contract::event::Events::Some(events) = page.events else { panic!("told to resync") };
        assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [4]);
        runtime.block_on(store.close()).unwrap();
        drop(store);
        assert_eq!(inspect(dir).unwrap(), Inspection { format: Some(4), is_held: false });
        let migrated = data(dir);
        let fresh = tempfile::tempdir().unwrap();
        drop(SqliteStore::open(Options::new(fresh.path())).unwrap());
        assert_eq!(tables(&migrated), tables(&data(fresh.path())));
        assert_eq!(number(&migrated, "SELECT `seq` FROM `sqlite_sequence` WHERE `name` = '_gs_outbox'"), 9);
        let copy = Connection::open(dir.join(format!("data.db.format-{from}"))).unwrap();
        assert_eq!(number(&copy, "SELECT `value` FROM `_gs_meta` WHERE `key` = 'format'"), from);
        assert_eq!(number(&copy, "SELECT count(*) FROM `_gs_outbox`"), 2);
    }

    #[test]
    fn an_older_folder_is_copied_and_migrated_whole() {
        let folder = format_1();
        check_migrated(folder.path(), 1);
    }

    #[test]
    fn jobs_of_format_2_are_there_after_its_migration() {
        let folder = older(FORMAT_2);
        check_migrated(folder.path(), 2);
        let migrated = data(folder.path());
        let jobs =
            "SELECT count(*) FROM `_gs_jobs` WHERE `id` = 7 AND `due` = 5000000000000 AND `attempts` = 2";
        assert_eq!(number(&migrated, jobs), 1);
        let dead = "SELECT count(*) FROM `_gs_dead_jobs` WHERE `id` = 8 AND `error` = 'no use'";
        assert_eq!(number(&migrated, dead), 1);
    }

    #[test]
    fn what_stands_in_the_log_is_copied_and_migrated_too() {
        let folder = tempfile::tempdir().unwrap();
        drop(SqliteStore::open(Options::new(folder.path())).unwrap());
        let killed = tempfile::tempdir().unwrap();
        let conn = data(folder.path());
        conn.execute_batch(FORMAT_1).unwrap();
        assert!(folder.path().join("data.db-wal").metadata().unwrap().len() > 0);
        for name in ["data.db", "data.db-wal"] {
            fs::copy(folder.path().join(name), killed.path().join(name)).unwrap();
        }
        check_migrated(killed.path(), 1);
    }

    #[test]
    fn a_copy_that_was_cut_short_is_made_anew() {
        let folder = format_1();
        fs::write(folder.path().join("data.db.format-1.part"), "half a copy").unwrap();
        fs::write(folder.path().join("data.db.format-1"), "of another time").unwrap();
        check_migrated(folder.path(), 1);
    }

    #[test]
    fn a_migration_that_was_cut_short_begins_anew() {
        check_cut_short(FORMAT_1, 1, &[TO_FORMAT_2]);
        check_cut_short(FORMAT_1, 1, &[TO_FORMAT_2, TO_FORMAT_3]);
        check_cut_short(FORMAT_2, 2, &[TO_FORMAT_3]);
        check_cut_short(FORMAT_3, 3, &[TO_FORMAT_4]);
    }

    /// As after a kill within the transaction: some of it is in the log, its end is not.
    fn check_cut_short(tables: &str, from: i64, changes: &[&str]) {
        let folder = older(tables);
        let copy = format!("data.db.format-{from}");
        let killed = tempfile::tempdir().unwrap();
        let mut conn = data(folder.path());
        conn.pragma_update(None, "cache_size", 1).unwrap();
        keep_copy(&conn, &folder.path().join(&copy)).unwrap();
        let transaction = conn.transaction().unwrap();
        for change in changes {
            transaction.execute_batch(change).unwrap();
        }
        let filler = "CREATE TABLE filler AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
                      WHERE i < 500) SELECT randomblob(2000) FROM n";
        transaction.execute_batch(filler).unwrap();
        assert!(folder.path().join("data.db-wal").metadata().unwrap().len() > 500_000);
        for name in ["data.db", "data.db-wal", copy.as_str()] {
            fs::copy(folder.path().join(name), killed.path().join(name)).unwrap();
        }
        drop(transaction);
        check_migrated(killed.path(), from);
    }

    #[test]
    fn a_folder_that_cannot_be_copied_is_left_as_it_is() {
        let folder = format_1();
        fs::create_dir(folder.path().join("data.db.format-1")).unwrap();
        let refusal = SqliteStore::open(Options::new(folder.path())).err().unwrap().to_string();
        assert!(refusal.contains("data.db.format-1"), "{refusal}");
        assert_eq!(inspect(folder.path()).unwrap().format, Some(1));
        assert!(!folder.path().join("data.db.format-1.part").exists());
    }
}
