//! Subscriptions from a position: what each is owed next, and when the store may be read for it.

use std::collections::{BTreeMap, BTreeSet};

use conclave_core::hub::{ConnId, Purpose, Range, Read, RequestId};
use conclave_core::name::ChannelName;
use conclave_core::protocol::{Code, Command, Refusal, Reply, Stamped, Visibility};
use conclave_core::record::{Ack, ChannelId, ReaderId, UserId};
use conclave_core::stream::{
    EndReason, MailboxRef, Notice, PageFrom, Start, StreamCommand, StreamRef, StreamReply,
};
use conclave_core::time::Now;

use super::answers::is_passing;
use super::model::Channel;
use super::posts::PostKey;
use super::{Asked, Session, Verdict, Watch};

/// Where a session stands in a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    /// The next message that it is owed.
    pub next: u64,
    /// It receives posts as they are made.
    pub live: bool,
    /// Where it began.
    pub from: u64,
}

/// How fast a session takes what it is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// A page is being read for it.
    reading: bool,
    /// A subscription began anew, moved or ended: a page that waits for its turn may be one that it needed before.
    moved: bool,
    /// A mark is on its way.
    marked: bool,
    taken: Option<u64>,
    /// Since when it was not seen to take anything.
    pub still_since: Option<u64>,
}

/// What sessions are owed in one call of the hub, and what they are told.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// Ends of subscriptions.
    pub ends: BTreeMap<(ConnId, ChannelId), EndReason>,
    told_ends: BTreeMap<(ConnId, ChannelId), EndReason>,
    names: BTreeSet<(ConnId, ChannelId, ChannelName)>,
    told_names: BTreeSet<(ConnId, ChannelId, ChannelName)>,
    /// What readers had acknowledged last before the batch of this call: what is due is told before its input is taken.
    pub acknowledged: BTreeMap<(ChannelId, ReaderId), Option<Ack>>,
    /// The batch of this call removes readers, or a channel.
    pub removes: bool,
    /// Posts whose batch failed.
    pub failed: BTreeSet<PostKey>,
}

impl Notices {
    pub(super) fn begin(&mut self) {
        *self = Self::default();
    }

    pub(super) fn all_told(&self) -> Verdict {
        let (ends, told) = (&self.ends, &self.told_ends);
        demand!(ends == told, "of ends of subscriptions {told:?} are told, and {ends:?} are so");
        let (names, told) = (&self.names, &self.told_names);
        demand!(names == told, "of names {told:?} are told, and {names:?} are new");
        Ok(())
    }
}

impl Session {
    /// A subscription has ended.
    pub(super) fn forget(&mut self, channel: ChannelId) {
        self.pace.moved = true;
        self.streams.remove(&channel);
        self.watches.remove(&channel);
    }
}

/// Whether a request means this channel.
pub(super) fn means(stream: &StreamRef, channel: ChannelId, name: &ChannelName) -> bool {
    match stream {
        StreamRef::Number(number) => *number == channel,
        StreamRef::Channel(wanted) => wanted == name,
        StreamRef::Mailbox(_) => false,
    }
}

impl Watch {
    pub(super) fn session_of_version_2(&mut self, conn: ConnId) -> Result<&mut Session, String> {
        let session = self.sessions.get_mut(&conn).filter(|session| session.format.resumes());
        session.ok_or_else(|| format!("{conn:?} is treated as a session of version 2 and is none"))
    }

    fn stream(&mut self, conn: ConnId, channel: ChannelId) -> Result<&mut Stream, String> {
        let session = self.session_of_version_2(conn)?;
        let stream = session.streams.get_mut(&channel);
        stream.ok_or_else(|| format!("{conn:?} is told of {channel:?}, to which it is not subscribed"))
    }

    pub(super) fn channel_of(&self, stream: &StreamRef) -> Option<(ChannelId, &Channel)> {
        match stream {
            StreamRef::Number(id) => self.model.channels.get(id).map(|channel| (*id, channel)),
            StreamRef::Channel(name) => self.model.channel_named(name),
            StreamRef::Mailbox(_) => None,
        }
    }

    /// The channel or mailbox that is meant, where its number or name says so.
    pub(super) fn stream_of(&self, stream: &StreamRef) -> Option<ChannelId> {
        match stream {
            StreamRef::Number(id) => Some(*id).filter(|id| self.model.has(*id)),
            stream => self.channel_of(stream).map(|(id, _)| id),
        }
    }

    fn last(&self, channel: ChannelId) -> u64 {
        self.model.last(channel)
    }

    /// Who must receive a message of a channel as it becomes durable.
    pub(super) fn receive(&mut self, channel: ChannelId, seq: u64) -> Result<Vec<ConnId>, String> {
        let mut to = Vec::new();
        for (conn, session) in &mut self.sessions {
            if !session.subscriptions.contains(&channel) {
                continue;
            }
            if session.format.resumes() {
                let Some(stream) = session.streams.get_mut(&channel).filter(|stream| stream.live) else {
                    continue;
                };
                demand!(stream.next == seq, "{conn:?} is live and at {stream:?}, and {seq} comes");
                stream.next += 1;
            }
            to.push(*conn);
        }
        Ok(to)
    }

    /// Deliveries did not fit the queue of a session.
    pub(super) fn lagged(&mut self, conn: ConnId, channel: ChannelId, seq: u64) -> Verdict {
        if let Ok(stream) = self.stream(conn, channel)
            && stream.live
        {
            demand!(seq < stream.next, "{conn:?} lags from {seq} on, and was owed {stream:?}");
            // What was dropped may be older than the subscription.
            *stream = Stream { next: seq.max(stream.from), live: false, from: stream.from };
        }
        Ok(())
    }

    pub(super) fn overflowed(&self, conn: ConnId) -> Verdict {
        let resumes = self.sessions.get(&conn).is_some_and(|session| session.format.resumes());
        if resumes { Err(format!("{conn:?} is sent more than its queue holds")) } else { Ok(()) }
    }

    pub(super) fn ready(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.pace =
                Pace { reading: session.pace.reading, moved: session.pace.moved, ..Pace::default() };
        }
    }

    pub(super) fn progressed(&mut self, now: Now, conn: ConnId, taken: u64) {
        if let Some(session) = self.sessions.get_mut(&conn)
            && session.pace.taken != Some(taken)
        {
            session.pace.taken = Some(taken);
            session.pace.still_since = Some(now.mono.0);
        }
    }

    pub(super) fn marked(&mut self, conn: ConnId) -> Verdict {
        let pace = &mut self.session_of_version_2(conn)?.pace;
        demand!(!pace.marked, "{conn:?} is marked twice");
        (pace.marked, pace.taken, pace.still_since) = (true, None, None);
        Ok(())
    }

    /// A page is to be read: one at a time, and not before the last is written.
    pub(super) fn reads(&mut self, read: &Read) -> Verdict {
        if let Purpose::CatchUp { next, last } = read.purpose {
            let newest = self.last(read.channel);
            let moved = self.session_of_version_2(read.conn)?.pace.moved;
            let stream = *self.stream(read.conn, read.channel)?;
            let needed = !stream.live && stream.next == next;
            demand!(needed || moved, "a page from {next} on is read for {stream:?}");
            // It may have waited for its turn since `last` was the newest.
            demand!(read.range == Range::After(next - 1) && last <= newest, "{read:?} is not the next page");
        }
        if let Purpose::History { .. } = read.purpose {
            return Ok(());
        }
        let pace = &mut self.session_of_version_2(read.conn)?.pace;
        demand!(!pace.reading && !pace.marked, "a second page is read for {:?}", read.conn);
        pace.reading = true;
        Ok(())
    }

    pub(super) fn page_arrives(&mut self, read: &Read, page: &Result<Vec<Stamped>, String>) {
        let Ok(session) = self.session_of_version_2(read.conn) else { return };
        (session.pace.reading, session.pace.moved) = (false, false);
        if let (Purpose::CatchUp { next, .. }, Err(_)) = (&read.purpose, page)
            && session.streams.get(&read.channel).is_some_and(|stream| !stream.live && stream.next == *next)
        {
            let of = session.path.clone();
            self.unsubscribe(read.channel, EndReason::Unavailable, |session| session.path == of);
        }
    }

    /// A channel has another name: whoever is in it is told.
    pub(super) fn owe_name(&mut self, channel: ChannelId, name: &ChannelName) {
        for (conn, session) in &self.sessions {
            if session.format.resumes() && session.subscriptions.contains(&channel) {
                self.notices.names.insert((*conn, channel, name.clone()));
            }
        }
    }

    /// A session is told something that it did not ask for.
    pub(super) fn notified(&mut self, conn: ConnId, notice: &Notice) -> Verdict {
        match notice {
            Notice::Deliveries { stream: channel, messages } => {
                let stream = self.stream(conn, *channel)?;
                demand!(!messages.is_empty(), "nothing is delivered to {conn:?}");
                for message in messages {
                    let due = !stream.live && message.seq == stream.next;
                    demand!(
                        due,
                        "{conn:?} is delivered {} of {channel:?}, and is at {stream:?}",
                        message.seq
                    );
                    stream.next += 1;
                }
                Ok(())
            }
            Notice::Gap { stream: channel, from, to } => {
                let last = self.last(*channel);
                let stream = self.stream(conn, *channel)?;
                let sound = !stream.live && *from == stream.next && from <= to && *to <= last;
                demand!(sound, "{conn:?} is told of a gap from {from} to {to}, and is at {stream:?}");
                stream.next = to + 1;
                Ok(())
            }
            Notice::Live { stream: channel, seq } => {
                let last = self.last(*channel);
                let stream = self.stream(conn, *channel)?;
                let caught_up = !stream.live && *seq == last && stream.next == last + 1;
                demand!(caught_up, "{conn:?} is called live at {seq} of {last}, and is at {stream:?}");
                stream.live = true;
                Ok(())
            }
            Notice::Ended { stream, reason } => {
                self.session_of_version_2(conn)?;
                self.notices.told_ends.insert((conn, *stream), *reason);
                Ok(())
            }
            Notice::Renamed { stream, name } => {
                self.session_of_version_2(conn)?;
                self.notices.told_names.insert((conn, *stream, name.clone()));
                Ok(())
            }
            Notice::PresenceChanged { stream, .. } => Err(format!("nobody watches who joins {stream:?}")),
            Notice::MachineAdded(added) => {
                let user = self.session_of_version_2(conn)?.user;
                let own = self.model.machine_with(&added.key).is_some_and(|(owner, _)| owner == user);
                demand!(own, "{conn:?} is told of a machine that is not its user's");
                Ok(())
            }
            Notice::Draining => {
                self.session_of_version_2(conn)?;
                demand!(self.draining, "{conn:?} is told that the server stops, and it does not");
                Ok(())
            }
            Notice::Sealed(_) => Err(format!("nothing is sealed here: {notice:?}")),
            Notice::ReceiptsMoved { stream, readers } => self.receipts_moved(conn, *stream, readers),
        }
    }

    /// Checks an answer about a stream.
    pub(super) fn stream_answered(
        &mut self,
        now: Now,
        (conn, request): (ConnId, RequestId),
        asked: &Asked,
        command: &StreamCommand,
        reply: &Reply,
    ) -> Verdict {
        if let Some(stream) = named(command) {
            self.stream_silent(conn, &asked.command, stream, reply)?;
        }
        let reply = match reply {
            Reply::Refused(refusal) => return self.stream_refused(conn, asked, command, refusal),
            Reply::Stream(reply) => reply,
            other => return Err(format!("{command:?} was answered {other:?}")),
        };
        match (command, reply) {
            (
                StreamCommand::Subscribe { stream, from, .. },
                StreamReply::Subscribed { stream: id, after, last },
            ) => self.subscribed(now, conn, (stream, *id), *from, (*after, *last)),
            (StreamCommand::Unsubscribe { stream }, StreamReply::Done) => {
                if let Some((id, _)) = self.channel_of(stream)
                    && let Some(session) = self.sessions.get_mut(&conn)
                {
                    session.subscriptions.remove(&id);
                    session.forget(id);
                }
                Ok(())
            }
            (StreamCommand::Read { from, .. }, StreamReply::Page { stream, messages, more }) => {
                demand!(self.is_subscribed(conn, *stream), "{conn:?} reads {stream:?}, in which it is not");
                let inside = messages.iter().all(|one| match from {
                    PageFrom::After(seq) => one.seq > *seq,
                    PageFrom::Before(seq) => one.seq < *seq,
                });
                demand!(inside, "a page {from:?} has other messages");
                let expected = match (from, messages.first(), messages.last()) {
                    (PageFrom::After(_), _, Some(last)) => last.seq < self.last(*stream),
                    (PageFrom::Before(_), Some(first), _) => first.seq > 1,
                    _ => false,
                };
                demand!(*more == expected, "a page {from:?} says that there are more: {more}");
                Ok(())
            }
            (StreamCommand::Report { stream, delivered, seen }, StreamReply::Done) => {
                self.reported(now, conn, stream, *delivered, *seen)
            }
            (StreamCommand::Acknowledge { .. }, StreamReply::Done) => {
                demand!(asked.fate == super::Fate::Durable, "{request:?} is answered and {:?}", asked.fate);
                Ok(())
            }
            (StreamCommand::Receipts { .. }, StreamReply::Receipts { stream, seq, readers }) => {
                self.receipts_told(*stream, *seq, readers)
            }
            (StreamCommand::WatchReceipts { stream, on }, StreamReply::Done) => {
                let id = self.channel_of(stream).map(|(id, _)| id);
                let session = self.session_of_version_2(conn)?;
                let inside = id.filter(|id| session.subscriptions.contains(id));
                let Some(id) = inside else { return Err(format!("{conn:?} watches where it is not")) };
                if *on {
                    session.watches.insert(id)
                } else {
                    session.watches.remove(&id)
                };
                Ok(())
            }
            (
                StreamCommand::Locate { stream: StreamRef::Mailbox(name) },
                StreamReply::Located { stream: id, .. },
            ) => {
                demand!(self.is_mailbox_of(conn, *id, name), "{name:?} was said to be {id:?}");
                Ok(())
            }
            (StreamCommand::Keys { user }, StreamReply::Keys { user: id, machines }) => {
                let known = self.model.user_named(user).filter(|known| known == id);
                let Some(found) = known.and_then(|id| self.model.users.get(&id)) else {
                    return Err(format!("keys of {user} were told, who is {id:?}"));
                };
                let same = machines.len() == found.machines.len()
                    && machines.iter().all(|one| {
                        found.machines.get(&one.id).is_some_and(|it| (&it.0, it.1) == (&one.name, one.key))
                    });
                demand!(same, "other keys of {user} were told than there are");
                demand!(self.may_know(conn, *id), "{conn:?} was told keys of {user}, whom it does not meet");
                Ok(())
            }
            (command, reply) => Err(format!("{command:?} was answered {reply:?}")),
        }
    }

    fn subscribed(
        &mut self,
        now: Now,
        conn: ConnId,
        (stream, id): (&StreamRef, ChannelId),
        from: Start,
        (after, last): (u64, u64),
    ) -> Verdict {
        let newest = self.last(id);
        let reader = self.session_of_version_2(conn)?.reader;
        let mut first = newest;
        let name = self.model.channels.get(&id).map(|channel| channel.name.clone());
        if let Some(name) = &name {
            demand!(means(stream, id, name), "{stream:?} was asked for, and {id:?} was subscribed to");
            self.entered(conn, name)?;
        } else {
            demand!(self.is_own_mailbox(conn, id, stream), "{stream:?} of {conn:?} was said to be {id:?}");
            // What came before it was first read is what its reader wants.
            first = 0;
        }
        let position = reader.and_then(|reader| self.readers.claims.get(&(id, reader)));
        let expected = match from {
            Start::Latest => newest,
            Start::After(seq) => seq,
            Start::Cursor => position.map_or(first, |cursor| cursor.delivered),
        };
        let sound = last == newest && after == expected && (from != Start::Cursor || reader.is_some());
        demand!(sound, "{from:?} led to {after} of {last}, not to {expected} of {newest}");
        match &name {
            Some(name) => self.subscribe(conn, id, name),
            None => {
                self.session_of_version_2(conn)?.subscriptions.insert(id);
            }
        }
        self.session_of_version_2(conn)?.pace.moved = true;
        self.session_of_version_2(conn)?
            .streams
            .insert(id, Stream { next: after + 1, live: false, from: after + 1 });
        if let Some(reader) = reader {
            self.placed(now, (id, reader), after);
        }
        Ok(())
    }

    /// Whether a mailbox is the session's own, and what was asked for.
    fn is_own_mailbox(&self, conn: ConnId, id: ChannelId, stream: &StreamRef) -> bool {
        let (Some(session), Some(mailbox)) = (self.sessions.get(&conn), self.model.mailboxes.get(&id)) else {
            return false;
        };
        let own = mailbox.user == session.user && mailbox.reader.is_none_or(|it| session.reader == Some(it));
        own && match stream {
            StreamRef::Number(number) => *number == id,
            StreamRef::Mailbox(MailboxRef::Mine) => mailbox.reader.is_none(),
            StreamRef::Mailbox(MailboxRef::MySession) => mailbox.reader.is_some(),
            StreamRef::Mailbox(_) | StreamRef::Channel(_) => false,
        }
    }

    /// Whether a mailbox is the one that is named.
    fn is_mailbox_of(&self, conn: ConnId, id: ChannelId, name: &MailboxRef) -> bool {
        let Some(mailbox) = self.model.mailboxes.get(&id) else { return false };
        let owner = match name {
            MailboxRef::Mine | MailboxRef::MySession => self.sessions.get(&conn).map(|session| session.user),
            MailboxRef::User(user) => self.model.user_named(user),
            MailboxRef::Session(path) => self.model.user_named(&path.user),
        };
        let reader = match name {
            MailboxRef::Mine | MailboxRef::User(_) => None,
            MailboxRef::MySession => self.sessions.get(&conn).and_then(|session| session.reader),
            // One that is not kept has its user's.
            MailboxRef::Session(path) => self.reader_at(path),
        };
        owner == Some(mailbox.user) && reader == mailbox.reader
    }

    /// Whoever may not see a stream is told what is told of one that does not exist.
    pub(super) fn stream_silent(
        &mut self,
        conn: ConnId,
        command: &Command,
        stream: &StreamRef,
        reply: &Reply,
    ) -> Verdict {
        let id = match stream {
            StreamRef::Channel(name) => return self.silent(conn, command, name, reply),
            StreamRef::Number(id) => *id,
            StreamRef::Mailbox(_) => return Ok(()),
        };
        let Reply::Refused(refusal) = reply else { return Ok(()) };
        if is_passing(refusal) || refusal.code() == Code::Internal {
            return Ok(());
        }
        // Who may write to a mailbox depends on more than is modelled here.
        if self.model.mailboxes.contains_key(&id) {
            return Ok(());
        }
        let visible = self.model.channels.get(&id).is_some_and(|channel| self.sees(conn, id, channel));
        let hidden = matches!(refusal, Refusal::NoStream);
        demand!(hidden != visible, "{conn:?} sees {id:?}: {visible}, and was told: {refusal}");
        Ok(())
    }

    fn stream_refused(
        &self,
        conn: ConnId,
        asked: &Asked,
        command: &StreamCommand,
        refusal: &Refusal,
    ) -> Verdict {
        let stream = named(command).and_then(|stream| self.stream_of(stream));
        let inside = stream.is_some_and(|id| self.is_subscribed(conn, id));
        let last = stream.map_or(0, |id| self.last(id));
        let kept = self.sessions.get(&conn).is_some_and(|session| session.reader.is_some());
        let sent = stream.map_or(0, |id| self.sent(conn, id));
        let sound = match (command, refusal) {
            (_, Refusal::NotSubscribed(_)) => !inside,
            (_, Refusal::NotKept) => !kept,
            (StreamCommand::Subscribe { from: Start::After(seq), .. }, Refusal::NoMessage(_)) => *seq > last,
            (StreamCommand::Receipts { seq, .. }, Refusal::NoMessage(_)) => *seq == 0 || *seq > last,
            (StreamCommand::Report { delivered, seen, .. }, Refusal::NotSentYet { sent: told }) => {
                *told == sent && *delivered.max(seen) > sent
            }
            (StreamCommand::Acknowledge { seq, .. }, Refusal::NotSentYet { sent: told }) => {
                *told == sent && (*seq == 0 || *seq > sent)
            }
            (StreamCommand::Acknowledge { .. }, Refusal::NotStored { .. }) => {
                asked.fate == super::Fate::Failed
            }
            (_, Refusal::NoMessage(_) | Refusal::NotSentYet { .. }) => false,
            (StreamCommand::Unsubscribe { .. }, refusal) => is_passing(refusal),
            (StreamCommand::Keys { user }, Refusal::NoUser(_)) => {
                self.model.user_named(user).is_none_or(|user| !self.may_know(conn, user))
            }
            _ => true,
        };
        demand!(sound, "{command:?} was refused: {refusal}");
        Ok(())
    }

    /// The last message of a channel that a session was sent.
    pub(super) fn sent(&self, conn: ConnId, channel: ChannelId) -> u64 {
        match self.sessions.get(&conn).and_then(|session| session.streams.get(&channel)) {
            Some(stream) => stream.next - 1,
            None => 0,
        }
    }

    /// Whether a user keeps a position in a channel.
    fn keeps_up(&self, user: UserId, id: ChannelId) -> bool {
        let of_user = |reader| self.model.readers.get(reader).is_some_and(|reader| reader.user == user);
        self.readers.claims.keys().any(|(channel, reader)| *channel == id && of_user(reader))
    }

    /// Whether a session's user meets another in a channel: as a member, subscribed now, or, where it is not private,
    /// with a position there.
    fn may_know(&self, conn: ConnId, other: UserId) -> bool {
        let Some(session) = self.sessions.get(&conn) else { return false };
        let is_in = |user: UserId, id: ChannelId, channel: &Channel| {
            let open = channel.visibility != Visibility::Private && !channel.banned.contains(&user);
            channel.members.contains(&user)
                || (open && self.keeps_up(user, id))
                || self.sessions.values().any(|one| one.user == user && one.subscriptions.contains(&id))
        };
        let meet = |(id, channel): (&ChannelId, &Channel)| {
            is_in(session.user, *id, channel) && is_in(other, *id, channel)
        };
        session.user == other || session.admin || self.model.channels.iter().any(meet)
    }

    /// At rest: every subscription has caught up.
    pub(super) fn streams_at_rest(&self) -> Verdict {
        for (conn, session) in &self.sessions {
            if let Some((channel, stream)) = session.streams.iter().find(|(_, stream)| !stream.live) {
                return Err(format!("{conn:?} is still at {stream:?} in {channel:?}"));
            }
        }
        Ok(())
    }
}

/// The stream that a command names.
fn named(command: &StreamCommand) -> Option<&StreamRef> {
    match command {
        StreamCommand::Subscribe { stream, .. }
        | StreamCommand::Read { stream, .. }
        | StreamCommand::Post { stream, .. }
        | StreamCommand::Report { stream, .. }
        | StreamCommand::Acknowledge { stream, .. }
        | StreamCommand::Receipts { stream, .. }
        | StreamCommand::WatchReceipts { stream, .. } => Some(stream),
        _ => None,
    }
}
