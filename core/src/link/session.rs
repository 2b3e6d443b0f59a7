//! A link while its session lives: frames in, signs of life, channels.

use alloc::string::ToString as _;
use alloc::vec::Vec;
use core::time::Duration;

use super::requests::Asker;
use super::{Action, Context, DownReason, Link, State};
use crate::name::{ChannelName, SessionPath};
use crate::protocol::{Command, End, Refusal, Reply};
use crate::time::{Monotonic, Now};
use crate::wire::v1::Frame;
use crate::wire::v1::client::{ServerError, ServerEvent, server_event};

const PING_EVERY: Duration = Duration::from_secs(20);
const DEAD_AFTER: Duration = Duration::from_secs(60);

/// A live session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    path: SessionPath,
    up_at: Monotonic,
    heard_at: Monotonic,
    pinged_at: Monotonic,
}

impl Session {
    pub(super) fn new(path: SessionPath, now: Monotonic) -> Self {
        Self { path, up_at: now, heard_at: now, pinged_at: now }
    }

    pub(super) fn up_at(&self) -> Monotonic {
        self.up_at
    }

    pub(super) fn ping_at(&self) -> Monotonic {
        self.pinged_at + PING_EVERY
    }

    /// When the connection counts as dead; `oldest` is since when a request is unanswered.
    pub(super) fn silent(&self, oldest: Option<Monotonic>) -> Monotonic {
        self.heard_at.min(oldest.unwrap_or(self.heard_at)) + DEAD_AFTER
    }
}

impl Link {
    /// A message came in a live session.
    pub(super) fn message(&mut self, now: Now, bytes: &[u8], actions: &mut Vec<Action>) {
        let State::Up(session) = &mut self.state else { return };
        session.heard_at = now.mono;
        let Ok(frame) = Frame::decode(bytes) else {
            return self.violation(now, "a message that is no frame", actions);
        };
        match server_event(frame) {
            Err(_) => self.violation(now, "a frame out of place", actions),
            Ok(ServerEvent::Delivered { channel, from, payload }) => {
                let here = &mut Context { own: &session.path, now, jitter: &mut self.jitter, actions };
                self.subscriptions.delivered(channel, from, payload, here);
            }
            Ok(ServerEvent::Whispered { from, payload, .. }) => {
                actions.push(Action::Whispered { from, payload });
            }
            Ok(ServerEvent::Role { admin }) => actions.push(Action::Role { admin }),
            Ok(ServerEvent::Reply(reply)) => self.reply(now, reply, actions),
            Ok(ServerEvent::Error(ServerError::Version { .. })) => {
                self.violation(now, "a mismatch of versions in a live session", actions);
            }
            Ok(ServerEvent::Error(ServerError::Refused(refusal))) => self.refused(now, refusal, actions),
            Ok(ServerEvent::Error(ServerError::Ended { end: End::Superseded, text })) => {
                self.superseded(now, &text, actions);
            }
            Ok(ServerEvent::Error(ServerError::Ended { text, .. })) => {
                self.hang_up(now, DownReason::Ended(text), actions);
            }
        }
    }

    /// A refusal answers the oldest request; without one, it is an end that this program does not know.
    fn refused(&mut self, now: Now, refusal: Refusal, actions: &mut Vec<Action>) {
        if self.requests.oldest().is_none() {
            return self.hang_up(now, DownReason::Ended(refusal.to_string()), actions);
        }
        self.reply(now, Reply::Refused(refusal), actions);
    }

    fn reply(&mut self, now: Now, reply: Reply, actions: &mut Vec<Action>) {
        let Some((asker, expect)) = self.requests.answered() else {
            return self.violation(now, "a reply to nothing", actions);
        };
        if !expect.fits(&reply) {
            if let Asker::Application { id, .. } = asker {
                let result = Err(super::RequestError::Interrupted);
                actions.push(Action::Replied { id, result });
            }
            return self.violation(now, "a reply of another kind than the request", actions);
        }
        let State::Up(session) = &self.state else { return };
        let here = &mut Context { own: &session.path, now, jitter: &mut self.jitter, actions };
        match (asker, reply) {
            (Asker::Application { id, .. }, reply) => {
                here.actions.push(Action::Replied { id, result: Ok(reply) });
            }
            (Asker::Nobody | Asker::Ping, _) => {}
            (Asker::Leave { channel }, _) => self.subscriptions.left(&channel, now.mono),
            (Asker::Join { channel, generation }, Reply::Joined(joined)) => {
                if joined != channel {
                    return self.violation(now, "a subscription to another channel", actions);
                }
                self.subscriptions.joined(channel, generation, here);
            }
            (Asker::Join { channel, generation }, Reply::Refused(reason)) => {
                self.subscriptions.join_refused(channel, generation, reason, here);
            }
            (Asker::Read { channel, generation }, Reply::History { channel: told, messages }) => {
                if told != channel {
                    return self.violation(now, "history of another channel", actions);
                }
                if self.subscriptions.page(&channel, generation, messages, here).is_err() {
                    self.violation(now, "history out of order", actions);
                }
            }
            (Asker::Read { channel, generation }, Reply::Refused(reason)) => {
                self.subscriptions.read_refused(channel, generation, reason, here);
            }
            // The kinds were compared above.
            (Asker::Join { .. } | Asker::Read { .. }, _) => {}
        }
    }

    fn violation(&mut self, now: Now, what: &'static str, actions: &mut Vec<Action>) {
        self.hang_up(now, DownReason::Protocol(what), actions);
    }

    /// Asks for every subscription that can be asked for.
    pub(super) fn subscribe(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.subscriptions.tick(now.mono);
        while let Some((channel, token, generation)) = self.subscriptions.next_join(now) {
            let command = Command::Join { channel: channel.clone(), token };
            self.send(now, Asker::Join { channel, generation }, &command, actions);
        }
    }

    /// Signs of life, subscriptions and readings that are due.
    pub(super) fn keep_up(&mut self, now: Now, actions: &mut Vec<Action>) {
        let State::Up(session) = &mut self.state else { return };
        if session.silent(self.requests.oldest()) <= now.mono {
            return self.hang_up(now, DownReason::Silent, actions);
        }
        if session.ping_at() <= now.mono {
            session.pinged_at = now.mono;
            self.send(now, Asker::Ping, &Command::Ping, actions);
        }
        self.subscribe(now, actions);
        while let Some((channel, since, generation)) = self.subscriptions.next_read(now.mono) {
            let command = Command::ReadSince { channel: channel.clone(), since };
            self.send(now, Asker::Read { channel, generation }, &command, actions);
        }
    }

    /// The channels that are followed.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelName> {
        self.subscriptions.names()
    }

    /// The bytes of deliveries that wait for the history.
    #[cfg(test)]
    pub(super) fn buffered(&self) -> usize {
        self.subscriptions.buffered()
    }

    /// Who the session is, while it lives.
    pub fn path(&self) -> Option<&SessionPath> {
        match &self.state {
            State::Up(session) => Some(&session.path),
            _ => None,
        }
    }
}
