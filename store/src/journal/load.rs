//! The stored directory as the records that make it.

use std::path::Path;

use conclave_core::directory::{FreedName, Heir, Held, TokenHash, Waiting};
use conclave_core::key::PublicKey;
use conclave_core::name::{ChannelName, Handle, InvalidName, MachineName, UserName};
use conclave_core::opaque::Opaque;
use conclave_core::protocol::{Token, Visibility};
use conclave_core::record::{Ack, ChannelId, Cursor, LastCommit, MachineId, ReaderId, Record, Stamp, UserId};
use conclave_core::sealed::{Blob, NewGroup, RosterEntry};
use conclave_core::stream::{MessageId, Standing};
use conclave_core::time::UnixMillis;
use rusqlite::{Connection, Row};

use super::error::OpenError;

/// Hands every record on that `Directory::apply` needs to become what is stored, in an order that it accepts.
pub(super) fn load(
    connection: &Connection,
    file: &Path,
    sink: &mut impl FnMut(Record),
) -> Result<(), OpenError> {
    let mut each = |sql, read: fn(&Row<'_>) -> Result<Record, Bad>| {
        replay(connection, sql, read, sink).map_err(|bad| match bad {
            Bad::Sqlite(error) => OpenError::sqlite(file, error),
            Bad::Row(why) => OpenError::corrupt(file, why),
        })
    };
    each("SELECT id, name, added FROM users ORDER BY id", |row| {
        Ok(Record::UserAdded {
            user: UserId(id(row, 0)?),
            name: name(row, 1, UserName::new)?,
            at: time(row, 2)?,
        })
    })?;
    each("SELECT id, user, name, key, added FROM machines ORDER BY id", |row| {
        Ok(Record::MachineAdded {
            machine: MachineId(id(row, 0)?),
            user: UserId(id(row, 1)?),
            name: name(row, 2, MachineName::new)?,
            key: PublicKey::from_trusted(row.get(3)?),
            at: time(row, 4)?,
        })
    })?;
    each(
        "SELECT c.id, c.name, c.visibility, c.creator, c.created,
                max(c.last_seq, coalesce(m.seq, 0)), max(c.last_ts, coalesce(m.ts, c.last_ts))
         FROM channels c LEFT JOIN messages m
              ON m.channel = c.id AND m.seq = (SELECT max(seq) FROM messages WHERE channel = c.id)
         ORDER BY c.id",
        |row| {
            Ok(Record::ChannelCreated {
                channel: ChannelId(id(row, 0)?),
                name: name(row, 1, ChannelName::new)?,
                visibility: match row.get(2)? {
                    0 => Visibility::Public,
                    1 => Visibility::Unlisted,
                    2 => Visibility::Private,
                    other => return Err(Bad::Row(format!("a channel has the visibility {other}"))),
                },
                creator: UserId(id(row, 3)?),
                at: time(row, 4)?,
                last: Stamp { seq: id(row, 5)?, ts: time(row, 6)? },
            })
        },
    )?;
    each("SELECT channel, user FROM members ORDER BY channel, user", |row| {
        Ok(Record::MemberAdded { channel: ChannelId(id(row, 0)?), user: UserId(id(row, 1)?) })
    })?;
    each("SELECT channel, user FROM bans ORDER BY channel, user", |row| {
        Ok(Record::Banned { channel: ChannelId(id(row, 0)?), user: UserId(id(row, 1)?) })
    })?;
    each("SELECT channel, token, uses, expires, created FROM invites ORDER BY channel, token", |row| {
        Ok(Record::InviteCreated {
            channel: ChannelId(id(row, 0)?),
            token: Token::new(text(row, 1)?),
            uses: row.get(2)?,
            expires: row.get::<_, Option<i64>>(3)?.map(UnixMillis),
            at: time(row, 4)?,
        })
    })?;
    each("SELECT hash, maker, uses, expires, created FROM user_invites ORDER BY hash", |row| {
        Ok(Record::UserInviteCreated {
            invite: TokenHash(row.get(0)?),
            by: UserId(id(row, 1)?),
            uses: row.get(2)?,
            expires: row.get::<_, Option<i64>>(3)?.map(UnixMillis),
            at: time(row, 4)?,
        })
    })?;
    each("SELECT id, user, machine, handle, added FROM readers ORDER BY id", |row| {
        Ok(Record::ReaderAdded {
            reader: ReaderId(id(row, 0)?),
            user: UserId(id(row, 1)?),
            machine: MachineId(id(row, 2)?),
            handle: name(row, 3, Handle::new)?,
            at: time(row, 4)?,
        })
    })?;
    each(
        "SELECT b.id, b.user, b.reader, b.created,
                max(b.last_seq, coalesce(m.seq, 0)), max(b.last_ts, coalesce(m.ts, b.last_ts))
         FROM mailboxes b LEFT JOIN messages m
              ON m.channel = b.id AND m.seq = (SELECT max(seq) FROM messages WHERE channel = b.id)
         ORDER BY b.id",
        |row| {
            let reader = row.get::<_, Option<i64>>(2)?.map(|_| id(row, 2)).transpose()?;
            Ok(Record::MailboxCreated {
                mailbox: ChannelId(id(row, 0)?),
                user: UserId(id(row, 1)?),
                reader: reader.map(ReaderId),
                at: time(row, 3)?,
                last: Stamp { seq: id(row, 4)?, ts: time(row, 5)? },
            })
        },
    )?;
    each(
        "SELECT reader, channel, since, delivered, delivered_at, seen, seen_at FROM cursors
         ORDER BY reader, channel",
        |row| {
            let cursor = Cursor {
                since: id(row, 2)?,
                delivered: id(row, 3)?,
                delivered_at: time(row, 4)?,
                seen: id(row, 5)?,
                seen_at: time(row, 6)?,
            };
            Ok(Record::CursorMoved { reader: ReaderId(id(row, 0)?), channel: ChannelId(id(row, 1)?), cursor })
        },
    )?;
    each("SELECT reader, channel, seq, word, at FROM acks ORDER BY id", |row| {
        let ack = Ack { seq: id(row, 2)?, word: Opaque(text(row, 3)?.into()), at: time(row, 4)? };
        Ok(Record::Acknowledged { reader: ReaderId(id(row, 0)?), channel: ChannelId(id(row, 1)?), ack })
    })?;
    each(
        "SELECT mailbox, seq, ts, sender, message_id, bytes, until FROM waiting ORDER BY mailbox, seq",
        |row| {
            let waiting = Waiting {
                stamp: Stamp { seq: id(row, 1)?, ts: time(row, 2)? },
                sender: UserId(id(row, 3)?),
                id: MessageId(row.get(4)?),
                bytes: usize::try_from(id(row, 5)?).unwrap_or(usize::MAX),
                until: UnixMillis(row.get(6)?),
            };
            Ok(Record::MessageWaits { mailbox: ChannelId(id(row, 0)?), waiting })
        },
    )?;
    each("SELECT user, other, standing, wrote FROM contacts ORDER BY user, other", |row| {
        let standing = match row.get(2)? {
            0 => Standing::Allowed,
            1 => Standing::Blocked,
            other => return Err(Bad::Row(format!("a contact has the standing {other}"))),
        };
        let (user, other) = (UserId(id(row, 0)?), UserId(id(row, 1)?));
        Ok(Record::ContactSet { user, other, standing: Some(standing), wrote: row.get(3)? })
    })?;
    each("SELECT user FROM receipts_off ORDER BY user", |row| {
        Ok(Record::ReceiptsSet { user: UserId(id(row, 0)?), on: false })
    })?;
    each(
        "SELECT channel, suite, group_id, epoch, info, commit_user, commit_id, commit_seq, commit_ts FROM groups
         ORDER BY channel",
        |row| {
            let made = row.get::<_, Vec<u8>>(2)?.into();
            let group = NewGroup::new(row.get(1)?, made).map_err(|why| Bad::Row(why.to_string()))?;
            let last = match row.get::<_, Option<[u8; 16]>>(6)? {
                None => None,
                Some(message) => Some(LastCommit {
                    user: UserId(id(row, 5)?),
                    id: MessageId(message),
                    stamp: Stamp { seq: id(row, 7)?, ts: time(row, 8)? },
                }),
            };
            Ok(Record::GroupCreated {
                channel: ChannelId(id(row, 0)?),
                group,
                epoch: id(row, 3)?,
                info: blob(row, 4)?,
                last,
            })
        },
    )?;
    each("SELECT channel, user, machine FROM group_machines ORDER BY channel, machine", |row| {
        Ok(Record::GroupJoined {
            channel: ChannelId(id(row, 0)?),
            user: UserId(id(row, 1)?),
            machine: MachineId(id(row, 2)?),
        })
    })?;
    each("SELECT channel, user, machine, epoch, welcome FROM welcomes ORDER BY channel, machine", |row| {
        Ok(Record::WelcomeKept {
            channel: ChannelId(id(row, 0)?),
            user: UserId(id(row, 1)?),
            machine: MachineId(id(row, 2)?),
            epoch: id(row, 3)?,
            welcome: blob(row, 4)?,
        })
    })?;
    each("SELECT user, machine, package, last_resort FROM key_packages ORDER BY id", |row| {
        Ok(Record::KeyPackagePut {
            user: UserId(id(row, 0)?),
            machine: MachineId(id(row, 1)?),
            package: blob(row, 2)?,
            last_resort: row.get(3)?,
        })
    })?;
    each("SELECT user, entry, signature FROM roster_entries ORDER BY id", |row| {
        let entry = RosterEntry { entry: blob(row, 1)?, signature: Opaque(row.get(2)?) };
        Ok(Record::RosterExtended { user: UserId(id(row, 0)?), entry })
    })?;
    each("SELECT kind, name, keys, user, until FROM held_names ORDER BY kind, name", |row| {
        let (name, heir) = match row.get(0)? {
            0 => (FreedName::User(name(row, 1, UserName::new)?), Heir::Keys(keys(row, 2)?)),
            1 => (FreedName::Channel(name(row, 1, ChannelName::new)?), Heir::User(UserId(id(row, 3)?))),
            other => return Err(Bad::Row(format!("a held name is of the kind {other}"))),
        };
        Ok(Record::NameHeld { name, held: Held { heir, until: time(row, 4)? } })
    })?;
    each(
        "SELECT max(value) FILTER (WHERE key = 'next_user'), max(value) FILTER (WHERE key = 'next_machine'),
                max(value) FILTER (WHERE key = 'next_channel'), max(value) FILTER (WHERE key = 'next_reader')
         FROM meta",
        |row| {
            Ok(Record::Counted {
                users: id(row, 0)?,
                machines: id(row, 1)?,
                channels: id(row, 2)?,
                readers: id(row, 3)?,
            })
        },
    )
}

/// Why a row makes no record.
enum Bad {
    Sqlite(rusqlite::Error),
    Row(String),
}

impl From<rusqlite::Error> for Bad {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            // With a code it is the file's fault, without one the row's: another type than the schema says.
            error if error.sqlite_error_code().is_some() => Self::Sqlite(error),
            error => Self::Row(error.to_string()),
        }
    }
}

fn replay(
    connection: &Connection,
    sql: &str,
    read: fn(&Row<'_>) -> Result<Record, Bad>,
    sink: &mut impl FnMut(Record),
) -> Result<(), Bad> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        sink(read(row)?);
    }
    Ok(())
}

fn id(row: &Row<'_>, column: usize) -> Result<u64, Bad> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| Bad::Row(format!("a number is {number}")))
}

fn blob(row: &Row<'_>, column: usize) -> Result<Blob, Bad> {
    Ok(Opaque(row.get::<_, Vec<u8>>(column)?.into()))
}

fn keys(row: &Row<'_>, column: usize) -> Result<Box<[PublicKey]>, Bad> {
    let bytes = row.get_ref(column)?.as_blob().map_err(|error| Bad::Row(error.to_string()))?;
    let (keys, []) = bytes.as_chunks() else {
        return Err(Bad::Row("the keys of a held name are no keys".into()));
    };
    Ok(keys.iter().map(|key| PublicKey::from_trusted(*key)).collect())
}

/// A time that leaves room to count on from: the hub adds to the newest stamp.
fn time(row: &Row<'_>, column: usize) -> Result<UnixMillis, Bad> {
    let at: i64 = row.get(column)?;
    if at > i64::MAX / 2 { Err(Bad::Row(format!("a time is {at}"))) } else { Ok(UnixMillis(at)) }
}

fn name<T>(row: &Row<'_>, column: usize, new: fn(&str) -> Result<T, InvalidName>) -> Result<T, Bad> {
    new(text(row, column)?).map_err(|why| Bad::Row(format!("a stored name is none: {why}")))
}

fn text<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r str, Bad> {
    row.get_ref(column)?.as_str().map_err(|error| Bad::Row(error.to_string()))
}
