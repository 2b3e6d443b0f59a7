//! What is kept for sealed channels: the groups, the machines' stocks of key packages, the users' rosters.
//!
//! Which removals are due follows from who is a member: it is kept beside the group so that a post costs one look, and is
//! no record.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use super::{Directory, hold};
use crate::record::{ChannelId, LastCommit, MachineId, UserId};
use crate::sealed::{Blob, NewGroup, RosterEntry};

/// What keeping a piece costs beside its bytes.
const PIECE: usize = 64;

/// The group of a sealed channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// Its suite and id.
    pub made: NewGroup,
    /// The current epoch.
    pub epoch: u64,
    /// The current GroupInfo.
    pub info: Blob,
    /// The commit that began the epoch.
    pub last: Option<LastCommit>,
    /// The machines in it, and whose they are or were.
    pub machines: BTreeMap<MachineId, UserId>,
    /// Those that must be removed.
    pub removals: BTreeSet<MachineId>,
    /// Welcomes that wait, with the epochs that they lead to.
    pub welcomes: BTreeMap<MachineId, (u64, Blob)>,
    /// Whose share of the memory it counts for.
    owner: UserId,
}

/// The key packages of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stock {
    /// Those that are given out once, oldest first.
    pub packages: VecDeque<Blob>,
    /// The one that is given out when there is no other.
    pub last_resort: Option<Blob>,
    owner: UserId,
}

/// All of it, and how many bytes it takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Sealed {
    groups: BTreeMap<ChannelId, Group>,
    stocks: BTreeMap<MachineId, Stock>,
    rosters: BTreeMap<UserId, Vec<RosterEntry>>,
    held: BTreeMap<UserId, usize>,
    held_in_all: usize,
}

impl Sealed {
    fn take(&mut self, owner: UserId, blob: &Blob) {
        let bytes = blob.len() + PIECE;
        *self.held.entry(owner).or_default() += bytes;
        self.held_in_all += bytes;
    }

    fn give(&mut self, owner: UserId, blob: &Blob) {
        let bytes = blob.len() + PIECE;
        if let Some(held) = self.held.get_mut(&owner) {
            *held = held.saturating_sub(bytes);
            if *held == 0 {
                self.held.remove(&owner);
            }
        }
        self.held_in_all = self.held_in_all.saturating_sub(bytes);
    }

    pub(super) fn create(
        &mut self,
        channel: ChannelId,
        owner: UserId,
        made: NewGroup,
        (epoch, info, last): (u64, Blob, Option<LastCommit>),
    ) {
        self.take(owner, &info);
        let group = Group {
            made,
            epoch,
            info,
            last,
            machines: BTreeMap::new(),
            removals: BTreeSet::new(),
            welcomes: BTreeMap::new(),
            owner,
        };
        self.groups.insert(channel, group);
    }

    pub(super) fn advance(&mut self, channel: ChannelId, epoch: u64, info: Blob, last: LastCommit) {
        let Some(group) = self.groups.get_mut(&channel) else { return };
        (group.epoch, group.last) = (epoch, Some(last));
        let (owner, old) = (group.owner, core::mem::replace(&mut group.info, info.clone()));
        self.give(owner, &old);
        self.take(owner, &info);
    }

    pub(super) fn leave(&mut self, channel: ChannelId, machine: MachineId) {
        if let Some(group) = self.groups.get_mut(&channel) {
            group.machines.remove(&machine);
            group.removals.remove(&machine);
        }
        self.drop_welcome(channel, machine);
    }

    pub(super) fn keep_welcome(&mut self, channel: ChannelId, machine: MachineId, epoch: u64, welcome: Blob) {
        self.drop_welcome(channel, machine);
        let Some(group) = self.groups.get_mut(&channel) else { return };
        group.welcomes.insert(machine, (epoch, welcome.clone()));
        let owner = group.owner;
        self.take(owner, &welcome);
    }

    pub(super) fn drop_welcome(&mut self, channel: ChannelId, machine: MachineId) {
        if let Some(group) = self.groups.get_mut(&channel)
            && let Some((_, welcome)) = group.welcomes.remove(&machine)
        {
            let owner = group.owner;
            self.give(owner, &welcome);
        }
    }

    pub(super) fn put(&mut self, owner: UserId, machine: MachineId, package: Blob, last_resort: bool) {
        self.take(owner, &package);
        let stock = self.stocks.entry(machine).or_insert_with(|| Stock { owner, ..Stock::default() });
        let replaced = match last_resort {
            true => stock.last_resort.replace(package),
            false => {
                stock.packages.push_back(package);
                None
            }
        };
        if let Some(old) = replaced {
            self.give(owner, &old);
        }
    }

    pub(super) fn taken(&mut self, machine: MachineId) {
        let Some(stock) = self.stocks.get_mut(&machine) else { return };
        let (owner, package) = (stock.owner, stock.packages.pop_front());
        if stock.packages.is_empty() && stock.last_resort.is_none() {
            self.stocks.remove(&machine);
        }
        if let Some(package) = package {
            self.give(owner, &package);
        }
    }

    pub(super) fn extend_roster(&mut self, user: UserId, entry: RosterEntry) {
        self.take(user, &entry.entry);
        self.rosters.entry(user).or_default().push(entry);
    }

    pub(super) fn forget_channel(&mut self, channel: ChannelId) {
        let Some(group) = self.groups.remove(&channel) else { return };
        self.give(group.owner, &group.info);
        for (_, welcome) in group.welcomes.values() {
            self.give(group.owner, welcome);
        }
    }

    pub(super) fn forget_machine(&mut self, machine: MachineId) {
        let Some(stock) = self.stocks.remove(&machine) else { return };
        for package in stock.packages.iter().chain(&stock.last_resort) {
            self.give(stock.owner, package);
        }
    }

    pub(super) fn forget_user(&mut self, user: UserId) {
        for entry in self.rosters.remove(&user).into_iter().flatten() {
            self.give(user, &entry.entry);
        }
    }
}

impl Directory {
    /// The group of a channel, if the channel is sealed.
    pub fn group(&self, channel: ChannelId) -> Option<&Group> {
        self.sealed.groups.get(&channel)
    }

    /// The sealed channels, by their numbers.
    pub fn groups(&self) -> impl Iterator<Item = (ChannelId, &Group)> {
        self.sealed.groups.iter().map(|(channel, group)| (*channel, group))
    }

    /// The key packages of a machine.
    pub fn stock(&self, machine: MachineId) -> Option<&Stock> {
        self.sealed.stocks.get(&machine)
    }

    /// A user's roster, oldest entry first.
    pub fn roster(&self, user: UserId) -> &[RosterEntry] {
        self.sealed.rosters.get(&user).map_or(&[], Vec::as_slice)
    }

    /// The bytes that are kept for sealed channels: for a user, and in all.
    pub fn sealed_bytes(&self, user: UserId) -> (usize, usize) {
        (self.sealed.held.get(&user).copied().unwrap_or(0), self.sealed.held_in_all)
    }

    /// Whether a machine may be in the group of a channel: it is a member's.
    fn is_member_machine(&self, channel: ChannelId, user: UserId, machine: MachineId) -> bool {
        self.channels.get(&channel).is_some_and(|channel| channel.members.contains(&user))
            && self.users.get(&user).is_some_and(|user| user.machines.iter().any(|one| one.id == machine))
    }

    pub(super) fn join_group(&mut self, channel: ChannelId, user: UserId, machine: MachineId) {
        let belongs = self.is_member_machine(channel, user, machine);
        let Some(group) = self.sealed.groups.get_mut(&channel) else { return };
        group.machines.insert(machine, user);
        match belongs {
            true => group.removals.remove(&machine),
            false => group.removals.insert(machine),
        };
    }

    /// A user's membership of a channel, or its machines, have changed.
    pub(super) fn settle_group(&mut self, channel: ChannelId, user: UserId) {
        let Some(group) = self.sealed.groups.get(&channel) else { return };
        let concerns = |machine: &MachineId| !self.is_member_machine(channel, user, *machine);
        let of_user = group.machines.iter().filter(|(_, owner)| **owner == user).map(|(machine, _)| *machine);
        let (gone, stays): (Vec<_>, Vec<_>) = of_user.partition(concerns);
        let Some(group) = self.sealed.groups.get_mut(&channel) else { return };
        stays.iter().for_each(|machine| {
            group.removals.remove(machine);
        });
        group.removals.extend(&gone);
        for machine in gone {
            self.sealed.drop_welcome(channel, machine);
        }
    }

    pub(super) fn check_sealed(&self) -> Result<(), String> {
        let mut held: BTreeMap<UserId, usize> = BTreeMap::new();
        let mut add = |owner: UserId, blob: &Blob| *held.entry(owner).or_default() += blob.len() + PIECE;
        for (id, group) in &self.sealed.groups {
            hold!(self.channels.contains_key(id), "channel {id:?} has a group and does not exist");
            let due = group.machines.iter();
            let due = due.filter(|(machine, user)| !self.is_member_machine(*id, **user, **machine));
            hold!(
                due.map(|(machine, _)| machine).eq(&group.removals),
                "channel {id:?} does not know which removals are due"
            );
            for machine in group.welcomes.keys() {
                let inside = group.machines.contains_key(machine) && !group.removals.contains(machine);
                hold!(inside, "a welcome to channel {id:?} waits for a machine that is not in the group");
            }
            add(group.owner, &group.info);
            group.welcomes.values().for_each(|(_, welcome)| add(group.owner, welcome));
        }
        for (id, stock) in &self.sealed.stocks {
            let known = self.users.get(&stock.owner);
            let known = known.is_some_and(|user| user.machines.iter().any(|one| one.id == *id));
            hold!(known, "key packages are kept of machine {id:?}, which does not exist");
            stock.packages.iter().chain(&stock.last_resort).for_each(|package| add(stock.owner, package));
        }
        for (user, roster) in &self.sealed.rosters {
            hold!(self.users.contains_key(user), "user {user:?} has a roster and does not exist");
            roster.iter().for_each(|entry| add(*user, &entry.entry));
        }
        hold!(held == self.sealed.held, "what is kept for sealed channels is miscounted");
        hold!(held.values().sum::<usize>() == self.sealed.held_in_all, "what is kept in all is miscounted");
        Ok(())
    }
}
