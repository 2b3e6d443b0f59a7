//! Records as SQL, one by one, inside the caller's transaction.

use std::sync::Arc;

use conclave_core::name::SessionPath;
use conclave_core::payload::Payload;
use conclave_core::protocol::Visibility;
use conclave_core::record::{ChannelId, Record};
use rusqlite::{CachedStatement, Connection, Params, Result, params};

const POST: &str =
    "INSERT INTO messages (channel, ts, seq, sender, kind, body, key_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

/// Applies records to the tables, as `Directory::apply` does to memory.
pub(super) struct Applier<'c> {
    connection: &'c Connection,
    post: CachedStatement<'c>,
    sender: Option<Arc<SessionPath>>,
    sender_text: String,
}

impl<'c> Applier<'c> {
    pub(super) fn new(connection: &'c Connection) -> Result<Self> {
        let post = connection.prepare_cached(POST)?;
        Ok(Self { connection, post, sender: None, sender_text: String::new() })
    }

    /// Applies `record`. Returns the bytes of content that it brought, and notes a deleted channel in `deleted`.
    pub(super) fn apply(&mut self, record: &Record, deleted: &mut Vec<ChannelId>) -> Result<usize> {
        match record {
            Record::Posted { channel, stamp, from, payload } => {
                self.name_sender(from);
                let (kind, body, key_id): (_, &dyn rusqlite::ToSql, _) = match &**payload {
                    Payload::Plain(text) => (0, text, None),
                    Payload::Encrypted(envelope) => (1, &envelope.ciphertext, envelope.key_id.as_deref()),
                };
                self.post.execute(params![
                    int(channel.0),
                    stamp.ts.0,
                    int(stamp.seq),
                    self.sender_text,
                    kind,
                    body,
                    key_id
                ])?;
                return Ok(payload.size());
            }
            Record::UserAdded { user, name, at } => {
                self.run(
                    "INSERT INTO users (id, name, added) VALUES (?1, ?2, ?3)",
                    params![int(user.0), name.as_str(), at.0],
                )?;
                self.count("next_user", user.0.saturating_add(1))?;
            }
            Record::UserRemoved { user } => {
                for sql in [
                    "DELETE FROM users WHERE id = ?1",
                    "DELETE FROM machines WHERE user = ?1",
                    "DELETE FROM members WHERE user = ?1",
                    "DELETE FROM bans WHERE user = ?1",
                ] {
                    self.run(sql, [int(user.0)])?;
                }
            }
            Record::MachineAdded { machine, user, name, key, at } => {
                self.run(
                    "INSERT INTO machines (id, user, name, key, added) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![int(machine.0), int(user.0), name.as_str(), key.as_bytes(), at.0],
                )?;
                self.count("next_machine", machine.0.saturating_add(1))?;
            }
            Record::MachineRemoved { user, machine } => {
                self.run(
                    "DELETE FROM machines WHERE id = ?1 AND user = ?2",
                    params![int(machine.0), int(user.0)],
                )?;
            }
            Record::ChannelCreated { channel, name, visibility, creator, at, last } => {
                self.run(
                    "INSERT INTO channels (id, name, visibility, creator, created, last_seq, last_ts)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![
                        int(channel.0),
                        name.as_str(),
                        encode(*visibility),
                        int(creator.0),
                        at.0,
                        int(last.seq),
                        last.ts.0
                    ],
                )?;
                self.count("next_channel", channel.0.saturating_add(1))?;
            }
            Record::ChannelDeleted { channel } => {
                for sql in [
                    "DELETE FROM channels WHERE id = ?1",
                    "DELETE FROM members WHERE channel = ?1",
                    "DELETE FROM bans WHERE channel = ?1",
                    "DELETE FROM invites WHERE channel = ?1",
                    "INSERT OR IGNORE INTO deleted_channels (channel) VALUES (?1)",
                ] {
                    self.run(sql, [int(channel.0)])?;
                }
                deleted.push(*channel);
            }
            Record::ChannelRenamed { channel, name } => {
                self.run(
                    "UPDATE channels SET name = ?2 WHERE id = ?1",
                    params![int(channel.0), name.as_str()],
                )?;
            }
            Record::VisibilitySet { channel, visibility } => {
                self.run(
                    "UPDATE channels SET visibility = ?2 WHERE id = ?1",
                    params![int(channel.0), encode(*visibility)],
                )?;
            }
            Record::MemberAdded { channel, user } => self.run(
                "INSERT OR IGNORE INTO members (channel, user) VALUES (?1, ?2)",
                [int(channel.0), int(user.0)],
            )?,
            Record::MemberRemoved { channel, user } => self
                .run("DELETE FROM members WHERE channel = ?1 AND user = ?2", [int(channel.0), int(user.0)])?,
            Record::Banned { channel, user } => self.run(
                "INSERT OR IGNORE INTO bans (channel, user) VALUES (?1, ?2)",
                [int(channel.0), int(user.0)],
            )?,
            Record::Unbanned { channel, user } => {
                self.run("DELETE FROM bans WHERE channel = ?1 AND user = ?2", [int(channel.0), int(user.0)])?
            }
            Record::InviteCreated { channel, token, uses, expires, at } => self.run(
                "INSERT OR REPLACE INTO invites (channel, token, uses, expires, created)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![int(channel.0), token.expose(), uses, expires.map(|at| at.0), at.0],
            )?,
            Record::InviteUsed { channel, token } => {
                let key = params![int(channel.0), token.expose()];
                self.run("UPDATE invites SET uses = uses - 1 WHERE channel = ?1 AND token = ?2", key)?;
                self.run("DELETE FROM invites WHERE channel = ?1 AND token = ?2 AND uses <= 0", key)?;
            }
            Record::InviteRevoked { channel, token } => self.run(
                "DELETE FROM invites WHERE channel = ?1 AND token = ?2",
                params![int(channel.0), token.expose()],
            )?,
            Record::Counted { users, machines, channels } => {
                self.count("next_user", *users)?;
                self.count("next_machine", *machines)?;
                self.count("next_channel", *channels)?;
            }
        }
        Ok(0)
    }

    /// Sees to it that the counter `key` is at least `next`.
    fn count(&self, key: &str, next: u64) -> Result<()> {
        self.run("UPDATE meta SET value = ?2 WHERE key = ?1 AND value < ?2", params![key, int(next)])
    }

    fn run(&self, sql: &str, params: impl Params) -> Result<()> {
        self.connection.prepare_cached(sql)?.execute(params).map(drop)
    }

    /// Writes the sender's path, unless it is the one before: a busy session posts many in a row.
    fn name_sender(&mut self, from: &Arc<SessionPath>) {
        if self.sender.as_ref().is_some_and(|sender| Arc::ptr_eq(sender, from)) {
            return;
        }
        self.sender_text.clear();
        for part in [from.user.as_str(), "/", from.machine.as_str(), "/", from.session.as_str()] {
            self.sender_text.push_str(part);
        }
        self.sender = Some(Arc::clone(from));
    }
}

/// SQLite's integers are signed. Nothing counts as far as their end.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn encode(visibility: Visibility) -> i64 {
    match visibility {
        Visibility::Public => 0,
        Visibility::Unlisted => 1,
        Visibility::Private => 2,
    }
}
