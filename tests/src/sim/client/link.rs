//! A link with an application that remembers what it asked for and checks what it is told.

use std::collections::BTreeMap;

use conclave_core::key::PublicKey;
use conclave_core::link::{Action, Config, Input, JoinFrom, Link, Refused, RequestId};
use conclave_core::name::{ChannelName, Handle, SessionPath};
use conclave_core::opaque::Opaque;
use conclave_core::protocol::{Command, Reply, Token};
use conclave_core::record::Record;
use conclave_core::time::{Monotonic, UnixMillis};
use conclave_core::wire::v1::Frame;

use super::super::follow::{Follow, Reader};
use super::super::world::World;
use super::driver::Driver;
use super::key;
use crate::chance::Chance;

/// Who a link is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Its number among the clients.
    pub number: usize,
    /// Its user's number; see [`super::super::user`].
    pub user: usize,
    /// Its key's number.
    pub key: usize,
    /// Its handle.
    pub handle: Handle,
    /// No human chose the handle.
    pub defaulted: bool,
    /// Another link has the same path.
    pub twin: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct LinkClient {
    /// Who it is.
    pub identity: Identity,
    pub(super) driver: Driver,
    /// The channels that it follows, as its referee sees them.
    pub follows: BTreeMap<ChannelName, Follow>,
    /// Its own choices.
    pub(super) chance: Chance,
    /// What was asked for and not answered: the text, for a post.
    pub(super) pending: BTreeMap<u64, Asked>,
    pub(super) asked: u64,
    /// Every path it ever had.
    paths: Vec<SessionPath>,
    /// Its clock goes wrong by so much.
    pub wall_error: i64,
    /// Tokens of invites that it made or was given.
    pub tokens: Vec<(ChannelName, Token)>,
    /// It has ended for good, until it is started again.
    pub ended: bool,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// A post's text.
    pub text: Option<String>,
    /// For an invite: the channel.
    pub invite: Option<ChannelName>,
}

impl LinkClient {
    /// A link that has not started.
    pub(crate) fn new(identity: Identity, seed: u64) -> Self {
        let mut chance = Chance::new(seed, 100 + identity.number as u64);
        Self {
            driver: Driver::new(identity.number, link(&identity, &mut chance)),
            identity,
            follows: BTreeMap::new(),
            chance,
            pending: BTreeMap::new(),
            asked: 0,
            paths: Vec::new(),
            wall_error: 0,
            tokens: Vec::new(),
            ended: false,
        }
    }

    /// The process starts.
    pub(crate) fn start(&mut self, world: &mut World) {
        self.drive(world, Input::Start);
    }

    /// The process dies and starts anew: nothing of the old link is left.
    pub(crate) fn restart(&mut self, world: &mut World) {
        let link = link(&self.identity, &mut self.chance);
        self.driver.replace(world, link, &mut self.chance);
        self.follows.clear();
        self.pending.clear();
        self.ended = false;
        self.start(world);
    }

    /// The link is told to stop.
    pub(crate) fn stop(&mut self, world: &mut World) {
        self.drive(world, Input::Stop);
        self.ended = true;
        self.follows.clear();
    }

    pub(super) fn dialed(&mut self, world: &mut World, attempt: u64, wire: usize) -> bool {
        let wanted = self.driver.dialed(attempt, wire);
        if wanted {
            self.drive(world, Input::Dialed { server_id: Some("server") });
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
            if self.driver.attempt == 1 && !world.plan.twins && self.is_own(bytes) {
                world.fail(format!("link {} is sent its own post", self.identity.number));
            }
            self.drive(world, Input::Message(Opaque(bytes)));
        }
    }

    /// Whether a message is a post under this link's path. On the first connection that is this connection's; later
    /// it may be one that an earlier connection left behind.
    fn is_own(&self, bytes: &[u8]) -> bool {
        let Some(path) = self.path() else { return false };
        matches!(Frame::decode(bytes), Ok(Frame::ChannelMsg { from, .. })
            if (from.user, from.machine, from.session)
                == (path.user.as_str(), path.machine.as_str(), path.session.as_str()))
    }

    pub(super) fn timer(&mut self, world: &mut World) {
        if self.driver.is_due(world) {
            self.drive(world, Input::Tick);
        }
    }

    /// Asks the server through the link.
    pub(super) fn ask(
        &mut self,
        world: &mut World,
        command: Command,
        asked: Asked,
        deadline: Option<Monotonic>,
    ) {
        self.asked += 1;
        let id = RequestId(self.asked);
        if let Some(text) = &asked.text {
            world.coverage.posts += 1;
            world.fates.entry(text.clone()).or_default().asked += 1;
        }
        self.pending.insert(self.asked, asked);
        self.drive(world, Input::Request { id, command, deadline });
    }

    /// Follows a channel.
    pub(crate) fn join(
        &mut self,
        world: &mut World,
        channel: ChannelName,
        token: Option<Token>,
        from: JoinFrom,
    ) {
        if self.ended {
            return;
        }
        if !self.follows.contains_key(&channel) {
            self.follows.insert(channel.clone(), Follow::new(from));
            world.coverage.follows += 1;
        }
        self.drive(world, Input::Join { channel, token, from });
    }

    /// Follows a channel no more.
    pub(super) fn leave(&mut self, world: &mut World, channel: ChannelName) {
        let left = self.follows.remove(&channel).and_then(|follow| follow.channel);
        // A channel that is followed under its former name as well is one subscription: it ends under both.
        for follow in self.follows.values_mut().filter(|follow| left.is_some() && follow.channel == left) {
            follow.ended = true;
        }
        self.drive(world, Input::Leave { channel });
    }

    /// Hands an input to the link and takes what it tells.
    pub(super) fn drive(&mut self, world: &mut World, input: Input<'_>) {
        for action in self.driver.drive(world, self.wall_error, input) {
            self.told(world, action);
        }
    }

    fn told(&mut self, world: &mut World, action: Action) {
        match action {
            // The driver's.
            Action::Dial(_) | Action::Send(_) | Action::Hangup => {}
            Action::Deliver { channel: Some(channel), from, payload, ts, .. } => {
                match ts {
                    Some(_) => world.coverage.handed_on_read += 1,
                    None => world.coverage.handed_on_live += 1,
                }
                let Some(follow) = self.follows.get_mut(&channel) else {
                    return world.fail(format!(
                        "link {} hands on a message of {channel}, which it does not follow",
                        self.identity.number
                    ));
                };
                // Its history is gone at once, what was delivered comes all the same: there are gaps, rightly.
                follow.incomparable |= follow.channel.is_some_and(|channel| world.store.is_gone(channel));
                let rows = follow.channel.map(|channel| world.store.rows(channel)).unwrap_or_default();
                let purged = follow.channel.map_or(0, |channel| world.store.purged(channel));
                let reader = Reader { rows, own: &self.paths, purged };
                let verdict = follow.handed_on(&reader, &from, &payload, ts);
                if let Err(what) = verdict {
                    world.fail(format!("link {} in {channel}: {what}", self.identity.number));
                }
            }
            Action::Whispered { from: _, payload } => self.whispered(world, &payload),
            Action::Replied { id, result } => {
                let Some(asked) = self.pending.remove(&id.0) else {
                    return world.fail(format!("{id:?} was answered twice, or never asked"));
                };
                self.replied(world, &asked, result);
            }
            Action::Up { path, .. } => {
                world.coverage.ups += 1;
                if !self.paths.contains(&path) {
                    self.paths.push(path);
                }
            }
            Action::Down(_) => world.coverage.downs += 1,
            Action::CaughtUp { channel } => {
                if let Some(follow) = self.follows.get_mut(&channel) {
                    let durable = follow.channel.map_or(0, |channel| world.store.rows(channel).len());
                    follow.caught_up(durable);
                }
            }
            Action::Lost { channel, .. } => {
                self.follows.remove(&channel);
            }
            Action::Renamed { .. } => world.coverage.renames += 1,
            Action::Refused(refused) => self.judge(world, &refused),
            Action::Disabled(_) => world.fail("a link was disabled by nobody".into()),
            Action::Joined { .. }
            | Action::Deferred { .. }
            | Action::Role { .. }
            | Action::Stray { .. }
            | Action::Collision { .. } => {}
            Action::Passed { .. }
            | Action::Deliver { channel: None, .. }
            | Action::Opened { .. }
            | Action::MailboxCaughtUp { .. }
            | Action::ChannelRenamed { .. }
            | Action::SenderKey { .. }
            | Action::ReceiptsMoved { .. }
            | Action::Sealed(_)
            | Action::PresenceChanged { .. } => world.fail("version 1 has no streams".to_owned()),
        }
    }

    fn replied(
        &mut self,
        world: &mut World,
        asked: &Asked,
        result: Result<Reply, conclave_core::link::RequestError>,
    ) {
        if let (Some(channel), Ok(Reply::Invite(token))) = (&asked.invite, &result) {
            self.tokens.push((channel.clone(), token.clone()));
        }
        let Some(text) = &asked.text else { return };
        let fate = world.fates.entry(text.clone()).or_default();
        match result {
            Ok(Reply::Sent) => {
                fate.acknowledged += 1;
                world.coverage.acknowledged += 1;
                if world.store.count(text) < fate.acknowledged {
                    world.fail(format!(
                        "a post of link {} is acknowledged and not durable",
                        self.identity.number
                    ));
                }
            }
            Ok(Reply::Refused(_)) => {
                fate.denied += 1;
                world.coverage.not_posted += 1;
            }
            Ok(other) => world.fail(format!("a post was answered {other:?}")),
            Err(error) if error.may_have_happened() => world.coverage.unknown_posts += 1,
            Err(_) => {
                fate.denied += 1;
                world.coverage.not_posted += 1;
            }
        }
    }

    /// Whether the server knows its key.
    pub(crate) fn is_enrolled(&self, world: &World) -> bool {
        let public = key(self.identity.key).public();
        world.server.process.as_ref().is_some_and(|process| process.outside.watch.is_enrolled(&public))
    }

    /// A link is refused only for a reason that lasts.
    fn judge(&self, world: &mut World, refused: &Refused) {
        let number = self.identity.number;
        match refused {
            Refused::Key(_) => {
                if self.is_enrolled(world) && !enrolled_later(world, &key(self.identity.key).public()) {
                    world.fail(format!("link {number} is refused though its key is enrolled: {refused:?}"));
                }
            }
            Refused::Protocol(why) | Refused::ServerKey(why) => {
                world.fail(format!("link {number} is refused: {why}"))
            }
            Refused::Downgrade => world.fail(format!("link {number} never spoke version 2")),
        }
    }

    /// What the link's own log comparison at rest says.
    pub(crate) fn complete(&self, world: &World, channel: &ChannelName) -> Result<(), String> {
        let Some(follow) = self.follows.get(channel) else { return Ok(()) };
        let rows = follow.channel.map(|channel| world.store.rows(channel)).unwrap_or_default();
        let purged = follow.channel.map_or(0, |channel| world.store.purged(channel));
        follow
            .complete(&Reader { rows, own: &self.paths, purged })
            .map_err(|what| format!("what link {} handed on of {channel} {what}", self.identity.number))
    }

    /// Requests that are unanswered.
    pub(crate) fn unanswered(&self) -> usize {
        self.pending.len()
    }

    /// The current path, while the session lives.
    pub(crate) fn path(&self) -> Option<&SessionPath> {
        self.driver.link.path()
    }

    /// A stamp of the channel's log to follow it from.
    pub(super) fn some_stamp(&mut self, world: &World, channel: &ChannelName) -> UnixMillis {
        let known = world
            .server
            .process
            .as_ref()
            .and_then(|process| process.outside.watch.model.channel_named(channel).map(|(id, _)| id));
        let rows = known.map(|id| world.store.rows(id)).unwrap_or_default();
        match self.chance.below(3) {
            0 => UnixMillis(0),
            1 if !rows.is_empty() => rows[self.chance.index(rows.len())].stamp.ts,
            _ => rows.last().map_or(UnixMillis(0), |row| row.stamp.ts),
        }
    }
}

fn link(identity: &Identity, chance: &mut Chance) -> Link {
    let mut seed = [0; 32];
    rand_core::Rng::fill_bytes(chance, &mut seed);
    Link::new(Config {
        handle: identity.handle.clone(),
        defaulted: identity.defaulted,
        key: key(identity.key).clone(),
        seed,
        newest: None,
    })
}

/// Whether a key was enrolled during the run: the link may have asked before.
pub(super) fn enrolled_later(world: &World, public: &PublicKey) -> bool {
    world.store.records()[world.furnished..]
        .iter()
        .any(|record| matches!(record, Record::MachineAdded { key, .. } if key == public))
}
