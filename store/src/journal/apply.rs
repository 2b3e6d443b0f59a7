//! Records as SQL, one by one, inside the caller's transaction.

use conclave_core::protocol::Visibility;
use conclave_core::record::{ChannelId, Record};
use rusqlite::{Connection, Params, Result, params};

use super::message::Inserter;
use super::{audit, held_names, int, mailboxes, readers, sealed};

/// What a record did.
pub(super) enum Applied {
    /// It is in the tables, with so many bytes of content.
    Stored { bytes: usize },
    /// Nothing: it is a post that is stored already.
    Duplicate,
}

/// Applies records to the tables, as `Directory::apply` does to memory.
pub(super) struct Applier<'c> {
    connection: &'c Connection,
    messages: Inserter<'c>,
}

impl<'c> Applier<'c> {
    pub(super) fn new(connection: &'c Connection) -> Result<Self> {
        Ok(Self { connection, messages: Inserter::new(connection)? })
    }

    /// Applies `record`, and notes deleted channels and mailboxes in `deleted`.
    pub(super) fn apply(&mut self, record: &Record, deleted: &mut Vec<ChannelId>) -> Result<Applied> {
        match record {
            Record::Posted { channel, stamp, from, payload, origin } => {
                return Ok(if self.messages.insert(*channel, *stamp, from, payload, origin)? {
                    Applied::Stored { bytes: payload.size() }
                } else {
                    Applied::Duplicate
                });
            }
            Record::UserAdded { user, name, at } => {
                self.run(
                    "INSERT INTO users (id, name, added) VALUES (?1, ?2, ?3)",
                    params![int(user.0), name.as_str(), at.0],
                )?;
                self.count("next_user", user.0.saturating_add(1))?;
            }
            Record::UserRemoved { user } => {
                sealed::apply(self.connection, record)?;
                deleted.extend(mailboxes::remove(self.connection, *user, None)?);
                mailboxes::forget_contacts(self.connection, *user)?;
                readers::remove(self.connection, *user, None)?;
                for sql in [
                    "DELETE FROM users WHERE id = ?1",
                    "DELETE FROM machines WHERE user = ?1",
                    "DELETE FROM members WHERE user = ?1",
                    "DELETE FROM bans WHERE user = ?1",
                    "DELETE FROM user_invites WHERE maker = ?1",
                    "DELETE FROM receipts_off WHERE user = ?1",
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
                sealed::apply(self.connection, record)?;
                deleted.extend(mailboxes::remove(self.connection, *user, Some(int(machine.0)))?);
                readers::remove(self.connection, *user, Some(*machine))?;
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
                sealed::apply(self.connection, record)?;
                for sql in [
                    "DELETE FROM channels WHERE id = ?1",
                    "DELETE FROM members WHERE channel = ?1",
                    "DELETE FROM bans WHERE channel = ?1",
                    "DELETE FROM invites WHERE channel = ?1",
                    "DELETE FROM cursors WHERE channel = ?1",
                    "DELETE FROM acks WHERE channel = ?1",
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
            Record::MemberRemoved { channel, user } => {
                sealed::apply(self.connection, record)?;
                self.run(
                    "DELETE FROM members WHERE channel = ?1 AND user = ?2",
                    [int(channel.0), int(user.0)],
                )?;
            }
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
            Record::UserInviteCreated { invite, by, uses, expires, at } => self.run(
                "INSERT OR REPLACE INTO user_invites (hash, maker, uses, expires, created)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![invite.0, int(by.0), uses, expires.map(|at| at.0), at.0],
            )?,
            Record::UserInviteUsed { invite } => {
                self.run("UPDATE user_invites SET uses = uses - 1 WHERE hash = ?1", [invite.0])?;
                self.run("DELETE FROM user_invites WHERE hash = ?1 AND uses <= 0", [invite.0])?;
            }
            Record::UserInviteRevoked { invite } => {
                self.run("DELETE FROM user_invites WHERE hash = ?1", [invite.0])?;
            }
            Record::ReaderAdded { reader, user, machine, handle, at } => {
                self.run(
                    "INSERT INTO readers (id, user, machine, handle, added) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![int(reader.0), int(user.0), int(machine.0), handle.as_str(), at.0],
                )?;
                self.count("next_reader", reader.0.saturating_add(1))?;
            }
            Record::CursorMoved { reader, channel, cursor } => {
                readers::place(self.connection, *reader, *channel, cursor)?;
                mailboxes::deliver(self.connection, *reader, *channel, cursor.delivered)?;
            }
            Record::Acknowledged { reader, channel, ack } => {
                readers::acknowledge(self.connection, *reader, *channel, ack)?;
            }
            Record::MailboxCreated { mailbox, user, reader, at, last } => {
                mailboxes::create(self.connection, *mailbox, *user, *reader, *at, *last)?;
                self.count("next_channel", mailbox.0.saturating_add(1))?;
            }
            Record::MessageWaits { mailbox, waiting } => {
                mailboxes::wait(self.connection, *mailbox, waiting)?;
            }
            Record::ContactSet { user, other, standing, wrote } => {
                mailboxes::set_contact(self.connection, *user, *other, *standing, *wrote)?;
            }
            Record::ReceiptsSet { user, on } => readers::set_receipts(self.connection, *user, *on)?,
            Record::NameHeld { name, held } => held_names::hold(self.connection, name, held)?,
            Record::NameReleased { name } => held_names::release(self.connection, name)?,
            Record::GroupCreated { .. }
            | Record::GroupAdvanced { .. }
            | Record::GroupJoined { .. }
            | Record::GroupLeft { .. }
            | Record::WelcomeKept { .. }
            | Record::WelcomeDropped { .. }
            | Record::KeyPackagePut { .. }
            | Record::KeyPackageTaken { .. }
            | Record::RosterExtended { .. } => sealed::apply(self.connection, record)?,
            Record::Audited(deed) => audit::insert(self.connection, deed)?,
            Record::Counted { users, machines, channels, readers } => {
                self.count("next_user", *users)?;
                self.count("next_machine", *machines)?;
                self.count("next_channel", *channels)?;
                self.count("next_reader", *readers)?;
            }
        }
        Ok(Applied::Stored { bytes: 0 })
    }

    /// Sees to it that the counter `key` is at least `next`.
    fn count(&self, key: &str, next: u64) -> Result<()> {
        self.run("UPDATE meta SET value = ?2 WHERE key = ?1 AND value < ?2", params![key, int(next)])
    }

    fn run(&self, sql: &str, params: impl Params) -> Result<()> {
        self.connection.prepare_cached(sql)?.execute(params).map(drop)
    }
}

fn encode(visibility: Visibility) -> i64 {
    match visibility {
        Visibility::Public => 0,
        Visibility::Unlisted => 1,
        Visibility::Private => 2,
    }
}
