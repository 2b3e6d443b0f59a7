//! Kept sessions: the handles whose positions outlive their connections.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::{Directory, hold};
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
    /// The streams in which a user's readers have positions, and how many of them do.
    placed: BTreeMap<UserId, BTreeMap<ChannelId, u32>>,
    /// The users who turned receipts off.
    off: BTreeSet<UserId>,
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

    /// Moves a reader's position; false if there is no such reader.
    pub(super) fn place(&mut self, id: ReaderId, channel: ChannelId, cursor: Cursor) -> bool {
        let Some(reader) = self.all.get_mut(&id) else { return false };
        if reader.cursors.insert(channel, cursor).is_none() {
            *self.placed.entry(reader.user).or_default().entry(channel).or_default() += 1;
            self.by_channel.entry(channel).or_default().insert(id);
        }
        true
    }

    pub(super) fn set_receipts(&mut self, user: UserId, on: bool) {
        if on {
            self.off.remove(&user);
        } else {
            self.off.insert(user);
        }
    }

    fn displace(&mut self, user: UserId, channel: ChannelId) {
        let Some(streams) = self.placed.get_mut(&user) else { return };
        if let Some(count) = streams.get_mut(&channel) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&channel);
            }
        }
        if streams.is_empty() {
            self.placed.remove(&user);
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
            let Some(reader) = self.all.get_mut(&id) else { continue };
            reader.acks.remove(&channel);
            if reader.cursors.remove(&channel).is_some() {
                let user = reader.user;
                self.displace(user, channel);
            }
        }
    }

    /// The readers of a user, or of one machine.
    pub(super) fn of(&self, user: UserId, machine: Option<MachineId>) -> impl Iterator<Item = ReaderId> {
        let of_user = self.by_user.get(&user).into_iter().flatten().copied();
        of_user
            .filter(move |id| machine.is_none_or(|one| self.all.get(id).is_some_and(|it| it.machine == one)))
    }

    /// Removes the readers of a user, or of one machine, and says which they were.
    pub(super) fn forget(&mut self, user: UserId, machine: Option<MachineId>) -> Vec<ReaderId> {
        let gone: Vec<ReaderId> = self.of(user, machine).collect();
        for id in &gone {
            let Some(reader) = self.all.remove(id) else { continue };
            if let Some(of_user) = self.by_user.get_mut(&user) {
                of_user.remove(id);
                if of_user.is_empty() {
                    self.by_user.remove(&user);
                }
            }
            self.by_handle.remove(&(reader.machine, reader.handle));
            for channel in reader.cursors.keys() {
                self.displace(user, *channel);
            }
            for channel in reader.cursors.keys().chain(reader.acks.keys()) {
                if let Some(readers) = self.by_channel.get_mut(channel) {
                    readers.remove(id);
                    if readers.is_empty() {
                        self.by_channel.remove(channel);
                    }
                }
            }
        }
        gone
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

    /// Whether others learn how far a user's sessions have come.
    pub fn shows_receipts(&self, user: UserId) -> bool {
        !self.readers.off.contains(&user)
    }

    /// How many readers a user has.
    pub fn readers_of_user(&self, user: UserId) -> usize {
        self.readers.by_user.get(&user).map_or(0, BTreeSet::len)
    }

    /// The readers that have a position in a channel.
    pub fn readers_of(&self, channel: ChannelId) -> impl Iterator<Item = ReaderId> {
        self.readers.by_channel.get(&channel).into_iter().flatten().copied()
    }

    /// The streams in which a user's readers have positions.
    pub fn streams_read_by(&self, user: UserId) -> impl ExactSizeIterator<Item = ChannelId> {
        const NONE: &BTreeMap<ChannelId, u32> = &BTreeMap::new();
        self.readers.placed.get(&user).unwrap_or(NONE).keys().copied()
    }

    /// Whether a reader of the user's has a position in a stream.
    pub fn reads(&self, user: UserId, stream: ChannelId) -> bool {
        self.readers.placed.get(&user).is_some_and(|streams| streams.contains_key(&stream))
    }

    pub(super) fn check_readers(&self) -> Result<(), String> {
        let mut placed: BTreeMap<UserId, BTreeMap<ChannelId, u32>> = BTreeMap::new();
        for reader in self.readers.all.values() {
            for channel in reader.cursors.keys() {
                *placed.entry(reader.user).or_default().entry(*channel).or_default() += 1;
            }
        }
        hold!(placed == self.readers.placed, "users and the streams that they read differ");
        Ok(())
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
