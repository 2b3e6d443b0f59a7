//! Mailboxes: who may write to one, where a message to a session goes, what waits, and what senders see of their own.
//!
//! A mailbox gets its stream when somebody who may first names it: until then it is as if it were empty.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::commit::{Change, Destination, FollowUp, Post};
use super::decide::Asker;
use super::{Action, ConnId, Hub};
use crate::directory::{User, Waiting};
use crate::handshake::Format;
use crate::name::{ChannelName, SessionPath, UserName};
use crate::protocol::{Command, Limit, Refusal, Reply, Visibility};
use crate::record::{ChannelId, ReaderId, Record, Stamp, UserId};
use crate::stream::{
    Contact, ContactChange, MailboxRef, Notice, Position, Standing, StreamCommand, StreamRef, StreamReply,
};
use crate::time::{Now, UnixMillis};

/// Messages of its own in one mailbox for which a session is shown receipts: the newest.
const OWN_MESSAGES: usize = 256;

/// A mailbox that the asker may read or write to.
#[derive(Clone, Debug)]
pub(super) struct Mail {
    pub(super) user: UserId,
    pub(super) reader: Option<ReaderId>,
    /// Its stream, if it has one yet.
    pub(super) stream: Option<ChannelId>,
    /// Whether the asker reads it. Otherwise the asker may write to it.
    pub(super) own: bool,
    /// The session that is meant.
    pub(super) target: Option<Arc<SessionPath>>,
}

/// What a session that writes to a mailbox watches there: its own messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct OwnMessages {
    seqs: BTreeSet<u64>,
    /// What was said of each reader last.
    told: BTreeMap<ReaderId, (u64, u64, Option<u64>)>,
}

impl OwnMessages {
    pub(super) fn add(&mut self, seq: u64) {
        self.seqs.insert(seq);
        if self.seqs.len() > OWN_MESSAGES {
            self.seqs.pop_first();
        }
    }

    /// What is new to the sender in a reader's position: nothing of others' messages.
    fn news(&mut self, reader: ReaderId, position: &Position) -> Option<Position> {
        let own = |up_to: u64| self.seqs.range(..=up_to).next_back().copied().unwrap_or(0);
        let since = own(position.since);
        let claimed = |up_to: u64| Some(own(up_to)).filter(|seq| *seq > since).unwrap_or(0);
        let (delivered, seen) = (claimed(position.delivered), claimed(position.seen));
        let acknowledged = position.acknowledged.clone().filter(|(seq, _)| self.seqs.contains(seq));
        let state = (delivered, seen, acknowledged.as_ref().map(|(seq, _)| *seq));
        if state == (0, 0, None) || self.told.insert(reader, state) == Some(state) {
            return None;
        }
        Some(Position { reader: position.reader.clone(), since, delivered, seen, acknowledged })
    }
}

impl Hub {
    /// The mailbox of this name. Every reason not to say anything of it is the same refusal.
    pub(super) fn mailbox_named(&self, asker: &Asker, name: &MailboxRef) -> Result<Mail, Refusal> {
        let (user, reader, target) = match name {
            MailboxRef::Mine => (asker.user, None, None),
            MailboxRef::MySession => {
                let reader = self.sessions.get(&asker.conn).and_then(|session| session.reader);
                (asker.user, Some(reader.ok_or(Refusal::NotKept)?), None)
            }
            MailboxRef::User(name) => {
                let (user, _) = self.directory.user_named(name.as_str()).ok_or(Refusal::NoMailbox)?;
                (user, None, None)
            }
            MailboxRef::Session(path) => {
                let (user, found) =
                    self.directory.user_named(path.user.as_str()).ok_or(Refusal::NoMailbox)?;
                let reader = self.reader_at(found, path);
                if reader.is_none() && !self.paths.contains_key(&**path) {
                    return Err(Refusal::NoMailbox);
                }
                (user, reader, Some(Arc::new((**path).clone())))
            }
        };
        let own = self.reads_mailbox(asker, user, reader);
        if !own && !self.may_write(asker.user, user) {
            return Err(Refusal::NoMailbox);
        }
        Ok(Mail { user, reader, stream: self.directory.mailbox_of(user, reader), own, target })
    }

    fn reader_at(&self, user: &User, path: &SessionPath) -> Option<ReaderId> {
        let machine = user.machines.iter().find(|machine| machine.name == path.machine)?;
        self.directory.reader_at(machine.id, &path.session)
    }

    /// Whose mailbox a name is for.
    pub(super) fn owner_named(&self, asker: UserId, name: &MailboxRef) -> Option<UserId> {
        let name = match name {
            MailboxRef::Mine | MailboxRef::MySession => return Some(asker),
            MailboxRef::User(name) => name,
            MailboxRef::Session(path) => &path.user,
        };
        self.directory.user_named(name.as_str()).map(|(user, _)| user)
    }

    /// The mailbox with this number.
    pub(super) fn mailbox_numbered(&self, asker: &Asker, stream: ChannelId) -> Result<Mail, Refusal> {
        let mailbox = self.directory.mailbox(stream).ok_or(Refusal::NoStream)?;
        let (user, reader) = (mailbox.user, mailbox.reader);
        let own = self.reads_mailbox(asker, user, reader);
        if !own && !self.may_write(asker.user, user) {
            return Err(Refusal::NoStream);
        }
        let path = reader.and_then(|reader| self.path_of(self.directory.reader(reader)?));
        Ok(Mail { user, reader, stream: Some(stream), own, target: path })
    }

    fn reads_mailbox(&self, asker: &Asker, user: UserId, reader: Option<ReaderId>) -> bool {
        let session = || self.sessions.get(&asker.conn).and_then(|session| session.reader);
        asker.user == user && (reader.is_none() || reader == session())
    }

    /// Whether a user may write to another's mailboxes.
    pub(super) fn may_write(&self, sender: UserId, owner: UserId) -> bool {
        sender == owner
            || match self.directory.standing(owner, sender) {
                Some(Standing::Allowed) => true,
                Some(Standing::Blocked) => false,
                None => self.share_channel(sender, owner),
            }
    }

    /// Whether a user blocked another.
    pub(super) fn blocks(&self, user: UserId, other: UserId) -> bool {
        self.directory.standing(user, other) == Some(Standing::Blocked)
    }

    /// Whether two users meet in a channel: as members, as subscribers now, or, where it is not private, as those who
    /// keep positions there.
    pub(super) fn share_channel(&self, one: UserId, other: UserId) -> bool {
        let few = self.channel_estimate(one) <= self.channel_estimate(other);
        let (few, many) = if few { (one, other) } else { (other, one) };
        let member = self.directory.user(few).into_iter().flat_map(|user| &user.channels).copied();
        let live = self.users.get(&few).into_iter().flat_map(|live| live.channels.keys()).copied();
        let kept = self.directory.streams_read_by(few).chain(self.receipts.begun_by(few));
        let mut all = member.chain(live).chain(kept);
        all.any(|channel| self.is_in(few, channel) && self.is_in(many, channel))
    }

    fn channel_estimate(&self, user: UserId) -> usize {
        let member = self.directory.user(user).map_or(0, |user| user.channels.len());
        let live = self.users.get(&user).map_or(0, |live| live.channels.len());
        member + live + self.directory.streams_read_by(user).len()
    }

    pub(super) fn is_in(&self, user: UserId, channel: ChannelId) -> bool {
        let Some(found) = self.directory.channel(channel) else { return false };
        let subscribed = || self.users.get(&user).is_some_and(|live| live.channels.contains_key(&channel));
        let keeps_up = || {
            found.visibility != Visibility::Private
                && !found.banned.contains(&user)
                && (self.directory.reads(user, channel) || self.receipts.begins(user, channel))
        };
        found.members.contains(&user) || subscribed() || keeps_up()
    }

    /// Makes the stream of a mailbox that a request is the first to need, then decides the request; false if there is
    /// nothing to make.
    pub(super) fn make_mailbox(&mut self, now: Now, asker: &Asker, command: &StreamCommand) -> bool {
        let (StreamCommand::Subscribe { stream, .. }
        | StreamCommand::Post { stream, .. }
        | StreamCommand::Locate { stream }
        | StreamCommand::WatchReceipts { stream, .. }) = command
        else {
            return false;
        };
        let StreamRef::Mailbox(name) = stream else { return false };
        let reads = matches!(command, StreamCommand::Subscribe { .. });
        let Ok(mail) = self.mailbox_named(asker, name) else { return false };
        if mail.stream.is_some() || (reads && !mail.own) {
            return false;
        }
        let record = Record::MailboxCreated {
            mailbox: self.next_channel(),
            user: mail.user,
            reader: mail.reader,
            at: now.wall,
            last: Stamp::default(),
        };
        let follow_up = FollowUp::Decide {
            conn: asker.conn,
            request: asker.request,
            command: Command::Stream(command.clone()),
        };
        self.propose(Change { records: alloc::vec![record], follow_up });
        true
    }

    /// Whether a mailbox has room for a post. One that waits there already is answered.
    pub(super) fn mailbox_room(
        &mut self,
        wall: UnixMillis,
        stream: ChannelId,
        post: &Post,
    ) -> Result<Option<Reply>, Refusal> {
        let Some(mailbox) = self.directory.mailbox(stream) else { return Err(Refusal::NoStream) };
        let limits = &self.config.limits;
        let (count, bytes) = mailbox.waiting(wall);
        let (coming, coming_bytes) = self.coming.get(&stream).copied().unwrap_or_default();
        let (count, bytes) = (count + coming, bytes + coming_bytes);
        let size = post.payload.size();
        let full = if count >= limits.mailbox_messages {
            Some((Limit::MailboxMessages, limits.mailbox_messages))
        } else if count > 0 && bytes + size > limits.mailbox_bytes {
            Some((Limit::MailboxBytes, limits.mailbox_bytes))
        } else {
            None
        };
        let Some((limit, most)) = full else {
            let coming = self.coming.entry(stream).or_default();
            *coming = (coming.0 + 1, coming.1 + size);
            return Ok(None);
        };
        // Who sends again what did arrive must not hear that it did not.
        let key = post.key();
        match key.and_then(|(_, sender, id)| mailbox.find(sender, id)) {
            Some(stamp) => {
                let present = self.is_present(stream, &post.to);
                Ok(Some(Reply::Stream(StreamReply::Stored { stream, stamp, present })))
            }
            None => Err(Refusal::MailboxFull { limit, most }),
        }
    }

    /// A post to a mailbox is no longer on its way: it is stored, or refused.
    pub(super) fn arrived(&mut self, post: &Post) {
        if let Destination::Mailbox { .. } = post.to
            && let Some((count, bytes)) = self.coming.get_mut(&post.channel)
        {
            *count -= 1;
            *bytes -= post.payload.size();
            if *count == 0 {
                self.coming.remove(&post.channel);
            }
        }
    }

    /// What makes a stored message wait in its mailbox.
    pub(super) fn waits(&self, post: &Post, stamp: Stamp) -> Option<Record> {
        let Destination::Mailbox { .. } = post.to else { return None };
        let (mailbox, sender, id) = post.key()?;
        let kept = self.config.retention.and_then(|kept| i64::try_from(kept.as_millis()).ok());
        let purged = kept.map_or(UnixMillis::MAX, |kept| UnixMillis(stamp.ts.0.saturating_add(kept)));
        let until = post.origin.expires.unwrap_or(UnixMillis::MAX).min(purged).min(UnixMillis::MAX);
        let waiting = Waiting { stamp, sender, id, bytes: post.payload.size(), until };
        Some(Record::MessageWaits { mailbox, waiting })
    }

    /// Whether whom a message is for is there to receive it.
    pub(super) fn is_present(&self, stream: ChannelId, to: &Destination) -> bool {
        match to {
            Destination::Channel => false,
            Destination::Mailbox { target } => {
                self.subscribers.contains_key(&stream) || self.whispered(target).is_some()
            }
        }
    }

    /// The session of version 1 that a message to a mailbox is for: it reads no mailboxes.
    pub(super) fn whispered<'a>(
        &self,
        target: &'a Option<Arc<SessionPath>>,
    ) -> Option<(ConnId, &'a Arc<SessionPath>)> {
        let target = target.as_ref()?;
        let conn = *self.paths.get(target)?;
        let session = self.sessions.get(&conn)?;
        (session.terms.format == Format::V1).then_some((conn, target))
    }

    /// What deliveries of a mailbox are labelled with.
    pub(super) fn mailbox_label(&self, stream: ChannelId) -> Option<ChannelName> {
        let mailbox = self.directory.mailbox(stream)?;
        ChannelName::new(self.directory.user(mailbox.user)?.name.as_str()).ok()
    }

    /// Starts or stops notices about the asker's own messages in a mailbox.
    pub(super) fn watch_own(&mut self, conn: ConnId, stream: ChannelId, on: bool) -> Result<(), Refusal> {
        let most = self.config.limits.subscriptions_per_session;
        let Some(session) = self.sessions.get_mut(&conn) else { return Ok(()) };
        if !on {
            session.own_messages.remove(&stream);
        } else if !session.own_messages.contains_key(&stream) {
            if session.own_messages.len() >= most {
                return Err(Refusal::Full { limit: Limit::SessionChannels, most });
            }
            session.own_messages.insert(stream, OwnMessages::default());
        }
        self.watch(conn, stream, on);
        Ok(())
    }

    /// A session's message is stored, here.
    pub(super) fn note_own(&mut self, conn: ConnId, stream: ChannelId, seq: u64) {
        let session = self.sessions.get_mut(&conn);
        if let Some(own) = session.and_then(|session| session.own_messages.get_mut(&stream)) {
            own.add(seq);
        }
    }

    /// Tells a session that watches its own messages in a mailbox.
    pub(super) fn tell_own(
        &mut self,
        conn: ConnId,
        stream: ChannelId,
        positions: &[(ReaderId, Position)],
        actions: &mut Vec<Action>,
    ) {
        let session = self.sessions.get_mut(&conn);
        let Some(own) = session.and_then(|session| session.own_messages.get_mut(&stream)) else { return };
        let news: Vec<Position> =
            positions.iter().filter_map(|(reader, position)| own.news(*reader, position)).collect();
        if !news.is_empty() {
            actions.push(Action::Notify {
                conn,
                notice: Notice::ReceiptsMoved { stream, readers: news.into() },
            });
        }
    }

    /// Nobody watches a mailbox any more: it goes.
    pub(super) fn forget_mailbox(&mut self, stream: ChannelId) {
        for conn in self.receipts.watchers_of(stream) {
            if let Some(session) = self.sessions.get_mut(&conn) {
                session.own_messages.remove(&stream);
            }
        }
        self.receipts.forget_channel(stream);
    }

    /// Ends what a user watches in the mailboxes of somebody who blocked it.
    pub(super) fn end_watches(&mut self, owner: UserId, blocked: UserId) {
        for stream in self.directory.mailboxes_of(owner, None) {
            for conn in self.conns_of(blocked) {
                let session = self.sessions.get_mut(&conn);
                if session.is_some_and(|session| session.own_messages.remove(&stream).is_some()) {
                    self.receipts.unwatch(conn, stream);
                }
            }
        }
    }

    /// Says who may write to the asker's mailboxes.
    pub(super) fn set_contact(
        &mut self,
        asker: &Asker,
        name: &UserName,
        change: ContactChange,
    ) -> Result<Option<Reply>, Refusal> {
        let (user, done) = (asker.user, Reply::Stream(StreamReply::Done));
        let found = self.directory.user_named(name.as_str());
        let (other, _) = found.ok_or_else(|| Refusal::NoUser(name.clone()))?;
        if other == user {
            return Err(Refusal::InvalidField("you always write to your own mailboxes: name somebody else"));
        }
        let before = self.directory.standing(user, other);
        let standing = match change {
            ContactChange::Allow => Some(Standing::Allowed),
            ContactChange::Block => Some(Standing::Blocked),
            ContactChange::Disallow => before.filter(|standing| *standing != Standing::Allowed),
            ContactChange::Unblock => before.filter(|standing| *standing != Standing::Blocked),
        };
        if standing == before {
            return Ok(Some(done));
        }
        let most = self.config.limits.contacts_per_user;
        if before.is_none() && self.directory.contact_count(user) >= most {
            return Err(Refusal::Full { limit: Limit::UserContacts, most });
        }
        let records = alloc::vec![Record::ContactSet { user, other, standing, wrote: false }];
        let follow_up = FollowUp::Reply { conn: asker.conn, request: asker.request, reply: done };
        self.propose(Change { records, follow_up });
        Ok(None)
    }

    /// Whom the asker allowed and blocked.
    pub(super) fn contacts(&self, asker: &Asker) -> StreamReply {
        let all = self.directory.contacts_of(asker.user);
        let mut contacts: Vec<Contact> = all
            .filter_map(|(user, standing)| {
                Some(Contact { name: self.directory.user(user)?.name.clone(), user, standing })
            })
            .collect();
        contacts.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        StreamReply::Contacts(contacts)
    }
}
