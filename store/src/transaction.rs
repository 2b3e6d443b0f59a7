//! All or nothing.

use rusqlite::{Connection, Error};

/// Runs `work` in a transaction that is gone without a trace if it fails.
pub(crate) fn in_transaction<T, E: From<Error>>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    run(connection, "BEGIN IMMEDIATE")?;
    let result = work(connection).and_then(|value| Ok(run(connection, "COMMIT").map(|()| value)?));
    if result.is_err() && !connection.is_autocommit() {
        // If it cannot even be rolled back, the next transaction fails and says so.
        let _ = connection.execute_batch("ROLLBACK");
    }
    result
}

/// Runs `work` inside a transaction so that, if it fails, what it did is undone and the transaction goes on.
#[cfg(feature = "journal")]
pub(crate) fn in_savepoint<T, E: From<Error>>(
    connection: &Connection,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    run(connection, "SAVEPOINT part")?;
    let result = work();
    if result.is_err() {
        // After some failures SQLite has rolled the whole transaction back by itself.
        if connection.is_autocommit() {
            return result;
        }
        run(connection, "ROLLBACK TO part")?;
    }
    run(connection, "RELEASE part")?;
    result
}

fn run(connection: &Connection, sql: &str) -> Result<(), Error> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}
