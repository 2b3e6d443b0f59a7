//! Messages on their way out: checked, their mentions looked up, posted.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::Bridge;
use super::calls::Answer;
use super::perm_command;
use super::state::{Awaited, Draft};
use crate::body::{self, Context};
use crate::bridge::api::Action;
use crate::bridge::card::verdict;
use crate::bridge::failure::{Failure, MAX_TEXT};
use crate::bridge::guard::{Exhausted, Row, Venue};
use crate::bridge::levels::{Level, Scope};
use crate::bridge::server::Server;
use crate::bridge::tool_call::{CallId, WhisperTarget};
use crate::link::RequestError;
use crate::mention::{self, Wanted};
use crate::name::{ChannelName, UserName};
use crate::payload::Payload;
use crate::protocol::{Code, Command, Reply};
use crate::stream::{MailboxRef, StreamCommand, StreamRef, StreamReply};
use crate::time::Now;

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Channel(ChannelName),
    Whisper(WhisperTarget),
}

impl Target {
    fn scope(&self) -> Scope {
        match self {
            Self::Channel(channel) => Scope::Channel(channel.clone()),
            Self::Whisper(_) => Scope::Whispers,
        }
    }
}

impl Bridge {
    /// Posts a message, once everyone whom it mentions is known.
    pub(super) fn compose(
        &mut self,
        now: Now,
        call: CallId,
        mut draft: Draft,
        mentions: &[UserName],
        actions: &mut Vec<Action>,
    ) -> Answer {
        self.check(now, &draft)?;
        draft.wanted = mention::wanted(mentions, &draft.text);
        if !self.tells_users(&draft) {
            if !mentions.is_empty() {
                return Err(Failure::NoMentions(draft.server));
            }
            draft.wanted.clear();
        }
        // Taken from the end.
        draft.wanted.reverse();
        self.look_up(now, call, draft, actions)
    }

    /// Whether the server has numbers of users, and takes a message that names them.
    fn tells_users(&self, draft: &Draft) -> bool {
        self.links.get(&draft.server).is_some_and(|link| match &draft.target {
            Target::Channel(channel) => link.has_stream(channel),
            Target::Whisper(_) => link.mailboxes,
        })
    }

    fn look_up(&mut self, now: Now, call: CallId, draft: Draft, actions: &mut Vec<Action>) -> Answer {
        let Some(Wanted { name: user, .. }) = draft.wanted.last() else {
            return self.post(now, call, draft, actions);
        };
        let command = Command::Stream(StreamCommand::Keys { user: user.clone() });
        let server = draft.server.clone();
        self.ask(&server, call, command, Awaited::Mention(draft.into()), actions)
    }

    /// The server said whose name it is, or that it is nobody's.
    pub(super) fn looked_up(
        &mut self,
        now: Now,
        call: CallId,
        mut draft: Draft,
        result: Result<Reply, RequestError>,
        actions: &mut Vec<Action>,
    ) -> Answer {
        let Some(Wanted { name, must }) = draft.wanted.pop() else { return Err(Failure::Confused) };
        match result {
            Ok(Reply::Stream(StreamReply::Keys { user, .. })) => {
                if !draft.mentioned.iter().any(|(_, known)| *known == user) {
                    draft.mentioned.push((name, user));
                }
            }
            Ok(Reply::Refused(refusal)) if must => {
                return Err(match refusal.code() {
                    Code::NotFound => Failure::NobodyMentioned(name),
                    _ => Failure::Refused(refusal),
                });
            }
            Ok(Reply::Refused(_)) => {}
            Ok(_) => return Err(Failure::Confused),
            // Nothing was posted yet.
            Err(RequestError::Busy) => return Err(Failure::Busy),
            Err(_) => {
                let why = String::from("it just broke");
                return Err(Failure::Down { server: draft.server, why });
            }
        }
        // Its level may be another one by now.
        self.check(now, &draft)?;
        self.look_up(now, call, draft, actions)
    }

    fn post(&mut self, now: Now, call: CallId, draft: Draft, actions: &mut Vec<Action>) -> Answer {
        let known = self.tells_users(&draft);
        let Draft { server, target, text, reply_to, wait, mentioned, .. } = draft;
        let (users, mentioned): (Vec<_>, Vec<_>) =
            mentioned.into_iter().map(|(name, user)| (user, name)).unzip();
        let venue = venue(&server, &target);
        let payload = if known || reply_to.is_some() {
            let Row { hops, budget } = self.guard.next(now.mono, &venue);
            Payload::Body(body::of_content(&text.0, &Context { reply_to, mentions: users, hops, budget }))
        } else {
            Payload::Plain(text.0)
        };
        let (to, mailbox, command) = match target {
            Target::Channel(channel) => {
                (Scope::Channel(channel.clone()).to_string(), false, Command::Post { channel, payload })
            }
            Target::Whisper(target) => {
                let to = target.to_string();
                let command = match target {
                    WhisperTarget::Session(target) => Command::Whisper { target, payload },
                    WhisperTarget::User(user) => {
                        let mailbox = StreamRef::Mailbox(MailboxRef::User(user));
                        Command::Stream(StreamCommand::post(mailbox, payload))
                    }
                };
                (to, true, command)
            }
        };
        let answer = Awaited::Sent { to, wait, mailbox, mentioned };
        let answer = self.ask(&server, call, command, answer, actions)?;
        self.guard.sent(now.mono, venue);
        Ok(answer)
    }

    /// Whether a message may go out now.
    fn check(&self, now: Now, draft: &Draft) -> Result<(), Failure> {
        let Draft { server, target, text, wait, .. } = draft;
        let scope = target.scope();
        if let Target::Channel(channel) = target {
            self.on_channel(server, channel)?;
        }
        if !self.levels.level(server, &scope).may_emit() {
            return Err(self.too_low(server, scope, Level::Converse));
        }
        check_text(text)?;
        match target {
            Target::Channel(channel) if wait.is_some() => {
                self.stream_of(server, channel)?;
            }
            Target::Channel(_) => {}
            Target::Whisper(target) => {
                if verdict(text).is_some() {
                    return Err(Failure::Verdict);
                }
                let own = self.links.get(server).and_then(|link| link.path.as_ref());
                if matches!(target, WhisperTarget::Session(path) if own == Some(path)) {
                    return Err(Failure::Oneself);
                }
            }
        }
        self.check_loop(now, &venue(server, target), server, &scope)
    }

    fn check_loop(&self, now: Now, venue: &Venue, server: &Server, scope: &Scope) -> Result<(), Failure> {
        const QUIET: &str = "after 10 quiet minutes, ";
        const NEW: &str = "once somebody new speaks there, after 10 quiet minutes, ";
        let (sent, how, renewed) = match self.guard.check(now.mono, venue) {
            Ok(()) => return Ok(()),
            Err(Exhausted::Alone(sent)) => (sent, "of yours there in a row were answered by nobody", NEW),
            Err(Exhausted::Exchange(sent)) => {
                (sent, "of yours there went to the same participants, with nothing new from outside", NEW)
            }
            Err(Exhausted::Conversation(sent)) => {
                (sent, "of yours there went to one conversation without a pause", QUIET)
            }
            Err(Exhausted::Hops(sent)) => {
                (sent, "there in a row were written by agents", "once a person writes there, ")
            }
        };
        Err(Failure::Loop {
            sent,
            how,
            renewed,
            command: perm_command(server, scope, self.levels.level(server, scope)),
        })
    }
}

fn venue(server: &Server, target: &Target) -> Venue {
    match target {
        Target::Channel(channel) => Venue::Channel(server.clone(), channel.clone()),
        Target::Whisper(target) => Venue::Whispers(server.clone(), target.user().clone()),
    }
}

fn check_text(text: &str) -> Result<(), Failure> {
    match text.len() {
        0 => Err(Failure::NoText),
        1..=MAX_TEXT => Ok(()),
        len => Err(Failure::Text(len)),
    }
}
