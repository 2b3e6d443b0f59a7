//! The servers' replies, brought back to the calls that wait for them.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{
    Action, Bridge, CallId, CardId, Failure, Level, Outcome, PAGE_BYTES, RequestError, RequestId, Scope,
    Server,
};
use crate::name::{ChannelName, SessionPath};
use crate::protocol::{Command, Reply, Stamped};
use crate::time::{Now, UnixMillis};

/// What is done with a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    /// Nothing.
    Silent,
    /// The sessions among which approvers are looked for.
    Approvers { id: CardId },
    /// The reply becomes the call's answer.
    Call { call: CallId, what: What },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Join {
        channel: ChannelName,
        level: Option<Level>,
    },
    Leave {
        channel: ChannelName,
    },
    Sent {
        to: String,
    },
    Channels,
    Who,
    CatchUp {
        channel: ChannelName,
        since: UnixMillis,
        got: Vec<Stamped>,
        bytes: usize,
    },
    Verdict {
        to: SessionPath,
        id: CardId,
        allow: bool,
    },
    /// The channel will not be there under that name any more.
    Gone {
        channel: ChannelName,
    },
    Admin,
}

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
            Some(Pending::Call { call, what }) => {
                let result = match result {
                    Ok(Reply::Refused(refusal)) => Err(Failure::Refused(refusal)),
                    Ok(reply) => match self.outcome(now, server, call, what, reply, actions) {
                        Some(result) => result,
                        None => return,
                    },
                    Err(RequestError::Unsent) => {
                        Err(Failure::Down { server: server.clone(), why: String::from("it just broke") })
                    }
                    Err(RequestError::Uncertain) => Err(Failure::Uncertain),
                    Err(RequestError::TimedOut) => Err(Failure::TimedOut),
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
        what: What,
        reply: Reply,
        actions: &mut Vec<Action>,
    ) -> Option<Result<Outcome, Failure>> {
        let link = self.links.get_mut(server)?;
        let server = server.clone();
        Some(Ok(match (what, reply) {
            (What::Join { channel, level }, Reply::Joined(_)) => {
                link.joined.insert(channel.clone());
                return self.joined(now, call, server, channel, level, actions);
            }
            (What::Leave { channel }, Reply::Done(_)) => {
                link.joined.remove(&channel);
                Outcome::Left { server, channel }
            }
            (What::Sent { to }, Reply::Sent) => Outcome::Sent { server, to },
            (What::Verdict { to, id, allow }, Reply::Sent) => {
                self.cards.foreign.retain(|card| (&card.server, &card.from, card.id) != (&server, &to, id));
                Outcome::Answered { to, id, allow }
            }
            (What::Channels, Reply::Channels(channels)) => {
                let joined = link.joined.clone();
                let level = |name: &ChannelName| {
                    joined.contains(name).then(|| self.levels.level(&server, &Scope::Channel(name.clone())))
                };
                let channels = channels.into_iter().map(|info| (level(&info.name), info));
                Outcome::Channels { channels: channels.map(|(level, info)| (info, level)).collect(), server }
            }
            (What::Who, Reply::Presence { channel, sessions }) => {
                Outcome::Presence { own: link.path.clone(), server, channel, sessions }
            }
            (What::CatchUp { channel, since, got, bytes }, Reply::History { messages, .. }) => {
                return self.history(call, server, channel, since, got, bytes, messages, actions);
            }
            (What::Gone { channel }, Reply::Done(what)) => {
                if link.joined.remove(&channel) {
                    // The link would go on joining a name that means nothing, or something else, from now on.
                    let _ = self.request(&server, Command::Leave { channel }, Pending::Silent, actions);
                }
                Outcome::Done { server, what }
            }
            (What::Admin, Reply::Done(what)) => Outcome::Done { server, what },
            (What::Admin, Reply::Users(users)) => Outcome::Users { server, users },
            (What::Admin, Reply::Invites(invites)) => Outcome::Invites { server, invites },
            (What::Admin, Reply::Invite(token)) => Outcome::Invite { server, token },
            _ => return Some(Err(Failure::Confused)),
        }))
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one pending read")]
    fn history(
        &mut self,
        call: CallId,
        server: Server,
        channel: ChannelName,
        mut since: UnixMillis,
        mut got: Vec<Stamped>,
        mut bytes: usize,
        messages: Vec<Stamped>,
        actions: &mut Vec<Action>,
    ) -> Option<Result<Outcome, Failure>> {
        let level = self.levels.level(&server, &Scope::Channel(channel.clone()));
        let ended = messages.is_empty();
        let mut full = false;
        for message in messages {
            // A server whose stamps do not grow would be asked for ever.
            if message.ts <= since {
                return Some(Err(Failure::Confused));
            }
            let size = message.payload.size();
            if !got.is_empty() && (bytes + size > PAGE_BYTES || got.len() >= MAX_ROWS) {
                full = true;
                break;
            }
            since = message.ts;
            bytes += size;
            got.push(message);
        }
        if let Some(link) = self.links.get_mut(&server) {
            let seen = link.seen.entry(channel.clone()).or_default();
            *seen = since.max(*seen);
        }
        if ended || full {
            let more = full.then_some(since);
            return Some(Ok(Outcome::History { server, channel, level, messages: got, more }));
        }
        let command = Command::ReadSince { channel: channel.clone(), since };
        let what = What::CatchUp { channel, since, got, bytes };
        self.request(&server, command, Pending::Call { call, what }, actions).err().map(Err)
    }
}
