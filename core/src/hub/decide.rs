//! What a session may do, and what comes of it: everything but administration.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::audience::Subscribers;
use super::commit::{Change, Destination, FollowUp, Post};
use super::limit::{Cost, longer_wait};
use super::line::may_need_record;
use super::quota::{SHORT, Space};
use super::{Action, ConnId, Hub, Lifecycle, Presence, Purpose, Range, Read, RequestId, reply};
use crate::directory::Channel;
use crate::name::{ChannelName, SessionPath};
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::size;
use crate::protocol::{
    Admin, ChannelInfo, Command, Limit, MachineInfo, Refusal, Reply, Stamped, Token, Visibility,
};
use crate::record::{ChannelId, Record, UserId};
use crate::stream::{Origin, StreamCommand};
use crate::time::{Now, UnixMillis};

/// An answer of so many bytes costs its request alone.
const FREE: usize = 256;
/// What a thing costs that is looked at for a list, in bytes.
const LOOK: usize = 8;

/// Who asks.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) conn: ConnId,
    pub(super) request: RequestId,
    pub(super) user: UserId,
    pub(super) path: Arc<SessionPath>,
    pub(super) admin: bool,
}

impl Asker {
    /// Whether a channel is theirs, whatever its visibility: its members, and whoever administers it.
    pub(super) fn belongs_to(&self, channel: &Channel) -> bool {
        self.administers(channel) || channel.members.contains(&self.user)
    }

    /// Whether they may change a channel.
    pub(super) fn administers(&self, channel: &Channel) -> bool {
        self.admin || channel.creator == self.user
    }
}

impl Hub {
    /// Takes a request within its rates: answers it, or lets it wait for a change that is under way.
    pub(super) fn request(
        &mut self,
        now: Now,
        conn: ConnId,
        request: RequestId,
        command: Command,
        token: Option<Token>,
        actions: &mut Vec<Action>,
    ) {
        if self.state != Lifecycle::Running {
            return reply(actions, conn, request, Refusal::ShuttingDown);
        }
        if let Err(refusal) = self.has_space_for(&command) {
            return reply(actions, conn, request, refusal);
        }
        if let Err(wait) = self.take_tokens(now, conn, &command) {
            return reply(actions, conn, request, Refusal::TooFast { wait });
        }
        if may_need_record(&command) || self.may_make_member(conn, &command) {
            self.decide_in_turn(now, conn, request, command, token, actions);
        } else {
            self.decide(now, conn, request, command, token, actions);
        }
    }

    fn take_tokens(&mut self, now: Now, conn: ConnId, command: &Command) -> Result<(), core::time::Duration> {
        let times = if self.quotas.space == Space::Enough { 1 } else { SHORT };
        let size = |payload: &Payload| u32::try_from(payload.size()).unwrap_or(u32::MAX);
        let stored = |payload: &Payload| size(payload).saturating_mul(times);
        let cost = match command {
            Command::Ping => return Ok(()),
            Command::Post { payload, .. } => Cost::Post(stored(payload)),
            Command::Whisper { payload, .. } => Cost::Whisper(size(payload)),
            Command::Stream(StreamCommand::Post { payload, .. }) => Cost::Post(stored(payload)),
            Command::Stream(StreamCommand::Sealed(command)) if command.stores() => {
                Cost::Post(u32::try_from(command.size()).unwrap_or(u32::MAX).saturating_mul(times))
            }
            command if is_question(command) => Cost::Question,
            _ => Cost::Control,
        };
        let Some(session) = self.sessions.get_mut(&conn) else { return Ok(()) };
        let Some(user) = self.users.get_mut(&session.user) else { return Ok(()) };
        // Both or none: who is refused for one rate and asks again must not use up the other.
        let (mut own, mut shared) = (session.buckets, user.buckets);
        let limits = &self.config.limits;
        longer_wait(own.take(&limits.session, now.mono, cost), shared.take(&limits.user, now.mono, cost))?;
        (session.buckets, user.buckets) = (own, shared);
        Ok(())
    }

    /// Takes the bytes of an answer from its session and its user.
    pub(super) fn charge(&mut self, now: Now, conn: ConnId, bytes: usize) {
        if bytes <= FREE {
            return;
        }
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.buckets.charge(&self.config.limits.session, now.mono, bytes);
        if let Some(user) = self.users.get_mut(&session.user) {
            user.buckets.charge(&self.config.limits.user, now.mono, bytes);
        }
    }

    /// Decides a request against the durable state. The change that it may lead to is proposed: see
    /// [`Hub::propose`].
    pub(super) fn decide(
        &mut self,
        now: Now,
        conn: ConnId,
        request: RequestId,
        command: Command,
        token: Option<Token>,
        actions: &mut Vec<Action>,
    ) {
        let Some(session) = self.sessions.get(&conn) else { return };
        let (user, path) = (session.user, session.path.clone());
        let asker = Asker { conn, request, user, admin: self.is_admin(&path.user), path };
        // What is looked at and not told costs, too.
        let looked = match command {
            Command::ListChannels => self.directory.channel_count() * LOOK,
            Command::Who { .. } if self.config.presence == Presence::Shared => self.users.len() * LOOK,
            _ => 0,
        };
        let answer = match command {
            Command::Join { channel, token } => self.join(now, &asker, &channel, token),
            Command::Leave { channel } => {
                if let Some((id, _)) = self.directory.channel_named(channel.as_str()) {
                    self.unsubscribe(conn, id);
                }
                Ok(Some(done(&channel)))
            }
            Command::Who { channel } => self.who(&asker, channel).map(Some),
            Command::Post { channel, payload } => self.post(now, &asker, &channel, payload),
            Command::Whisper { target, payload } => match self.whisper_to(&asker, &target) {
                Some(to) => {
                    let target = Arc::new(target);
                    actions.push(Action::Whisper { conn: to, from: asker.path.clone(), target, payload });
                    Ok(Some(Reply::Sent))
                }
                None => Err(Refusal::Offline(Box::new(target))),
            },
            Command::ListChannels => Ok(Some(Reply::Channels(self.list_channels(&asker)))),
            Command::ListMachines => Ok(Some(Reply::Machines(self.list_machines(user)))),
            Command::ListUsers if asker.admin => {
                Ok(Some(Reply::Users(self.directory.user_names().cloned().collect())))
            }
            Command::ListUsers => Err(Refusal::NotServerAdmin),
            Command::ReadSince { channel, since } => self.read_since(&asker, &channel, since, actions),
            Command::Ping => Ok(Some(Reply::Pong)),
            Command::Admin(admin) => self.administrate(now, &asker, admin, token, actions),
            Command::Stream(command) => self.decide_stream(now, &asker, command, actions),
        };
        match answer {
            Ok(Some(answer)) => {
                self.charge(now, conn, answer.size() + looked);
                reply(actions, conn, request, answer);
            }
            // The answer comes with a later input.
            Ok(None) => {}
            Err(refusal) => reply(actions, conn, request, refusal),
        }
    }

    fn join(
        &mut self,
        now: Now,
        asker: &Asker,
        name: &ChannelName,
        token: Option<Token>,
    ) -> Result<Option<Reply>, Refusal> {
        let (id, channel) = self.visible_or_open(asker, name, token.as_ref(), now.wall)?;
        let enters = channel.visibility != Visibility::Private
            || asker.belongs_to(channel)
            || self.is_subscribed(asker.conn, id);
        if self.directory.group(id).is_some() {
            return Err(Refusal::SealedNeedsVersion2(name.clone()));
        }
        if enters {
            self.subscribe(asker.conn, id)?;
            return Ok(Some(Reply::Joined(name.clone())));
        }
        let Some(token) = token else { return Err(Refusal::NoChannel(name.clone())) };
        let records = self.use_invite(asker, id, token)?;
        let follow_up = FollowUp::Join { conn: asker.conn, request: asker.request, channel: id };
        self.propose(Change { records, follow_up });
        Ok(None)
    }

    /// What makes a member of whoever holds an invite.
    pub(super) fn use_invite(
        &self,
        asker: &Asker,
        channel: ChannelId,
        token: Token,
    ) -> Result<Vec<Record>, Refusal> {
        let limits = &self.config.limits;
        let members = self.directory.channel(channel).map_or(0, |channel| channel.members.len());
        if members >= limits.members_per_channel {
            return Err(Refusal::Full { limit: Limit::ChannelMembers, most: limits.members_per_channel });
        }
        let subscribed = self.sessions.get(&asker.conn).map_or(0, |session| session.subscriptions.len());
        if subscribed >= limits.subscriptions_per_session {
            return Err(Refusal::Full {
                limit: Limit::SessionChannels,
                most: limits.subscriptions_per_session,
            });
        }
        Ok(alloc::vec![
            Record::InviteUsed { channel, token },
            Record::MemberAdded { channel, user: asker.user },
        ])
    }

    /// The channel, if the asker may see it or holds an invite to it.
    pub(super) fn visible_or_open(
        &self,
        asker: &Asker,
        name: &ChannelName,
        token: Option<&Token>,
        wall: UnixMillis,
    ) -> Result<(ChannelId, &Channel), Refusal> {
        let found = self.directory.channel_named(name.as_str());
        let invited = token
            .and_then(|token| self.directory.invite(token))
            .filter(|(_, invite)| invite.is_valid(wall))
            .map(|(id, _)| id);
        found
            .filter(|(id, channel)| {
                self.sees(asker, *id, channel)
                    || (invited == Some(*id) && !channel.banned.contains(&asker.user))
            })
            .ok_or_else(|| Refusal::NoChannel(name.clone()))
    }

    fn who(&self, asker: &Asker, channel: Option<ChannelName>) -> Result<Reply, Refusal> {
        let mut shown = self.shown_to(asker);
        let mut sessions: Vec<Arc<SessionPath>> = match &channel {
            None => {
                let all = self.sessions.values();
                all.filter(|session| shown(session.user)).map(|session| session.path.clone()).collect()
            }
            Some(name) => {
                let (id, _) = self.visible(asker, name)?;
                let conns = self.subscribers.get(&id).into_iter().flat_map(Subscribers::iter);
                let all = conns.filter_map(|conn| self.sessions.get(&conn));
                // Who is in a channel shares it with those who are there.
                let inside = self.is_in(asker.user, id);
                let seen = all.filter(|session| inside || shown(session.user));
                seen.map(|session| session.path.clone()).collect()
            }
        };
        sessions.sort_unstable();
        Ok(Reply::Presence { channel, sessions })
    }

    fn post(
        &mut self,
        now: Now,
        asker: &Asker,
        name: &ChannelName,
        payload: Payload,
    ) -> Result<Option<Reply>, Refusal> {
        let channel = self.subscribed(asker, name)?;
        self.take_space(now, asker.user, Some(channel), payload.size())?;
        let machine = self.sessions.get(&asker.conn).map(|session| session.machine);
        self.gathering.posts.push_back(Post {
            conn: asker.conn,
            request: asker.request,
            channel,
            from: asker.path.clone(),
            payload: Arc::new(payload),
            origin: Origin { sender: machine.map(|machine| (asker.user, machine)), ..Origin::default() },
            to: Destination::Channel,
        });
        Ok(None)
    }

    /// Says who of the live users shows up to the asker.
    fn shown_to(&self, asker: &Asker) -> impl FnMut(UserId) -> bool {
        let all = self.config.presence == Presence::Everyone || asker.admin;
        let mut known: BTreeMap<UserId, bool> = BTreeMap::new();
        let own = asker.user;
        move |user| {
            let shares = || user == own || self.share_channel(own, user);
            all || *known.entry(user).or_insert_with(shares)
        }
    }

    /// The session of this path, if it is live and its user did not block the sender. Where presence is hidden, whispers
    /// reach those who show up to the sender, or whose mailbox the sender may write to: they would tell who is there.
    fn whisper_to(&self, asker: &Asker, target: &SessionPath) -> Option<ConnId> {
        let conn = *self.paths.get(target)?;
        let to = self.sessions.get(&conn)?.user;
        let blocked = self.blocks(to, asker.user);
        let hidden =
            self.config.presence == Presence::Shared && !asker.admin && !self.may_write(asker.user, to);
        (!blocked && !hidden).then_some(conn)
    }

    fn list_channels(&self, asker: &Asker) -> Vec<ChannelInfo> {
        let listed = |channel: &Channel| {
            asker.belongs_to(channel)
                || (channel.visibility == Visibility::Public && !channel.banned.contains(&asker.user))
        };
        let channels = self.directory.channels().filter(|(_, channel)| listed(channel));
        channels
            .map(|(id, channel)| ChannelInfo {
                name: channel.name.clone(),
                visibility: channel.visibility,
                member: channel.members.contains(&asker.user),
                sealed: self.directory.group(id).is_some(),
            })
            .collect()
    }

    fn list_machines(&self, user: UserId) -> Vec<MachineInfo> {
        let machines = self.directory.user(user).map(|user| &*user.machines).unwrap_or_default();
        let mut list: Vec<MachineInfo> = machines
            .iter()
            .map(|machine| MachineInfo { name: machine.name.clone(), key: machine.key, added: machine.added })
            .collect();
        list.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        list
    }

    fn read_since(
        &mut self,
        asker: &Asker,
        name: &ChannelName,
        since: UnixMillis,
        actions: &mut Vec<Action>,
    ) -> Result<Option<Reply>, Refusal> {
        let channel = self.subscribed(asker, name)?;
        let newest = self.directory.channel(channel).map(|channel| channel.last.ts);
        if newest.is_none_or(|newest| newest <= since) {
            return Ok(Some(Reply::History { channel: name.clone(), messages: Vec::new() }));
        }
        let read = Read {
            conn: asker.conn,
            channel,
            range: Range::Since(since),
            purpose: Purpose::History { request: asker.request, name: name.clone() },
            max_rows: self.config.limits.page_rows,
            max_bytes: self.config.limits.page_bytes,
        };
        self.queue_read(asker.user, read, actions);
        Ok(None)
    }

    /// Hands a page to the session that it was read for, if the session may still read the channel.
    pub(super) fn history_read(
        &mut self,
        now: Now,
        read: Read,
        page: Result<Vec<Stamped>, String>,
        actions: &mut Vec<Action>,
    ) {
        self.read_answered(actions);
        if let Ok(messages) = &page {
            self.charge(now, read.conn, size::page(messages));
        }
        let Purpose::History { request, name } = read.purpose else {
            return self.page_read(now, &read, page, actions);
        };
        let Some(session) = self.sessions.get(&read.conn) else { return };
        let subscribed = session.subscriptions.contains_key(&read.channel);
        let answer = match page {
            _ if !subscribed => Refusal::SubscriptionEnded.into(),
            Ok(messages) => Reply::History { channel: name, messages },
            Err(why) => Refusal::HistoryUnreadable { why }.into(),
        };
        reply(actions, read.conn, request, answer);
    }

    pub(super) fn is_subscribed(&self, conn: ConnId, channel: ChannelId) -> bool {
        self.sessions.get(&conn).is_some_and(|session| session.subscriptions.contains_key(&channel))
    }

    /// Whether the asker may know of a channel.
    pub(super) fn sees(&self, asker: &Asker, id: ChannelId, channel: &Channel) -> bool {
        asker.belongs_to(channel)
            || self.is_subscribed(asker.conn, id)
            || (channel.visibility != Visibility::Private && !channel.banned.contains(&asker.user))
    }

    /// The channel of this name, if the asker may know of it.
    pub(super) fn visible(
        &self,
        asker: &Asker,
        name: &ChannelName,
    ) -> Result<(ChannelId, &Channel), Refusal> {
        let found = self.directory.channel_named(name.as_str());
        found
            .filter(|(id, channel)| self.sees(asker, *id, channel))
            .ok_or_else(|| Refusal::NoChannel(name.clone()))
    }

    /// The channel of this name, if the asker's session, which speaks version 1, is in it.
    fn subscribed(&self, asker: &Asker, name: &ChannelName) -> Result<ChannelId, Refusal> {
        let (id, _) = self.visible(asker, name)?;
        if self.directory.group(id).is_some() {
            return Err(Refusal::SealedNeedsVersion2(name.clone()));
        }
        if self.is_subscribed(asker.conn, id) { Ok(id) } else { Err(Refusal::NotSubscribed(name.clone())) }
    }
}

pub(super) fn done(what: impl core::fmt::Display) -> Reply {
    Reply::Done(Opaque(alloc::format!("{what}")))
}

/// Whether the answer may be long.
fn is_question(command: &Command) -> bool {
    match command {
        Command::Who { .. } | Command::ListChannels | Command::ListUsers | Command::ReadSince { .. } => true,
        Command::Stream(command) => matches!(
            command,
            StreamCommand::Read { .. }
                | StreamCommand::Subscribe { .. }
                | StreamCommand::Receipts { .. }
                | StreamCommand::Sealed(_)
        ),
        Command::Admin(admin) => {
            matches!(
                admin,
                Admin::AclList { .. }
                    | Admin::BanList { .. }
                    | Admin::InviteList { .. }
                    | Admin::UserInviteList
                    | Admin::Audit { .. }
            )
        }
        _ => false,
    }
}
