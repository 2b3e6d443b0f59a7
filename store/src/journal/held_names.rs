//! Names that are held back, in their table.

use conclave_core::directory::{FreedName, Heir, Held};
use rusqlite::{Connection, Result, params};

use super::int;

pub(super) fn hold(connection: &Connection, name: &FreedName, held: &Held) -> Result<()> {
    let (keys, user) = match &held.heir {
        Heir::Keys(keys) => (Some(keys.iter().flat_map(|key| *key.as_bytes()).collect::<Vec<u8>>()), None),
        Heir::User(user) => (None, Some(int(user.0))),
    };
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO held_names (kind, name, keys, user, until) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![kind(name), name.as_str(), keys, user, held.until.0])
        .map(drop)
}

pub(super) fn release(connection: &Connection, name: &FreedName) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM held_names WHERE kind = ?1 AND name = ?2")?
        .execute(params![kind(name), name.as_str()])
        .map(drop)
}

fn kind(name: &FreedName) -> i64 {
    match name {
        FreedName::User(_) => 0,
        FreedName::Channel(_) => 1,
    }
}
