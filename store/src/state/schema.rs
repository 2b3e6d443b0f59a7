//! The file's tables, its versions, and how a connection to it is set up.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::error::{Fault, StateError};
use super::{MAX_FILE, PATIENCE};
use crate::durable;
use crate::transaction::in_transaction;

/// In the file's header: `cons`.
const APPLICATION_ID: i64 = 0x636f_6e73;

/// Each takes the schema from the version of its position to the next.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
];

const PAGE_SIZE: u64 = 4096;

/// Makes or migrates the file where needed, and returns a connection to it.
pub(super) fn open(file: &Path) -> Result<Connection, StateError> {
    match fs::metadata(file) {
        Ok(found) => check(file, &found)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(file)?,
        Err(source) => return Err(StateError::io(file, source)),
    }
    connect(file, MIGRATIONS).map_err(|fault| fault.in_file(file))
}

/// Made here, because SQLite would let others read it; and under another name first, since a file that another thread of
/// this process uses must not be opened and closed beside SQLite: that would end SQLite's locks (POSIX).
fn create(file: &Path) -> Result<(), StateError> {
    let dir = file.parent().unwrap_or(Path::new("."));
    durable::create_private_dir(dir).map_err(|source| StateError::io(dir, source))?;
    match durable::create_private(file, b"") {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(StateError::io(file, error)),
        _ => Ok(()),
    }
}

fn check(file: &Path, found: &fs::Metadata) -> Result<(), StateError> {
    if !found.is_file() {
        return Err(StateError::io(
            file,
            io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"),
        ));
    }
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o7777;
        if mode & 0o077 != 0 {
            return Err(StateError::Exposed { file: file.into(), mode });
        }
    }
    Ok(())
}

fn connect(file: &Path, migrations: &[&str]) -> Result<Connection, Fault> {
    let connection = Connection::open_with_flags(
        file,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(PATIENCE)?;
    let set = |name, value: i64| connection.pragma_update(None, name, value);
    // What the file says is data: nothing in its schema may run functions.
    set("trusted_schema", 0)?;
    set("cell_size_check", 1)?;
    set("foreign_keys", 0)?;
    // Small: an idle bridge holds it, too.
    set("cache_size", -256)?;
    set("journal_size_limit", 1 << 20)?;
    set("max_page_count", i64::try_from(MAX_FILE / PAGE_SIZE).unwrap_or(i64::MAX))?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // What a commit reported is on the disk.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Where the system's fsync leaves data in the disk's own memory (macOS), this is what does not.
    set("fullfsync", 1)?;
    set("checkpoint_fullfsync", 1)?;
    // Before anything is changed: a file that is not ours stays as it is.
    if version_now(&connection, file, migrations.len() as i64)? == 0 {
        write_ahead(&connection)?;
    }
    migrate(&connection, file, migrations)?;
    Ok(connection)
}

/// [`version`] by itself: all that it looks at is of one moment.
fn version_now(connection: &Connection, file: &Path, known: i64) -> Result<i64, Fault> {
    let snapshot = connection.unchecked_transaction()?;
    version(&snapshot, file, known)
}

/// The schema's version of a file that is ours; 0 for one that is empty. In a transaction.
fn version(connection: &Connection, file: &Path, known: i64) -> Result<i64, Fault> {
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let file = || file.to_path_buf();
    let found = number("PRAGMA user_version")?;
    match number("PRAGMA application_id")? {
        APPLICATION_ID if found > known => Err(StateError::Newer { file: file(), found, known }.into()),
        APPLICATION_ID if found > 0 => Ok(found),
        0 if found == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0 => Ok(0),
        _ => Err(StateError::NotOurs { file: file() }.into()),
    }
}

/// Readers and the writer do not wait for each other. Where there can be no such log, the file works without.
fn write_ahead(connection: &Connection) -> Result<(), Fault> {
    let start = Instant::now();
    loop {
        let mode = connection.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0))?;
        if mode == "wal" {
            return Ok(());
        }
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())) {
            // SQLite does not wait here for a process that sets the file up, too: wait for it, and look again.
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && start.elapsed() < PATIENCE =>
            {
                in_transaction(connection, |_| Ok::<_, rusqlite::Error>(()))?;
            }
            other => return Ok(other?),
        }
    }
}

/// Takes the schema to the last of `migrations`, whole or not at all.
fn migrate(connection: &Connection, file: &Path, migrations: &[&str]) -> Result<(), Fault> {
    let last = migrations.len() as i64;
    if version_now(connection, file, last)? == last {
        return Ok(());
    }
    in_transaction(connection, |connection| {
        // Another process may have done it meanwhile.
        let from = version(connection, file, last)?;
        for migration in migrations.get(from as usize..).unwrap_or_default() {
            connection.execute_batch(migration)?;
        }
        if from == 0 {
            connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        }
        Ok::<_, Fault>(connection.pragma_update(None, "user_version", last)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_file_is_migrated_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state.db");
        drop(open(&file).unwrap());
        let next = "CREATE TABLE later (x); INSERT INTO later VALUES (1)";
        let version = |file: &Path| version_now(&Connection::open(file).unwrap(), file, 99).unwrap();
        for broken in ["no SQL at all", "CREATE TABLE more (x); INSERT INTO absent VALUES (1)"] {
            assert!(connect(&file, &[MIGRATIONS, &[next, broken]].concat()).is_err());
            assert_eq!(version(&file), MIGRATIONS.len() as i64);
        }
        let connection = connect(&file, &[MIGRATIONS, &[next]].concat()).unwrap();
        assert_eq!(version(&file), MIGRATIONS.len() as i64 + 1);
        let kept: i64 = connection.query_row("SELECT x FROM later", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, 1);
        assert!(matches!(open(&file), Err(StateError::Newer { .. })));
    }

    #[test]
    fn what_was_committed_is_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let connection = open(&dir.path().join("state.db")).unwrap();
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(pragma("synchronous"), 2, "FULL");
        assert_eq!(pragma("checkpoint_fullfsync"), 1);
        let mode =
            connection.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0)).unwrap();
        assert_eq!(mode, "wal");
    }
}
