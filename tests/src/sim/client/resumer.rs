//! A program that follows channels over version 2 with the real link, and has a disk of its own: how far it has come in each
//! channel outlives its crashes. It compares every message that the link hands on with the server's disk.

use std::collections::{BTreeMap, BTreeSet};

use conclave_core::link::{
    Action, Config, Input, JoinFrom, Link, Newest, OwnMailbox, Place, Proof, Refused, RequestId, Version,
};
use conclave_core::name::{ChannelName, Handle, SessionPath, UserName};
use conclave_core::opaque::Opaque;
use conclave_core::payload::Payload;
use conclave_core::protocol::{Command, Reply};
use conclave_core::record::{ChannelId, MachineId, Record, UserId};
use conclave_core::stream::{MailboxRef, StreamCommand, StreamRef, StreamReply};
use conclave_core::time::UnixMillis;
use conclave_core::wire::client::KeyUse;

use super::super::plan::MILLI;
use super::super::store::Row;
use super::super::world::World;
use super::acts::{CHANNELS, USERS};
use super::driver::Driver;
use super::key;
use super::link::enrolled_later;
use super::speaker::evidence;
use crate::chance::Chance;

/// What a post of this client became.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    /// Where it is stored, as the server has said.
    stored: Option<(ChannelId, u64)>,
}

/// A channel that it follows, on its disk.
#[derive(Clone, Copy, Debug)]
struct Kept {
    from: JoinFrom,
    /// The stream of this name when it was first asked for, and how many messages it had.
    then: Option<(ChannelId, u64)>,
    /// A subscription under its name is lost, and there may have been no other.
    unsure: bool,
    /// The stream and the last message that is kept; unknown before the first subscription.
    place: Option<(ChannelId, u64)>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Resumer {
    number: usize,
    user: usize,
    key: usize,
    keep: bool,
    pinned: bool,
    handle: Handle,
    driver: Driver,
    chance: Chance,
    disk: BTreeMap<ChannelName, Kept>,
    /// How far it has come in its mailboxes, on its disk.
    mail: BTreeMap<OwnMailbox, Option<(ChannelId, u64)>>,
    /// What it posted, by its text, which is never repeated.
    sent: BTreeMap<String, Sent>,
    /// Posts without an answer.
    pending: BTreeMap<u64, String>,
    asked: u64,
    paths: Vec<SessionPath>,
    /// How often its link was told to join a channel, and did not tell that it is lost.
    joins: BTreeMap<ChannelName, u32>,
    /// The machines whose keys its link has.
    known: BTreeSet<(UserId, MachineId)>,
}

type Verdict = Result<(), String>;

impl Resumer {
    /// A program that has not started.
    pub(crate) fn new(world: &World, number: usize, user: usize, key: usize, seed: u64) -> Option<Self> {
        let mut chance = Chance::new(seed, 300 + number as u64);
        let handle = Handle::new(&format!("{PREFIX}{number}")).ok()?;
        let (keep, pinned) = (!chance.one_in(4), chance.one_in(2));
        let link = link(world, &handle, key, (keep, pinned), &mut chance);
        Some(Self {
            number,
            user,
            key,
            keep,
            pinned,
            handle,
            driver: Driver::new(number, link),
            chance,
            disk: BTreeMap::new(),
            mail: if keep {
                [(OwnMailbox::User, None), (OwnMailbox::Session, None)].into()
            } else {
                BTreeMap::new()
            },
            sent: BTreeMap::new(),
            pending: BTreeMap::new(),
            asked: 0,
            paths: Vec::new(),
            joins: BTreeMap::new(),
            known: BTreeSet::new(),
        })
    }

    /// The process starts.
    pub(crate) fn start(&mut self, world: &mut World) {
        self.drive(world, Input::Start);
        for (channel, Kept { from, place, .. }) in self.disk.clone() {
            let from = place.map_or(from, |(stream, seq)| JoinFrom::After { stream, seq });
            self.tell_to_join(world, channel, from);
        }
        for (mailbox, after) in self.mail.clone() {
            self.drive(world, Input::Open { mailbox, after });
        }
    }

    /// The process dies and starts anew: what is not on its disk is lost.
    pub(crate) fn crash(&mut self, world: &mut World) {
        let link = link(world, &self.handle, self.key, (self.keep, self.pinned), &mut self.chance);
        self.driver.replace(world, link, &mut self.chance);
        self.pending.clear();
        self.known.clear();
        self.joins.clear();
        self.start(world);
    }

    pub(super) fn dialed(&mut self, world: &mut World, attempt: u64, wire: usize) -> bool {
        let wanted = self.driver.dialed(attempt, wire);
        if wanted {
            self.drive(world, Input::Dialed { server_id: None });
        }
        wanted
    }

    pub(super) fn dial_failed(&mut self, world: &mut World, attempt: u64) {
        if self.driver.dial_failed(attempt) {
            self.drive(world, Input::DialFailed("refused"));
        }
    }

    pub(super) fn closed(&mut self, world: &mut World, wire: usize, why: &'static str) {
        if self.driver.closed(wire) {
            self.drive(world, Input::Closed(why));
        }
    }

    pub(super) fn message(&mut self, world: &mut World, wire: usize, bytes: &[u8]) {
        if self.driver.has(wire) {
            self.drive(world, Input::Message(Opaque(bytes)));
        }
    }

    pub(super) fn timer(&mut self, world: &mut World) {
        if self.driver.is_due(world) {
            self.drive(world, Input::Tick);
        }
    }

    /// Does something; says when to do the next thing.
    pub(super) fn act(&mut self, world: &mut World) -> u64 {
        match self.chance.below(100) {
            _ if self.disk.is_empty() => self.join(world),
            0..60 => {
                let burst = if self.chance.one_in(6) { self.chance.below(12) } else { 1 };
                (0..burst).for_each(|_| self.post(world));
            }
            60..70 => self.report(world),
            70..75 => self.whisper(world),
            75..83 => self.join(world),
            83..87 => self.leave(world),
            87..90 => self.crash(world),
            _ => self.query(world),
        }
        self.chance.around(world.plan.pace) + MILLI
    }

    fn join(&mut self, world: &mut World) {
        let most = *self.chance.pick(&[1, 3, 4, CHANNELS.len()]);
        let Ok(channel) = ChannelName::new(self.chance.word(&CHANNELS[..most])) else { return };
        let from = match self.chance.below(3) {
            0 => JoinFrom::Since(UnixMillis(0)),
            1 => JoinFrom::Since(self.some_stamp(world)),
            _ => JoinFrom::Live,
        };
        let process = world.server.process.as_ref();
        let stream = process.and_then(|it| it.outside.watch.model.channel_named(&channel));
        let then = stream.map(|(stream, channel)| (stream, channel.last.seq));
        self.disk.entry(channel.clone()).or_insert(Kept { from, then, unsure: false, place: None });
        self.tell_to_join(world, channel, from);
    }

    fn tell_to_join(&mut self, world: &mut World, channel: ChannelName, from: JoinFrom) {
        *self.joins.entry(channel.clone()).or_default() += 1;
        self.drive(world, Input::Join { channel, token: None, from });
    }

    /// A subscription under this name is gone. Of a name that the link was told several times another may stand.
    fn lost(&mut self, channel: &ChannelName) -> Result<Kept, String> {
        let joins = self.joins.get_mut(channel).filter(|joins| **joins > 0);
        let joins = joins.ok_or_else(|| format!("{channel} is lost, and was not followed"))?;
        *joins -= 1;
        let kept = self.disk.get(channel).copied().ok_or("it hears of what it does not follow")?;
        match *joins {
            0 => self.disk.remove(channel),
            _ => self.disk.insert(channel.clone(), Kept { unsure: true, place: None, ..kept }),
        };
        Ok(kept)
    }

    fn some_stamp(&mut self, world: &World) -> UnixMillis {
        let logs = world.store.logs().filter(|(_, log)| !log.rows.is_empty());
        let nth = self.chance.index(logs.clone().count());
        let rows = logs.clone().nth(nth).map(|(_, log)| &log.rows[..]).unwrap_or_default();
        rows.get(self.chance.index(rows.len())).map_or(UnixMillis(0), |row| row.stamp.ts)
    }

    fn some_channel(&mut self) -> Option<(ChannelName, Kept)> {
        let nth = self.chance.index(self.disk.len());
        self.disk.iter().nth(nth).map(|(name, kept)| (name.clone(), *kept))
    }

    fn leave(&mut self, world: &mut World) {
        if let Some((channel, _)) = self.some_channel() {
            self.disk.remove(&channel);
            self.joins.remove(&channel);
            self.drive(world, Input::Leave { channel });
        }
    }

    fn post(&mut self, world: &mut World) {
        let Some((channel, _)) = self.some_channel() else { return };
        self.write(world, StreamRef::Channel(channel), "");
    }

    fn whisper(&mut self, world: &mut World) {
        let session = world.some_path(&mut self.chance).filter(|_| self.chance.one_in(2));
        let (name, to) = match session {
            Some(path) => (MailboxRef::Session(Box::new(path.clone())), format!(" to {path}")),
            None => match UserName::new(self.chance.word(&USERS)) {
                Ok(user) => (MailboxRef::User(user.clone()), format!(" to {user}")),
                Err(_) => return,
            },
        };
        self.write(world, StreamRef::Mailbox(name), &to);
    }

    fn write(&mut self, world: &mut World, stream: StreamRef, end: &str) {
        self.asked += 1;
        let text = format!("{}#{PREFIX}{}{end}", self.asked, self.number);
        self.sent.insert(text.clone(), Sent::default());
        self.pending.insert(self.asked, text.clone());
        self.ask(world, Command::Stream(StreamCommand::post(stream, Payload::Plain(text))));
    }

    fn ask(&mut self, world: &mut World, command: Command) {
        let id = RequestId(self.asked);
        let now = world.client_now(0).mono;
        let wait = std::time::Duration::from_millis(1 + self.chance.below(60_000));
        let deadline = self.chance.one_in(2).then(|| now + wait);
        self.drive(world, Input::Request { id, command, deadline });
    }

    fn report(&mut self, world: &mut World) {
        let mail: Vec<_> = self.mail.values().copied().flatten().collect();
        let place = match self.some_channel() {
            _ if !mail.is_empty() && self.chance.one_in(3) => {
                mail.get(self.chance.index(mail.len())).copied()
            }
            found => found.and_then(|(_, kept)| kept.place),
        };
        let Some((stream, delivered)) = place else { return };
        let seen = self.chance.below(delivered + 1);
        if let Some(path) = self.driver.link.path() {
            let claims = world.claims.entry((path.to_string(), stream)).or_default();
            claims.delivered = claims.delivered.max(delivered);
            claims.seen = claims.seen.max(seen);
        }
        self.drive(world, Input::Report { stream, delivered, seen });
    }

    fn query(&mut self, world: &mut World) {
        let Some((channel, Kept { place, .. })) = self.some_channel() else { return };
        self.asked += 1;
        let command = match (self.chance.below(3), place) {
            (0, Some((stream, seq))) if seq > 0 => {
                let seq = 1 + self.chance.below(seq);
                Command::Stream(StreamCommand::Receipts { stream: StreamRef::Number(stream), seq })
            }
            (1, _) => Command::Who { channel: Some(channel) },
            _ => Command::ReadSince { since: self.some_stamp(world), channel },
        };
        self.ask(world, command);
    }

    fn drive(&mut self, world: &mut World, input: Input<'_>) {
        for action in self.driver.drive(world, 0, input) {
            if let Err(what) = self.told(world, action) {
                world.fail(format!("the resuming link {}: {what}", self.number));
            }
        }
    }

    fn told(&mut self, world: &mut World, action: Action) -> Verdict {
        match action {
            Action::Joined { channel, position } => self.joined(world, &channel, position),
            Action::Opened { mailbox, position: Some((stream, seq)) } => {
                let kept = self.mail.entry(mailbox).or_default();
                match kept {
                    Some(kept) if *kept != (stream, seq) => Err(format!("{mailbox:?} goes on elsewhere")),
                    Some(_) => Ok(()),
                    None => {
                        *kept = Some((stream, seq));
                        Ok(())
                    }
                }
            }
            Action::Deliver { channel, from, payload, ts, place: Some(place) } => {
                match channel {
                    Some(_) => world.coverage.resumed += 1,
                    None => world.coverage.mail += 1,
                }
                self.delivered(world, channel.as_ref(), (&from, &payload, ts), &place)
            }
            Action::Passed { channel, stream, from, to, purged } => {
                let rows = world.store.rows(stream);
                let gone = to <= world.store.purged(stream) as u64 || world.store.is_gone(stream);
                let own = |seq: u64| row(rows, seq).is_some_and(|row| self.paths.contains(&row.from));
                if if purged { !gone } else { !(from..=to).all(own) } {
                    return Err(format!("{from} to {to} of {channel:?} are left out, purged: {purged}"));
                }
                self.advance(channel.as_ref(), stream, from, to)
            }
            Action::Replied { id, result } => match self.pending.remove(&id.0) {
                Some(text) => self.posted(world, text, result.ok()),
                None => Ok(()),
            },
            Action::Up { path, server_key, .. } => {
                if server_key != Some(world.identity.key.public()) {
                    return Err(format!("the server proved {server_key:?}"));
                }
                if !self.paths.contains(&path) {
                    self.paths.push(path);
                }
                Ok(())
            }
            Action::Lost { channel, .. } => self.lost(&channel).map(drop),
            Action::ChannelRenamed { stream, from, to } => {
                let kept = self.lost(&from)?;
                if kept.place.is_some_and(|at| at.0 != stream) {
                    return Err(format!("{from} is renamed to {to}"));
                }
                // Where the new name was followed, too, both are one now.
                self.disk.insert(to.clone(), kept);
                *self.joins.entry(to).or_default() += 1;
                Ok(())
            }
            Action::SenderKey { user, machine, key, .. } => {
                self.known.insert((user, machine));
                let is_so = |record: &Record| {
                    matches!(record, Record::MachineAdded { machine: id, user: of, key: it, .. }
                        if (*id, *of, *it) == (machine, user, key))
                };
                match world.store.records().iter().any(is_so) {
                    true => Ok(()),
                    false => Err(format!("{key:?} is told to be of {machine:?}")),
                }
            }
            Action::Refused(Refused::Key(_)) => {
                let public = key(self.key).public();
                let known = self.is_enrolled(world) && !enrolled_later(world, &public);
                if known { Err("it is refused, and its key is enrolled".into()) } else { Ok(()) }
            }
            Action::Down(_)
            | Action::CaughtUp { .. }
            | Action::MailboxCaughtUp { .. }
            | Action::Deferred { .. }
            | Action::Role { .. } => Ok(()),
            Action::Dial(Version::V2) | Action::Send(_) | Action::Hangup => Ok(()),
            other => Err(format!("{other:?} cannot be")),
        }
    }

    fn joined(
        &mut self,
        world: &World,
        channel: &ChannelName,
        position: Option<(ChannelId, u64)>,
    ) -> Verdict {
        let kept = self.disk.get_mut(channel).ok_or("it joins what it does not follow")?;
        let (stream, seq) = position.ok_or("it joins nowhere")?;
        match kept.place {
            Some(place) if place != (stream, seq) => {
                return Err(format!("it joins {channel} at {position:?} and has come to {place:?}"));
            }
            Some(_) => return Ok(()),
            None => kept.place = Some((stream, seq)),
        }
        let rows = world.store.rows(stream);
        let purged = world.store.purged(stream) as u64;
        let had = kept.then.filter(|then| then.0 == stream).map_or(0, |then| then.1);
        // Told several times, the link may have begun from another place than the first.
        if kept.unsure || self.joins.get(channel) != Some(&1) {
            return Ok(());
        }
        let fits = match kept.from {
            // What is purged is neither before nor behind. What was posted meanwhile may have an older stamp: clocks jump.
            JoinFrom::Since(since) => {
                let is_before = |seq| row(rows, seq).is_some_and(|row| row.stamp.ts <= since);
                let at = seq.max(purged);
                (at == purged || is_before(at)) && (at >= had || !is_before(at + 1))
            }
            JoinFrom::Live | JoinFrom::After { .. } => seq <= rows.len() as u64,
        };
        if fits { Ok(()) } else { Err(format!("it joins {channel} {:?} at {seq}", kept.from)) }
    }

    fn delivered(
        &mut self,
        world: &mut World,
        channel: Option<&ChannelName>,
        (from, payload, ts): (&SessionPath, &Payload, Option<UnixMillis>),
        place: &Place,
    ) -> Verdict {
        let Place { stream, seq, origin, proof } = place;
        let Some(row) = row(world.store.rows(*stream), *seq) else {
            return Err(format!("message {seq} of {channel:?} is not on the disk"));
        };
        let same = *row.from == *from
            && ts == Some(row.stamp.ts)
            && origin.sender == row.origin.sender
            && origin.signed == row.origin.signed
            && evidence::said_by(payload) == evidence::said_by(&row.payload);
        if !same {
            return Err(format!("message {seq} of {channel:?} is not what is on the disk"));
        }
        if self.paths.contains(from) {
            return Err(format!("it is handed its own message {seq} of {channel:?}"));
        }
        let honest = from.session.as_str().starts_with(PREFIX);
        let expected = match (&row.origin.signed, honest) {
            (None, _) => Proof::Unsigned,
            // The server does not tell the keys of those with whom the user shares nothing any more.
            _ if row.origin.sender.is_none_or(|sender| !self.known.contains(&sender)) => Proof::Unchecked,
            (Some(_), true) => Proof::Verified,
            // The other clients of version 2 write anything for a signature.
            (Some(_), false) => Proof::Forged,
        };
        if *proof != expected {
            return Err(format!("message {seq} of {channel:?} by {from} is called {proof:?}"));
        }
        match proof {
            Proof::Verified => world.coverage.verified += 1,
            Proof::Forged => world.coverage.forged += 1,
            Proof::Unsigned | Proof::Unchecked => {}
        }
        self.advance(channel, *stream, *seq, *seq)
    }

    /// Keeps what comes next.
    fn advance(&mut self, channel: Option<&ChannelName>, stream: ChannelId, from: u64, to: u64) -> Verdict {
        let place = match channel {
            Some(channel) => self.disk.get_mut(channel).map(|kept| &mut kept.place),
            None => self.mail.values_mut().find(|kept| kept.is_some_and(|kept| kept.0 == stream)),
        };
        let place = place.ok_or("it hears of what it does not follow")?;
        if *place != Some((stream, from - 1)) {
            return Err(format!("{from} of {channel:?} ({stream:?}) is handed on, and it is at {place:?}"));
        }
        *place = Some((stream, to));
        Ok(())
    }

    fn posted(&mut self, world: &World, text: String, reply: Option<Reply>) -> Verdict {
        let (stream, stamp) = match reply {
            Some(Reply::Stream(StreamReply::Stored { stream, stamp, .. })) => (stream, stamp),
            Some(Reply::Refused(_)) | None => return Ok(()),
            other => return Err(format!("a post was answered {other:?}")),
        };
        let row = row(world.store.rows(stream), stamp.seq).filter(|row| row.stamp == stamp);
        if row.is_none_or(|row| text_of(&row.payload) != text) {
            return Err(format!("{text} is acknowledged at {stamp:?}, and something else is there"));
        }
        self.sent.entry(text).or_default().stored = Some((stream, stamp.seq));
        Ok(())
    }

    fn is_enrolled(&self, world: &World) -> bool {
        let public = key(self.key).public();
        world.server.process.as_ref().is_some_and(|process| process.outside.watch.is_enrolled(&public))
    }

    /// Nothing breaks any more, and time has passed: what it follows is whole, and each post is there at most once. Says
    /// how much it follows.
    ///
    /// # Errors
    /// Something is not as it should be.
    pub(crate) fn at_rest(&self, world: &World) -> Result<u64, String> {
        let failed =
            |what: String| format!("the resuming link {} of user {}: {what}", self.number, self.user);
        self.posts(world).map_err(failed)?;
        if self.driver.link.path().is_none() {
            return if self.is_enrolled(world) { Err(failed("it has not come back".into())) } else { Ok(0) };
        }
        if !self.pending.is_empty() {
            return Err(failed(format!("{} posts are not answered", self.pending.len())));
        }
        for (channel, kept) in &self.disk {
            let Some((stream, seq)) = kept.place else {
                if kept.unsure {
                    continue;
                }
                return Err(failed(format!("{channel} is not joined")));
            };
            let last = world.store.rows(stream).len() as u64;
            if seq != last {
                return Err(failed(format!("{channel} ends at {seq} of {last}")));
            }
        }
        for (mailbox, place) in &self.mail {
            let Some((stream, seq)) = place else { return Err(failed(format!("{mailbox:?} is not open"))) };
            let last = world.store.rows(*stream).len() as u64;
            if *seq != last {
                return Err(failed(format!("{mailbox:?} ends at {seq} of {last}")));
            }
        }
        Ok((self.disk.len() + self.mail.len()) as u64)
    }

    fn posts(&self, world: &World) -> Verdict {
        let mut found: BTreeMap<String, (ChannelId, u64)> = BTreeMap::new();
        for (stream, log) in world.store.logs() {
            for row in log.rows.iter().filter(|row| self.paths.contains(&row.from)) {
                let text = text_of(&row.payload);
                if !self.sent.contains_key(&text) {
                    return Err(format!("{text:?} is in the history, and it did not post it"));
                }
                // Once the first is purged, the id is free.
                if let Some((first, seq)) = found.insert(text.clone(), (stream, row.stamp.seq))
                    && seq > world.store.purged(first) as u64
                {
                    return Err(format!("{text:?} is stored twice, in {first:?} and {stream:?}"));
                }
            }
        }
        let lost = self.sent.iter().find(|(text, sent)| sent.stored.is_some() && !found.contains_key(*text));
        lost.map_or(Ok(()), |(text, _)| Err(format!("{text:?} was acknowledged and is gone")))
    }
}

/// What the handles of these clients begin with: they sign what they post.
pub(crate) const PREFIX: &str = "w";

fn row(rows: &[Row], seq: u64) -> Option<&Row> {
    seq.checked_sub(1).and_then(|at| rows.get(at as usize))
}

fn text_of(payload: &Payload) -> String {
    evidence::said_by(payload).unwrap_or_default().text
}

fn link(
    world: &World,
    handle: &Handle,
    number: usize,
    (keep, pinned): (bool, bool),
    chance: &mut Chance,
) -> Link {
    let mut seed = [0; 32];
    rand_core::Rng::fill_bytes(chance, &mut seed);
    let pinned = pinned.then(|| world.identity.key.public());
    Link::new(Config {
        handle: handle.clone(),
        defaulted: false,
        key: key(number).clone(),
        seed,
        newest: Some(Newest { pinned, key: KeyUse::Shared, keep }),
    })
}
