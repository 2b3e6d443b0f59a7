//! The database's tables, its versions, and how a connection to it is set up.

use std::path::Path;
use std::time::Duration;

use conclave_core::key::SecretKey;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use zeroize::Zeroizing;

use super::Options;
use super::error::OpenError;
use super::home::random_id;
use crate::durable::private_file;

/// In the file's header: `conc`.
const APPLICATION_ID: i64 = 0x636f_6e63;

/// Each takes the schema from the version of its position to the next.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
    include_str!("schema/7.sql"),
    include_str!("schema/8.sql"),
];

const VERSION: i64 = MIGRATIONS.len() as i64;

const PAGE_SIZE: u64 = 4096;

/// Sets a new database up or migrates an older one, and returns the connection that writes.
pub(super) fn open(file: &Path, options: &Options) -> Result<Connection, OpenError> {
    // Created here, because SQLite would let others read it.
    private_file()
        .open(file)
        .map_err(|source| OpenError::Unwritable { dir: file.parent().unwrap_or(file).into(), source })?;
    let failed = |error| OpenError::sqlite(file, error);
    let mut connection = connect(file, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    let version = version(&connection, file)?;
    set_up_writer(&connection, options).map_err(failed)?;
    migrate(&mut connection, version, MIGRATIONS).map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => OpenError::corrupt(file, error.to_string()),
        _ => failed(error),
    })?;
    Ok(connection)
}

/// Opens another connection that writes, to a database that [`open`] has set up.
pub(super) fn reopen(file: &Path, options: &Options) -> rusqlite::Result<Connection> {
    let connection = connect(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    set_up_writer(&connection, options)?;
    Ok(connection)
}

/// Opens a connection that reads.
pub(super) fn open_reader(file: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "cache_size", -8 * 1024)?;
    // Reading something opens all files, which may lose their names later.
    connection.pragma_query_value(None, "schema_version", |_| Ok(()))?;
    Ok(connection)
}

/// Opens a connection to a database that exists, with nothing set up.
pub(super) fn connect(file: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(file, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "foreign_keys", false)?;
    Ok(connection)
}

/// The schema's version of a database that is ours; 0 for one that is empty.
pub(super) fn version(connection: &Connection, file: &Path) -> Result<i64, OpenError> {
    let failed = |error| OpenError::sqlite(file, error);
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let application = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    match application {
        APPLICATION_ID if version > VERSION => {
            Err(OpenError::NewerSchema { file: file.into(), found: version, known: VERSION })
        }
        APPLICATION_ID if version > 0 => Ok(version),
        0 if version == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0 => Ok(0),
        _ => Err(OpenError::NotOurs { file: file.into() }),
    }
}

/// The random id of the data directory.
pub(super) fn server_id(connection: &Connection, file: &Path) -> Result<String, OpenError> {
    connection.query_row("SELECT value FROM meta WHERE key = 'server_id'", [], |row| row.get(0)).map_err(
        |error| match error {
            rusqlite::Error::QueryReturnedNoRows => OpenError::corrupt(file, "it has no server id"),
            error => OpenError::sqlite(file, error),
        },
    )
}

/// The server's key.
pub(super) fn server_key(connection: &Connection, file: &Path) -> Result<SecretKey, OpenError> {
    let seed = connection.query_row("SELECT value FROM meta WHERE key = 'server_key'", [], |row| {
        Ok(row.get::<_, [u8; 32]>(0).map(Zeroizing::new).ok())
    });
    match seed {
        Ok(Some(seed)) => Ok(SecretKey::from_seed(&seed)),
        Ok(None) => Err(OpenError::corrupt(file, "its server key is not 32 bytes")),
        Err(rusqlite::Error::QueryReturnedNoRows) => Err(OpenError::corrupt(file, "it has no server key")),
        Err(error) => Err(OpenError::sqlite(file, error)),
    }
}

fn set_up_writer(connection: &Connection, options: &Options) -> rusqlite::Result<()> {
    let set = |name, value: i64| connection.pragma_update(None, name, value);
    set("page_size", PAGE_SIZE as i64)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", synchronous(options))?;
    // Where the system's fsync leaves data in the disk's own memory (macOS), this is what does not.
    set("fullfsync", i64::from(!options.ephemeral))?;
    set("checkpoint_fullfsync", i64::from(!options.ephemeral))?;
    set("cache_size", -64 * 1024)?;
    // The log is seen to elsewhere.
    set("wal_autocheckpoint", 0)?;
    set("journal_size_limit", 64 << 20)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    if let Some(bytes) = options.max_size {
        set("max_page_count", i64::try_from(bytes / PAGE_SIZE).unwrap_or(i64::MAX).max(1))?;
    }
    Ok(())
}

/// How a commit is made durable.
pub(super) fn synchronous(options: &Options) -> &'static str {
    if options.ephemeral { "OFF" } else { "FULL" }
}

/// Takes the schema from version `from` to the last of `migrations`, whole or not at all.
fn migrate(connection: &mut Connection, from: i64, migrations: &[&str]) -> rusqlite::Result<()> {
    let pending = migrations.get(from as usize..).unwrap_or_default();
    if pending.is_empty() {
        return Ok(());
    }
    // Building an index sorts it: of a large table not in memory.
    connection.pragma_update(None, "temp_store", "FILE")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for migration in pending {
        transaction.execute_batch(migration)?;
    }
    let no_random = |error: std::io::Error| rusqlite::Error::ToSqlConversionFailure(error.into());
    if from < 2 {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).map_err(|error| no_random(error.into()))?;
        transaction.execute("INSERT INTO meta (key, value) VALUES ('server_key', ?1)", [&seed[..]])?;
    }
    if from == 0 {
        let id = random_id().map_err(no_random)?;
        transaction.execute("INSERT INTO meta (key, value) VALUES ('server_id', ?1)", [id])?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    transaction.pragma_update(None, "user_version", migrations.len() as i64)?;
    transaction.commit()?;
    connection.pragma_update(None, "temp_store", "MEMORY")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_database_is_migrated_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("conclave.db");
        let mut connection = open(&file, &Options::default()).unwrap();
        let id = server_id(&connection, &file).unwrap();
        let first = version(&connection, &file).unwrap();
        let next = "CREATE TABLE later (x); INSERT INTO later VALUES (1)";
        for broken in ["no SQL at all", "CREATE TABLE later (x); INSERT INTO absent VALUES (1)"] {
            assert!(migrate(&mut connection, first, &[MIGRATIONS, &[next, broken]].concat()).is_err());
            assert_eq!(version(&connection, &file).unwrap(), first);
            assert!(connection.prepare("SELECT x FROM later").is_err());
        }
        migrate(&mut connection, first, &[MIGRATIONS, &[next]].concat()).unwrap();
        let now: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(now, first + 1);
        let kept: i64 = connection.query_row("SELECT x FROM later", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, 1);
        assert_eq!(server_id(&connection, &file).unwrap(), id);
    }
}
