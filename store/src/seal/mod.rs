//! What a machine keeps of its sealed channels at one server: one SQLite file, which all its processes share.
//!
//! [`SealStore::step`] is *lock, load, handle, save*, and only then are there outputs to act on: no process sends what is
//! not on the disk, and no two of them use one message key. What one process opened, the others read with
//! [`SealStore::messages`]. What is erased is overwritten (`secure_delete`), also in the log once it is written back.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use conclave_core::key::SecretKey;
use conclave_seal::{Channel, Input, KeyPackage, Member, Output};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use zeroize::Zeroizing;

use crate::durable;
use crate::transaction::in_transaction;

/// In the file's header: `cose`.
const APPLICATION_ID: i64 = 0x636f_7365;
const VERSION: i64 = 1;
/// How long a step waits for another process.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How many messages one read returns at most.
pub const MAX_READ: usize = 1_000;

/// Why a step did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealStoreError {
    /// The machine refused it.
    #[error(transparent)]
    Seal(#[from] conclave_seal::Error),
    /// This machine keeps nothing of the channel.
    #[error("this machine has no keys for the channel; join it again")]
    Unknown,
    /// This machine has keys for the channel already.
    #[error("this machine has keys for the channel already")]
    Exists,
    /// The file is open to others.
    #[error("{} is open to others (mode {mode:04o}); run `chmod 600` on it", file.display())]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another program's file, or a newer release's.
    #[error("{} is not a file of sealed channels that this release knows", .0.display())]
    NotOurs(PathBuf),
    /// SQLite or the system refused.
    #[error("the sealed channels' file cannot be used: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The system refused.
    #[error("{} cannot be used: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A message that was opened or sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its number in the stream.
    pub seq: u64,
    /// Its id.
    pub id: [u8; 16],
    /// The sender's user number.
    pub user: u64,
    /// The sender's machine number.
    pub machine: u64,
    /// The sender's handle.
    pub session: String,
    /// What it says.
    pub body: Vec<u8>,
}

/// Shows no bodies.
impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kept({} from machine {})", self.seq, self.machine)
    }
}

/// An open file. Each thread opens one of its own.
pub struct SealStore {
    connection: Connection,
    me: Member,
    key: SecretKey,
}

impl SealStore {
    /// Opens the file of this machine at the server that `me` names, making it where needed.
    ///
    /// # Errors
    /// [`SealStoreError`]: the file is open to others, not ours, or the system refused.
    pub fn open(file: &Path, me: Member, key: SecretKey) -> Result<Self, SealStoreError> {
        create(file)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags)?;
        connection.busy_timeout(PATIENCE)?;
        for (name, value) in [
            ("trusted_schema", 0),
            ("cell_size_check", 1),
            ("secure_delete", 1),
            ("fullfsync", 1),
            ("checkpoint_fullfsync", 1),
        ] {
            connection.pragma_update_and_check(None, name, value, |_| Ok(())).optional()?;
        }
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        in_transaction(&connection, |connection| {
            match (number("PRAGMA application_id")?, number("PRAGMA user_version")?) {
                (APPLICATION_ID, VERSION) => Ok(()),
                (0, 0) if number("SELECT count(*) FROM sqlite_schema")? == 0 => {
                    connection.execute_batch(include_str!("schema.sql"))?;
                    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
                    Ok(connection.pragma_update(None, "user_version", VERSION)?)
                }
                _ => Err(SealStoreError::NotOurs(file.into())),
            }
        })?;
        write_ahead(&connection)?;
        Ok(Self { connection, me, key })
    }

    /// Keeps a channel that `make` creates or joins, and returns what is to be done. A key package that a welcome used is
    /// named by `used`, and erased in the same transaction.
    ///
    /// # Errors
    /// [`SealStoreError`]; nothing has happened. [`SealStoreError::Exists`] if there is one: [`Self::lose`] it first.
    pub fn enter(
        &self,
        used: Option<&[u8]>,
        make: impl FnOnce(&Member, &SecretKey) -> Result<(Channel, Vec<Output>), conclave_seal::Error>,
    ) -> Result<Vec<Output>, SealStoreError> {
        in_transaction(&self.connection, |connection| {
            let (mut channel, outputs) = make(&self.me, &self.key)?;
            if record(connection, channel.group_id())?.is_some() {
                return Err(SealStoreError::Exists);
            }
            keep(connection, &mut channel)?;
            if let Some(id) = used {
                connection.execute("DELETE FROM key_package WHERE id = ? AND last_resort = 0", [id])?;
            }
            Ok(outputs)
        })
    }

    /// One step of a channel at `now` (seconds since 1970). The outputs may be acted on: the step is on the disk.
    ///
    /// # Errors
    /// [`SealStoreError`]; nothing has happened.
    pub fn step(&self, group_id: &[u8], input: Input<'_>, now: u64) -> Result<Vec<Output>, SealStoreError> {
        in_transaction(&self.connection, |connection| {
            let saved = record(connection, group_id)?.ok_or(SealStoreError::Unknown)?;
            let mut channel = Channel::load(self.me.clone(), &self.key, &saved)?;
            let outputs = channel.handle(input, now)?;
            keep(connection, &mut channel)?;
            let mut insert =
                connection.prepare_cached("INSERT OR IGNORE INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?;
            for output in &outputs {
                if let Output::Message { seq, id, sender, content } = output {
                    let (user, machine) = (sender.user as i64, sender.machine as i64);
                    insert.execute(params![
                        group_id,
                        *seq as i64,
                        id,
                        user,
                        machine,
                        content.session,
                        content.body,
                        now as i64
                    ])?;
                }
            }
            Ok(outputs)
        })
    }

    /// Up to which entry of the stream any process has come.
    ///
    /// # Errors
    /// [`SealStoreError`].
    pub fn position(&self, group_id: &[u8]) -> Result<Option<u64>, SealStoreError> {
        let sql = "SELECT position FROM channel WHERE group_id = ? AND length(record) > 0";
        let position = self.connection.query_row(sql, [group_id], |row| row.get::<_, i64>(0)).optional()?;
        Ok(position.map(|position| position as u64))
    }

    /// The highest epoch seen, also after [`Self::lose`]: a rejoin with an older group info is refused.
    ///
    /// # Errors
    /// [`SealStoreError`].
    pub fn epoch(&self, group_id: &[u8]) -> Result<u64, SealStoreError> {
        let sql = "SELECT epoch FROM channel WHERE group_id = ?";
        let epoch = self.connection.query_row(sql, [group_id], |row| row.get::<_, i64>(0)).optional()?;
        Ok(epoch.unwrap_or_default() as u64)
    }

    /// The messages after `seq`, oldest first, at most [`MAX_READ`].
    ///
    /// # Errors
    /// [`SealStoreError`].
    pub fn messages(&self, group_id: &[u8], seq: u64) -> Result<Vec<Kept>, SealStoreError> {
        let sql = "SELECT seq, id, user, machine, session, body FROM message WHERE group_id = ? AND seq > ? ORDER BY seq LIMIT ?";
        let mut found = self.connection.prepare_cached(sql)?;
        let rows = found.query_map(params![group_id, seq as i64, MAX_READ as i64], |row| {
            Ok(Kept {
                seq: row.get::<_, i64>(0)? as u64,
                id: row.get(1)?,
                user: row.get::<_, i64>(2)? as u64,
                machine: row.get::<_, i64>(3)? as u64,
                session: row.get(4)?,
                body: row.get(5)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Erases the messages of a channel that were kept before `before` (seconds since 1970).
    ///
    /// # Errors
    /// [`SealStoreError`].
    pub fn expire(&self, group_id: &[u8], before: u64) -> Result<usize, SealStoreError> {
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        Ok(self
            .connection
            .execute("DELETE FROM message WHERE group_id = ? AND at < ?", params![group_id, before])?)
    }

    /// Erases all messages of a channel at once, also from the log.
    ///
    /// # Errors
    /// [`SealStoreError`].
    pub fn forget(&self, group_id: &[u8]) -> Result<usize, SealStoreError> {
        let gone = self.connection.execute("DELETE FROM message WHERE group_id = ?", [group_id])?;
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(gone)
    }

    /// Erases the keys of a channel, so that it can be entered again. The highest epoch seen stays.
    ///
    /// # Errors
    /// [`SealStoreError`].
    pub fn lose(&self, group_id: &[u8]) -> Result<(), SealStoreError> {
        self.connection.execute("UPDATE channel SET record = x'' WHERE group_id = ?", [group_id])?;
        Ok(())
    }

    /// Makes key packages and keeps them; the public halves go to the server.
    ///
    /// # Errors
    /// [`SealStoreError`].
    pub fn make_key_packages(
        &self,
        count: usize,
        last_resort: bool,
        now: u64,
    ) -> Result<Vec<Vec<u8>>, SealStoreError> {
        in_transaction(&self.connection, |connection| {
            let mut insert = connection.prepare_cached("INSERT INTO key_package VALUES (?, ?, ?, ?)")?;
            let mut made = Vec::new();
            for _ in 0..count {
                let KeyPackage { id, public, secret } =
                    conclave_seal::key_package(&self.me, &self.key, now, last_resort)?;
                insert.execute(params![id, public, &secret[..], last_resort])?;
                made.push(public);
            }
            Ok(made)
        })
    }

    /// The key packages that have not been used.
    ///
    /// # Errors
    /// [`SealStoreError`].
    pub fn key_packages(&self) -> Result<Vec<KeyPackage>, SealStoreError> {
        let mut found = self.connection.prepare_cached("SELECT id, public, secret FROM key_package")?;
        let rows = found.query_map([], |row| {
            Ok(KeyPackage { id: row.get(0)?, public: row.get(1)?, secret: Zeroizing::new(row.get(2)?) })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn record(connection: &Connection, group_id: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, SealStoreError> {
    let sql = "SELECT record FROM channel WHERE group_id = ? AND length(record) > 0";
    let found = connection.query_row(sql, [group_id], |row| row.get::<_, Vec<u8>>(0)).optional()?;
    Ok(found.map(Zeroizing::new))
}

fn keep(connection: &Connection, channel: &mut Channel) -> Result<(), SealStoreError> {
    let saved = channel.save()?;
    let (epoch, position) = (channel.epoch() as i64, channel.position() as i64);
    connection
        .prepare_cached(
            "INSERT INTO channel VALUES (?1, ?2, ?3, ?4) ON CONFLICT (group_id) DO UPDATE \
         SET record = ?2, epoch = max(epoch, ?3), position = ?4",
        )?
        .execute(params![channel.group_id(), &saved[..], epoch, position])?;
    Ok(())
}

/// SQLite does not wait here for a process that sets the file up, too: wait for it, and try once more.
fn write_ahead(connection: &Connection) -> Result<(), rusqlite::Error> {
    let set = || connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()));
    set().or_else(|_| in_transaction(connection, |_| Ok::<_, rusqlite::Error>(())).and_then(|()| set()))
}

/// Made here, because SQLite would let others read it.
fn create(file: &Path) -> Result<(), SealStoreError> {
    let io = |source| SealStoreError::Io { file: file.into(), source };
    match fs::symlink_metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            durable::create_private_dir(file.parent().unwrap_or(Path::new("."))).map_err(io)?;
            match durable::create_private(file, b"") {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(io(error)),
                _ => {}
            }
        }
        Err(error) => return Err(io(error)),
        Ok(found) if !found.is_file() => return Err(SealStoreError::NotOurs(file.into())),
        Ok(_) => {}
    }
    #[cfg(unix)]
    {
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(file).map_err(io)?.permissions()) & 0o7777;
        if mode & 0o077 != 0 {
            return Err(SealStoreError::Exposed { file: file.into(), mode });
        }
    }
    Ok(())
}

impl std::fmt::Debug for SealStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealStore(of machine {})", self.me.machine)
    }
}
