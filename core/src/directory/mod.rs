//! The durable state but for messages: users, machines, channels, members, bans, invites, readers, mailboxes, contacts,
//! as a fold over [`Record`]s.
//!
//! [`Directory::apply`] trusts its records: they were decided by the hub against this very state, or come
//! from the store that kept them. A record about what is not there changes nothing.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::key::PublicKey;
use crate::name::{ChannelName, MachineName, UserName};
use crate::protocol::{Token, Visibility};
use crate::record::{ChannelId, MachineId, ReaderId, Record, Stamp, UserId};
use crate::time::UnixMillis;

mod check;
mod contacts;
mod freed;
mod looks;
mod mailboxes;
mod readers;
mod sealed;
mod user_invites;

pub(crate) use check::hold;
pub use freed::{FreedName, Heir, Held};
pub(crate) use looks::{Look, looks};
pub use mailboxes::{Mailbox, Waiting};
pub use readers::Reader;
pub use sealed::{Group, Stock};
pub use user_invites::{TokenHash, UserInvite};

use contacts::Contacts;
use freed::Freed;
use looks::Looks;
use mailboxes::Mailboxes;
use readers::Readers;
use sealed::Sealed;
use user_invites::UserInvites;

/// Users, machines and channels, and the ways to find them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Directory {
    users: BTreeMap<UserId, User>,
    users_by_name: BTreeMap<UserName, UserId>,
    user_looks: Looks<UserId>,
    owners: BTreeMap<PublicKey, UserId>,
    machine_owners: BTreeMap<MachineId, UserId>,
    channels: BTreeMap<ChannelId, Channel>,
    channels_by_name: BTreeMap<ChannelName, ChannelId>,
    channel_looks: Looks<ChannelId>,
    freed: Freed,
    invites: BTreeMap<Token, ChannelId>,
    readers: Readers,
    mailboxes: Mailboxes,
    contacts: Contacts,
    user_invites: UserInvites,
    sealed: Sealed,
    next_user: u64,
    next_machine: u64,
    next_channel: u64,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User {
    /// Its name.
    pub name: UserName,
    /// Its machines, few enough to be looked through.
    pub machines: Box<[Machine]>,
    /// The channels that it created, is a member of or is banned from: where its removal must reach.
    pub channels: BTreeSet<ChannelId>,
    /// How many channels it has created that exist.
    pub created: u32,
}

/// A machine of a user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    /// Its identity.
    pub id: MachineId,
    /// Its name.
    pub name: MachineName,
    /// Its key.
    pub key: PublicKey,
    /// When it was enrolled.
    pub added: UnixMillis,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Channel {
    /// Its name.
    pub name: ChannelName,
    /// Its visibility.
    pub visibility: Visibility,
    /// Its admin.
    pub creator: UserId,
    /// Its members.
    pub members: BTreeSet<UserId>,
    /// Whom it banned.
    pub banned: BTreeSet<UserId>,
    /// Its invites.
    pub invites: BTreeMap<Token, Invite>,
    /// Its newest message.
    pub last: Stamp,
}

/// An invite to a channel, or to the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Invite {
    /// How often it may still be used; `None`: any number of times.
    pub uses: Option<u32>,
    /// From when on it is worth nothing; `None`: never.
    pub expires: Option<UnixMillis>,
    /// When it was made.
    pub created: UnixMillis,
}

impl Invite {
    /// Whether it still lets someone in at `wall`.
    pub fn is_valid(&self, wall: UnixMillis) -> bool {
        self.uses != Some(0) && self.expires.is_none_or(|at| wall < at)
    }
}

impl Directory {
    /// Folds one record in.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::UserAdded { user, name, .. } => {
                self.next_user = self.next_user.max(user.0 + 1);
                self.users_by_name.insert(name.clone(), *user);
                self.user_looks.add(name.as_str(), user);
                let machines = Box::default();
                self.users.insert(
                    *user,
                    User { name: name.clone(), machines, channels: BTreeSet::new(), created: 0 },
                );
            }
            Record::UserRemoved { user } => self.remove_user(*user),
            Record::MachineAdded { machine, user, name, key, at } => {
                self.next_machine = self.next_machine.max(machine.0 + 1);
                if let Some(owner) = self.users.get_mut(user) {
                    self.owners.insert(*key, *user);
                    self.machine_owners.insert(*machine, *user);
                    let added = Machine { id: *machine, name: name.clone(), key: *key, added: *at };
                    owner.machines = owner.machines.iter().cloned().chain([added]).collect();
                }
            }
            Record::MachineRemoved { user, machine } => {
                if let Some(owner) = self.users.get_mut(user) {
                    let (gone, kept): (Vec<_>, Vec<_>) =
                        owner.machines.iter().cloned().partition(|one| one.id == *machine);
                    owner.machines = kept.into();
                    let channels = owner.channels.clone();
                    for machine in gone {
                        self.owners.remove(&machine.key);
                    }
                    self.machine_owners.remove(machine);
                    self.sealed.forget_machine(*machine);
                    channels.into_iter().for_each(|channel| self.settle_group(channel, *user));
                }
                let readers = self.readers.forget(*user, Some(*machine));
                self.forget_mailboxes(None, &readers);
            }
            Record::ChannelCreated { channel, name, visibility, creator, last, .. } => {
                self.next_channel = self.next_channel.max(channel.0 + 1);
                self.channels_by_name.insert(name.clone(), *channel);
                self.channel_looks.add(name.as_str(), channel);
                self.channels.insert(
                    *channel,
                    Channel {
                        name: name.clone(),
                        visibility: *visibility,
                        creator: *creator,
                        members: BTreeSet::new(),
                        banned: BTreeSet::new(),
                        invites: BTreeMap::new(),
                        last: *last,
                    },
                );
                if let Some(creator) = self.users.get_mut(creator) {
                    creator.created += 1;
                    creator.channels.insert(*channel);
                }
            }
            Record::ChannelDeleted { channel } => self.remove_channel(*channel),
            Record::ChannelRenamed { channel, name } => {
                if let Some(renamed) = self.channels.get_mut(channel) {
                    self.channels_by_name.remove(&renamed.name);
                    self.channels_by_name.insert(name.clone(), *channel);
                    self.channel_looks.remove(renamed.name.as_str(), channel);
                    self.channel_looks.add(name.as_str(), channel);
                    renamed.name = name.clone();
                }
            }
            Record::VisibilitySet { channel, visibility } => {
                if let Some(channel) = self.channels.get_mut(channel) {
                    channel.visibility = *visibility;
                }
            }
            Record::MemberAdded { channel, user } => {
                self.relate(*channel, *user, |it| it.members.insert(*user));
                self.settle_group(*channel, *user);
            }
            Record::MemberRemoved { channel, user } => {
                self.relate(*channel, *user, |it| it.members.remove(user));
                self.settle_group(*channel, *user);
            }
            Record::Banned { channel, user } => self.relate(*channel, *user, |it| it.banned.insert(*user)),
            Record::Unbanned { channel, user } => self.relate(*channel, *user, |it| it.banned.remove(user)),
            Record::InviteCreated { channel, token, uses, expires, at } => {
                if let Some(target) = self.channels.get_mut(channel) {
                    let invite = Invite { uses: *uses, expires: *expires, created: *at };
                    target.invites.insert(token.clone(), invite);
                    self.invites.insert(token.clone(), *channel);
                }
            }
            Record::InviteUsed { channel, token } => {
                let Some(target) = self.channels.get_mut(channel) else { return };
                if let Some(invite) = target.invites.get_mut(token)
                    && let Some(uses) = &mut invite.uses
                {
                    *uses = uses.saturating_sub(1);
                    if *uses == 0 {
                        target.invites.remove(token);
                        self.invites.remove(token);
                    }
                }
            }
            Record::InviteRevoked { channel, token } => {
                if let Some(target) = self.channels.get_mut(channel) {
                    target.invites.remove(token);
                    self.invites.remove(token);
                }
            }
            Record::UserInviteCreated { invite, by, uses, expires, at } => {
                if self.users.contains_key(by) {
                    self.user_invites.create(*invite, *by, *uses, (*expires, *at));
                }
            }
            Record::UserInviteUsed { invite } => self.user_invites.used(invite),
            Record::UserInviteRevoked { invite } => self.user_invites.revoke(invite),
            Record::Posted { channel, stamp, .. } => self.apply_stamp(*channel, *stamp),
            Record::ReaderAdded { reader, user, machine, handle, .. } => {
                self.readers.add(*reader, *user, *machine, handle.clone());
            }
            Record::CursorMoved { reader, channel, cursor } => {
                if self.is_stream(*channel)
                    && self.readers.place(*reader, *channel, *cursor)
                    && let Some(mailbox) = self.mailboxes.all.get_mut(channel)
                {
                    mailbox.delivered(cursor.delivered);
                }
            }
            Record::Acknowledged { reader, channel, ack } => {
                if self.is_stream(*channel) {
                    self.readers.acknowledge(*reader, *channel, ack.clone());
                }
            }
            Record::MailboxCreated { mailbox, user, reader, last, .. } => {
                self.next_channel = self.next_channel.max(mailbox.0 + 1);
                self.mailboxes.create(*mailbox, *user, *reader, *last);
            }
            Record::MessageWaits { mailbox, waiting } => {
                if let Some(mailbox) = self.mailboxes.all.get_mut(mailbox) {
                    mailbox.add(*waiting);
                    self.contacts.wrote(waiting.sender, mailbox.user);
                }
            }
            Record::ContactSet { user, other, standing, wrote } => {
                if self.users.contains_key(user) && self.users.contains_key(other) {
                    self.contacts.set(*user, *other, standing.map(|standing| (standing, *wrote)));
                }
            }
            Record::ReceiptsSet { user, on } => {
                if self.users.contains_key(user) {
                    self.readers.set_receipts(*user, *on);
                }
            }
            Record::GroupCreated { channel, group, epoch, info, last } => {
                if let Some(creator) = self.channels.get(channel).map(|channel| channel.creator) {
                    self.sealed.create(*channel, creator, group.clone(), (*epoch, info.clone(), *last));
                }
            }
            Record::GroupAdvanced { channel, epoch, info, last } => {
                self.sealed.advance(*channel, *epoch, info.clone(), *last);
            }
            Record::GroupJoined { channel, user, machine } => self.join_group(*channel, *user, *machine),
            Record::GroupLeft { channel, machine } => self.sealed.leave(*channel, *machine),
            Record::WelcomeKept { channel, machine, epoch, welcome, .. } => {
                self.sealed.keep_welcome(*channel, *machine, *epoch, welcome.clone());
            }
            Record::WelcomeDropped { channel, machine } => self.sealed.drop_welcome(*channel, *machine),
            Record::KeyPackagePut { user, machine, package, last_resort } => {
                if self.users.get(user).is_some_and(|user| user.machines.iter().any(|one| one.id == *machine))
                {
                    self.sealed.put(*user, *machine, package.clone(), *last_resort);
                }
            }
            Record::KeyPackageTaken { machine, .. } => self.sealed.taken(*machine),
            Record::RosterExtended { user, entry } => {
                if self.users.contains_key(user) {
                    self.sealed.extend_roster(*user, entry.clone());
                }
            }
            Record::NameHeld { name, held } => self.freed.hold(name, held),
            Record::NameReleased { name } => self.freed.release(name),
            Record::Audited(_) => {}
            Record::Counted { users, machines, channels, readers } => {
                self.readers.next = self.readers.next.max(*readers);
                self.next_user = self.next_user.max(*users);
                self.next_machine = self.next_machine.max(*machines);
                self.next_channel = self.next_channel.max(*channels);
            }
        }
    }

    /// Folds in what matters here of a post: its place.
    pub(crate) fn apply_stamp(&mut self, channel: ChannelId, stamp: Stamp) {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.last = stamp;
        } else if let Some(mailbox) = self.mailboxes.all.get_mut(&channel) {
            mailbox.last = stamp;
        }
    }

    fn is_stream(&self, id: ChannelId) -> bool {
        self.channels.contains_key(&id) || self.mailboxes.all.contains_key(&id)
    }

    fn forget_mailboxes(&mut self, user: Option<UserId>, readers: &[ReaderId]) {
        for mailbox in self.mailboxes.forget(user, readers) {
            self.readers.forget_channel(mailbox);
        }
    }

    /// Changes how a user stands to a channel, and keeps the way back from the user.
    fn relate(&mut self, id: ChannelId, user: UserId, change: impl FnOnce(&mut Channel) -> bool) {
        if let (Some(channel), Some(related)) = (self.channels.get_mut(&id), self.users.get_mut(&user)) {
            change(channel);
            if channel.concerns(user) {
                related.channels.insert(id);
            } else {
                related.channels.remove(&id);
            }
        }
    }

    fn remove_channel(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.remove(&id) else { return };
        self.readers.forget_channel(id);
        self.sealed.forget_channel(id);
        self.channels_by_name.remove(&channel.name);
        self.channel_looks.remove(channel.name.as_str(), &id);
        for token in channel.invites.keys() {
            self.invites.remove(token);
        }
        if let Some(creator) = self.users.get_mut(&channel.creator) {
            creator.created = creator.created.saturating_sub(1);
        }
        for user in channel.members.iter().chain(&channel.banned).chain([&channel.creator]) {
            if let Some(user) = self.users.get_mut(user) {
                user.channels.remove(&id);
            }
        }
    }

    fn remove_user(&mut self, id: UserId) {
        let Some(user) = self.users.remove(&id) else { return };
        let readers = self.readers.forget(id, None);
        self.forget_mailboxes(Some(id), &readers);
        self.readers.set_receipts(id, true);
        self.contacts.forget(id);
        self.user_invites.forget(id);
        self.users_by_name.remove(&user.name);
        self.user_looks.remove(user.name.as_str(), &id);
        self.sealed.forget_user(id);
        for machine in &user.machines {
            self.owners.remove(&machine.key);
            self.machine_owners.remove(&machine.id);
            self.sealed.forget_machine(machine.id);
        }
        for channel in &user.channels {
            if let Some(channel) = self.channels.get_mut(channel) {
                channel.members.remove(&id);
                channel.banned.remove(&id);
            }
            self.settle_group(*channel, id);
        }
    }

    /// The user of this name.
    pub fn user_named(&self, name: &str) -> Option<(UserId, &User)> {
        let id = *self.users_by_name.get(name)?;
        Some((id, self.users.get(&id)?))
    }

    /// The user of this identity.
    pub fn user(&self, id: UserId) -> Option<&User> {
        self.users.get(&id)
    }

    /// The users whose names look like this one.
    pub fn users_like(&self, name: &str) -> BTreeSet<&UserId> {
        self.user_looks.like(name)
    }

    /// The channels whose names look like this one.
    pub fn channels_like(&self, name: &str) -> BTreeSet<&ChannelId> {
        self.channel_looks.like(name)
    }

    /// The names of all users, in order.
    pub fn user_names(&self) -> impl ExactSizeIterator<Item = &UserName> {
        self.users_by_name.keys()
    }

    /// The machine that has this key, and whose it is.
    pub fn machine_with(&self, key: &PublicKey) -> Option<(UserId, &User, &Machine)> {
        let id = *self.owners.get(key)?;
        let user = self.users.get(&id)?;
        Some((id, user, user.machines.iter().find(|machine| machine.key == *key)?))
    }

    /// Whose machine this is.
    pub fn owner_of(&self, machine: MachineId) -> Option<UserId> {
        self.machine_owners.get(&machine).copied()
    }

    /// The channel of this name.
    pub fn channel_named(&self, name: &str) -> Option<(ChannelId, &Channel)> {
        let id = *self.channels_by_name.get(name)?;
        Some((id, self.channels.get(&id)?))
    }

    /// The channel of this identity.
    pub fn channel(&self, id: ChannelId) -> Option<&Channel> {
        self.channels.get(&id)
    }

    /// All channels, in the order of their names.
    pub fn channels(&self) -> impl Iterator<Item = (ChannelId, &Channel)> {
        self.channels_by_name.values().filter_map(|id| Some((*id, self.channels.get(id)?)))
    }

    /// The channel that an invite leads to, and the invite.
    pub fn invite(&self, token: &Token) -> Option<(ChannelId, &Invite)> {
        let id = *self.invites.get(token)?;
        Some((id, self.channels.get(&id)?.invites.get(token)?))
    }

    /// How many invites there are.
    pub fn invite_count(&self) -> usize {
        self.invites.len()
    }

    /// How many invites there are to the channels that a user has created.
    pub fn invites_by(&self, creator: UserId) -> usize {
        let channels = self.users.get(&creator).into_iter().flat_map(|user| &user.channels);
        let channels = channels.filter_map(|id| self.channels.get(id));
        channels.filter(|channel| channel.creator == creator).map(|channel| channel.invites.len()).sum()
    }

    /// The identity that the next new user gets.
    pub fn next_user(&self) -> UserId {
        UserId(self.next_user)
    }

    /// The identity that the next new machine gets.
    pub fn next_machine(&self) -> MachineId {
        MachineId(self.next_machine)
    }

    /// The identity that the next new channel gets.
    pub fn next_channel(&self) -> ChannelId {
        ChannelId(self.next_channel)
    }

    /// How many users there are.
    pub fn user_count(&self) -> usize {
        self.users.len()
    }

    /// How many channels there are.
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }
}

impl Channel {
    fn concerns(&self, user: UserId) -> bool {
        self.creator == user || self.members.contains(&user) || self.banned.contains(&user)
    }
}

/// Folds `records` from empty.
impl<'a> FromIterator<&'a Record> for Directory {
    fn from_iter<I: IntoIterator<Item = &'a Record>>(records: I) -> Self {
        let mut directory = Self::default();
        for record in records {
            directory.apply(record);
        }
        directory
    }
}
