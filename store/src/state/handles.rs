//! The handles of sessions that nobody named: each directory has its own, the same after a restart.
//!
//! A session holds its handle by a lock on a file of its own, so that the handle is free again however the process ends.
//! Lock files are opened, and removed, in a transaction that writes: one process at a time does it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use conclave_core::name::{Handle, MAX_NAME_LEN, sanitize};
use rusqlite::{Connection, params};

use super::error::Fault;
use super::{MAX_HANDLES, State, StateError};
use crate::durable::{self, private_file};

/// The directory of the lock files, in the configuration directory.
const LOCKS: &str = "handles";

/// A longer path is no directory's.
const MAX_PATH: usize = 32 << 10;

/// A handle that is this process's while this is there.
#[derive(Debug)]
pub struct HandleLease {
    handle: Handle,
    lock: File,
}

impl HandleLease {
    /// The handle.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for HandleLease {
    fn drop(&mut self) {
        // A child that is being started may still have the file open: closing it here is not enough.
        let _ = self.lock.unlock();
    }
}

impl State {
    /// Takes a handle for a session in `directory`, made of `base`. A directory gets the handle again that it had; two
    /// directories, and two sessions at once in one, have different ones: `base`, `base-2`, `base-3`, … Of a directory's
    /// handles the lowest that is free is taken, and a handle that a directory had is no other's before it is forgotten
    /// (see [`MAX_HANDLES`]).
    ///
    /// What may not stand in a handle becomes `-`, an empty `base` becomes `agent`, and a long one is cut.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn claim_handle(&self, base: &str, directory: &Path) -> Result<HandleLease, StateError> {
        let base = sanitize(base, "agent");
        let directory = identity(directory)?;
        let locks = self.file.with_file_name(LOCKS);
        durable::create_private_dir(&locks).map_err(|source| StateError::io(&locks, source))?;
        self.write(|connection| {
            for (id, handle) in of_directory(connection, &base, &directory)? {
                if let Some(lock) = lock(&locks, id)? {
                    touch(connection, id)?;
                    return Ok(HandleLease { handle, lock });
                }
            }
            make_room(connection, &locks)?;
            let (number, handle) = free(connection, &base)?;
            let lock = add(connection, &locks, &handle, (&base, number, &directory))?;
            Ok(HandleLease { handle, lock })
        })
    }
}

/// What tells directories apart: a directory's own path, without links.
fn identity(directory: &Path) -> Result<Vec<u8>, StateError> {
    let path = fs::canonicalize(directory).or_else(|_| std::path::absolute(directory));
    let path = path.unwrap_or_else(|_| directory.to_owned()).into_os_string().into_encoded_bytes();
    if path.len() > MAX_PATH {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "its path is too long");
        return Err(StateError::io(directory, error));
    }
    Ok(path)
}

/// The handles that a directory has already, lowest number first.
fn of_directory(connection: &Connection, base: &str, directory: &[u8]) -> Result<Vec<(i64, Handle)>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT id, handle FROM handles WHERE directory = ?1 AND base = ?2 ORDER BY number LIMIT ?3",
    )?;
    let mut rows = statement.query(params![directory, base, MAX_HANDLES as i64])?;
    let mut handles = Vec::new();
    while let Some(row) = rows.next()? {
        let handle = row.get_ref(1)?.as_str().map_err(|_| Fault::Damaged("a name in it is none"))?;
        handles.push((row.get(0)?, Handle::new(handle)?));
    }
    Ok(handles)
}

/// The first handle made of `base` that no directory has, and its number.
fn free(connection: &Connection, base: &str) -> Result<(i64, Handle), Fault> {
    let mut taken = connection.prepare_cached("SELECT 1 FROM handles WHERE handle = ?1")?;
    for number in 1.. {
        let handle = numbered(base, number);
        if !taken.exists([&handle])? {
            return Ok((number, Handle::new(&handle)?));
        }
    }
    Err(Fault::Damaged("it has more handles than there are numbers"))
}

/// `base`, `base-2`, … A base that would be too long with its number is cut.
fn numbered(base: &str, number: i64) -> String {
    if number == 1 {
        return base.to_owned();
    }
    let suffix = format!("-{number}");
    let cut = base.floor_char_boundary(MAX_NAME_LEN - suffix.len());
    format!("{}{suffix}", &base[..cut])
}

/// Gives a directory a handle, and takes it.
fn add(
    connection: &Connection,
    locks: &Path,
    handle: &Handle,
    (base, number, directory): (&str, i64, &[u8]),
) -> Result<File, Fault> {
    for _ in 0..MAX_HANDLES {
        connection
            .prepare_cached(
                "INSERT INTO handles (handle, base, number, directory, used) VALUES (?1, ?2, ?3, ?4, 0)",
            )?
            .execute(params![handle.as_str(), base, number, directory])?;
        let id = connection.last_insert_rowid();
        if let Some(lock) = lock(locks, id)? {
            touch(connection, id)?;
            return Ok(lock);
        }
        // A process holds the lock of this number since a state file that is no more. No number is given twice.
        connection.prepare_cached("DELETE FROM handles WHERE id = ?1")?.execute([id])?;
    }
    Err(too_many())
}

/// Marks a handle as the one that was claimed last.
fn touch(connection: &Connection, id: i64) -> Result<(), Fault> {
    connection
        .prepare_cached("UPDATE handles SET used = (SELECT max(used) FROM handles) + 1 WHERE id = ?1")?
        .execute([id])?;
    Ok(())
}

/// Forgets the handle that was not claimed for longest and is free, if there are too many. Its readers go with it: who gets
/// the handle next is not they.
fn make_room(connection: &Connection, locks: &Path) -> Result<(), Fault> {
    let count: i64 = connection.query_row("SELECT count(*) FROM handles", [], |row| row.get(0))?;
    if count < MAX_HANDLES as i64 {
        return Ok(());
    }
    let mut statement = connection.prepare_cached("SELECT id FROM handles ORDER BY used LIMIT ?1")?;
    let oldest = statement.query_map([MAX_HANDLES as i64], |row| row.get::<_, i64>(0))?;
    for id in oldest {
        let id = id?;
        let Some(_held) = lock(locks, id)? else { continue };
        for sql in [
            "DELETE FROM unread WHERE reader IN
             (SELECT r.id FROM readers r JOIN handles h ON h.handle = r.handle WHERE h.id = ?1)",
            "DELETE FROM streams WHERE reader IN
             (SELECT r.id FROM readers r JOIN handles h ON h.handle = r.handle WHERE h.id = ?1)",
            "DELETE FROM readers WHERE handle IN (SELECT handle FROM handles WHERE id = ?1)",
            "DELETE FROM handles WHERE id = ?1",
        ] {
            connection.prepare_cached(sql)?.execute([id])?;
        }
        // One that stays is empty, and its number is not given again.
        let _ = fs::remove_file(lock_file(locks, id));
        return Ok(());
    }
    Err(too_many())
}

fn lock_file(locks: &Path, id: i64) -> PathBuf {
    locks.join(format!("{id}.lock"))
}

/// Takes the lock of a handle, if it is free.
fn lock(locks: &Path, id: i64) -> Result<Option<File>, Fault> {
    let path = lock_file(locks, id);
    let failed = |source| Fault::Other(StateError::io(&path, source));
    let file = private_file().open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn too_many() -> Fault {
    let advice = "end sessions that you do not need, or name this one";
    StateError::TooMany { what: "sessions that nobody named", most: MAX_HANDLES, advice }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_numbered_handle_is_a_name(base in any::<String>(), number in 1..i64::MAX) {
            let base = sanitize(&base, "agent");
            prop_assert!(Handle::new(&numbered(&base, number)).is_ok());
        }
    }

    #[test]
    fn a_long_base_is_cut_between_characters() {
        let base = sanitize(&"ä".repeat(100), "agent");
        assert_eq!(base.len(), 128);
        assert_eq!(numbered(&base, 1), base);
        assert_eq!(numbered(&base, 2), format!("{}-2", "ä".repeat(63)));
        assert_eq!(numbered(&base, 12), format!("{}-12", "ä".repeat(62)));
    }
}
