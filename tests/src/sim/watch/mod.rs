//! The hub's referee: sees every input and every action, and knows from the records alone what may be.
//!
//! It holds a plain model of its own: who lives, who is subscribed to what, which request waits for what. An
//! action that the model does not expect, or one that it misses, is a failure.

/// Ends a check, saying what does not hold.
macro_rules! demand {
    ($what:expr, $($message:tt)+) => {
        if !$what {
            return Err(format!($($message)+));
        }
    };
}

mod answers;
mod model;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use conclave_core::handshake::Proven;
use conclave_core::hub::{Action, BatchId, Config, ConnId, Hub, Input, Read, RequestId};
use conclave_core::key::PublicKey;
use conclave_core::name::{ChannelName, SessionPath};
use conclave_core::payload::Payload;
use conclave_core::protocol::{CloseReason, Command, Refusal, Reply, Visibility};
use conclave_core::record::{ChannelId, MachineId, Record, UserId};
use conclave_core::time::{Now, UnixMillis};

pub(super) use model::Model;

use super::coverage::Coverage;

/// See the module.
#[derive(Debug)]
pub(super) struct Watch {
    config: Config,
    /// What the durable records mean.
    pub model: Model,
    sessions: BTreeMap<ConnId, Session>,
    paths: BTreeMap<Arc<SessionPath>, ConnId>,
    opening: BTreeMap<ConnId, Proven>,
    asked: BTreeMap<ConnId, BTreeMap<RequestId, Asked>>,
    in_flight: Option<InFlight>,
    /// Deliveries that the hub owes in this call.
    owed: VecDeque<Owed>,
    /// Sessions that must end in this call.
    doomed: BTreeMap<ConnId, &'static str>,
    /// Whispers of this call, by sender.
    whispered: Vec<(Arc<SessionPath>, SessionPath)>,
    /// Subscriptions that the server ended: the clients do not know.
    pub ended: Vec<(ConnId, ChannelId)>,
    /// Subscriptions that the server took: connection, channel, name, whether it stood already.
    pub joined: Vec<(ConnId, ChannelId, ChannelName, bool)>,
    /// Channels that got another name.
    pub renamed: Vec<(ChannelId, ChannelName)>,
    /// What is said of a channel that is not there, without its name.
    absent: Option<String>,
    draining: bool,
}

#[derive(Debug)]
struct Session {
    path: Arc<SessionPath>,
    user: UserId,
    machine: MachineId,
    admin: bool,
    heard: u64,
    subscriptions: BTreeSet<ChannelId>,
}

#[derive(Debug)]
struct Asked {
    command: Command,
    /// For a post: the session was subscribed to the channel, then or later.
    subscribed: bool,
    /// For a post: where it stands.
    fate: Fate,
    /// For a reading: the channel, and the newest message that had been delivered when it was asked for.
    read: Option<(ChannelId, UnixMillis)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Sealed,
    Durable,
    Failed,
}

#[derive(Debug)]
struct InFlight {
    batch: BatchId,
    records: Vec<Record>,
    posts: Vec<(ConnId, Option<RequestId>)>,
}

#[derive(Debug)]
struct Owed {
    channel: ChannelName,
    from: Arc<SessionPath>,
    payload: Arc<Payload>,
    to: Vec<ConnId>,
    except: ConnId,
}

type Verdict = Result<(), String>;

impl Watch {
    /// A referee of a server that starts with these durable records.
    ///
    /// # Errors
    /// The records contradict each other.
    pub(super) fn new(config: Config, records: &[Record]) -> Result<Self, String> {
        let mut model = Model::default();
        for record in records {
            model.apply(record)?;
        }
        Ok(Self {
            config,
            model,
            sessions: BTreeMap::new(),
            paths: BTreeMap::new(),
            opening: BTreeMap::new(),
            asked: BTreeMap::new(),
            in_flight: None,
            owed: VecDeque::new(),
            doomed: BTreeMap::new(),
            whispered: Vec::new(),
            ended: Vec::new(),
            joined: Vec::new(),
            renamed: Vec::new(),
            absent: None,
            draining: false,
        })
    }

    /// Before the hub takes `input`.
    ///
    /// # Errors
    /// What cannot be.
    pub(super) fn input(&mut self, now: Now, input: &Input) -> Verdict {
        self.whispered.clear();
        match input {
            Input::Open { conn, proven } => {
                self.opening.insert(*conn, proven.clone());
            }
            Input::Request { conn, request, command, .. } => {
                if let Some(session) = self.sessions.get_mut(conn) {
                    session.heard = now.mono.0;
                    self.ask(*conn, *request, command);
                }
            }
            Input::Closed { conn } => {
                self.opening.remove(conn);
                self.end(*conn);
            }
            Input::Persisted { batch } => return self.persisted(*batch),
            Input::PersistFailed { batch, .. } => {
                if let Some(failed) = self.in_flight.take_if(|in_flight| in_flight.batch == *batch) {
                    self.settle(&failed.posts, Fate::Failed);
                }
            }
            Input::Shutdown => self.draining = true,
            Input::HistoryRead { .. }
            | Input::Overflowed { .. }
            | Input::Tick
            | Input::Space { .. }
            | Input::RoundEnded => {}
            Input::AlreadyStored { .. }
            | Input::Lagged { .. }
            | Input::Ready { .. }
            | Input::Progressed { .. } => return Err(format!("no session here speaks version 2: {input:?}")),
        }
        Ok(())
    }

    fn ask(&mut self, conn: ConnId, request: RequestId, command: &Command) {
        let mut asked = Asked { command: command.clone(), subscribed: false, fate: Fate::Open, read: None };
        if let Command::Post { channel, .. } | Command::ReadSince { channel, .. } = command
            && let Some((id, channel)) = self.model.channel_named(channel)
        {
            let newest = if channel.last.seq > 0 { channel.last.ts } else { UnixMillis(i64::MIN) };
            asked.read = Some((id, newest));
            asked.subscribed = self.is_subscribed(conn, id);
        }
        self.asked.entry(conn).or_default().insert(request, asked);
    }

    fn persisted(&mut self, batch: BatchId) -> Verdict {
        let Some(done) = self.in_flight.take_if(|in_flight| in_flight.batch == batch) else { return Ok(()) };
        self.settle(&done.posts, Fate::Durable);
        let mut posts = done.posts.iter();
        for record in &done.records {
            if let Record::Posted { channel, from, payload, .. } = record {
                let to: Vec<ConnId> = self
                    .sessions
                    .iter()
                    .filter(|(_, session)| session.subscriptions.contains(channel))
                    .map(|(conn, _)| *conn)
                    .collect();
                let except = posts.next().map(|(conn, _)| *conn).unwrap_or_default();
                // By its name of now: a change of the same batch comes after it.
                let name = self.model.channels.get(channel).map(|channel| channel.name.clone());
                if !to.is_empty()
                    && let Some(channel) = name
                {
                    let (from, payload) = (from.clone(), payload.clone());
                    self.owed.push_back(Owed { channel, from, payload, to, except });
                }
            }
            self.effect(record);
            self.model.apply(record)?;
        }
        Ok(())
    }

    /// What a durable record ends among the living.
    fn effect(&mut self, record: &Record) {
        match record {
            Record::UserRemoved { user } => {
                for (conn, _) in self.sessions.iter().filter(|(_, session)| session.user == *user) {
                    self.doomed.insert(*conn, CloseReason::UserRemoved { own: false }.label());
                }
            }
            Record::MachineRemoved { machine, .. } => {
                for (conn, _) in self.sessions.iter().filter(|(_, session)| session.machine == *machine) {
                    self.doomed.insert(*conn, CloseReason::KeyRevoked { own: false }.label());
                }
            }
            Record::MemberRemoved { channel, user } | Record::Banned { channel, user } => {
                self.unsubscribe(*channel, |session| session.user == *user);
            }
            Record::VisibilitySet { channel, visibility: Visibility::Private } => {
                let Some(found) = self.model.channels.get(channel) else { return };
                let (members, creator) = (found.members.clone(), found.creator);
                let admins = self.config.admins.clone();
                self.unsubscribe(*channel, |session| {
                    session.user != creator
                        && !members.contains(&session.user)
                        && !admins.contains_key(&session.path.user)
                });
            }
            Record::ChannelDeleted { channel } => self.unsubscribe(*channel, |_| true),
            Record::ChannelRenamed { channel, name } => self.renamed.push((*channel, name.clone())),
            _ => {}
        }
    }

    fn unsubscribe(&mut self, channel: ChannelId, whom: impl Fn(&Session) -> bool) {
        for (conn, session) in &mut self.sessions {
            if whom(session) && session.subscriptions.remove(&channel) {
                self.ended.push((*conn, channel));
            }
        }
    }

    fn settle(&mut self, posts: &[(ConnId, Option<RequestId>)], fate: Fate) {
        for (conn, request) in posts {
            let asked = self.asked.get_mut(conn);
            if let (Some(asked), Some(request)) = (asked, request)
                && let Some(asked) = asked.get_mut(request)
            {
                asked.fate = fate;
            }
        }
    }

    /// After the hub took the input: what it did.
    ///
    /// # Errors
    /// What cannot be.
    pub(super) fn actions(
        &mut self,
        now: Now,
        actions: &[Action],
        hub: &Hub,
        coverage: &mut Coverage,
    ) -> Verdict {
        for action in actions {
            self.action(now, action, coverage)?;
        }
        if let Some(owed) = self.owed.pop_front() {
            return Err(format!("a durable post to {} was not delivered", owed.channel));
        }
        if let Some((conn, reason)) = self.doomed.pop_first() {
            return Err(format!("{conn:?} lives on after its end: {reason}"));
        }
        if hub.sessions().count() != self.sessions.len() {
            return Err(format!("the hub has other sessions than the {} that live", self.sessions.len()));
        }
        Ok(())
    }

    fn action(&mut self, now: Now, action: &Action, coverage: &mut Coverage) -> Verdict {
        match action {
            Action::Established { conn, session } => {
                self.established(now, *conn, &session.path, session.admin)
            }
            Action::Close { conn, reason } => self.closed(now, *conn, reason, coverage),
            Action::Reply { conn, request, reply } => {
                let asked = self.asked.get_mut(conn).and_then(|asked| asked.remove(request));
                let Some(asked) = asked else {
                    // What was under way when a session ended is answered to nobody.
                    if !self.sessions.contains_key(conn) {
                        return Ok(());
                    }
                    return Err(format!("{conn:?} was answered {request:?}, which it had not asked"));
                };
                if let Command::Post { channel, .. } = &asked.command {
                    coverage.answer(&asked.command, reply);
                    self.silent(*conn, &asked.command, channel, reply)?;
                    return posted(&asked, reply);
                }
                coverage.answer(&asked.command, reply);
                if !self.sessions.contains_key(conn) {
                    // Who ended itself is answered before it ends.
                    return Ok(());
                }
                self.answered(*conn, &asked, reply)
            }
            Action::Deliver { channel, from, payload, to, except, .. } => {
                coverage.deliveries += to.len() as u64;
                let Some(owed) = self.owed.pop_front() else {
                    return Err(format!("a message was delivered in {channel} that was not durable then"));
                };
                let same = owed.channel == *channel
                    && owed.from == *from
                    && owed.payload == *payload
                    && (owed.except == *except || !to.contains(owed.except));
                if !same {
                    return Err(format!("{channel} was delivered another message than the next durable one"));
                }
                if !owed.to.iter().copied().eq(to.iter()) {
                    return Err(format!(
                        "a message in {channel} went to {to:?}, and {:?} are there",
                        owed.to
                    ));
                }
                Ok(())
            }
            Action::Whisper { conn, from, target, .. } => {
                if self.paths.get(target) != Some(conn) {
                    return Err(format!("a whisper to {target} went to {conn:?}"));
                }
                self.whispered.push((from.clone(), (**target).clone()));
                Ok(())
            }
            Action::Persist { batch, records } => self.sealed(*batch, records),
            Action::ReadHistory(Read { conn, channel, .. }) => {
                if !self.is_subscribed(*conn, *channel) {
                    return Err(format!("{conn:?} reads {channel:?}, in which it is not"));
                }
                Ok(())
            }
            Action::Notify { .. } | Action::Mark { .. } | Action::Probe { .. } => {
                Err(format!("a session of version 1 has no {action:?}"))
            }
            Action::Drained => {
                if self.in_flight.is_some() || !self.sessions.is_empty() {
                    return Err("drained with work under way".into());
                }
                Ok(())
            }
        }
    }

    fn established(&mut self, now: Now, conn: ConnId, path: &Arc<SessionPath>, admin: bool) -> Verdict {
        let Some(proven) = self.opening.remove(&conn) else {
            return Err(format!("{path} became a session without asking"));
        };
        let Some((user, machine)) = self.model.machine_with(&proven.key) else {
            return Err(format!("{path} became a session with a key that is not enrolled"));
        };
        let known = self.model.users.get(&user).is_some_and(|known| {
            known.name == path.user
                && known.machines.get(&machine).is_some_and(|(name, _)| *name == path.machine)
        });
        if !known || proven.session != path.session {
            return Err(format!("{path} is not who it is"));
        }
        if admin != self.config.admins.contains_key(&path.user) {
            return Err(format!("{path} was told a wrong role"));
        }
        if let Some(other) = self.paths.insert(path.clone(), conn) {
            return Err(format!("{path} lives twice: {other:?} and {conn:?}"));
        }
        let path = path.clone();
        let session =
            Session { path, user, machine, admin, heard: now.mono.0, subscriptions: BTreeSet::new() };
        self.sessions.insert(conn, session);
        Ok(())
    }

    fn closed(&mut self, now: Now, conn: ConnId, reason: &CloseReason, coverage: &mut Coverage) -> Verdict {
        *coverage.closed.entry(reason.label()).or_default() += 1;
        if let Some(doom) = self.doomed.remove(&conn)
            && doom != reason.label()
        {
            return Err(format!("{conn:?} was told {reason} instead of {doom}"));
        }
        let session = self.sessions.get(&conn);
        match (reason, session) {
            (CloseReason::Refused(_) | CloseReason::Shutdown, None) => {
                if self.opening.remove(&conn).is_none() {
                    return Err(format!("{conn:?} was refused and had not asked"));
                }
            }
            (CloseReason::Idle { .. }, Some(session)) => {
                let idle = self.config.limits.idle.as_millis() as u64;
                if session.heard + idle > now.mono.0 {
                    return Err(format!("{} was called idle and is not", session.path));
                }
            }
            (CloseReason::Shutdown, Some(_)) if !self.draining => {
                return Err("a session ended for a shutdown that was none".into());
            }
            (_, Some(_)) => {}
            (reason, None) => return Err(format!("{conn:?} ended ({reason}) and did not live")),
        }
        self.end(conn);
        Ok(())
    }

    fn end(&mut self, conn: ConnId) {
        self.asked.remove(&conn);
        if let Some(session) = self.sessions.remove(&conn) {
            self.paths.remove(&session.path);
        }
    }

    /// A batch goes to the disk.
    fn sealed(&mut self, batch: BatchId, records: &[Record]) -> Verdict {
        if self.in_flight.is_some() {
            return Err("two batches are in flight".into());
        }
        let mut posts = Vec::new();
        for record in records {
            let Record::Posted { channel, from, payload, .. } = record else { continue };
            let Some(name) = self.model.channels.get(channel).map(|channel| channel.name.clone()) else {
                return Err(format!("a post goes to {channel:?}, which is none"));
            };
            posts.push(self.find_post(*channel, &name, from, payload)?);
        }
        self.in_flight = Some(InFlight { batch, records: records.to_vec(), posts });
        Ok(())
    }

    /// Whose post a record is: the oldest open one of its session, which may have ended.
    fn find_post(
        &mut self,
        channel: ChannelId,
        name: &ChannelName,
        from: &Arc<SessionPath>,
        payload: &Payload,
    ) -> Result<(ConnId, Option<RequestId>), String> {
        let nobody = (ConnId(u64::MAX), None);
        let Some(conn) = self.paths.get(from).copied() else { return Ok(nobody) };
        // A session that was superseded has an equal path of its own.
        if !self.sessions.get(&conn).is_some_and(|session| Arc::ptr_eq(&session.path, from)) {
            return Ok(nobody);
        }
        let subscribed = self.is_subscribed(conn, channel);
        let open = self.asked.get_mut(&conn).and_then(|asked| {
            asked
                .iter_mut()
                .find(|(_, asked)| asked.fate == Fate::Open && matches!(asked.command, Command::Post { .. }))
        });
        let Some((request, asked)) = open else {
            return Err(format!("a post of {from} is stored that it has not asked for"));
        };
        match &asked.command {
            Command::Post { channel: wanted, payload: posted } if wanted == name && posted == payload => {}
            _ => return Err(format!("a post of {from} to {name} is stored out of its order")),
        }
        if !asked.subscribed && !subscribed {
            return Err(format!("{from} posts to {name}, in which it is not"));
        }
        asked.fate = Fate::Sealed;
        Ok((conn, Some(*request)))
    }

    fn is_subscribed(&self, conn: ConnId, channel: ChannelId) -> bool {
        self.sessions.get(&conn).is_some_and(|session| session.subscriptions.contains(&channel))
    }

    fn subscribe(&mut self, conn: ConnId, channel: ChannelId, name: &ChannelName) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            let before = !session.subscriptions.insert(channel);
            self.joined.push((conn, channel, name.clone(), before));
        }
        for asked in self.asked.get_mut(&conn).into_iter().flat_map(BTreeMap::values_mut) {
            if let Command::Post { channel: wanted, .. } = &asked.command {
                asked.subscribed |= wanted == name;
            }
        }
    }

    /// The channels that a connection is subscribed to.
    pub(super) fn subscriptions(&self, conn: ConnId) -> impl Iterator<Item = ChannelId> {
        self.sessions.get(&conn).into_iter().flat_map(|session| session.subscriptions.iter().copied())
    }

    /// The live session of a path.
    pub(super) fn conn(&self, path: &SessionPath) -> Option<ConnId> {
        self.paths.get(path).copied()
    }

    /// Whether a key may have a session.
    pub(super) fn is_enrolled(&self, key: &PublicKey) -> bool {
        self.model.machine_with(key).is_some()
    }

    /// Compares everything with the hub's own state.
    ///
    /// # Errors
    /// What differs.
    pub(super) fn compare(&self, now: Now, hub: &Hub) -> Verdict {
        hub.check()?;
        if *hub.directory() != self.model.directory {
            return Err("the hub's directory is not what the durable records add up to".into());
        }
        for (path, conn) in hub.sessions() {
            if self.paths.get(path) != Some(&conn) {
                return Err(format!("{path} lives in the hub only"));
            }
        }
        let idle = self.config.limits.idle.as_millis() as u64;
        // The hub looks at every input; one was just handled.
        match self.sessions.values().find(|session| session.heard + idle <= now.mono.0) {
            Some(session) => Err(format!("{} is idle and lives on", session.path)),
            None => Ok(()),
        }
    }

    /// At rest: whatever was asked is answered.
    ///
    /// # Errors
    /// What is not.
    pub(super) fn at_rest(&self) -> Verdict {
        if self.in_flight.is_some() {
            return Err("a batch is in flight though all is quiet".into());
        }
        match self.asked.iter().find(|(conn, asked)| self.sessions.contains_key(conn) && !asked.is_empty()) {
            Some((conn, asked)) => Err(format!("{conn:?} was not answered {asked:?}")),
            None => Ok(()),
        }
    }
}

/// Checks the answer to a post.
fn posted(asked: &Asked, reply: &Reply) -> Verdict {
    match (reply, asked.fate) {
        (Reply::Sent, Fate::Durable) => Ok(()),
        (Reply::Sent, fate) => Err(format!("a post was acknowledged that is {fate:?}")),
        (Reply::Refused(Refusal::NotStored { .. }), Fate::Failed) => Ok(()),
        (Reply::Refused(_), Fate::Open) => Ok(()),
        (Reply::Refused(_), fate) => Err(format!("a post was refused that is {fate:?}")),
        _ => Err("a post was answered with something else".into()),
    }
}
