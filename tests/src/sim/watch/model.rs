//! The directory once more, as plainly as can be: what the durable records mean, and which of them may not be.

use std::collections::{BTreeMap, BTreeSet};

use conclave_core::directory::Directory;
use conclave_core::key::PublicKey;
use conclave_core::name::{ChannelName, Handle, MachineName, UserName};
use conclave_core::protocol::{Token, Visibility};
use conclave_core::record::{Ack, ChannelId, Cursor, MachineId, ReaderId, Record, Stamp, UserId};
use conclave_core::stream::MessageId;

/// Users and channels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// The users.
    pub users: BTreeMap<UserId, User>,
    /// The channels.
    pub channels: BTreeMap<ChannelId, Channel>,
    /// The mailboxes.
    pub mailboxes: BTreeMap<ChannelId, Mailbox>,
    /// Who had created the channels that are gone, by their last name.
    pub gone: BTreeMap<ChannelName, UserId>,
    /// The readers.
    pub readers: BTreeMap<ReaderId, Reader>,
    /// Where they stand, as far as it is written.
    pub cursors: BTreeMap<(ChannelId, ReaderId), Cursor>,
    /// What they acknowledged last, oldest first.
    pub acks: BTreeMap<(ChannelId, ReaderId), Vec<Ack>>,
    /// Where posts of version 2 are stored.
    pub ids: BTreeMap<(ChannelId, UserId, MessageId), Stamp>,
    /// The core's own fold of the same records.
    pub directory: Directory,
    given: BTreeSet<(u8, u64)>,
}

/// Acknowledgements that are kept of one reader in one channel.
const ACKS: usize = 64;

/// A reader.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    /// Its machine.
    pub machine: MachineId,
    /// Its user.
    pub user: UserId,
    /// Its handle.
    pub handle: Handle,
}

/// A mailbox: a user's, or a reader's.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    /// Whose it is.
    pub user: UserId,
    /// The reader, if it is one's.
    pub reader: Option<ReaderId>,
    /// Its newest message.
    pub last: Stamp,
}

/// A user.
#[derive(Clone, Debug)]
pub(crate) struct User {
    /// Its name.
    pub name: UserName,
    /// Its machines.
    pub machines: BTreeMap<MachineId, (MachineName, PublicKey)>,
}

/// A channel.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    /// Its name.
    pub name: ChannelName,
    /// Who may see it.
    pub visibility: Visibility,
    /// Its admin.
    pub creator: UserId,
    /// Its members.
    pub members: BTreeSet<UserId>,
    /// Whom it banned.
    pub banned: BTreeSet<UserId>,
    /// Its invites, and how often each may be used.
    pub invites: BTreeMap<Token, Option<u32>>,
    /// Its newest message.
    pub last: Stamp,
}

impl Model {
    /// Folds one record in.
    ///
    /// # Errors
    /// The record cannot be.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), String> {
        self.directory.apply(record);
        match record {
            Record::UserAdded { user, name, .. } => {
                demand!(self.gives(0, user.0), "{user:?} was given twice");
                demand!(self.user_named(name).is_none(), "two users are called {name}");
                self.users.insert(*user, User { name: name.clone(), machines: BTreeMap::new() });
            }
            Record::UserRemoved { user } => {
                demand!(self.users.remove(user).is_some(), "a user was removed that was none");
                self.mailboxes.retain(|_, mailbox| mailbox.user != *user);
                self.forget_readers(|reader| reader.user == *user);
                for (id, channel) in &mut self.channels {
                    demand!(channel.creator != *user, "{id:?} outlives who created it");
                    channel.members.remove(user);
                    channel.banned.remove(user);
                }
            }
            Record::MachineAdded { machine, user, name, key, .. } => {
                demand!(self.gives(1, machine.0), "{machine:?} was given twice");
                demand!(self.machine_with(key).is_none(), "a key was enrolled twice");
                let Some(owner) = self.users.get_mut(user) else {
                    return Err(format!("{machine:?} has no user"));
                };
                demand!(owner.machines.values().all(|(other, _)| other != name), "two machines are {name}");
                owner.machines.insert(*machine, (name.clone(), *key));
            }
            Record::MachineRemoved { user, machine } => {
                let removed = self.users.get_mut(user).and_then(|owner| owner.machines.remove(machine));
                demand!(removed.is_some(), "a machine was removed that was none");
                self.forget_readers(|reader| reader.machine == *machine);
            }
            Record::ChannelCreated { channel, name, visibility, creator, last, .. } => {
                demand!(self.gives(2, channel.0), "{channel:?} was given twice");
                demand!(self.channel_named(name).is_none(), "two channels are called {name}");
                demand!(self.users.contains_key(creator), "{channel:?} was created by nobody");
                let created = Channel {
                    name: name.clone(),
                    visibility: *visibility,
                    creator: *creator,
                    members: BTreeSet::new(),
                    banned: BTreeSet::new(),
                    invites: BTreeMap::new(),
                    last: *last,
                };
                self.channels.insert(*channel, created);
            }
            Record::ChannelDeleted { channel } => {
                let Some(gone) = self.channels.remove(channel) else {
                    return Err("a channel was deleted that was none".into());
                };
                self.gone.insert(gone.name, gone.creator);
                self.cursors.retain(|(other, _), _| other != channel);
                self.acks.retain(|(other, _), _| other != channel);
            }
            Record::ChannelRenamed { channel, name } => {
                demand!(self.channel_named(name).is_none(), "two channels are called {name}");
                self.channel(*channel)?.name = name.clone();
            }
            Record::VisibilitySet { channel, visibility } => {
                self.channel(*channel)?.visibility = *visibility;
            }
            Record::MemberAdded { channel, user } => {
                demand!(self.users.contains_key(user), "nobody became a member");
                let channel = self.channel(*channel)?;
                demand!(!channel.banned.contains(user), "a banned user became a member");
                channel.members.insert(*user);
            }
            Record::MemberRemoved { channel, user } => {
                demand!(self.channel(*channel)?.members.remove(user), "who was no member was removed");
            }
            Record::Banned { channel, user } => {
                let channel = self.channel(*channel)?;
                demand!(!channel.members.contains(user), "a member is banned");
                demand!(channel.banned.insert(*user), "a user was banned twice");
            }
            Record::Unbanned { channel, user } => {
                demand!(self.channel(*channel)?.banned.remove(user), "a ban was lifted that was none");
            }
            Record::InviteCreated { channel, token, uses, .. } => {
                demand!(self.invite(token).is_none(), "two invites have one token");
                self.channel(*channel)?.invites.insert(token.clone(), *uses);
            }
            Record::InviteUsed { channel, token } => {
                let invites = &mut self.channel(*channel)?.invites;
                match invites.get_mut(token) {
                    None => return Err("an invite was used that was none".into()),
                    Some(Some(1)) => {
                        invites.remove(token);
                    }
                    Some(Some(uses)) => *uses -= 1,
                    Some(None) => {}
                }
            }
            Record::InviteRevoked { channel, token } => {
                let removed = self.channel(*channel)?.invites.remove(token);
                demand!(removed.is_some(), "an invite was revoked that was none");
            }
            Record::Posted { channel, stamp, origin, .. } => {
                if let (Some((user, _)), Some(signed)) = (origin.sender, &origin.signed) {
                    self.ids.insert((*channel, user, signed.id), *stamp);
                }
                let last = match self.mailboxes.get_mut(channel) {
                    Some(mailbox) => &mut mailbox.last,
                    None => &mut self.channel(*channel)?.last,
                };
                demand!(stamp.seq == last.seq + 1, "{stamp:?} follows {last:?} in {channel:?}");
                demand!(stamp.ts > last.ts, "the stamp of {channel:?} went from {last:?} to {stamp:?}");
                *last = *stamp;
            }
            Record::ReaderAdded { reader, user, machine, handle, .. } => {
                demand!(self.gives(3, reader.0), "{reader:?} was given twice");
                let owner = self.users.get(user).is_some_and(|owner| owner.machines.contains_key(machine));
                demand!(owner, "{reader:?} reads for nobody");
                let twice = self.readers.values().any(|it| it.machine == *machine && it.handle == *handle);
                demand!(!twice, "two readers are called {handle}");
                let new = Reader { machine: *machine, user: *user, handle: handle.clone() };
                self.readers.insert(*reader, new);
            }
            // Of what is gone, nothing is kept.
            Record::CursorMoved { reader, channel, cursor } => {
                if self.readers.contains_key(reader) && self.has(*channel) {
                    demand!(cursor.since <= cursor.seen && cursor.seen <= cursor.delivered, "{cursor:?}");
                    demand!(cursor.delivered <= self.last(*channel), "{cursor:?} is ahead of {channel:?}");
                    self.cursors.insert((*channel, *reader), *cursor);
                }
            }
            Record::Acknowledged { reader, channel, ack } => {
                if self.readers.contains_key(reader) && self.has(*channel) {
                    demand!(ack.seq <= self.last(*channel), "{ack:?} is ahead of {channel:?}");
                    let acks = self.acks.entry((*channel, *reader)).or_default();
                    acks.retain(|other| other.seq != ack.seq);
                    acks.push(ack.clone());
                    if acks.len() > ACKS {
                        acks.remove(0);
                    }
                }
            }
            Record::MailboxCreated { mailbox, user, reader, last, .. } => {
                demand!(self.gives(2, mailbox.0), "{mailbox:?} was given twice");
                demand!(self.users.contains_key(user), "{mailbox:?} is nobody's");
                let owner = |reader: &ReaderId| self.readers.get(reader).map(|reader| reader.user);
                demand!(reader.as_ref().is_none_or(|id| owner(id) == Some(*user)), "{reader:?} is another's");
                let twice = self.mailboxes.values().any(|one| (one.user, one.reader) == (*user, *reader));
                demand!(!twice, "{user:?} has two mailboxes for {reader:?}");
                let new = Mailbox { user: *user, reader: *reader, last: *last };
                self.mailboxes.insert(*mailbox, new);
            }
            Record::UserInviteCreated { .. }
            | Record::UserInviteUsed { .. }
            | Record::UserInviteRevoked { .. } => {
                return Err(format!("nobody is invited to the server here: {record:?}"));
            }
            Record::MessageWaits { mailbox, waiting } => {
                let found = self.mailboxes.get(mailbox);
                demand!(found.is_some_and(|one| waiting.stamp.seq <= one.last.seq), "{waiting:?} is nowhere");
            }
            Record::ReceiptsSet { .. } => return Err(format!("nobody turns receipts off here: {record:?}")),
            Record::ContactSet { .. } => return Err(format!("nobody has contacts here: {record:?}")),
            Record::NameHeld { .. } | Record::NameReleased { .. } => {
                return Err(format!("names are not held back here: {record:?}"));
            }
            Record::GroupCreated { .. }
            | Record::GroupAdvanced { .. }
            | Record::GroupJoined { .. }
            | Record::GroupLeft { .. }
            | Record::WelcomeKept { .. }
            | Record::WelcomeDropped { .. }
            | Record::KeyPackagePut { .. }
            | Record::KeyPackageTaken { .. }
            | Record::RosterExtended { .. } => return Err(format!("nothing is sealed here: {record:?}")),
            Record::Audited(_) | Record::Counted { .. } => {}
        }
        Ok(())
    }

    fn gives(&mut self, kind: u8, id: u64) -> bool {
        self.given.insert((kind, id))
    }

    fn forget_readers(&mut self, whom: impl Fn(&Reader) -> bool) {
        self.readers.retain(|_, reader| !whom(reader));
        let readers = &self.readers;
        self.mailboxes.retain(|_, mailbox| mailbox.reader.is_none_or(|reader| readers.contains_key(&reader)));
        self.cursors.retain(|(_, reader), _| readers.contains_key(reader));
        self.acks.retain(|(_, reader), _| readers.contains_key(reader));
    }

    /// A reader's path.
    pub(crate) fn path_of(&self, id: ReaderId) -> Option<String> {
        let reader = self.readers.get(&id)?;
        let user = self.users.get(&reader.user)?;
        let (machine, _) = user.machines.get(&reader.machine)?;
        Some(format!("{}/{machine}/{}", user.name, reader.handle))
    }

    fn channel(&mut self, id: ChannelId) -> Result<&mut Channel, String> {
        self.channels.get_mut(&id).ok_or_else(|| format!("{id:?} was changed and is none"))
    }

    /// Whether there is such a channel or mailbox.
    pub(crate) fn has(&self, id: ChannelId) -> bool {
        self.channels.contains_key(&id) || self.mailboxes.contains_key(&id)
    }

    /// The number of the newest message of a channel or mailbox.
    pub(crate) fn last(&self, id: ChannelId) -> u64 {
        let mailbox = self.mailboxes.get(&id).map(|mailbox| mailbox.last.seq);
        mailbox.or(self.channels.get(&id).map(|channel| channel.last.seq)).unwrap_or(0)
    }

    /// The user of this name.
    pub(crate) fn user_named(&self, name: &UserName) -> Option<UserId> {
        self.users.iter().find(|(_, user)| user.name == *name).map(|(id, _)| *id)
    }

    /// The channel of this name.
    pub(crate) fn channel_named(&self, name: &ChannelName) -> Option<(ChannelId, &Channel)> {
        self.channels.iter().find(|(_, channel)| channel.name == *name).map(|(id, channel)| (*id, channel))
    }

    /// The machine of this key, and whose it is.
    pub(crate) fn machine_with(&self, key: &PublicKey) -> Option<(UserId, MachineId)> {
        self.users.iter().find_map(|(id, user)| {
            user.machines.iter().find(|(_, (_, other))| other == key).map(|(machine, _)| (*id, *machine))
        })
    }

    /// The channel that a token leads to.
    pub(crate) fn invite(&self, token: &Token) -> Option<ChannelId> {
        self.channels.iter().find(|(_, channel)| channel.invites.contains_key(token)).map(|(id, _)| *id)
    }
}
