//! Copies of a data directory, taken while it is served, and put back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::error::OpenError;
use super::home::{self, Home};
use super::schema;
use crate::backend::StoreError;
use crate::durable;

/// Whether a restore may overwrite a data directory that holds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// Refuse to.
    No,
    /// What was there is kept beside it, under another name.
    Yes,
}

/// Copies the database of the data directory `dir`, as it is at one moment, to the new file `to`. Another
/// process may serve the directory meanwhile, and does not wait.
///
/// # Errors
/// [`OpenError::Exists`] if there is something at `to`; otherwise what is wrong with either side. Nothing is
/// left at `to` then.
pub fn backup(dir: &Path, to: &Path) -> Result<(), OpenError> {
    if fs::symlink_metadata(to).is_ok() {
        return Err(OpenError::Exists { path: to.into() });
    }
    let from = home::database(dir);
    let foreign = home::refuse_foreign_database(dir)?;
    let source = open_source(&from, foreign)?;
    let part = beside(to, ".part");
    copy(&source, &from, &part).and_then(|_| put(&part, to)).inspect_err(|_| drop(fs::remove_file(&part)))
}

/// Puts the copy `from` in place as the database of the data directory `dir`, after checking all of it. Returns
/// where the database that it replaced is kept, if there was one.
///
/// # Errors
/// [`OpenError::InUse`] if a server runs there, [`OpenError::Occupied`] if there is a database and it is not to
/// be replaced, otherwise what is wrong with either side. The directory is unchanged then, but where the old database's
/// log or the database itself could not be replaced at last: no server starts there until a restore has ended well.
pub fn restore(from: &Path, dir: &Path, replace: Replace) -> Result<Option<PathBuf>, OpenError> {
    let home = Home::take(dir)?;
    let database = home.database();
    home.refuse_foreign(&database)?;
    let replaces = fs::symlink_metadata(&database).is_ok();
    if replace == Replace::No && replaces {
        return Err(OpenError::Occupied { dir: dir.into() });
    }
    let part = unfinished(dir);
    let undo = |_: &OpenError| drop(fs::remove_file(&part));
    let source = open_source(from, false)?;
    let file = copy(&source, from, &part).inspect_err(undo)?;
    check(&part, from).inspect_err(undo)?;
    home.give(&file);
    let kept = if replaces { Some(set_aside(&home).inspect_err(undo)?) } else { None };
    // The old database's log would be taken for the new one's. From here to the end the unfinished restore is
    // what keeps a server from serving half of the old one.
    for path in [beside(&database, "-wal"), beside(&database, "-shm")] {
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(OpenError::io(&path, source));
            }
            _ => {}
        }
    }
    put(&part, &database)?;
    Ok(kept)
}

/// Gives a database and its log a second name, durably; returns it. A log that is sound is moved into the
/// database first, so that the database is whole without it.
fn set_aside(home: &Home) -> Result<PathBuf, OpenError> {
    let database = &home.database();
    // What is damaged is kept as it is. So is another user's: a journal that was planted beside it can make SQLite
    // delete any file.
    if !home.is_foreign() {
        let _ = schema::connect(database, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .and_then(|connection| connection.wal_checkpoint_v2(None::<&str>, CheckpointMode::TRUNCATE));
    }
    let mut kept = beside(database, ".replaced");
    let mut nth = 1;
    while fs::symlink_metadata(&kept).is_ok() {
        nth += 1;
        kept = beside(database, &format!(".replaced-{nth}"));
    }
    // Half a copy is none.
    let undo = || [beside(&kept, "-wal"), kept.clone()].map(fs::remove_file);
    for suffix in ["", "-wal"] {
        let (old, new) = (beside(database, suffix), beside(&kept, suffix));
        let named = fs::hard_link(&old, &new)
            // Not every file system has two names for one file.
            .or_else(|_| copy_bytes(&old, &new));
        match named {
            Err(source) if suffix.is_empty() || source.kind() != io::ErrorKind::NotFound => {
                let _ = undo();
                return Err(OpenError::io(&new, source));
            }
            _ => {}
        }
    }
    durable::sync_parent(database).map_err(|source| {
        let _ = undo();
        OpenError::io(database, source)
    })?;
    Ok(kept)
}

/// Refuses a directory in which a restore was interrupted.
pub(super) fn refuse_unfinished_restore(dir: &Path) -> Result<(), OpenError> {
    let file = unfinished(dir);
    if fs::symlink_metadata(&file).is_ok() {
        Err(OpenError::UnfinishedRestore { dir: dir.into(), file })
    } else {
        Ok(())
    }
}

fn unfinished(dir: &Path) -> PathBuf {
    dir.join("conclave.db.restoring")
}

/// Copies a file that is no link to a new one, durably.
fn copy_bytes(old: &Path, new: &Path) -> io::Result<()> {
    let mut from = home::private_file_itself().write(false).create(false).open(old)?;
    let mut to = home::private_file_itself().create_new(true).open(new)?;
    io::copy(&mut from, &mut to)?;
    to.sync_all()
}

/// Copies the database `source`, which is at `from`, into the new file `to`, in one piece and one transaction. What an
/// earlier copy left there is removed.
fn copy(source: &Connection, from: &Path, to: &Path) -> Result<fs::File, OpenError> {
    let io = |source| OpenError::io(to, source);
    match fs::remove_file(to) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(io(source)),
        _ => {}
    }
    let file = home::private_file_itself().create_new(true).open(to).map_err(io)?;
    // A copy is damaged only if what it was made of is.
    let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => OpenError::sqlite(from, error),
        _ => OpenError::sqlite(to, error),
    };
    let to = &real(to).map_err(io)?;
    let mut target = schema::connect(to, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NOFOLLOW)
        .map_err(failed)?;
    // Nothing that appears beside it from now on is read.
    target.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(failed)?;
    {
        let backup = Backup::new(source, &mut target).map_err(failed)?;
        // All pages in one step are one moment of the source. Who opens or closes it keeps it for a moment.
        let mut tries = 0;
        while backup.step(-1).map_err(failed)? != StepResult::Done {
            tries += 1;
            if tries == 500 {
                return Err(OpenError::Store { file: from.into(), source: StoreError::Busy });
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    // A single file, with no log beside it.
    target.pragma_update(None, "journal_mode", "DELETE").map_err(failed)?;
    target.close().map_err(|(_, error)| failed(error))?;
    file.sync_all().map_err(io)?;
    Ok(file)
}

/// Opens a database of ours to be read: with its log where there is one, which takes writing to the index beside it.
/// In a directory of another user's no link is followed, and nothing is repaired.
fn open_source(file: &Path, foreign: bool) -> Result<Connection, OpenError> {
    // Looked at but not opened: on Unix, closing any other handle of a file would end the locks that SQLite
    // has on it for a server in this very process.
    fs::metadata(file).map_err(|source| OpenError::io(file, source))?;
    let read = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let opened = if foreign {
        let real = real(file).map_err(|source| OpenError::io(file, source))?;
        schema::connect(&real, read | OpenFlags::SQLITE_OPEN_NOFOLLOW)
    } else {
        schema::connect(file, OpenFlags::SQLITE_OPEN_READ_WRITE).or_else(|_| schema::connect(file, read))
    };
    let connection = opened.map_err(|error| OpenError::sqlite(file, error))?;
    if schema::version(&connection, file)? == 0 {
        return Err(OpenError::NotOurs { file: file.into() });
    }
    Ok(connection)
}

/// `file` in its directory's real place: SQLite, told not to follow links, takes none in the directory's path either.
fn real(file: &Path) -> io::Result<PathBuf> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(fs::canonicalize(dir)?.join(file.file_name().unwrap_or_default()))
}

/// Reads every page and index of `file`, a copy of `original`.
fn check(file: &Path, original: &Path) -> Result<(), OpenError> {
    let failed = |error| OpenError::sqlite(original, error);
    let connection = schema::connect(file, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if verdict == "ok" { Ok(()) } else { Err(OpenError::corrupt(original, verdict)) }
}

/// Moves a file that is durable to its place, durably.
fn put(part: &Path, to: &Path) -> Result<(), OpenError> {
    fs::rename(part, to).map_err(|source| OpenError::io(to, source))?;
    durable::sync_parent(to).map_err(|source| OpenError::io(to, source))
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
