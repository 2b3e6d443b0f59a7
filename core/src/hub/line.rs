//! Changes of the directory: which of them go into one commit, and who waits for the next.
//!
//! A change is decided against the durable state, and may join others that are undecided if it touches nothing that
//! they touch ([`Touch`]): then it would be decided alike whatever becomes of them. Each change touches its asker, so a
//! user has one change in a commit. What cannot join waits in its user's line; after a commit the users take turns, so
//! that whoever asks for a thousand changes makes nobody else wait for more than one of them.
//!
//! A post waits only if an undecided change decides whether it may be made: a ban, a removal, a deletion. All such
//! posts go into the commit that follows.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::audit::By;
use super::commit::Change;
use super::live::Session;
use super::touch::{Touch, touches};
use super::{Action, ConnId, Hub, RequestId};
use crate::handshake::Proven;
use crate::name::{ChannelName, SessionPath};
use crate::protocol::{Admin, Command, Token};
use crate::record::{ChannelId, MachineId, ReaderId, Record, UserId};
use crate::stream::{StreamCommand, StreamRef};
use crate::time::Now;

/// Users whose turn is over since another's change is in their way, before a commit is left as it is.
const LOOKS: usize = 64;

/// A request that waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Waiting {
    conn: ConnId,
    request: RequestId,
    command: Command,
    token: Option<Token>,
}

/// A connection that waits to become a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Opening {
    conn: ConnId,
    proven: Proven,
}

/// The changes that are accepted and not durable, and what waits for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Line {
    /// What the undecided changes touch: none is undecided if this is empty.
    touched: BTreeSet<Touch>,
    /// Whose they are.
    conns: BTreeSet<ConnId>,
    /// Users, machines, channels and readers that they make.
    new: [u64; 4],
    /// They are in flight: no other may join them.
    sealed: bool,
    /// What was just decided and not yet accepted.
    proposed: Option<Change>,
    /// Connections of nobody yet.
    strangers: VecDeque<Opening>,
    /// In whose line the connections stand that are no sessions yet.
    opening: BTreeMap<ConnId, Option<UserId>>,
    users: BTreeMap<UserId, UserLine>,
    /// Who is first after the next commit.
    turn: UserId,
    /// Posts that an undecided change is in the way of.
    held: VecDeque<Waiting>,
    len: usize,
}

/// What a user waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct UserLine {
    openings: VecDeque<Opening>,
    requests: VecDeque<Waiting>,
}

impl Line {
    /// How much waits.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn is_decided(&self) -> bool {
        self.touched.is_empty()
    }

    /// Whether nothing is undecided and nothing waits.
    fn is_idle(&self) -> bool {
        self.is_decided() && self.len == 0
    }

    fn admits(&self, user: Option<UserId>, change: &Change) -> bool {
        let mut free = !self.sealed && user.is_none_or(|user| !self.touched.contains(&Touch::User(user)));
        for record in &change.records {
            touches(record, |touch| free &= !self.touched.contains(&touch));
        }
        free
    }

    fn note(&mut self, conn: ConnId, user: Option<UserId>, change: &Change) {
        self.conns.insert(conn);
        self.touched.extend(user.map(Touch::User));
        for record in &change.records {
            touches(record, |touch| self.touched.extend([touch]));
            let new = match record {
                Record::UserAdded { .. } => 0,
                Record::MachineAdded { .. } => 1,
                Record::ChannelCreated { .. } | Record::MailboxCreated { .. } => 2,
                Record::ReaderAdded { .. } => 3,
                _ => continue,
            };
            self.new[new] += 1;
        }
    }

    fn bars(&self, user: UserId, channel: ChannelId) -> bool {
        [Touch::Posts(channel), Touch::PostsOf(user), Touch::PostsBy(channel, user)]
            .iter()
            .any(|touch| self.touched.contains(touch))
    }

    /// The undecided changes are in flight.
    pub(super) fn seal(&mut self) {
        self.sealed = true;
    }

    /// The changes that were in flight gather again.
    pub(super) fn unseal(&mut self) {
        self.sealed = false;
    }

    /// The changes that were undecided are durable, or will never be.
    fn decided(&mut self) {
        self.touched.clear();
        self.conns.clear();
        self.new = [0; 4];
        self.sealed = false;
    }

    /// Forgets a user who waits for nothing.
    fn tidy(&mut self, user: UserId) {
        if self.users.get(&user).is_some_and(|line| line.openings.is_empty() && line.requests.is_empty()) {
            self.users.remove(&user);
        }
    }

    /// The first user from `from` on who waits.
    fn next_user(&self, from: UserId) -> Option<UserId> {
        self.users.range(from..).next().map(|(user, _)| *user)
    }
}

impl Hub {
    /// The identity that the next new user gets, behind those of undecided changes.
    pub(super) fn next_user(&self) -> UserId {
        UserId(self.directory.next_user().0 + self.line.new[0])
    }

    pub(super) fn next_machine(&self) -> MachineId {
        MachineId(self.directory.next_machine().0 + self.line.new[1])
    }

    pub(super) fn next_channel(&self) -> ChannelId {
        ChannelId(self.directory.next_channel().0 + self.line.new[2])
    }

    pub(super) fn next_reader(&self) -> ReaderId {
        ReaderId(self.directory.next_reader().0 + self.line.new[3])
    }

    /// The users that there are, and those that undecided changes make.
    pub(super) fn users_to_be(&self) -> usize {
        self.directory.user_count() + usize::try_from(self.line.new[0]).unwrap_or(usize::MAX)
    }

    /// Proposes a change: whoever had the request decided accepts it, or lets the request wait.
    pub(super) fn propose(&mut self, change: Change) {
        debug_assert!(self.line.proposed.is_none(), "a request leads to one change");
        self.line.proposed = Some(change);
    }

    fn admits(&self, user: Option<UserId>, change: &Change) -> bool {
        self.gathering.changes.len() < self.config.limits.batch_changes && self.line.admits(user, change)
    }

    /// Accepts what a session asked for.
    fn accept(&mut self, now: Now, conn: ConnId, user: Option<UserId>, change: Change) {
        let by = self.sessions.get(&conn).map(|session| (session.user, session.path.clone()));
        self.accept_by(now, conn, user, change, by);
    }

    fn accept_by(
        &mut self,
        now: Now,
        conn: ConnId,
        user: Option<UserId>,
        mut change: Change,
        by: Option<By>,
    ) {
        if let Some(by) = by {
            change.records = self.noted(now.wall, by, change.records);
        }
        self.line.note(conn, user, &change);
        self.line.touched.extend(self.barred_by_removals(&change.records));
        self.gathering.changes.push(change);
        // What is accepted before a change is stored before it.
        self.gathering.before = self.gathering.posts.len();
    }

    /// Accepts the change that makes a session possible, or lets its connection wait.
    pub(super) fn accept_opening(
        &mut self,
        now: Now,
        conn: ConnId,
        proven: Proven,
        user: Option<UserId>,
        change: Change,
    ) {
        if self.admits(user, &change) {
            let by = opened_by(&proven, &change);
            return self.accept_by(now, conn, user, change, by);
        }
        let opening = Opening { conn, proven };
        self.line.len += 1;
        self.line.opening.insert(conn, user);
        match user {
            Some(user) => self.line.users.entry(user).or_default().openings.push_back(opening),
            None => self.line.strangers.push_back(opening),
        }
    }

    /// Decides a request that may lead to a record, or lets it wait.
    pub(super) fn decide_in_turn(
        &mut self,
        now: Now,
        conn: ConnId,
        request: RequestId,
        command: Command,
        token: Option<Token>,
        actions: &mut Vec<Action>,
    ) {
        if self.line.is_idle() {
            self.decide(now, conn, request, command, token, actions);
            if let Some(change) = self.line.proposed.take() {
                let user = self.sessions.get(&conn).map(|session| session.user);
                self.accept(now, conn, user, change);
            }
            return;
        }
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let user = session.user;
        let waiting = Waiting { conn, request, command, token };
        // What a session asks for is decided in its order.
        let behind_own = session.in_line > 0 || self.line.conns.contains(&conn);
        if session.held > 0 && !behind_own && is_post(&waiting.command) {
            session.held += 1;
            self.line.len += 1;
            return self.line.held.push_back(waiting);
        }
        let ahead = self.line.users.get(&user).is_some_and(|line| !line.requests.is_empty());
        let is_post = is_post(&waiting.command);
        let back = if behind_own || (ahead && !is_post) {
            Some(waiting)
        } else {
            self.attempt(now, user, waiting, actions)
        };
        let Some(waiting) = back else { return };
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        self.line.len += 1;
        if is_post && !behind_own {
            session.held += 1;
            self.line.held.push_back(waiting);
        } else {
            session.in_line += 1;
            self.line.users.entry(user).or_default().requests.push_back(waiting);
        }
    }

    /// Decides a request, or gives it back if an undecided change is in its way.
    fn attempt(
        &mut self,
        now: Now,
        user: UserId,
        waiting: Waiting,
        actions: &mut Vec<Action>,
    ) -> Option<Waiting> {
        let Waiting { conn, request, command, token } = waiting;
        let again = if self.line.is_decided() {
            None
        } else {
            let blocked = match post_target(&command) {
                Some(target) => self.line.conns.contains(&conn) || self.is_barred(conn, user, &target),
                None => self.line.touched.contains(&Touch::User(user)),
            };
            if blocked {
                return Some(Waiting { conn, request, command, token });
            }
            // A post to a channel leads to no change.
            let changes = match &command {
                Command::Post { .. } => false,
                Command::Stream(StreamCommand::Post { stream, .. }) => {
                    matches!(stream, StreamRef::Mailbox(_))
                }
                _ => true,
            };
            changes.then(|| Waiting { conn, request, command: command.clone(), token: token.clone() })
        };
        self.decide(now, conn, request, command, token, actions);
        let change = self.line.proposed.take()?;
        if self.admits(Some(user), &change) {
            self.accept(now, conn, Some(user), change);
            return None;
        }
        again
    }

    /// Whether an undecided change decides whether a session that may post to a stream still may.
    fn is_barred(&self, conn: ConnId, user: UserId, target: &Target) -> bool {
        let channel = match target {
            Target::Name(name) | Target::Stream(StreamRef::Channel(name)) => {
                self.directory.channel_named(name.as_str()).map(|(id, _)| id)
            }
            Target::Stream(StreamRef::Number(id)) => match self.directory.mailbox(*id) {
                Some(mailbox) => return self.bars_mail(user, mailbox.user),
                None => Some(*id),
            },
            Target::Stream(StreamRef::Mailbox(name)) => {
                return self.owner_named(user, name).is_some_and(|owner| self.bars_mail(user, owner));
            }
        };
        // Who may not post now is told so, whether there is such a channel or not.
        channel.is_some_and(|channel| self.is_subscribed(conn, channel) && self.line.bars(user, channel))
    }

    /// Whether an undecided change is about one of those whose mailbox a message is for and whose it is.
    fn bars_mail(&self, sender: UserId, owner: UserId) -> bool {
        let about = |user| self.line.touched.contains(&Touch::User(user));
        (about(sender) || about(owner)) && self.may_write(sender, owner)
    }

    /// The changes that were undecided have been decided: those who waited for them have their turn.
    pub(super) fn decide_waiting(&mut self, now: Now, changes: bool, actions: &mut Vec<Action>) {
        if !changes {
            return;
        }
        self.line.decided();
        if self.line.len == 0 {
            return;
        }
        // One of these may have to wait again, for a mailbox that another is the first to need.
        let mut again = BTreeSet::new();
        for waiting in core::mem::take(&mut self.line.held) {
            let conn = waiting.conn;
            let Some(session) = self.sessions.get(&conn) else { continue };
            let waiting = match again.contains(&conn) {
                true => Some(waiting),
                false => self.attempt(now, session.user, waiting, actions),
            };
            if let Some(waiting) = waiting {
                again.insert(conn);
                self.line.held.push_back(waiting);
            } else {
                self.line.len -= 1;
                if let Some(session) = self.sessions.get_mut(&conn) {
                    session.held -= 1;
                }
            }
        }
        self.let_strangers_in(now, actions);
        self.take_turns(now, actions);
    }

    /// Strangers have half of a commit, so that a crowd of them stands in no user's way.
    fn let_strangers_in(&mut self, now: Now, actions: &mut Vec<Action>) {
        let room = self.config.limits.batch_changes.div_ceil(2);
        for _ in 0..self.line.strangers.len() {
            if self.gathering.changes.len() >= room {
                return;
            }
            let Some(Opening { conn, proven }) = self.line.strangers.pop_front() else { return };
            self.line.len -= 1;
            self.line.opening.remove(&conn);
            self.open(now, conn, proven, actions);
        }
    }

    fn take_turns(&mut self, now: Now, actions: &mut Vec<Action>) {
        let (start, mut looks) = (self.line.turn, 0);
        let (mut at, mut wrapped, mut first) = (start, false, None);
        while looks < LOOKS && self.gathering.changes.len() < self.config.limits.batch_changes {
            let Some(user) = self.line.next_user(at).filter(|user| !wrapped || *user < start) else {
                if wrapped || start == UserId::default() {
                    break;
                }
                (at, wrapped) = (UserId::default(), true);
                continue;
            };
            let before = self.gathering.changes.len();
            self.take_turn(now, user, actions);
            looks += usize::from(before == self.gathering.changes.len());
            if before < self.gathering.changes.len() {
                first.get_or_insert(user);
            }
            at = UserId(user.0 + 1);
        }
        if let Some(first) = first {
            self.line.turn = UserId(first.0 + 1);
        }
    }

    /// Decides what a user waits for, until something has to wait on.
    fn take_turn(&mut self, now: Now, user: UserId, actions: &mut Vec<Action>) {
        let line = |hub: &mut Self| hub.line.users.remove(&user);
        let Some(UserLine { mut openings, mut requests }) = line(self) else { return };
        let mut blocked = false;
        while !blocked && let Some(Opening { conn, proven }) = openings.pop_front() {
            // Who has left meanwhile is not in line any more.
            if self.line.opening.remove(&conn).is_none() {
                continue;
            }
            self.line.len -= 1;
            self.open(now, conn, proven, actions);
            // If it waits, it waits at the end of a line that was empty.
            blocked = self.line.users.contains_key(&user);
        }
        while !blocked && let Some(waiting) = requests.pop_front() {
            let conn = waiting.conn;
            // One that an opening of this turn took over has left the line with all that it waited for.
            let Some(session) = self.sessions.get_mut(&conn) else { continue };
            self.line.len -= 1;
            session.in_line -= 1;
            let behind = session.held > 0 && is_post(&waiting.command);
            let waiting = if behind { Some(waiting) } else { self.attempt(now, user, waiting, actions) };
            if let Some(waiting) = waiting {
                self.line.len += 1;
                if let Some(session) = self.sessions.get_mut(&conn) {
                    session.in_line += 1;
                }
                requests.push_front(waiting);
                blocked = true;
            }
        }
        if let Some(UserLine { openings: again, .. }) = line(self) {
            again.into_iter().rev().for_each(|opening| openings.push_front(opening));
        }
        if !openings.is_empty() || !requests.is_empty() {
            self.line.users.insert(user, UserLine { openings, requests });
        }
    }

    /// Has a request decided right after the change that it needed.
    pub(super) fn decide_next(&mut self, conn: ConnId, request: RequestId, command: Command) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.held += 1;
            self.line.len += 1;
            self.line.held.push_front(Waiting { conn, request, command, token: None });
        }
    }

    /// A session has ended: nothing of it waits any more.
    pub(super) fn leave_line(&mut self, conn: ConnId, session: &Session) {
        if session.held > 0 {
            self.line.held.retain(|waiting| waiting.conn != conn);
        }
        if session.in_line > 0
            && let Some(line) = self.line.users.get_mut(&session.user)
        {
            line.requests.retain(|waiting| waiting.conn != conn);
            self.line.tidy(session.user);
        }
        self.line.len -= session.held + session.in_line;
    }

    /// A connection has ended that was no session yet.
    pub(super) fn leave_line_opening(&mut self, conn: ConnId) {
        match self.line.opening.remove(&conn) {
            Some(Some(user)) => {
                if let Some(line) = self.line.users.get_mut(&user) {
                    line.openings.retain(|waiting| waiting.conn != conn);
                    self.line.tidy(user);
                }
            }
            Some(None) => self.line.strangers.retain(|waiting| waiting.conn != conn),
            None => return,
        }
        self.line.len -= 1;
    }
}

/// Who registers by a change, if somebody does.
fn opened_by(proven: &Proven, change: &Change) -> Option<By> {
    let claim = proven.claim.as_ref()?;
    let user = change.records.iter().find_map(|record| match record {
        Record::UserAdded { user, .. } => Some(*user),
        _ => None,
    });
    let (name, machine) = (claim.user.clone(), claim.machine.clone());
    Some((user?, Arc::new(SessionPath { user: name, machine, session: proven.session.clone() })))
}

/// Where a post is to go.
enum Target {
    Name(ChannelName),
    Stream(StreamRef),
}

fn post_target(command: &Command) -> Option<Target> {
    match command {
        Command::Post { channel, .. } => Some(Target::Name(channel.clone())),
        Command::Stream(StreamCommand::Post { stream, .. }) => Some(Target::Stream(stream.clone())),
        _ => None,
    }
}

fn is_post(command: &Command) -> bool {
    matches!(command, Command::Post { .. } | Command::Stream(StreamCommand::Post { .. }))
}

/// Whether deciding this may lead to a record. An administrator's listing does not, nor does a join without a
/// token. A mailbox that is named may have to be made.
pub(super) fn may_need_record(command: &Command) -> bool {
    match command {
        Command::Post { .. } | Command::Stream(StreamCommand::Post { .. }) => true,
        Command::Join { token, .. } => token.is_some(),
        Command::Stream(StreamCommand::SetContact { .. } | StreamCommand::SetReceipts { .. }) => true,
        Command::Stream(StreamCommand::Subscribe { stream, invite, .. }) => {
            invite.is_some() || matches!(stream, StreamRef::Mailbox(_))
        }
        Command::Stream(StreamCommand::WatchReceipts { stream, .. } | StreamCommand::Locate { stream }) => {
            matches!(stream, StreamRef::Mailbox(_))
        }
        Command::Stream(StreamCommand::Sealed(command)) => command.stores(),
        Command::Admin(admin) => !matches!(
            admin,
            Admin::AclList { .. }
                | Admin::BanList { .. }
                | Admin::InviteList { .. }
                | Admin::UserInviteList
                | Admin::Audit { .. }
                | Admin::Kick { .. }
        ),
        _ => false,
    }
}
