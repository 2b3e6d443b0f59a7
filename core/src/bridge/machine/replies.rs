//! Replies of servers: each becomes the answer of the call that waits for it.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Bridge;
use super::state::{Awaited, CatchUp, Pending};
use crate::bridge::api::Action;
use crate::bridge::failure::Failure;
use crate::bridge::frame::{PAGE_BYTES, body};
use crate::bridge::inbox::{Entry, Message};
use crate::bridge::levels::Scope;
use crate::bridge::server::Server;
use crate::bridge::tool_call::{CallId, Outcome, Stored};
use crate::link::{RequestError, RequestId};
use crate::mention::mentions;
use crate::name::ChannelName;
use crate::opaque::Opaque;
use crate::protocol::{Command, Reply, Stamped};
use crate::stream::StreamReply;
use crate::time::Now;

/// Rows of history in one answer.
const MAX_ROWS: usize = 200;

impl Bridge {
    pub(super) fn reply(
        &mut self,
        now: Now,
        server: &Server,
        id: RequestId,
        result: Result<Reply, RequestError>,
        actions: &mut Vec<Action>,
    ) {
        match self.pending.remove(&id) {
            None | Some(Pending::Silent) => {}
            Some(Pending::Approvers { id }) => {
                if let Ok(Reply::Presence { sessions, .. }) = result {
                    self.whisper_card(server, id, sessions.iter().map(Arc::as_ref), actions);
                }
            }
            Some(Pending::Approver { user, card }) => {
                self.approver_found(server, (user, card), result, actions);
            }
            Some(Pending::Watched { call }) => self.watched(call, result, actions),
            Some(Pending::Call { call, answer: Awaited::Mention(draft) }) => {
                let answer = self.looked_up(now, call, *draft, result, actions);
                if let Some(result) = answer.transpose() {
                    actions.push(Action::Answer { call, result });
                }
            }
            Some(Pending::Call { call, answer }) => {
                let result = match result {
                    Ok(Reply::Refused(refusal)) => Err(Failure::Refused(refusal)),
                    Ok(reply) => match self.outcome(now, server, call, answer, reply, actions) {
                        Some(result) => result,
                        None => return,
                    },
                    Err(RequestError::TimedOut) => Err(Failure::TimedOut),
                    Err(RequestError::Busy) => Err(Failure::Busy),
                    Err(error) if error.may_have_happened() => Err(Failure::Uncertain),
                    Err(_) => {
                        Err(Failure::Down { server: server.clone(), why: String::from("it just broke") })
                    }
                };
                actions.push(Action::Answer { call, result });
            }
        }
    }

    /// The answer to a call, or `None` where it is still to come.
    fn outcome(
        &mut self,
        now: Now,
        server: &Server,
        call: CallId,
        awaited: Awaited,
        reply: Reply,
        actions: &mut Vec<Action>,
    ) -> Option<Result<Outcome, Failure>> {
        let link = self.links.get_mut(server)?;
        let server = server.clone();
        Some(Ok(match (awaited, reply) {
            (Awaited::Join { channel, level }, Reply::Joined(_)) => {
                link.joined.insert(channel.clone());
                return self.joined(now, call, server, channel, level, actions);
            }
            (Awaited::Leave { channel }, Reply::Done(_)) => {
                link.joined.remove(&channel);
                link.streams.retain(|_, stream| stream.channel.as_ref() != Some(&channel));
                Outcome::Left { server, channel }
            }
            (Awaited::Sent { to, wait: None, mentioned, .. }, Reply::Sent) => {
                Outcome::Sent { server, to, stored: None, mentioned, waited: None }
            }
            (Awaited::Sent { .. }, Reply::Sent) => return Some(Err(Failure::NoReceipts(server))),
            (
                Awaited::Sent { to, wait, mailbox, mentioned },
                Reply::Stream(StreamReply::Stored { stream, stamp, present }),
            ) => {
                let present = mailbox.then_some(present);
                let stored = Stored { stream, seq: stamp.seq, at: stamp.ts, present };
                match wait {
                    None => Outcome::Sent { server, to, stored: Some(stored), mentioned, waited: None },
                    Some(wait) => {
                        self.watch(call, (server, to, mentioned), stored, wait, actions);
                        return None;
                    }
                }
            }
            (Awaited::Receipts { channel, seq }, Reply::Stream(StreamReply::Receipts { readers, .. })) => {
                let readers = self.others(&server, readers);
                Outcome::Receipts { server, channel, seq, readers }
            }
            (Awaited::Acknowledged { channel, seq }, Reply::Stream(StreamReply::Done)) => {
                Outcome::Acknowledged { server, channel, seq }
            }
            (Awaited::Verdict { to, id, allow }, Reply::Sent | Reply::Stream(StreamReply::Stored { .. })) => {
                self.cards.foreign.retain(|card| (&card.server, &card.from, card.id) != (&server, &to, id));
                Outcome::Answered { to, id, allow }
            }
            (Awaited::Channels, Reply::Channels(channels)) => {
                let joined = link.joined.clone();
                let level = |name: &ChannelName| {
                    joined.contains(name).then(|| self.levels.level(&server, &Scope::Channel(name.clone())))
                };
                let channels = channels.into_iter().map(|info| (level(&info.name), info));
                Outcome::Channels { channels: channels.map(|(level, info)| (info, level)).collect(), server }
            }
            (Awaited::Who { channel }, Reply::Presence { sessions, .. }) => {
                Outcome::Presence { own: link.path.clone(), server, channel, sessions }
            }
            (Awaited::CatchUp(reading), Reply::History { messages, .. }) => {
                return self.history(call, server, reading, messages, actions);
            }
            (Awaited::Gone { channel }, Reply::Done(what)) => {
                if link.joined.remove(&channel) {
                    // The link would go on joining a name that means nothing, or something else, from now on.
                    let _ = self.request(&server, Command::Leave { channel }, Pending::Silent, actions);
                }
                Outcome::Done { server, what }
            }
            (Awaited::Admin { what }, Reply::Done(done)) => {
                // Version 2 does not repeat what was asked.
                Outcome::Done { server, what: if done.is_empty() { Opaque(what) } else { done } }
            }
            (Awaited::Admin { .. }, Reply::Users(users)) => Outcome::Users { server, users },
            (Awaited::Admin { .. }, Reply::Invites(invites)) => Outcome::Invites { server, invites },
            (Awaited::Admin { .. }, Reply::Invite(token)) => Outcome::Invite { server, token },
            _ => return Some(Err(Failure::Confused)),
        }))
    }

    fn history(
        &mut self,
        call: CallId,
        server: Server,
        mut reading: CatchUp,
        messages: Vec<Stamped>,
        actions: &mut Vec<Action>,
    ) -> Option<Result<Outcome, Failure>> {
        let ended = messages.is_empty();
        let mut full = false;
        let asked = reading.since;
        for message in messages {
            // A server whose stamps do not grow would be asked for ever. Some stamp several messages alike.
            if message.ts <= asked || message.ts < reading.since {
                return Some(Err(Failure::Confused));
            }
            let size = message.payload.size();
            if reading.bytes + size > PAGE_BYTES || reading.got.len() >= MAX_ROWS {
                // The next answer begins after a stamp: messages that share one stay together.
                let whole = reading.got.partition_point(|earlier| earlier.ts < message.ts);
                if let Some(last) = reading.got[..whole].last() {
                    reading.since = last.ts;
                    reading.got.truncate(whole);
                    full = true;
                    break;
                }
            }
            reading.since = message.ts;
            reading.bytes += size;
            reading.got.push(message);
        }
        if ended || full {
            let more = full.then_some(reading.since);
            let CatchUp { channel, got: messages, .. } = reading;
            // Only now, and not page by page: what no answer showed is not seen.
            if let (Some(link), Some(last)) = (self.links.get_mut(&server), messages.last()) {
                let seen = link.seen.entry(channel.clone()).or_default();
                *seen = last.ts.max(*seen);
            }
            let user = self.links.get(&server).and_then(|link| link.user);
            // What is too large for an answer is read where there are parts.
            let large = messages.iter().filter(|message| body(&message.payload).len() > PAGE_BYTES);
            for Stamped { from, ts, payload, .. } in large.cloned() {
                let (server, channel) = (server.clone(), Some(channel.clone()));
                let mentions_you = mentions(&payload, user);
                let message = Message {
                    server,
                    channel,
                    from,
                    at: Some(ts),
                    payload,
                    place: None,
                    mentions_you,
                    received: ts,
                };
                // It may be there as it came, then without its stamp.
                let held = |entry: &Entry| match entry {
                    Entry::Message(held) => {
                        let (at, place, received) = (held.at, held.place.clone(), held.received);
                        Message { at, place, received, ..message.clone() } == *held
                    }
                    Entry::Notice(_) => false,
                };
                if !self.inbox.entries().into_iter().any(held) {
                    self.take_in(Entry::Message(message), actions);
                }
            }
            let level = self.levels.level(&server, &Scope::Channel(channel.clone()));
            return Some(Ok(Outcome::History { server, channel, level, user, messages, more }));
        }
        let command = reading.command();
        let answer = Awaited::CatchUp(reading);
        self.request(&server, command, Pending::Call { call, answer }, actions).err().map(Err)
    }
}
