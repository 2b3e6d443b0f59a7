//! What a client keeps between runs, in one small SQLite file beside the key and the configuration: which streams its
//! readers follow and how far they have come, what is unread, the keys of users' machines, what names in the configuration
//! mean, and which directory's sessions have which handle.
//!
//! All processes of one human share the file. A call is one short transaction; it returns once the disk has what it
//! wrote, so that what was committed outlives a crash. It waits at most [`PATIENCE`] for another process that writes.
//! Nothing that the file says is believed: what makes no sense is an error, [`StateError::Damaged`].
//!
//! Bounds: the file has at most [`MAX_FILE`] bytes. A reader follows at most [`MAX_STREAMS`] streams and has at most
//! [`MAX_UNREAD`] unread messages; past [`MAX_UNREAD_BYTES`] of them no further one is kept. There are at most
//! [`MAX_READERS`] readers, [`MAX_MACHINES`] keys of machines for each server, and [`MAX_HANDLES`] handles of directories.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use conclave_core::key::PublicKey;
use conclave_core::name::Handle;
use rusqlite::Connection;

mod bindings;
mod error;
mod handles;
mod host;
mod machines;
mod schema;
mod streams;

pub use error::StateError;
pub use handles::HandleLease;
pub use host::{HostAgent, HostJob, HostKey, MAX_JOBS, MAX_SESSIONS};
pub use machines::{Pinned, PinnedMachine};
pub use streams::Followed;

use crate::transaction::in_transaction;
use error::Fault;

/// The file's name in the configuration directory.
pub const FILE_NAME: &str = "state.db";
/// How long a call waits for another process that writes.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// The file's greatest size in bytes. What would make it larger fails with [`StateError::Full`].
pub const MAX_FILE: u64 = 1 << 30;
/// How many readers there are at most.
pub const MAX_READERS: usize = 10_000;
/// How many streams a reader follows at most.
pub const MAX_STREAMS: usize = 1_000;
/// How many messages a reader has unread at most, in all of its streams.
pub const MAX_UNREAD: usize = 10_000;
/// How many bytes of unread messages a reader has, in all of its streams, before no further one is kept. So there are at
/// most this many, and one message more.
pub const MAX_UNREAD_BYTES: u64 = 16 << 20;
/// How many machines' keys of one server are remembered at most.
pub const MAX_MACHINES: usize = 10_000;
/// How many handles of directories are remembered at most. Past it, the one that was not claimed for longest is forgotten.
pub const MAX_HANDLES: usize = 4_096;

/// Who reads: a handle on a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reader {
    /// The server's key.
    pub server: PublicKey,
    /// The handle of this machine's session.
    pub handle: Handle,
}

/// An open state file. Each thread opens one of its own.
pub struct State {
    connection: Connection,
    file: PathBuf,
}

impl State {
    /// Opens the state in the configuration directory `dir`, making or migrating it where needed.
    ///
    /// # Errors
    /// [`StateError`]: the file is open to others, damaged, somebody else's or a newer release's, or the system refused.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let file = dir.join(FILE_NAME);
        let connection = schema::open(&file)?;
        Ok(Self { connection, file })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.file
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, StateError> {
        work(&self.connection).map_err(|fault| fault.in_file(&self.file))
    }

    /// All of `work` happens, or nothing.
    fn write<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, StateError> {
        in_transaction(&self.connection, work).map_err(|fault| fault.in_file(&self.file))
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State({})", self.file.display())
    }
}

/// A sequence number as the file has it: SQLite's integers are signed, and their order matters here.
fn seq_in(seq: u64) -> Result<i64, Fault> {
    i64::try_from(seq).map_err(|_| StateError::OutOfRange { seq }.into())
}

fn seq_out(seq: i64) -> Result<u64, Fault> {
    u64::try_from(seq).map_err(|_| Fault::Damaged("a position in it is negative"))
}

/// Refuses another row beside `count` of them, if there are `most` already.
fn room(count: i64, what: &'static str, most: usize, advice: &'static str) -> Result<(), Fault> {
    if usize::try_from(count).unwrap_or(0) < most {
        return Ok(());
    }
    Err(StateError::TooMany { what, most, advice }.into())
}

#[cfg(test)]
mod tests;
