use alloc::vec::Vec;

use conclave_core::key::SecretKey;
use zeroize::{Zeroize as _, Zeroizing};

use crate::content::{self, Content};
use crate::mls::{self, Applied, Group, KeyPackage, Made, Opened};
use crate::state::{Package, Pending, State, Waiting};
use crate::{Alarm, Answer, Entry, Error, Input, Kind, Member, Output, PostCommit};

/// How many messages wait to be sent at most.
pub const MAX_OUTBOX: usize = 1_000;
/// How large a message's content may be, in bytes.
pub const MAX_CONTENT: usize = 1 << 20;
/// How large a commit, a welcome or a group info may be, in bytes: what a group of some thousand machines needs.
pub const MAX_HANDSHAKE: usize = 8 << 20;

/// This machine in one sealed channel: a group's state, what waits to be sent, and the position in the stream.
///
/// A step is: lock the store, [`load`](Self::load), [`handle`](Self::handle), write [`save`](Self::save) and the plaintexts
/// among the outputs in one transaction, and only then act on the outputs. Whoever sends first uses a message key twice
/// after a crash. After an error, drop the channel: the step has not happened.
pub struct Channel {
    me: Member,
    group: Group,
    state: State,
}

impl Channel {
    /// Makes the group of a channel whose id was fixed when the channel was created.
    ///
    /// # Errors
    /// [`Error::Library`].
    pub fn create(
        me: Member,
        key: &SecretKey,
        group_id: &[u8],
        position: u64,
        now: u64,
    ) -> Result<Self, Error> {
        let group = Group::create(&me, key, group_id, now)?;
        Ok(Self { me, group, state: State::at(group_id, position) })
    }

    /// Joins with a welcome. `position` is that of the commit which the welcome came with, `epoch` the one which that commit
    /// led to according to the server. Erase the key package that was used, unless it is the one of last resort, in the
    /// transaction that keeps the channel.
    ///
    /// # Errors
    /// [`Error::Welcome`]: not for this channel, not for one of these packages, or of another epoch.
    pub fn join(
        me: Member,
        key: &SecretKey,
        group_id: &[u8],
        welcome: &[u8],
        packages: &[KeyPackage],
        (position, epoch, now): (u64, u64, u64),
    ) -> Result<Self, Error> {
        bounded("the welcome", welcome)?;
        let wanted = mls::wanted(welcome).ok_or(Error::Welcome("it is not an MLS message"))?;
        let package = packages.iter().find(|package| wanted.contains(&package.id));
        let package = package.ok_or(Error::Welcome("this machine has no key package that it names"))?;
        let group = Group::join(&me, key, welcome, package, now)?;
        if group.id() != group_id {
            return Err(Error::Welcome("it is for another channel"));
        }
        if group.epoch() != epoch {
            return Err(Error::Welcome("it is of another epoch than the server says"));
        }
        let mut state = State::at(group_id, position);
        state.update_due = true;
        Ok(Self { me, group, state })
    }

    /// Comes back with an external commit after the state was lost. `oldest` is the lowest epoch that can be current, from
    /// what this machine remembers or members say: an old group info that the server replays is refused.
    /// The outputs have the commit to post.
    ///
    /// # Errors
    /// [`Error::GroupInfo`].
    pub fn rejoin(
        me: Member,
        key: &SecretKey,
        group_id: &[u8],
        group_info: &[u8],
        id: [u8; 16],
        (position, oldest, now): (u64, u64, u64),
    ) -> Result<(Self, Vec<Output>), Error> {
        bounded("the group info", group_info)?;
        let (found, epoch) = mls::described(group_info).ok_or(Error::GroupInfo("it cannot be read"))?;
        if found != group_id {
            return Err(Error::GroupInfo("it is of another channel"));
        }
        if epoch < oldest {
            return Err(Error::GroupInfo("it is an old one; ask a member which epoch is current"));
        }
        let (group, made) = Group::rejoin(&me, key, group_info, now)?;
        let state = State::at(group_id, position);
        let mut channel = Self { me, group, state };
        let machine = channel.me.machine;
        let posted = channel.pend(id, epoch, made, Vec::new(), Vec::from([machine]), true);
        Ok((channel, Vec::from([posted])))
    }

    /// Loads what [`save`](Self::save) gave.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn load(me: Member, key: &SecretKey, saved: &[u8]) -> Result<Self, Error> {
        let mut state = State::read(saved)?;
        let kept = Zeroizing::new(core::mem::take(&mut state.group));
        let group = Group::load(&me, key, &state.group_id, &kept)?;
        Ok(Self { me, group, state })
    }

    /// The record to keep. It holds secrets.
    ///
    /// # Errors
    /// [`Error::Library`].
    pub fn save(&mut self) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.state.group = self.group.snapshot()?.to_vec();
        let saved = self.state.write();
        self.state.group.zeroize();
        self.state.group = Vec::new();
        Ok(saved)
    }

    /// The group's id.
    pub fn group_id(&self) -> &[u8] {
        &self.state.group_id
    }

    /// The group's epoch as far as this machine has come.
    pub fn epoch(&self) -> u64 {
        self.group.epoch()
    }

    /// Up to which entry of the stream this machine has come.
    pub fn position(&self) -> u64 {
        self.state.position
    }

    /// The machines in the group.
    pub fn members(&self) -> Vec<Member> {
        self.group.members()
    }

    /// Equal for two machines exactly if they are in one group at one epoch.
    pub fn authenticator(&self) -> Option<Vec<u8>> {
        self.group.authenticator()
    }

    /// Whether this machine has joined and should soon make a commit that changes nothing: later commits get smaller.
    pub fn is_update_due(&self) -> bool {
        self.state.update_due && self.state.pending.is_none()
    }

    /// Takes one input at `now` (seconds since 1970).
    ///
    /// # Errors
    /// [`Error`]: drop the channel; nothing has happened.
    pub fn handle(&mut self, input: Input<'_>, now: u64) -> Result<Vec<Output>, Error> {
        if self.state.is_out {
            let Input::Entry(entry) = input else { return Err(Error::Removed) };
            self.state.position = self.state.position.max(entry.seq);
            return Ok(Vec::new());
        }
        match input {
            Input::Seal { id, content } => self.seal(id, content),
            Input::Change { id, adds, removes } => {
                let adds = adds.iter().map(|added| Package {
                    user: added.user,
                    machine: added.machine,
                    key: added.key.as_bytes().to_vec(),
                    bytes: added.package.to_vec(),
                });
                self.change(id, adds.collect(), removes.to_vec(), now)
            }
            Input::Answer(answer) => self.answer(answer, now),
            Input::Resume => Ok(self.resume()),
            Input::Entry(entry) => self.entry(&entry, now),
        }
    }

    fn seal(&mut self, id: [u8; 16], content: &Content) -> Result<Vec<Output>, Error> {
        if self.is_rejoining() {
            return Err(Error::Rejoining);
        }
        let plain = content::write(&id, content)?;
        if let Some(known) = self.state.outbox.iter().find(|waiting| waiting.id == id) {
            return if known.plain == *plain { Ok(Vec::from([post(known)])) } else { Err(Error::IdReused) };
        }
        if self.state.outbox.len() >= MAX_OUTBOX {
            return Err(Error::OutboxFull(MAX_OUTBOX));
        }
        let sealed = self.group.seal(&plain)?;
        let waiting = Waiting { id: id.to_vec(), plain: plain.to_vec(), sealed, epoch: self.epoch() };
        let posted = post(&waiting);
        self.state.outbox.push(waiting);
        Ok(Vec::from([posted]))
    }

    fn change(
        &mut self,
        id: [u8; 16],
        adds: Vec<Package>,
        removes: Vec<u64>,
        now: u64,
    ) -> Result<Vec<Output>, Error> {
        if self.state.pending.is_some() {
            return Err(Error::CommitPending);
        }
        for package in &adds {
            let refused = |why| Error::KeyPackage { machine: package.machine, why };
            let owner =
                mls::owner(&package.bytes, self.me.server.as_bytes()).ok_or(refused("it cannot be read"))?;
            if (owner.user, owner.machine) != (package.user, package.machine) {
                return Err(refused("it belongs to another machine"));
            }
            if owner.key.as_bytes()[..] != package.key {
                return Err(refused(
                    "its key is not the machine's: the server, or somebody else, swapped it",
                ));
            }
        }
        let packages: Vec<&[u8]> = adds.iter().map(|package| package.bytes.as_slice()).collect();
        let epoch = self.epoch();
        let made = self.group.commit(&packages, &removes, now)?;
        Ok(Vec::from([self.pend(id, epoch, made, adds, removes, false)]))
    }

    fn pend(
        &mut self,
        id: [u8; 16],
        epoch: u64,
        made: Made,
        adds: Vec<Package>,
        removes: Vec<u64>,
        external: bool,
    ) -> Output {
        let Made { commit, group_info, welcome } = made;
        let pending =
            Pending { id: id.to_vec(), epoch, commit, group_info, welcome, adds, removes, external };
        let posted = post_commit(&pending);
        self.state.pending = Some(pending);
        posted
    }

    fn answer(&mut self, answer: Answer<'_>, now: u64) -> Result<Vec<Output>, Error> {
        match answer {
            // Its entry in the stream decides, and comes there whether this answer arrives or not.
            Answer::Stored => Ok(Vec::new()),
            Answer::StaleEpoch { current } if current < self.confirmed_epoch() => {
                Ok(Vec::from([Output::Alarm(Alarm::RolledBack { current, known: self.confirmed_epoch() })]))
            }
            // What is in the stream up to that epoch makes everything that waits anew.
            Answer::StaleEpoch { .. } => Ok(Vec::from([Output::CatchUp])),
            Answer::RemovalsDue { id, machines } => {
                let here: Vec<u64> = self.members().iter().map(|member| member.machine).collect();
                let due: Vec<u64> = machines
                    .iter()
                    .copied()
                    .filter(|due| here.contains(due) && *due != self.me.machine)
                    .collect();
                match &self.state.pending {
                    Some(pending) => Ok(Vec::from([post_commit(pending)])),
                    None if due.is_empty() => Ok(Vec::from([Output::CatchUp])),
                    None => self.change(id, Vec::new(), due, now),
                }
            }
        }
    }

    fn resume(&self) -> Vec<Output> {
        let commit = self.state.pending.iter().map(post_commit);
        commit
            .chain(self.state.outbox.iter().filter(|waiting| waiting.epoch == self.epoch()).map(post))
            .collect()
    }

    fn is_rejoining(&self) -> bool {
        self.state.pending.as_ref().is_some_and(|pending| pending.external)
    }

    /// The epoch that the stream has confirmed: an external commit is in the group's state before it is in the stream.
    fn confirmed_epoch(&self) -> u64 {
        match &self.state.pending {
            Some(pending) if pending.external => pending.epoch,
            _ => self.epoch(),
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, now: u64) -> Result<Vec<Output>, Error> {
        // Another process took it, or the server repeats itself.
        if entry.seq <= self.state.position {
            return Ok(Vec::new());
        }
        self.state.position = entry.seq;
        match entry.kind {
            Kind::Sealed { epoch, bytes } => self.sealed(entry, epoch, bytes),
            Kind::Commit { epoch, bytes, adds, removes } => {
                self.commit(entry, epoch, bytes, (adds, removes), now)
            }
            Kind::Other => Ok(Vec::new()),
        }
    }

    fn sealed(&mut self, entry: &Entry<'_>, epoch: u64, bytes: &[u8]) -> Result<Vec<Output>, Error> {
        let seq = entry.seq;
        let alarm = |alarm| Ok(Vec::from([Output::Alarm(alarm)]));
        if let Some(at) = self.state.outbox.iter().position(|waiting| waiting.id == entry.id) {
            let mine = entry.machine == self.me.machine && entry.user == self.me.user;
            if !mine || self.state.outbox[at].sealed != bytes {
                return alarm(Alarm::Altered { seq });
            }
            let waiting = self.state.outbox.remove(at);
            let (_, content) = content::read(&waiting.plain).ok_or(Error::Damaged)?;
            return Ok(Vec::from([Output::Message { seq, id: entry.id, sender: self.me.clone(), content }]));
        }
        if self.is_rejoining() {
            return Ok(Vec::from([Output::Missed { seq }]));
        }
        if epoch != self.epoch() || bytes.len() > MAX_CONTENT + 4096 {
            return alarm(Alarm::Unreadable { seq });
        }
        let Some(Opened::Text { sender, content }) = self.group.open(bytes)? else {
            return alarm(Alarm::Unreadable { seq });
        };
        let Some((id, content)) = content::read(&content) else { return alarm(Alarm::Unreadable { seq }) };
        let claimed = (entry.user, entry.machine, entry.session, entry.id);
        if claimed != (sender.user, sender.machine, content.session.as_str(), id) {
            return alarm(Alarm::Forged { seq, proven: sender });
        }
        Ok(Vec::from([Output::Message { seq, id, sender, content }]))
    }

    fn commit(
        &mut self,
        entry: &Entry<'_>,
        epoch: u64,
        bytes: &[u8],
        declared: (&[u64], &[u64]),
        now: u64,
    ) -> Result<Vec<Output>, Error> {
        let seq = entry.seq;
        let refused = Ok(Vec::from([Output::Alarm(Alarm::BadCommit { seq })]));
        if bytes.len() > MAX_HANDSHAKE {
            return refused;
        }
        if let Some(pending) = self.state.pending.take_if(|pending| pending.external) {
            if pending.commit != bytes || pending.id != entry.id {
                // Another commit was first: this state was never the group's.
                self.state.is_out = epoch >= pending.epoch;
                let lost = self.state.is_out;
                if !lost {
                    self.state.pending = Some(pending);
                }
                return Ok(Vec::from([if lost { Output::RejoinAgain } else { Output::Missed { seq } }]));
            }
            self.state.update_due = false;
            return Ok(Vec::from([Output::Changed {
                seq,
                epoch: self.epoch(),
                by: self.me.clone(),
                added: Vec::new(),
                removed: Vec::from([self.me.clone()]),
                external: true,
            }]));
        }
        if epoch != self.epoch() {
            return refused;
        }
        let own = self.state.pending.as_ref().is_some_and(|pending| pending.commit == bytes);
        let Some(Opened::Commit(applied)) = self.group.open(bytes)? else { return refused };
        let Applied { by, added, removed, external, is_out } = applied;
        let mut outputs = Vec::new();
        if (by.user, by.machine) != (entry.user, entry.machine) {
            outputs.push(Output::Alarm(Alarm::Forged { seq, proven: by.clone() }));
        }
        if !same(declared.0, &added) || !same(declared.1, &removed) {
            outputs.push(Output::Alarm(Alarm::Misdeclared { seq }));
        }
        self.state.is_out = is_out;
        self.state.update_due &= by.machine != self.me.machine;
        outputs.push(Output::Changed { seq, epoch: self.epoch(), by, added, removed, external });
        let lost = self.state.pending.take().filter(|_| !own);
        if is_out {
            outputs.push(Output::Out);
            self.state.outbox.iter_mut().for_each(|waiting| waiting.plain.zeroize());
            self.state.outbox.clear();
            return Ok(outputs);
        }
        self.again(lost, &mut outputs, now)?;
        Ok(outputs)
    }

    /// Makes anew what the old epoch took with it. A message that had been stored there would have come before the commit.
    fn again(&mut self, lost: Option<Pending>, outputs: &mut Vec<Output>, now: u64) -> Result<(), Error> {
        for at in 0..self.state.outbox.len() {
            let sealed = self.group.seal(&self.state.outbox[at].plain)?;
            let epoch = self.epoch();
            let waiting = &mut self.state.outbox[at];
            (waiting.sealed, waiting.epoch) = (sealed, epoch);
            outputs.push(post(waiting));
        }
        let Some(lost) = lost else { return Ok(()) };
        self.group.clear_commit();
        let id: [u8; 16] = lost.id.as_slice().try_into().map_err(|_| Error::Damaged)?;
        let here: Vec<u64> = self.members().iter().map(|member| member.machine).collect();
        let update = lost.adds.is_empty() && lost.removes.is_empty();
        let adds: Vec<Package> =
            lost.adds.iter().filter(|package| !here.contains(&package.machine)).cloned().collect();
        let removes: Vec<u64> =
            lost.removes.iter().copied().filter(|machine| here.contains(machine)).collect();
        if !update && adds.is_empty() && removes.is_empty() {
            outputs.push(Output::Superseded { id });
            return Ok(());
        }
        outputs.extend(self.change(id, adds, removes, now)?);
        Ok(())
    }
}

impl core::fmt::Debug for Channel {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Channel(epoch {}, position {})", self.epoch(), self.position())
    }
}

fn post(waiting: &Waiting) -> Output {
    let id = waiting.id.as_slice().try_into().unwrap_or_default();
    Output::Post { id, epoch: waiting.epoch, bytes: waiting.sealed.clone() }
}

fn post_commit(pending: &Pending) -> Output {
    Output::PostCommit(PostCommit {
        id: pending.id.as_slice().try_into().unwrap_or_default(),
        epoch: pending.epoch,
        commit: pending.commit.clone(),
        group_info: pending.group_info.clone(),
        welcome: pending.welcome.clone(),
        adds: pending.adds.iter().map(|package| package.machine).collect(),
        removes: pending.removes.clone(),
        external: pending.external,
    })
}

fn same(declared: &[u64], members: &[Member]) -> bool {
    let mut declared = declared.to_vec();
    let mut found: Vec<u64> = members.iter().map(|member| member.machine).collect();
    declared.sort_unstable();
    found.sort_unstable();
    declared == found
}

fn bounded(what: &'static str, bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() <= MAX_HANDSHAKE {
        return Ok(());
    }
    Err(Error::TooLarge { what, size: bytes.len(), most: MAX_HANDSHAKE })
}
