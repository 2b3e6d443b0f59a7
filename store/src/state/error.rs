//! What can go wrong with a client's state, told so that its owner knows what to do.

use std::io;
use std::path::{Path, PathBuf};

use conclave_core::name::InvalidName;
use conclave_core::record::ChannelId;
use rusqlite::{Error, ErrorCode};

/// Why the state cannot be read or changed. `Display` says what is wrong, [`StateError::advice`] what to do. Neither has
/// anything of a message in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Others than the owner have access to the file, which holds messages and decides which keys are trusted.
    #[error("the state file {} is open to others (mode {mode:04o})", file.display())]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A newer release wrote it.
    #[error("{} has schema version {found}, and this release knows {known} at most: a newer release wrote it", file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// Something else lies there.
    #[error("{} is not a conclave state file", file.display())]
    NotOurs {
        /// The file.
        file: PathBuf,
    },
    /// Its content makes no sense.
    #[error("{} is damaged ({why})", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What was found.
        why: String,
    },
    /// Another process has been writing for too long.
    #[error("another process has been writing {} for {} seconds", file.display(), super::PATIENCE.as_secs())]
    Busy {
        /// The file.
        file: PathBuf,
    },
    /// The disk is full, or the file has reached its greatest size.
    #[error("there is no space left for {}", file.display())]
    Full {
        /// The file.
        file: PathBuf,
    },
    /// The system refused.
    #[error("{} cannot be used: {source}", path.display())]
    Io {
        /// The file or directory concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The reader does not follow the stream (any more).
    #[error("stream {} is not followed", stream.0)]
    NotFollowed {
        /// The stream.
        stream: ChannelId,
    },
    /// A number that no stream reaches: the server that named it is broken or hostile.
    #[error("no stream has a message with number {seq}")]
    OutOfRange {
        /// The number.
        seq: u64,
    },
    /// A bound is reached.
    #[error("there are {most} {what} already, and no more are kept")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        most: usize,
        /// What to do about it.
        advice: &'static str,
    },
}

impl StateError {
    /// What to type or do next.
    pub fn advice(&self) -> String {
        match self {
            Self::Exposed { file, .. } => format!("run `chmod 600 {}`", file.display()),
            Self::Newer { file, .. } => {
                format!("use the release that wrote it, or a newer one; or start anew: {}", aside(file))
            }
            Self::NotOurs { file } | Self::Damaged { file, .. } => format!(
                "end all conclave processes and start anew: {}; what was unread then comes from the servers again, \
                 as far as they still have it, and keys of users' machines are taken as they are at first sight",
                aside(file)
            ),
            Self::Busy { .. } => {
                "end the other conclave process (`ps -C conclave,conclave-bridge`), then try again".into()
            }
            Self::Full { file } => {
                format!("free some space on its disk, or read what is unread; see `ls -l {}`", file.display())
            }
            Self::Io { path, .. } => format!("look at `ls -l {}`", path.display()),
            Self::NotFollowed { .. } => "join the channel again".into(),
            Self::OutOfRange { .. } => "tell the server's operator".into(),
            Self::TooMany { advice, .. } => (*advice).into(),
        }
    }

    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }
}

/// A log that stayed behind would be taken for the new file's.
fn aside(file: &Path) -> String {
    let (file, dir) = (file.display(), file.parent().unwrap_or(file).display());
    format!("`mkdir {dir}/old-state && mv {file}* {dir}/old-state`")
}

/// What went wrong, before it is said with which file.
#[derive(Debug)]
pub(super) enum Fault {
    Sqlite(Error),
    Damaged(&'static str),
    Other(StateError),
}

impl Fault {
    pub(super) fn in_file(self, file: &Path) -> StateError {
        let file = file.to_path_buf();
        let error = match self {
            Self::Other(error) => return error,
            Self::Damaged(why) => return StateError::Damaged { file, why: why.into() },
            Self::Sqlite(error) => error,
        };
        let source = |kind| io::Error::new(kind, error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => StateError::NotOurs { file },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StateError::Busy { file },
            Some(ErrorCode::DiskFull) => StateError::Full { file },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                StateError::Io { path: file, source: source(io::ErrorKind::PermissionDenied) }
            }
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::OutOfMemory) => {
                StateError::Io { path: file, source: source(io::ErrorKind::Other) }
            }
            // Our statements are right: what they meet is not what we wrote.
            _ => StateError::Damaged { file, why: error.to_string() },
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StateError> for Fault {
    fn from(error: StateError) -> Self {
        Self::Other(error)
    }
}

impl From<InvalidName> for Fault {
    fn from(_: InvalidName) -> Self {
        Self::Damaged("a name in it is none")
    }
}
