//! Mailboxes: streams with one owner who reads them, a user or a kept session, and many who write.
//!
//! A message waits from when it is stored until a reader of the mailbox has reported it as delivered, or until nobody
//! needs it any more. What waits is what a mailbox is bounded by.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::{Directory, hold};
use crate::record::{ChannelId, MachineId, ReaderId, Stamp, UserId};
use crate::stream::MessageId;
use crate::time::UnixMillis;

/// A mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mailbox {
    /// Its user.
    pub user: UserId,
    /// The kept session that it belongs to. None for the mailbox of the user, which all of its sessions read.
    pub reader: Option<ReaderId>,
    /// Its newest message.
    pub last: Stamp,
    /// By sequence number.
    waiting: BTreeMap<u64, Waiting>,
    /// When each ceases to wait by itself.
    ends: BTreeSet<(UnixMillis, u64)>,
    bytes: usize,
}

/// A message that waits for its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// Its place.
    pub stamp: Stamp,
    /// Who sent it.
    pub sender: UserId,
    /// The sender's number for it.
    pub id: MessageId,
    /// The bytes of its payload.
    pub bytes: usize,
    /// From when on nobody needs it.
    pub until: UnixMillis,
}

impl Mailbox {
    /// How many messages wait at `wall`, and their bytes.
    pub fn waiting(&self, wall: UnixMillis) -> (usize, usize) {
        let ended = self.ends.range(..=(wall, u64::MAX));
        let (count, bytes) = ended.fold((0, 0), |(count, bytes), (_, seq)| {
            (count + 1, bytes + self.waiting.get(seq).map_or(0, |one| one.bytes))
        });
        (self.waiting.len() - count, self.bytes - bytes)
    }

    /// Where a message of this sender and id waits, if it does.
    pub fn find(&self, sender: UserId, id: MessageId) -> Option<Stamp> {
        self.waiting.values().find(|one| one.sender == sender && one.id == id).map(|one| one.stamp)
    }

    /// The messages that wait, or have waited until something else came, in order.
    pub fn all_waiting(&self) -> impl ExactSizeIterator<Item = &Waiting> {
        self.waiting.values()
    }

    pub(super) fn add(&mut self, added: Waiting) {
        while let Some((until, seq)) = self.ends.first().copied()
            && until <= added.stamp.ts
        {
            self.remove(seq);
        }
        self.remove(added.stamp.seq);
        self.bytes += added.bytes;
        self.ends.insert((added.until, added.stamp.seq));
        self.waiting.insert(added.stamp.seq, added);
    }

    pub(super) fn delivered(&mut self, up_to: u64) {
        while let Some((seq, _)) = self.waiting.first_key_value()
            && *seq <= up_to
        {
            self.remove(*seq);
        }
    }

    fn remove(&mut self, seq: u64) {
        if let Some(gone) = self.waiting.remove(&seq) {
            self.ends.remove(&(gone.until, seq));
            self.bytes -= gone.bytes;
        }
    }
}

/// The mailboxes, and the ways to find them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Mailboxes {
    pub(super) all: BTreeMap<ChannelId, Mailbox>,
    of_user: BTreeMap<UserId, ChannelId>,
    of_reader: BTreeMap<ReaderId, ChannelId>,
}

impl Mailboxes {
    pub(super) fn create(&mut self, id: ChannelId, user: UserId, reader: Option<ReaderId>, last: Stamp) {
        match reader {
            Some(reader) => self.of_reader.insert(reader, id),
            None => self.of_user.insert(user, id),
        };
        let (waiting, ends) = (BTreeMap::new(), BTreeSet::new());
        self.all.insert(id, Mailbox { user, reader, last, waiting, ends, bytes: 0 });
    }

    /// Forgets the mailboxes of these readers, and of this user.
    pub(super) fn forget(&mut self, user: Option<UserId>, readers: &[ReaderId]) -> Vec<ChannelId> {
        let of_user = user.and_then(|user| self.of_user.remove(&user));
        let of_readers = readers.iter().filter_map(|reader| self.of_reader.remove(reader));
        let gone: Vec<ChannelId> = of_user.into_iter().chain(of_readers).collect();
        for id in &gone {
            self.all.remove(id);
        }
        gone
    }
}

impl Directory {
    /// The mailbox of this number.
    pub fn mailbox(&self, id: ChannelId) -> Option<&Mailbox> {
        self.mailboxes.all.get(&id)
    }

    /// All mailboxes, in the order of their numbers.
    pub fn mailboxes(&self) -> impl Iterator<Item = (ChannelId, &Mailbox)> {
        self.mailboxes.all.iter().map(|(id, mailbox)| (*id, mailbox))
    }

    /// The mailbox of a kept session, or of a user.
    pub fn mailbox_of(&self, user: UserId, reader: Option<ReaderId>) -> Option<ChannelId> {
        match reader {
            Some(reader) => self.mailboxes.of_reader.get(&reader).copied(),
            None => self.mailboxes.of_user.get(&user).copied(),
        }
    }

    /// The mailboxes of a user and of its kept sessions, or of the kept sessions of one of its machines.
    pub fn mailboxes_of(&self, user: UserId, machine: Option<MachineId>) -> Vec<ChannelId> {
        let own = machine.is_none().then(|| self.mailbox_of(user, None)).flatten();
        let readers = self.readers.of(user, machine);
        own.into_iter().chain(readers.filter_map(|one| self.mailbox_of(user, Some(one)))).collect()
    }

    /// The newest message of a stream.
    pub fn last(&self, stream: ChannelId) -> Stamp {
        let channel = self.channels.get(&stream).map(|channel| channel.last);
        channel.or_else(|| Some(self.mailbox(stream)?.last)).unwrap_or_default()
    }

    pub(super) fn check_mailboxes(&self) -> Result<(), String> {
        for (id, mailbox) in &self.mailboxes.all {
            hold!(id.0 < self.next_channel, "mailbox {id:?} would be given again");
            hold!(!self.channels.contains_key(id), "{id:?} is a channel and a mailbox");
            hold!(self.users.contains_key(&mailbox.user), "mailbox {id:?} has no user");
            let reader = mailbox.reader.map(|reader| self.reader(reader));
            let owned = reader.is_none_or(|reader| reader.is_some_and(|it| it.user == mailbox.user));
            hold!(owned, "mailbox {id:?} has no reader");
            let found = self.mailbox_of(mailbox.user, mailbox.reader);
            hold!(found == Some(*id), "mailbox {id:?} is not found");
            let bytes: usize = mailbox.waiting.values().map(|one| one.bytes).sum();
            hold!(bytes == mailbox.bytes, "mailbox {id:?} counts {} bytes of {bytes}", mailbox.bytes);
            let ends: BTreeSet<_> = mailbox.waiting.values().map(|one| (one.until, one.stamp.seq)).collect();
            hold!(ends == mailbox.ends, "mailbox {id:?} does not know when its messages end");
        }
        let found = self.mailboxes.of_user.len() + self.mailboxes.of_reader.len();
        hold!(found == self.mailboxes.all.len(), "mailboxes and their owners differ in number");
        Ok(())
    }
}
