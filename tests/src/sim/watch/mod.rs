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
mod posts;
mod readers;
mod streams;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use conclave_core::handshake::{Format, Proven};
use conclave_core::hub::{Action, BatchId, Config, ConnId, Hub, Input, Purpose, Read, RequestId};
use conclave_core::key::PublicKey;
use conclave_core::name::{ChannelName, SessionPath};
use conclave_core::payload::Payload;
use conclave_core::protocol::{CloseReason, Command, Visibility};
use conclave_core::record::{ChannelId, MachineId, ReaderId, Record, Stamp, UserId};
use conclave_core::stream::{EndReason, StreamCommand};
use conclave_core::time::{Now, UnixMillis};

pub(super) use model::Model;
use readers::Readers;
use streams::{Notices, Pace, Stream};

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
    /// The newest message of each channel that is purged.
    pub purged: BTreeMap<ChannelId, Stamp>,
    /// What sessions of version 2 must be told in this call.
    notices: Notices,
    /// What readers claim, whether it is written or not.
    readers: Readers,
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
    format: Format,
    /// Set if its positions are kept.
    reader: Option<ReaderId>,
    /// Where it stands in each of its subscriptions, if it speaks version 2.
    streams: BTreeMap<ChannelId, Stream>,
    /// Whose receipts it watches.
    watches: BTreeSet<ChannelId>,
    pace: Pace,
}

#[derive(Debug)]
struct Asked {
    command: Command,
    /// For a post: the session was subscribed to the channel, then or later.
    subscribed: bool,
    /// For a post or an acknowledgement: where it stands.
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
    facts: Vec<(ConnId, RequestId)>,
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
    pub(super) fn new(
        config: Config,
        records: &[Record],
        purged: BTreeMap<ChannelId, Stamp>,
    ) -> Result<Self, String> {
        let mut model = Model::default();
        for record in records {
            model.apply(record)?;
        }
        Ok(Self {
            config,
            readers: Readers::of(&model),
            model,
            purged,
            notices: Notices::default(),
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
        self.notices.begin();
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
            Input::Persisted { batch } => return self.persisted(now, *batch),
            Input::PersistFailed { batch, .. } => {
                if let Some(failed) = self.in_flight.take_if(|in_flight| in_flight.batch == *batch) {
                    self.settle(&failed, Fate::Failed);
                }
            }
            Input::AlreadyStored { batch, posts } => self.already_stored(*batch, posts),
            Input::Shutdown => self.draining = true,
            Input::HistoryRead { read, page } => self.page_arrives(read, page),
            Input::Lagged { conn, channel, seq } => return self.lagged(*conn, *channel, *seq),
            Input::Ready { conn } => self.ready(*conn),
            Input::Progressed { conn, taken } => self.progressed(now, *conn, *taken),
            Input::Overflowed { conn } => self.overflowed(*conn)?,
            Input::Tick | Input::RoundEnded | Input::Space { .. } | Input::AuditRead { .. } => {}
        }
        Ok(())
    }

    fn persisted(&mut self, now: Now, batch: BatchId) -> Verdict {
        let Some(done) = self.in_flight.take_if(|in_flight| in_flight.batch == batch) else { return Ok(()) };
        self.settle(&done, Fate::Durable);
        let mut posts = done.posts.iter();
        for record in &done.records {
            if let Record::Posted { channel, stamp, from, payload, .. } = record {
                let to = self.receive(*channel, stamp.seq)?;
                let except = posts.next().map(|(conn, _)| *conn).unwrap_or_default();
                // By its name of now: a change of the same batch comes after it.
                let name = self.model.channels.get(channel).map(|channel| channel.name.clone());
                let name = name.or_else(|| self.owner_of(*channel));
                if !to.is_empty()
                    && let Some(channel) = name
                {
                    let (from, payload) = (from.clone(), payload.clone());
                    self.owed.push_back(Owed { channel, from, payload, to, except });
                }
            }
            self.stored_once(record)?;
            self.before_acknowledgement(record);
            self.effect(record);
            self.model.apply(record)?;
            self.readers_change(now, record);
        }
        Ok(())
    }

    /// The name of whose mailbox it is, under which its messages are delivered.
    fn owner_of(&self, mailbox: ChannelId) -> Option<ChannelName> {
        let owner = self.model.users.get(&self.model.mailboxes.get(&mailbox)?.user)?;
        ChannelName::new(owner.name.as_str()).ok()
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
                let banned = matches!(record, Record::Banned { .. });
                let reason = if banned { EndReason::Banned } else { EndReason::Removed };
                self.unsubscribe(*channel, reason, |session| session.user == *user);
            }
            Record::ChannelDeleted { channel } => self.unsubscribe(*channel, EndReason::Deleted, |_| true),
            Record::ChannelRenamed { channel, name } => {
                self.owe_name(*channel, name);
                self.renamed.push((*channel, name.clone()));
            }
            Record::VisibilitySet { channel, visibility: Visibility::Private } => {
                let Some(found) = self.model.channels.get(channel) else { return };
                let (members, creator) = (found.members.clone(), found.creator);
                let admins = self.config.admins.clone();
                self.unsubscribe(*channel, EndReason::Removed, |session| {
                    session.user != creator
                        && !members.contains(&session.user)
                        && !admins.contains_key(&session.path.user)
                });
            }
            _ => {}
        }
    }

    fn unsubscribe(&mut self, channel: ChannelId, reason: EndReason, whom: impl Fn(&Session) -> bool) {
        for (conn, session) in &mut self.sessions {
            if whom(session) && session.subscriptions.remove(&channel) {
                session.forget(channel);
                // Who is ended by a change of the same batch before this one hears of that alone.
                if session.format.resumes() && !self.doomed.contains_key(conn) {
                    self.notices.ends.insert((*conn, channel), reason);
                }
                self.ended.push((*conn, channel));
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
        self.notices.all_told()?;
        self.forget_watches();
        if hub.sessions().count() != self.sessions.len() {
            return Err(format!("the hub has other sessions than the {} that live", self.sessions.len()));
        }
        Ok(())
    }

    fn action(&mut self, now: Now, action: &Action, coverage: &mut Coverage) -> Verdict {
        match action {
            Action::Established { conn, session } => {
                self.established(now, *conn, &session.path, session.admin, session.reader)
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
                coverage.answer(&asked.command, reply);
                if let Command::Post { channel, .. } = &asked.command {
                    self.silent(*conn, &asked.command, channel, reply)?;
                    return posts::posted(&asked, reply);
                }
                if let Command::Stream(StreamCommand::Post { stream, signed, .. }) = &asked.command {
                    self.stream_silent(*conn, &asked.command, stream, reply)?;
                    return self.posted_under_id(*conn, &asked, signed.id, reply);
                }
                if !self.sessions.contains_key(conn) {
                    // Who ended itself is answered before it ends.
                    return Ok(());
                }
                if let Command::Stream(command) = &asked.command {
                    return self.stream_answered(now, (*conn, *request), &asked, command, reply);
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
                if !owed
                    .to
                    .iter()
                    .copied()
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .eq(to.iter().collect::<BTreeSet<_>>())
                    || owed.to.len() != to.len()
                {
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
            Action::ReadHistory(read @ Read { conn, channel, .. }) => {
                // A page that was asked for may wait until the subscription has ended: it is refused then.
                let asked = matches!(read.purpose, Purpose::Page { .. });
                if !asked && !self.is_subscribed(*conn, *channel) {
                    return Err(format!("{conn:?} reads {channel:?}, in which it is not"));
                }
                self.reads(read)
            }
            Action::ReadAudit(read) => Err(format!("nobody asks for the audit trail here: {read:?}")),
            Action::Notify { conn, notice } => self.notified(*conn, notice),
            Action::Mark { conn } => self.marked(*conn),
            Action::Probe { conn } => self.session_of_version_2(*conn).map(drop),
            Action::Drained => {
                if self.in_flight.is_some() || !self.sessions.is_empty() {
                    return Err("drained with work under way".into());
                }
                Ok(())
            }
        }
    }

    fn established(
        &mut self,
        now: Now,
        conn: ConnId,
        path: &Arc<SessionPath>,
        admin: bool,
        reader: Option<ReaderId>,
    ) -> Verdict {
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
        let kept =
            self.model.readers.iter().find(|(_, it)| it.machine == machine && it.handle == path.session);
        if reader != kept.map(|(id, _)| *id).filter(|_| proven.terms.keep)
            || reader.is_some() != proven.terms.keep
        {
            return Err(format!("{path} has the reader {reader:?}"));
        }
        if let Some(other) = self.paths.insert(path.clone(), conn) {
            return Err(format!("{path} lives twice: {other:?} and {conn:?}"));
        }
        let path = path.clone();
        let session = Session {
            path,
            user,
            machine,
            admin,
            heard: now.mono.0,
            subscriptions: BTreeSet::new(),
            format: proven.terms.format,
            reader,
            streams: BTreeMap::new(),
            watches: BTreeSet::new(),
            pace: Pace::default(),
        };
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
            (CloseReason::SlowConsumer, Some(session)) if session.format.resumes() => {
                let stall = self.config.limits.stall.as_millis() as u64;
                if session.pace.still_since.is_none_or(|since| since + stall > now.mono.0) {
                    return Err(format!("{} was called slow, and takes what it is sent", session.path));
                }
            }
            (_, Some(_)) => {}
            (reason, None) => return Err(format!("{conn:?} ended ({reason}) and did not live")),
        }
        self.end(conn);
        Ok(())
    }

    fn end(&mut self, conn: ConnId) {
        let asked = self.asked.remove(&conn);
        if let Some(session) = self.sessions.remove(&conn) {
            self.readers.leave(session.reader, asked.unwrap_or_default());
            self.paths.remove(&session.path);
        }
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
            asked.subscribed |= match &asked.command {
                Command::Post { channel: wanted, .. } => wanted == name,
                Command::Stream(StreamCommand::Post { stream, .. }) => streams::means(stream, channel, name),
                _ => false,
            };
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
        self.readers.told_in_time(now)?;
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
            None => self.streams_at_rest(),
        }
    }
}
