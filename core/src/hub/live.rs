//! What lives only as long as its connection: sessions, subscriptions, presence.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::audience::Subscribers;
use super::commit::{Change, FollowUp};
use super::limit::Buckets;
use super::mail::OwnMessages;
use super::pager::{Pager, Subscription};
use super::quota::{Space, no_space};
use super::{Action, ConnId, Hub, Lifecycle, SessionInfo};
use crate::handshake::{Proven, Terms};
use crate::name::{ChannelName, Handle, MachineName, SessionPath};
use crate::protocol::{CloseReason, Limit, Refusal};
use crate::record::{ChannelId, MachineId, ReaderId, Record, UserId};
use crate::stream::{EndReason, MachineKey, Notice};
use crate::time::{Monotonic, Now};

/// How long a user without sessions keeps its buckets: a reconnect does not refill them.
const COOLING: Duration = Duration::from_secs(60);

/// A live, authenticated connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Session {
    pub(super) path: Arc<SessionPath>,
    pub(super) user: UserId,
    pub(super) machine: MachineId,
    pub(super) terms: Terms,
    /// Set if its positions outlive the connection.
    pub(super) reader: Option<ReaderId>,
    pub(super) subscriptions: BTreeMap<ChannelId, Subscription>,
    /// The mailboxes in which it watches its own messages.
    pub(super) own_messages: BTreeMap<ChannelId, OwnMessages>,
    pub(super) pager: Pager,
    pub(super) buckets: Buckets,
    pub(super) heard: Monotonic,
    /// Under which time it stands in `Hub::liveness`.
    pub(super) next_check: Monotonic,
    /// Its requests in its user's line, and its posts that an undecided change is in the way of.
    pub(super) in_line: usize,
    pub(super) held: usize,
}

/// A user with sessions, or one that had some lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct LiveUser {
    pub(super) conns: Vec<ConnId>,
    /// The streams to which its sessions are subscribed, and how many of them are.
    pub(super) channels: BTreeMap<ChannelId, u32>,
    pub(super) buckets: Buckets,
}

impl LiveUser {
    fn leaves(&mut self, channel: ChannelId) {
        if let Some(count) = self.channels.get_mut(&channel) {
            *count -= 1;
            if *count == 0 {
                self.channels.remove(&channel);
            }
        }
    }
}

impl Hub {
    /// Makes a session of a proven connection; a new user's only after its records are durable.
    pub(super) fn open(&mut self, now: Now, conn: ConnId, proven: Proven, actions: &mut Vec<Action>) {
        if self.state != Lifecycle::Running {
            actions.push(Action::Close { conn, reason: CloseReason::Shutdown });
            return;
        }
        let Some(claim) = proven.claim.clone() else {
            match self.directory.machine_with(&proven.key) {
                Some((user, _, machine)) => {
                    let machine = (machine.id, machine.name.clone());
                    let Proven { session, terms, .. } = &proven;
                    if terms.keep && self.directory.reader_at(machine.0, session).is_none() {
                        self.add_reader(now, conn, (user, machine), proven, actions);
                    } else {
                        self.establish(now, conn, user, machine, (proven.session, proven.terms), actions);
                    }
                }
                None => refuse_open(actions, conn, Refusal::UnknownKey),
            }
            return;
        };
        let Proven { key, session, terms, .. } = proven.clone();
        let named = self.config.admins.contains_key(&claim.user);
        let invite = match self.admits_claim(&claim, terms.format, now.wall) {
            Ok(invite) => invite,
            // Who is a user already is told so below, whatever registration takes.
            Err(_) if self.directory.machine_with(&key).is_some() => None,
            Err(refusal) => return refuse_open(actions, conn, refusal),
        };
        if self.quotas.space == Space::None && !named {
            return refuse_open(actions, conn, no_space());
        }
        let pinned = self.config.admins.get(&claim.user).copied().flatten();
        let released = match self.user_name_free(now.wall, &claim, &key) {
            Ok(released) => released,
            Err(refusal) => return refuse_open(actions, conn, refusal),
        };
        if pinned.is_some_and(|pin| pin != key) {
            return refuse_open(actions, conn, Refusal::NameReserved);
        }
        if self.users_to_be() >= self.config.limits.users && !named {
            return refuse_open(actions, conn, Refusal::UsersFull);
        }
        if self.directory.machine_with(&key).is_some() {
            return refuse_open(actions, conn, Refusal::AlreadyRegistered);
        }
        let (user, machine, at) = (self.next_user(), self.next_machine(), now.wall);
        let mut records = alloc::vec![
            Record::UserAdded { user, name: claim.user, at },
            Record::MachineAdded { machine, user, name: claim.machine.clone(), key, at },
        ];
        records.extend(invite.map(|invite| Record::UserInviteUsed { invite }));
        records.extend(released);
        if terms.keep {
            let reader = self.next_reader();
            records.push(Record::ReaderAdded { reader, user, machine, handle: session.clone(), at });
        }
        let follow_up = FollowUp::Establish { conn, user, machine: (machine, claim.machine), session, terms };
        self.accept_opening(now, conn, proven, None, Change { records, follow_up });
    }

    /// Makes a reader for a handle that is to be kept, then the session.
    fn add_reader(
        &mut self,
        now: Now,
        conn: ConnId,
        (user, machine): (UserId, (MachineId, MachineName)),
        proven: Proven,
        actions: &mut Vec<Action>,
    ) {
        let most = self.config.limits.readers_per_user;
        if self.directory.readers_of_user(user) >= most {
            return refuse_open(actions, conn, Refusal::Full { limit: Limit::UserReaders, most });
        }
        let Proven { session, terms, .. } = proven.clone();
        let (reader, handle) = (self.next_reader(), session.clone());
        let records =
            alloc::vec![Record::ReaderAdded { reader, user, machine: machine.0, handle, at: now.wall }];
        let follow_up = FollowUp::Establish { conn, user, machine, session, terms };
        self.accept_opening(now, conn, proven, Some(user), Change { records, follow_up });
    }

    /// Starts a session, ending an older one of the same path.
    pub(super) fn establish(
        &mut self,
        now: Now,
        conn: ConnId,
        user: UserId,
        (machine, machine_name): (MachineId, MachineName),
        (session, terms): (Handle, Terms),
        actions: &mut Vec<Action>,
    ) {
        let Some(name) = self.directory.user(user).map(|user| user.name.clone()) else { return };
        let admin = self.is_admin(&name);
        let reader = terms.keep.then(|| self.directory.reader_at(machine, &session)).flatten();
        let path = Arc::new(SessionPath { user: name, machine: machine_name, session });
        if let Some(older) = self.paths.get(&path).copied() {
            self.close(now, older, CloseReason::Superseded, actions);
        }
        let limits = &self.config.limits;
        // Nobody has more than are left, so that some are left whoever connects.
        let most = limits.sessions_per_user.min(limits.sessions.saturating_sub(self.sessions.len()));
        let live = self.users.entry(user).or_default();
        if live.conns.len() >= most {
            return refuse_open(actions, conn, Refusal::Full { limit: Limit::UserSessions, most });
        }
        live.conns.push(conn);
        self.paths.insert(path.clone(), conn);
        let next_check = now.mono + self.config.limits.idle;
        self.liveness.insert((next_check, conn));
        self.sessions.insert(
            conn,
            Session {
                path: path.clone(),
                user,
                machine,
                terms,
                reader,
                subscriptions: BTreeMap::new(),
                own_messages: BTreeMap::new(),
                pager: Pager::default(),
                buckets: Buckets::default(),
                heard: now.mono,
                next_check,
                in_line: 0,
                held: 0,
            },
        );
        let session = SessionInfo { path, user, machine, reader, admin, now: now.wall };
        actions.push(Action::Established { conn, session });
    }

    /// Notes that a session lives; false if there is none.
    pub(super) fn heard(&mut self, now: Now, conn: ConnId) -> bool {
        self.sessions.get_mut(&conn).map(|session| session.heard = now.mono).is_some()
    }

    /// Ends sessions that were not heard in time, forgets users that are gone.
    pub(super) fn expire(&mut self, now: Now, actions: &mut Vec<Action>) {
        while let Some((at, conn)) = self.liveness.first().copied()
            && at <= now.mono
        {
            self.liveness.remove(&(at, conn));
            let Some(session) = self.sessions.get_mut(&conn) else { continue };
            let due = session.heard + self.config.limits.idle;
            if due <= now.mono {
                let limit = self.config.limits.idle;
                self.close(now, conn, CloseReason::Idle { limit }, actions);
            } else {
                session.next_check = due;
                self.liveness.insert((due, conn));
            }
        }
        self.check_stalls(now, actions);
        self.tell_receipts(now, actions);
        while let Some((at, user)) = self.cooling.first().copied()
            && at <= now.mono
        {
            self.cooling.remove(&(at, user));
            let Some(live) = self.users.get(&user) else { continue };
            if live.conns.is_empty() {
                if live.buckets.are_full(now.mono) {
                    self.users.remove(&user);
                } else {
                    self.cooling.insert((now.mono + COOLING, user));
                }
            }
        }
    }

    /// Ends a session and its connection, if there is one.
    pub(super) fn close(&mut self, now: Now, conn: ConnId, reason: CloseReason, actions: &mut Vec<Action>) {
        if self.end_session(now, conn) {
            actions.push(Action::Close { conn, reason });
        }
    }

    /// Forgets a session; false if there is none.
    pub(super) fn end_session(&mut self, now: Now, conn: ConnId) -> bool {
        if let Some(at) = self.stall_of(conn) {
            self.stalls.remove(&(at, conn));
        }
        let Some(session) = self.sessions.remove(&conn) else { return false };
        self.leave_line(conn, &session);
        self.reads.forget(session.user, conn);
        for channel in session.subscriptions.keys() {
            self.drop_subscriber(*channel, conn);
            self.note_coming(*channel, &session.path, false);
        }
        for mailbox in session.own_messages.keys() {
            self.receipts.unwatch(conn, *mailbox);
        }
        self.paths.remove(&session.path);
        self.liveness.remove(&(session.next_check, conn));
        if let Some(live) = self.users.get_mut(&session.user) {
            session.subscriptions.keys().for_each(|channel| live.leaves(*channel));
            live.conns.retain(|other| *other != conn);
            if live.conns.is_empty() {
                self.cooling.insert((now.mono + COOLING, session.user));
            }
        }
        true
    }

    pub(super) fn subscribe(&mut self, conn: ConnId, channel: ChannelId) -> Result<(), Refusal> {
        let most = self.config.limits.subscriptions_per_session;
        let Some(session) = self.sessions.get_mut(&conn) else { return Ok(()) };
        if session.subscriptions.contains_key(&channel) {
            return Ok(());
        }
        if session.subscriptions.len() >= most {
            return Err(Refusal::Full { limit: Limit::SessionChannels, most });
        }
        // Version 1 is not told where it began.
        session.subscriptions.insert(channel, Subscription::Live { from: 0 });
        let format = session.terms.format;
        if let Some(live) = self.users.get_mut(&session.user) {
            *live.channels.entry(channel).or_default() += 1;
        }
        let path = session.path.clone();
        self.subscribers.entry(channel).or_default().go_live(format, conn);
        self.note_coming(channel, &path, true);
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, conn: ConnId, channel: ChannelId) -> bool {
        let Some(session) = self.sessions.get_mut(&conn) else { return false };
        if session.subscriptions.remove(&channel).is_none() {
            return false;
        }
        if let Some(live) = self.users.get_mut(&session.user) {
            live.leaves(channel);
        }
        let path = session.path.clone();
        self.drop_subscriber(channel, conn);
        self.note_coming(channel, &path, false);
        true
    }

    fn drop_subscriber(&mut self, channel: ChannelId, conn: ConnId) {
        self.receipts.unwatch(conn, channel);
        self.watched.unwatch(conn, channel);
        if let Some(subscribers) = self.subscribers.get_mut(&channel) {
            subscribers.remove(conn);
            if subscribers.is_empty() {
                self.subscribers.remove(&channel);
            }
        }
    }

    /// Ends a user's subscriptions to a channel; says how many there were.
    pub(super) fn unsubscribe_user(
        &mut self,
        user: UserId,
        channel: ChannelId,
        reason: EndReason,
        actions: &mut Vec<Action>,
    ) -> usize {
        let conns = self.conns_of(user).into_iter();
        conns.filter(|conn| self.end_subscription(*conn, channel, reason, actions)).count()
    }

    /// Ends all subscriptions to a channel.
    pub(super) fn unsubscribe_all(&mut self, channel: ChannelId, actions: &mut Vec<Action>) {
        let conns: Vec<ConnId> =
            self.subscribers.get(&channel).into_iter().flat_map(Subscribers::iter).collect();
        for conn in conns {
            self.end_subscription(conn, channel, EndReason::Deleted, actions);
        }
    }

    /// Ends the subscriptions of whoever could not join a channel if it were private.
    pub(super) fn unsubscribe_outsiders(&mut self, id: ChannelId, actions: &mut Vec<Action>) {
        let Some(channel) = self.directory.channel(id) else { return };
        let belongs = |conn: &ConnId| {
            self.sessions.get(conn).is_some_and(|session| {
                channel.creator == session.user
                    || channel.members.contains(&session.user)
                    || self.is_admin(&session.path.user)
            })
        };
        let all = self.subscribers.get(&id).into_iter().flat_map(Subscribers::iter);
        let outsiders: Vec<ConnId> = all.filter(|conn| !belongs(conn)).collect();
        for conn in outsiders {
            self.end_subscription(conn, id, EndReason::Removed, actions);
        }
    }

    /// Says a channel's new name to those in it, where version 2 can say it.
    pub(super) fn announce_name(&self, stream: ChannelId, name: &ChannelName, actions: &mut Vec<Action>) {
        for conn in self.subscribers.get(&stream).into_iter().flat_map(Subscribers::iter) {
            if self.sessions.get(&conn).is_some_and(|session| session.terms.format.resumes()) {
                actions.push(Action::Notify { conn, notice: Notice::Renamed { stream, name: name.clone() } });
            }
        }
    }

    /// Tells a user's sessions but the one that asked of a machine that is added to them.
    pub(super) fn announce_machine(
        &self,
        user: UserId,
        added: &MachineKey,
        asker: Option<ConnId>,
        actions: &mut Vec<Action>,
    ) {
        for conn in self.users.get(&user).into_iter().flat_map(|live| &live.conns).copied() {
            let resumes = self.sessions.get(&conn).is_some_and(|session| session.terms.format.resumes());
            if resumes && asker != Some(conn) {
                actions.push(Action::Notify { conn, notice: Notice::MachineAdded(added.clone()) });
            }
        }
    }

    /// The server is about to stop: says so to each session that can be told.
    pub(super) fn announce_end(&self, actions: &mut Vec<Action>) {
        let told = self.sessions.iter().filter(|(_, session)| session.terms.format.resumes());
        actions.extend(told.map(|(conn, _)| Action::Notify { conn: *conn, notice: Notice::Draining }));
    }

    pub(super) fn conns_of(&self, user: UserId) -> Vec<ConnId> {
        self.users.get(&user).map(|live| live.conns.clone()).unwrap_or_default()
    }
}

fn refuse_open(actions: &mut Vec<Action>, conn: ConnId, refusal: Refusal) {
    actions.push(Action::Close { conn, reason: CloseReason::Refused(refusal) });
}
