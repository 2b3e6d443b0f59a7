//! The keys of users' machines, as they were at first sight: a server that gives out another key is found out.

use conclave_core::key::PublicKey;
use conclave_core::record::{MachineId, UserId};
use conclave_core::time::UnixMillis;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::error::Fault;
use super::{MAX_MACHINES, State, StateError, room};

/// How a key stands to the one that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// None was remembered; now it is.
    First,
    /// It is the one.
    Same,
    /// It is another one. The one that is remembered stays.
    Changed {
        /// What is remembered.
        was: PublicKey,
    },
}

/// A machine whose key is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinnedMachine {
    /// The machine.
    pub machine: MachineId,
    /// Its key. Not checked to be a valid one: a signature is checked against it, and proves nothing if it is none.
    pub key: PublicKey,
    /// When the key was first seen, or accepted in place of another.
    pub since: UnixMillis,
}

impl State {
    /// Compares the key of a user's machine on `server` with the one that is remembered, and remembers it if there is none.
    ///
    /// # Errors
    /// [`StateError::TooMany`] at [`MAX_MACHINES`] machines of the server: none is forgotten for a new one, or a server could
    /// push a key out. And all others.
    pub fn pin(
        &self,
        server: &PublicKey,
        user: UserId,
        machine: MachineId,
        key: &PublicKey,
        now: UnixMillis,
    ) -> Result<Pinned, StateError> {
        let compare = |connection: &Connection| {
            let was = find(connection, server, user, machine)?;
            Ok(was.map(|was| if was == *key { Pinned::Same } else { Pinned::Changed { was } }))
        };
        // Mostly there is nothing to write, and nobody to wait for.
        if let Some(known) = self.read(compare)? {
            return Ok(known);
        }
        self.write(|connection| match compare(connection)? {
            Some(known) => Ok(known),
            None => {
                insert(connection, server, user, machine, key, now)?;
                Ok(Pinned::First)
            }
        })
    }

    /// Remembers a key in place of the one that is remembered, because a human accepted it.
    ///
    /// # Errors
    /// As [`State::pin`].
    pub fn repin(
        &self,
        server: &PublicKey,
        user: UserId,
        machine: MachineId,
        key: &PublicKey,
        now: UnixMillis,
    ) -> Result<(), StateError> {
        self.write(|connection| {
            connection
                .prepare_cached("DELETE FROM machines WHERE server = ?1 AND user = ?2 AND machine = ?3")?
                .execute(params![server.as_bytes(), user.0.cast_signed(), machine.0.cast_signed()])?;
            insert(connection, server, user, machine, key, now)
        })
    }

    /// All machines of `server` whose keys are remembered.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn machines(&self, server: &PublicKey) -> Result<Vec<(UserId, MachineId, PublicKey)>, StateError> {
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT key, user, machine FROM machines WHERE server = ?1 LIMIT ?2")?;
            let mut rows = statement.query(params![server.as_bytes(), MAX_MACHINES as i64])?;
            let mut machines = Vec::new();
            while let Some(row) = rows.next()? {
                let user = UserId(row.get::<_, i64>(1)?.cast_unsigned());
                machines.push((user, MachineId(row.get::<_, i64>(2)?.cast_unsigned()), key(row)?));
            }
            Ok(machines)
        })
    }

    /// The machines of a user on `server` whose keys are remembered, in the order of their numbers.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn pinned(&self, server: &PublicKey, user: UserId) -> Result<Vec<PinnedMachine>, StateError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT key, machine, since FROM machines WHERE server = ?1 AND user = ?2 LIMIT ?3",
            )?;
            let mut rows =
                statement.query(params![server.as_bytes(), user.0.cast_signed(), MAX_MACHINES as i64])?;
            let mut pinned = Vec::new();
            while let Some(row) = rows.next()? {
                pinned.push(PinnedMachine {
                    machine: MachineId(row.get::<_, i64>(1)?.cast_unsigned()),
                    key: key(row)?,
                    since: UnixMillis(row.get(2)?),
                });
            }
            pinned.sort_by_key(|pinned| pinned.machine);
            Ok(pinned)
        })
    }
}

fn find(
    connection: &Connection,
    server: &PublicKey,
    user: UserId,
    machine: MachineId,
) -> Result<Option<PublicKey>, Fault> {
    let found = connection
        .prepare_cached("SELECT key FROM machines WHERE server = ?1 AND user = ?2 AND machine = ?3")?
        .query_row(params![server.as_bytes(), user.0.cast_signed(), machine.0.cast_signed()], |row| {
            Ok(key(row))
        })
        .optional()?;
    found.transpose()
}

fn insert(
    connection: &Connection,
    server: &PublicKey,
    user: UserId,
    machine: MachineId,
    key: &PublicKey,
    now: UnixMillis,
) -> Result<(), Fault> {
    let count = connection
        .prepare_cached("SELECT count(*) FROM machines WHERE server = ?1")?
        .query_row([server.as_bytes()], |row| row.get(0))?;
    let advice = "tell the server's operator: it is more than people have";
    room(count, "keys of machines of this server", MAX_MACHINES, advice)?;
    let (user, machine) = (user.0.cast_signed(), machine.0.cast_signed());
    connection
        .prepare_cached(
            "INSERT INTO machines (server, user, machine, key, since) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![server.as_bytes(), user, machine, key.as_bytes(), now.0])?;
    Ok(())
}

/// The key in a row's first column.
fn key(row: &Row<'_>) -> Result<PublicKey, Fault> {
    let bytes = row.get_ref(0)?.as_blob().ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(PublicKey::from_trusted).ok_or(Fault::Damaged("a key in it does not have 32 bytes"))
}
