//! Sealed channels: which commits and posts a group takes, who is given key packages, and what is due.
//!
//! The hub compares and sets the epoch: a commit is a change that touches its channel, so that no other change of the
//! channel is decided beside it, and posts wait for it. Which removals are due follows from who is a member
//! (`directory::sealed`).

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::audience::Subscribers;
use super::commit::{Change, FollowUp};
use super::decide::Asker;
use super::touch::Touch;
use super::{Action, ConnId, Hub};
use crate::body::{self, Commit, View};
use crate::directory::{Channel, Group};
use crate::name::UserName;
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{Command, Limit, Refusal, Reply, Visibility};
use crate::record::{ChannelId, LastCommit, MachineId, Record, Stamp, UserId};
use crate::sealed::{
    Blob, GroupState, GroupWelcome, KeyPackage, LOW_STOCK, MACHINES_NAMED, NewGroup, RosterEntry,
    SealedCommand, SealedNotice, SealedReply, TAKEN_AT_ONCE, TAKEN_BYTES, WaitingWelcome,
};
use crate::stream::{Notice, Origin, Signed, StreamCommand, StreamRef, StreamReply};
use crate::time::Now;

fn answer(reply: SealedReply) -> Reply {
    Reply::Stream(StreamReply::Sealed(Box::new(reply)))
}

fn at_most(limit: Limit, most: usize, wanted: usize) -> Result<(), Refusal> {
    if wanted > most { Err(Refusal::TooMuch { limit, most }) } else { Ok(()) }
}

impl Hub {
    /// Decides a request about sealed channels: an answer, or none if it comes with the change that it led to.
    pub(super) fn decide_sealed(
        &mut self,
        now: Now,
        asker: &Asker,
        command: SealedCommand,
    ) -> Result<Option<Reply>, Refusal> {
        let (records, reply) = match command {
            SealedCommand::Commit { stream, body, signed, group_info, welcomes } => {
                let channel = self.resolve_subscribed(asker, &stream)?;
                return self.commit(now, asker, channel, (body, signed), (group_info, welcomes));
            }
            SealedCommand::PutKeyPackages { packages, last_resort } => {
                self.put_packages(asker, packages, last_resort)?
            }
            SealedCommand::TakeKeyPackages { stream, users, machines } => {
                let (records, packages) = self.take_packages(asker, &stream, &users, &machines)?;
                self.charge(now, asker.conn, packages.size());
                (records, packages)
            }
            SealedCommand::Group { stream } => return self.group_state(asker, &stream).map(Some),
            SealedCommand::Welcomes => return Ok(Some(self.welcomes(asker))),
            SealedCommand::DropWelcome { stream, epoch } => {
                let (channel, machine) =
                    (self.sealed_channel(asker, &stream)?.0, self.machine_of(asker.conn));
                let group = self.directory.group(channel);
                let waits = machine.filter(|machine| {
                    let waiting = group.and_then(|group| group.welcomes.get(machine));
                    waiting.is_some_and(|(waiting, _)| *waiting == epoch)
                });
                let dropped = waits.map(|machine| Record::WelcomeDropped { channel, machine });
                (dropped.into_iter().collect(), StreamReply::Done)
            }
            SealedCommand::PutRosterEntry { previous, entry } => {
                self.put_roster_entry(asker, previous, entry)?
            }
            SealedCommand::Roster { user, after } => return self.roster(asker, &user, after).map(Some),
        };
        let reply = Reply::Stream(reply);
        if records.is_empty() {
            return Ok(Some(reply));
        }
        let follow_up = FollowUp::Reply { conn: asker.conn, request: asker.request, reply };
        self.propose(Change { records, follow_up });
        Ok(None)
    }

    fn commit(
        &mut self,
        now: Now,
        asker: &Asker,
        channel: ChannelId,
        (body, signed): (Payload, Arc<Signed>),
        (info, welcomes): (Blob, Vec<GroupWelcome>),
    ) -> Result<Option<Reply>, Refusal> {
        let group = self.directory.group(channel).ok_or(Refusal::NoGroup)?;
        let commit = match &body {
            Payload::Body(bytes) => body::commit(bytes).ok(),
            Payload::Plain(_) | Payload::Encrypted(_) => None,
        };
        let commit = commit.ok_or(Refusal::InvalidField("post_commit: the body is no commit"))?;
        if let Some(last) = group.last.filter(|last| last.user == asker.user && last.id == signed.id) {
            let (stream, epoch) = (channel, group.epoch);
            return Ok(Some(answer(SealedReply::Committed { stream, stamp: last.stamp, epoch })));
        }
        if self.pending.contains_key(&(channel, asker.user, signed.id)) {
            return Err(Refusal::CommitUnfit("its message id is that of a message"));
        }
        if commit.epoch != group.epoch {
            return Err(Refusal::WrongEpoch { current: group.epoch });
        }
        let machine = self.machine_of(asker.conn).ok_or(Refusal::NotInGroup)?;
        let mut records = match commit.external {
            true => self.external(channel, group, &commit, (asker.user, machine))?,
            false => self.internal(asker, channel, group, &commit, machine)?,
        };
        let limits = &self.config.limits;
        at_most(Limit::CommitBytes, limits.commit_bytes, commit.commit.len())?;
        at_most(Limit::GroupInfoBytes, limits.group_info_bytes, info.len())?;
        if info.is_empty() {
            return Err(Refusal::InvalidField("post_commit: the group info is missing"));
        }
        let epoch = group.epoch + 1;
        let mut kept = info.len().saturating_sub(group.info.len());
        let last = LastCommit { user: asker.user, id: signed.id, stamp: Stamp::default() };
        records.push(Record::GroupAdvanced { channel, epoch, info, last });
        for GroupWelcome { machines, welcome } in welcomes {
            at_most(Limit::WelcomeBytes, limits.welcome_bytes, welcome.len())?;
            for machine in machines {
                let added = records.iter().find_map(|record| match record {
                    Record::GroupJoined { user, machine: joined, .. } if *joined == machine => Some(*user),
                    _ => None,
                });
                let user = added.filter(|_| !commit.external);
                let user =
                    user.ok_or(Refusal::CommitUnfit("a welcome is for a machine that it does not add"))?;
                kept += welcome.len();
                records.push(Record::WelcomeKept { channel, user, machine, epoch, welcome: welcome.clone() });
            }
        }
        let owner = self.directory.channel(channel).map_or(asker.user, |channel| channel.creator);
        self.room_for(owner, kept)?;
        self.take_space(now, asker.user, Some(channel), body.size())?;
        let origin = Origin { sender: Some((asker.user, machine)), signed: Some(signed), expires: None };
        let from = asker.path.clone();
        let stamp = Stamp::default();
        // Its place is known when its batch is sealed.
        records.insert(0, Record::Posted { channel, stamp, from, payload: Arc::new(body), origin });
        let follow_up = FollowUp::Committed { conn: asker.conn, request: asker.request, channel, epoch };
        self.propose(Change { records, follow_up });
        Ok(None)
    }

    /// What a commit of a machine in the group changes.
    fn internal(
        &self,
        asker: &Asker,
        channel: ChannelId,
        group: &Group,
        commit: &Commit<'_>,
        machine: MachineId,
    ) -> Result<Vec<Record>, Refusal> {
        if !is_inside(group, machine) {
            return Err(Refusal::NotInGroup);
        }
        let found = self.directory.channel(channel).ok_or(Refusal::NoStream)?;
        let removes: BTreeSet<MachineId> = commit.removes.iter().copied().collect();
        let adds: BTreeSet<MachineId> = commit.adds.iter().copied().collect();
        if !group.removals.is_subset(&removes) {
            return Err(removals_due(group));
        }
        if removes.contains(&machine) {
            return Err(Refusal::CommitUnfit("nobody removes the machine that it commits with"));
        }
        if removes.iter().any(|one| !group.machines.contains_key(one)) {
            return Err(Refusal::CommitUnfit("it removes a machine that is not in the group"));
        }
        if !asker.administers(found) && removes.iter().any(|one| !group.removals.contains(one)) {
            return Err(Refusal::CommitUnfit("only an admin of the channel removes a member's machine"));
        }
        let mut records: Vec<Record> =
            removes.iter().map(|machine| Record::GroupLeft { channel, machine: *machine }).collect();
        for machine in adds {
            if group.machines.contains_key(&machine) && !removes.contains(&machine) {
                return Err(Refusal::CommitUnfit("it adds a machine that is in the group already"));
            }
            let owner = self.directory.owner_of(machine).filter(|user| found.members.contains(user));
            let user = owner.ok_or(Refusal::CommitUnfit("it adds a machine that is no member's"))?;
            records.push(Record::GroupJoined { channel, user, machine });
        }
        Ok(records)
    }

    /// What a commit changes by which a member's machine joins by itself.
    fn external(
        &self,
        channel: ChannelId,
        group: &Group,
        commit: &Commit<'_>,
        (user, machine): (UserId, MachineId),
    ) -> Result<Vec<Record>, Refusal> {
        let is_member = self.directory.channel(channel).is_some_and(|found| found.members.contains(&user));
        if !is_member {
            return Err(Refusal::NotInGroup);
        }
        let own = |machines: &[MachineId]| machines.iter().all(|one| *one == machine);
        let gone = !commit.removes.is_empty() && !group.machines.contains_key(&machine);
        if !own(&commit.adds) || !own(&commit.removes) || gone {
            return Err(Refusal::CommitUnfit("an external commit changes its own machine only"));
        }
        let mut records = alloc::vec![Record::GroupJoined { channel, user, machine }];
        if group.welcomes.contains_key(&machine) {
            records.push(Record::WelcomeDropped { channel, machine });
        }
        Ok(records)
    }

    /// Whether a channel takes a post as it is: everything in a plain one; in a sealed one what is sealed in the current
    /// epoch by a machine in the group, while no removal is due.
    pub(super) fn fits_group(
        &self,
        asker: &Asker,
        channel: ChannelId,
        payload: &Payload,
    ) -> Result<(), Refusal> {
        let Some(group) = self.directory.group(channel) else { return Ok(()) };
        let Ok(View::Sealed { epoch, .. }) = payload.view() else { return Err(Refusal::NotSealed) };
        if !self.machine_of(asker.conn).is_some_and(|machine| is_inside(group, machine)) {
            return Err(Refusal::NotInGroup);
        }
        if !group.removals.is_empty() {
            return Err(removals_due(group));
        }
        if epoch != group.epoch {
            return Err(Refusal::WrongEpoch { current: group.epoch });
        }
        Ok(())
    }

    fn put_packages(
        &self,
        asker: &Asker,
        packages: Vec<Blob>,
        last_resort: Option<Blob>,
    ) -> Result<(Vec<Record>, StreamReply), Refusal> {
        let (user, machine) = (asker.user, self.machine_of(asker.conn).ok_or(Refusal::NotInGroup)?);
        let limits = &self.config.limits;
        let stock = self.directory.stock(machine);
        let left = stock.map_or(0, |stock| stock.packages.len()) + packages.len();
        let has_last = last_resort.is_some() || stock.is_some_and(|stock| stock.last_resort.is_some());
        at_most(Limit::KeyPackages, limits.key_packages_per_machine, left)?;
        for package in packages.iter().chain(&last_resort) {
            at_most(Limit::KeyPackageBytes, limits.key_package_bytes, package.len())?;
            if package.is_empty() {
                return Err(Refusal::InvalidField("put_key_packages: a package is empty"));
            }
        }
        self.room_for(user, packages.iter().chain(&last_resort).map(|package| package.len()).sum())?;
        let put = |package, last_resort| Record::KeyPackagePut { user, machine, package, last_resort };
        let records = packages.into_iter().map(|package| put(package, false));
        let records = records.chain(last_resort.map(|package| put(package, true))).collect();
        Ok((records, StreamReply::Sealed(Box::new(SealedReply::Stock { left, last_resort: has_last }))))
    }

    fn take_packages(
        &self,
        asker: &Asker,
        stream: &StreamRef,
        users: &[UserId],
        machines: &[MachineId],
    ) -> Result<(Vec<Record>, StreamReply), Refusal> {
        let (_, found, group) = self.sealed_channel(asker, stream)?;
        let administers = asker.administers(found);
        if !administers && !self.machine_of(asker.conn).is_some_and(|machine| is_inside(group, machine)) {
            return Err(Refusal::NotInGroup);
        }
        let of_users = users.iter().filter_map(|user| self.directory.user(*user));
        let of_users = of_users.flat_map(|user| user.machines.iter().map(|machine| machine.id));
        let wanted = of_users.filter(|machine| !group.machines.contains_key(machine));
        let named = machines.iter().copied();
        let named = named.filter(|machine| administers || !group.machines.contains_key(machine));
        let wanted: BTreeSet<MachineId> = wanted.chain(named).take(TAKEN_AT_ONCE + 1).collect();
        if wanted.len() > TAKEN_AT_ONCE {
            return Err(Refusal::InvalidField("take_key_packages: at most 256 machines at once"));
        }
        let mut records = Vec::new();
        let mut packages = Vec::new();
        let mut bytes = 0;
        for machine in wanted {
            let owner = self.directory.owner_of(machine).filter(|user| found.members.contains(user));
            let Some(user) = owner else { continue };
            if bytes > TAKEN_BYTES {
                break;
            }
            let stock = self.directory.stock(machine);
            let once = stock.and_then(|stock| stock.packages.front().cloned());
            if once.is_some() {
                records.push(Record::KeyPackageTaken { user, machine });
            }
            let last = || stock.and_then(|stock| stock.last_resort.clone());
            let (is_once, package) = (once.is_some(), once.or_else(last));
            let last_resort = !is_once && package.is_some();
            bytes += package.as_ref().map_or(0, |package| package.len());
            packages.push(KeyPackage { user, machine, package, last_resort });
        }
        Ok((records, StreamReply::Sealed(Box::new(SealedReply::KeyPackages(packages)))))
    }

    fn group_state(&self, asker: &Asker, stream: &StreamRef) -> Result<Reply, Refusal> {
        let (stream, _, group) = self.sealed_channel(asker, stream)?;
        Ok(answer(SealedReply::Group(GroupState {
            stream,
            suite: group.made.suite,
            id: Opaque(group.made.id().clone()),
            epoch: group.epoch,
            info: group.info.clone(),
            machines: group.machines.keys().copied().collect(),
            removals: group.removals.iter().copied().collect(),
            additions: self.additions(stream).take(MACHINES_NAMED).collect(),
        })))
    }

    /// Machines of members that are not in the group.
    fn additions(&self, channel: ChannelId) -> impl Iterator<Item = MachineId> {
        let members = self.directory.channel(channel).into_iter().flat_map(|channel| &channel.members);
        let users = members.filter_map(|user| self.directory.user(*user));
        let machines = users.flat_map(|user| user.machines.iter().map(|machine| machine.id));
        let group = self.directory.group(channel);
        machines.filter(move |machine| group.is_some_and(|group| !group.machines.contains_key(machine)))
    }

    fn welcomes(&self, asker: &Asker) -> Reply {
        let (mut welcomes, mut more, mut bytes) = (Vec::new(), false, 0);
        let machine = self.machine_of(asker.conn);
        let channels = self.directory.user(asker.user).into_iter().flat_map(|user| &user.channels);
        for stream in channels.copied() {
            let group = self.directory.group(stream);
            let waiting = machine.and_then(|machine| group?.welcomes.get(&machine));
            let Some((epoch, welcome)) = waiting else { continue };
            bytes += welcome.len();
            if !welcomes.is_empty() && bytes > self.config.limits.page_bytes {
                more = true;
                break;
            }
            welcomes.push(WaitingWelcome { stream, epoch: *epoch, welcome: welcome.clone() });
        }
        answer(SealedReply::Welcomes { welcomes, more })
    }

    fn put_roster_entry(
        &self,
        asker: &Asker,
        previous: Option<[u8; 32]>,
        entry: RosterEntry,
    ) -> Result<(Vec<Record>, StreamReply), Refusal> {
        let roster = self.directory.roster(asker.user);
        let limits = &self.config.limits;
        // Sent again, since the answer was lost.
        if roster.last() == Some(&entry) {
            return Ok((Vec::new(), StreamReply::Done));
        }
        if roster.last().map(RosterEntry::hash) != previous {
            return Err(Refusal::RosterMoved);
        }
        at_most(Limit::RosterEntries, limits.roster_entries, roster.len() + 1)?;
        at_most(Limit::RosterEntryBytes, limits.roster_entry_bytes, entry.entry.len())?;
        self.room_for(asker.user, entry.entry.len())?;
        Ok((alloc::vec![Record::RosterExtended { user: asker.user, entry }], StreamReply::Done))
    }

    fn roster(&self, asker: &Asker, name: &UserName, after: usize) -> Result<Reply, Refusal> {
        let (user, _) = self.keys_for(asker, name)?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let left = self.directory.roster(user).get(after..).unwrap_or_default();
        for entry in left {
            bytes += entry.entry.len();
            if !entries.is_empty() && bytes > self.config.limits.page_bytes {
                break;
            }
            entries.push(entry.clone());
        }
        let more = entries.len() < left.len();
        Ok(answer(SealedReply::Roster { user, entries, more }))
    }

    /// The sealed channel that a request names, for those to whom it belongs.
    fn sealed_channel(
        &self,
        asker: &Asker,
        stream: &StreamRef,
    ) -> Result<(ChannelId, &Channel, &Group), Refusal> {
        let id = self.resolve_channel(asker, stream)?;
        let channel = self.directory.channel(id).ok_or(Refusal::NoStream)?;
        let group = self.directory.group(id).ok_or(Refusal::NoGroup)?;
        match asker.belongs_to(channel) {
            true => Ok((id, channel, group)),
            false => Err(Refusal::NotSubscribed(channel.name.clone())),
        }
    }

    /// Whether so much more may be kept: a user has no more than is left, so that some is left for everybody.
    fn room_for(&self, owner: UserId, bytes: usize) -> Result<(), Refusal> {
        let (own, all) = self.directory.sealed_bytes(owner);
        let left = self.config.limits.sealed_bytes.saturating_sub(all);
        let fits = bytes == 0 || own.saturating_add(bytes) <= left;
        if fits { Ok(()) } else { Err(Refusal::TooMuch { limit: Limit::SealedBytes, most: left }) }
    }

    /// What makes a sealed channel of a new one.
    pub(super) fn new_group(
        &self,
        asker: &Asker,
        channel: ChannelId,
        group: NewGroup,
    ) -> Result<[Record; 2], Refusal> {
        let (user, machine) = (asker.user, self.machine_of(asker.conn).ok_or(Refusal::NotInGroup)?);
        self.room_for(user, 1)?;
        let (epoch, info, last) = (0, Blob::default(), None);
        Ok([
            Record::GroupCreated { channel, group, epoch, info, last },
            Record::GroupJoined { channel, user, machine },
        ])
    }

    /// Who enters a sealed channel that is open to them becomes a member: the group is made of members' machines.
    pub(super) fn becomes_member(&self, user: UserId, id: ChannelId) -> bool {
        self.directory.group(id).is_some()
            && self.directory.channel(id).is_some_and(|channel| {
                channel.visibility != Visibility::Private
                    && !channel.members.contains(&user)
                    && !channel.banned.contains(&user)
            })
    }

    /// Whether deciding a subscription may make its user a member.
    pub(super) fn may_make_member(&self, conn: ConnId, command: &Command) -> bool {
        let Command::Stream(StreamCommand::Subscribe { stream, .. }) = command else { return false };
        let channel = match stream {
            StreamRef::Channel(name) => self.directory.channel_named(name.as_str()).map(|(id, _)| id),
            StreamRef::Number(id) => Some(*id),
            StreamRef::Mailbox(_) => None,
        };
        let user = self.sessions.get(&conn).map(|session| session.user);
        channel.zip(user).is_some_and(|(channel, user)| self.becomes_member(user, channel))
    }

    /// Channels whose posts wait for a change, beside those that its records name: a removal that falls due.
    pub(super) fn barred_by_removals(&self, records: &[Record]) -> Vec<Touch> {
        let mut barred = Vec::new();
        for record in records {
            match record {
                Record::MemberRemoved { channel, .. } if self.directory.group(*channel).is_some() => {
                    barred.push(Touch::Posts(*channel));
                }
                Record::MachineRemoved { user, .. } | Record::UserRemoved { user } => {
                    barred.extend(self.groups_of(*user).map(Touch::Posts));
                }
                _ => {}
            }
        }
        barred
    }

    fn groups_of(&self, user: UserId) -> impl Iterator<Item = ChannelId> {
        let channels = self.directory.user(user).into_iter().flat_map(|user| &user.channels).copied();
        channels.filter(|channel| self.directory.group(*channel).is_some())
    }

    /// The sealed channels in which a change may make something due, before it is folded in.
    pub(super) fn groups_concerned(&self, records: &[Record]) -> BTreeSet<ChannelId> {
        let mut concerned = BTreeSet::new();
        for record in records {
            match record {
                Record::MemberAdded { channel, .. } | Record::MemberRemoved { channel, .. } => {
                    concerned.extend(self.directory.group(*channel).map(|_| *channel));
                }
                Record::MachineAdded { user, .. }
                | Record::MachineRemoved { user, .. }
                | Record::UserRemoved { user } => concerned.extend(self.groups_of(*user)),
                _ => {}
            }
        }
        concerned
    }

    /// Says in a channel that something is due in its group, if it is.
    pub(super) fn announce_due(&self, stream: ChannelId, actions: &mut Vec<Action>) {
        let Some(group) = self.directory.group(stream) else { return };
        if group.removals.is_empty() && self.additions(stream).next().is_none() {
            return;
        }
        let notice = Notice::Sealed(SealedNotice::Due { stream });
        for conn in self.subscribers.get(&stream).into_iter().flat_map(Subscribers::iter) {
            actions.push(Action::Notify { conn, notice: notice.clone() });
        }
    }

    /// Says something to the sessions of a machine that can be told.
    pub(super) fn tell_machine(
        &self,
        user: UserId,
        machine: MachineId,
        notice: SealedNotice,
        actions: &mut Vec<Action>,
    ) {
        for conn in self.users.get(&user).into_iter().flat_map(|live| &live.conns).copied() {
            let session = self.sessions.get(&conn);
            if session.is_some_and(|it| it.machine == machine && it.terms.format.resumes()) {
                actions.push(Action::Notify { conn, notice: Notice::Sealed(notice) });
            }
        }
    }

    /// A key package of a machine is about to be taken.
    pub(super) fn tell_of_stock(&self, user: UserId, machine: MachineId, actions: &mut Vec<Action>) {
        let left = self.directory.stock(machine).map_or(0, |stock| stock.packages.len().saturating_sub(1));
        if left < LOW_STOCK {
            self.tell_machine(user, machine, SealedNotice::KeyPackagesLow { left }, actions);
        }
    }

    fn machine_of(&self, conn: ConnId) -> Option<MachineId> {
        self.sessions.get(&conn).map(|session| session.machine)
    }
}

fn is_inside(group: &Group, machine: MachineId) -> bool {
    group.machines.contains_key(&machine) && !group.removals.contains(&machine)
}

fn removals_due(group: &Group) -> Refusal {
    Refusal::RemovalsDue(group.removals.iter().take(MACHINES_NAMED).copied().collect())
}
