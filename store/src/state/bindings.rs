//! What the names in `config.toml` meant when they were first used.

use conclave_core::bridge::Bound;
use conclave_core::key::PublicKey;
use conclave_core::name::{ChannelName, UserName};
use conclave_core::record::{ChannelId, UserId};
use rusqlite::params;

use super::error::Fault;
use super::{State, StateError};

impl State {
    /// Binds a name on `server`, unless it is bound already.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn bind(&self, server: &PublicKey, bound: &Bound) -> Result<(), StateError> {
        let (kind, name, number) = parts(bound);
        self.write(|connection| {
            connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO bindings (server, kind, name, number) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![server.as_bytes(), kind, name, number])?;
            Ok(())
        })
    }

    /// Forgets what a name meant: its next use binds it anew.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn unbind(&self, server: &PublicKey, bound: &Bound) -> Result<(), StateError> {
        let (kind, name, _) = parts(bound);
        self.write(|connection| {
            connection
                .prepare_cached("DELETE FROM bindings WHERE server = ?1 AND kind = ?2 AND name = ?3")?
                .execute(params![server.as_bytes(), kind, name])?;
            Ok(())
        })
    }

    /// The names that are bound on `server`.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn bindings(&self, server: &PublicKey) -> Result<Vec<Bound>, StateError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT kind, name, number FROM bindings WHERE server = ?1 ORDER BY kind, name",
            )?;
            let mut rows = statement.query([server.as_bytes()])?;
            let mut bindings = Vec::new();
            while let Some(row) = rows.next()? {
                let (name, number) = (row.get::<_, String>(1)?, row.get::<_, i64>(2)?.cast_unsigned());
                let bound = match row.get::<_, i64>(0)? {
                    0 => ChannelName::new(&name).map(|name| Bound::Channel(name, ChannelId(number))),
                    _ => UserName::new(&name).map(|name| Bound::User(name, UserId(number))),
                };
                bindings.push(bound.map_err(|_| Fault::Damaged("a name in it is none"))?);
            }
            Ok(bindings)
        })
    }
}

fn parts(bound: &Bound) -> (i64, &str, i64) {
    match bound {
        Bound::Channel(name, stream) => (0, name.as_str(), stream.0.cast_signed()),
        Bound::User(name, user) => (1, name.as_str(), user.0.cast_signed()),
    }
}
