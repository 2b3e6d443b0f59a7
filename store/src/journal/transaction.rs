//! All or nothing.

use rusqlite::{Connection, Result};

/// Runs `work` in a transaction that is gone without a trace if it fails.
pub(super) fn in_transaction<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T>,
) -> Result<T> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let result =
        work(connection).and_then(|value| connection.prepare_cached("COMMIT")?.execute([]).map(|_| value));
    if result.is_err() && !connection.is_autocommit() {
        // If it cannot even be rolled back, the next transaction fails and says so.
        let _ = connection.execute_batch("ROLLBACK");
    }
    result
}
