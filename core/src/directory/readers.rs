//! Kept sessions: the handles whose positions outlive their connections.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::Directory;
use crate::name::Handle;
use crate::record::{Ack, ChannelId, Cursor, MachineId, ReaderId, UserId};

/// Acknowledgements of one reader in one channel that are kept; older ones count as seen.
const ACKS: usize = 64;

/// A kept session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reader {
    /// Its user.
    pub user: UserId,
    /// Its machine.
    pub machine: MachineId,
    /// Its handle.
    pub handle: Handle,
    /// Where it stands in each channel that it read.
    pub cursors: BTreeMap<ChannelId, Cursor>,
    /// What it confirmed last in each channel, oldest first.
    pub acks: BTreeMap<ChannelId, Vec<Ack>>,
}

/// The readers, and the ways to find them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Readers {
    pub(super) all: BTreeMap<ReaderId, Reader>,
    by_handle: BTreeMap<(MachineId, Handle), ReaderId>,
    by_user: BTreeMap<UserId, BTreeSet<ReaderId>>,
    by_channel: BTreeMap<ChannelId, BTreeSet<ReaderId>>,
    pub(super) next: u64,
}

impl Readers {
    pub(super) fn add(&mut self, id: ReaderId, user: UserId, machine: MachineId, handle: Handle) {
        self.next = self.next.max(id.0 + 1);
        self.by_handle.insert((machine, handle.clone()), id);
        self.by_user.entry(user).or_default().insert(id);
        let reader = Reader { user, machine, handle, cursors: BTreeMap::new(), acks: BTreeMap::new() };
        self.all.insert(id, reader);
    }

    pub(super) fn place(&mut self, id: ReaderId, channel: ChannelId, cursor: Cursor) {
        if let Some(reader) = self.all.get_mut(&id) {
            reader.cursors.insert(channel, cursor);
            self.by_channel.entry(channel).or_default().insert(id);
        }
    }

    pub(super) fn acknowledge(&mut self, id: ReaderId, channel: ChannelId, ack: Ack) {
        let Some(reader) = self.all.get_mut(&id) else { return };
        self.by_channel.entry(channel).or_default().insert(id);
        let acks = reader.acks.entry(channel).or_default();
        acks.retain(|other| other.seq != ack.seq);
        if acks.len() >= ACKS {
            acks.remove(0);
        }
        acks.push(ack);
    }

    pub(super) fn forget_channel(&mut self, channel: ChannelId) {
        for id in self.by_channel.remove(&channel).into_iter().flatten() {
            if let Some(reader) = self.all.get_mut(&id) {
                reader.cursors.remove(&channel);
                reader.acks.remove(&channel);
            }
        }
    }

    /// Removes the readers of a user, or of one machine.
    pub(super) fn forget(&mut self, user: UserId, machine: Option<MachineId>) {
        let Some(of_user) = self.by_user.get_mut(&user) else { return };
        let gone: Vec<ReaderId> = of_user
            .iter()
            .copied()
            .filter(|id| machine.is_none_or(|one| self.all.get(id).is_some_and(|it| it.machine == one)))
            .collect();
        for id in gone {
            of_user.remove(&id);
            let Some(reader) = self.all.remove(&id) else { continue };
            self.by_handle.remove(&(reader.machine, reader.handle));
            for channel in reader.cursors.keys().chain(reader.acks.keys()) {
                if let Some(readers) = self.by_channel.get_mut(channel) {
                    readers.remove(&id);
                    if readers.is_empty() {
                        self.by_channel.remove(channel);
                    }
                }
            }
        }
        if of_user.is_empty() {
            self.by_user.remove(&user);
        }
    }
}

impl Directory {
    /// The reader of this identity.
    pub fn reader(&self, id: ReaderId) -> Option<&Reader> {
        self.readers.all.get(&id)
    }

    /// The reader of a machine's handle.
    pub fn reader_at(&self, machine: MachineId, handle: &Handle) -> Option<ReaderId> {
        // A key of a tuple cannot be borrowed in parts.
        self.readers.by_handle.get(&(machine, handle.clone())).copied()
    }

    /// How many readers a user has.
    pub fn readers_of_user(&self, user: UserId) -> usize {
        self.readers.by_user.get(&user).map_or(0, BTreeSet::len)
    }

    /// The readers that have a position in a channel.
    pub fn readers_of(&self, channel: ChannelId) -> impl Iterator<Item = ReaderId> {
        self.readers.by_channel.get(&channel).into_iter().flatten().copied()
    }

    /// All readers.
    pub fn readers(&self) -> impl Iterator<Item = (ReaderId, &Reader)> {
        self.readers.all.iter().map(|(id, reader)| (*id, reader))
    }

    /// The identity that the next new reader gets.
    pub fn next_reader(&self) -> ReaderId {
        ReaderId(self.readers.next)
    }
}
