//! What can go wrong with a data directory, told so that an operator knows what to do.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::backend::StoreError;

/// Why a data directory could not be opened, read, backed up or restored. `Display` says what is wrong,
/// [`OpenError::advice`] what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process serves it.
    #[error("the data directory {dir} is in use by another server{holder}", dir = .dir.display(), holder = shown(*.process))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process that holds it, if it said so.
        process: Option<u32>,
    },
    /// Everyone on the machine may write to it.
    #[error("the data directory {dir} can be written to by everyone (mode {mode:04o})", dir = .dir.display())]
    Exposed {
        /// The directory.
        dir: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file in somebody else's directory belongs to neither its owner nor to this process: following it could
    /// change a file elsewhere.
    #[error("{path} is {what}, not a file of the data directory's owner", path = .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// It cannot be made or written to.
    #[error("cannot write to the data directory {dir}: {source}", dir = .dir.display())]
    Unwritable {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A newer release wrote it.
    #[error("{file} has schema version {found}, and this release knows {known} at most: a newer release wrote it", file = .file.display())]
    NewerSchema {
        /// The database.
        file: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// Something else lies there.
    #[error("{file} is not a conclave database", file = .file.display())]
    NotOurs {
        /// The file.
        file: PathBuf,
    },
    /// Its content contradicts itself.
    #[error("{file} is damaged ({why})", file = .file.display())]
    Corrupt {
        /// The database.
        file: PathBuf,
        /// What was found.
        why: String,
    },
    /// A restore into it did not end.
    #[error("a restore into {dir} was interrupted", dir = .dir.display())]
    UnfinishedRestore {
        /// The directory.
        dir: PathBuf,
        /// What the restore left.
        file: PathBuf,
    },
    /// What would be overwritten is already there.
    #[error("{path} already exists", path = .path.display())]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// A restore would replace what is there.
    #[error("the data directory {dir} holds a server's data already", dir = .dir.display())]
    Occupied {
        /// The directory.
        dir: PathBuf,
    },
    /// The system refused something.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or directory concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database refused something.
    #[error("{file}: {source}", file = .file.display())]
    Store {
        /// The database.
        file: PathBuf,
        /// What it said.
        source: StoreError,
    },
}

impl OpenError {
    /// What to do about it.
    pub fn advice(&self) -> String {
        match self {
            Self::InUse { process: Some(process), .. } => {
                format!("stop that server (`kill {process}`), or name another directory with --data-dir")
            }
            Self::InUse { .. } => "stop that server, or name another directory with --data-dir".into(),
            Self::Exposed { dir, .. } => {
                format!("check that nobody changed anything in it, then run `chmod 700 {}`", dir.display())
            }
            Self::Foreign { path, .. } => {
                format!("find out who put it there (`ls -l {}`), then delete it", path.display())
            }
            Self::Unwritable { dir, .. } => format!(
                "make it writable for this user (see `ls -ld {}`), or name another with --data-dir",
                dir.display()
            ),
            Self::NewerSchema { .. } => "use the release that wrote it, or a newer one".into(),
            Self::NotOurs { .. } => "look at the path again, or move that file away".into(),
            Self::Corrupt { .. } => {
                "put a backup that is whole in its place: conclave restore --replace BACKUP".into()
            }
            Self::UnfinishedRestore { file, .. } => {
                format!("run it again, or delete {} to keep what was there before", file.display())
            }
            Self::Exists { .. } => "name a file that does not exist yet".into(),
            Self::Occupied { .. } => "name another directory with --data-dir, or add --replace: \
                                      what is there is kept beside it"
                .into(),
            Self::Io { path, .. } => format!("look at `ls -l {}`", path.display()),
            Self::Store { source: StoreError::Full, .. } => {
                "free some space on its disk, then try again".into()
            }
            Self::Store { file, .. } => {
                format!("look at its disk and at `ls -l {}`, then try again", file.display())
            }
        }
    }

    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    pub(super) fn corrupt(file: &Path, why: impl Into<String>) -> Self {
        Self::Corrupt { file: file.into(), why: why.into() }
    }

    pub(super) fn sqlite(file: &Path, error: rusqlite::Error) -> Self {
        let file = file.to_path_buf();
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::NotOurs { file },
            _ => match StoreError::from(error) {
                StoreError::Corrupt(why) => Self::Corrupt { file, why },
                StoreError::ReadOnly => Self::Unwritable {
                    dir: file.parent().unwrap_or(&file).into(),
                    source: io::ErrorKind::ReadOnlyFilesystem.into(),
                },
                source => Self::Store { file, source },
            },
        }
    }
}

fn shown(process: Option<u32>) -> String {
    process.map_or_else(String::new, |process| format!(" (process {process})"))
}

impl StoreError {
    /// Whether the connection that failed so is better replaced.
    pub(super) fn is_lasting(&self) -> bool {
        !matches!(self, Self::Full | Self::Busy | Self::Contradiction(_) | Self::Closed)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(error.to_string()),
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => Self::Io(error.to_string()),
            Some(ErrorCode::ConstraintViolation) => Self::Contradiction(error.to_string()),
            _ => Self::Other(error.to_string()),
        }
    }
}
