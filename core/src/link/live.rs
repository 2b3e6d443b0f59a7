//! A link while its session lives: replies, deliveries, signs of life, subscriptions.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::requests::Purpose;
use super::{Action, Context, DownReason, Link, State};
use crate::name::{ChannelName, SessionPath};
use crate::payload::Payload;
use crate::protocol::{Command, Reply};
use crate::time::{Monotonic, Now};
use crate::wire::client::{Client, RequestNumber};

const PING_EVERY: Duration = Duration::from_secs(20);
const DEAD_AFTER: Duration = Duration::from_secs(60);

/// A live session and its connection.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) client: Box<Client>,
    path: SessionPath,
    up_at: Monotonic,
    heard_at: Monotonic,
    pinged_at: Monotonic,
}

impl Live {
    pub(super) fn new(client: Box<Client>, path: SessionPath, now: Monotonic) -> Self {
        Self { client, path, up_at: now, heard_at: now, pinged_at: now }
    }

    pub(super) fn up_at(&self) -> Monotonic {
        self.up_at
    }

    pub(super) fn ping_at(&self) -> Monotonic {
        self.pinged_at + PING_EVERY
    }

    /// When the connection counts as dead; `oldest` is since when a request is unanswered.
    pub(super) fn dead_at(&self, oldest: Option<Monotonic>) -> Monotonic {
        self.heard_at.min(oldest.unwrap_or(self.heard_at)) + DEAD_AFTER
    }

    /// A message came; it is the client's to read.
    pub(super) fn heard(&mut self, now: Monotonic) -> &mut Client {
        self.heard_at = now;
        &mut self.client
    }
}

impl Link {
    pub(super) fn delivered(
        &mut self,
        now: Now,
        channel: ChannelName,
        from: SessionPath,
        payload: Payload,
        actions: &mut Vec<Action>,
    ) {
        let State::Up(live) = &self.state else { return };
        let here = &mut Context { own: &live.path, now, jitter: &mut self.jitter, actions };
        self.subscriptions.delivered(channel, from, payload, here);
    }

    pub(super) fn reply(
        &mut self,
        now: Now,
        request: RequestNumber,
        reply: Reply,
        actions: &mut Vec<Action>,
    ) {
        let Some(purpose) = self.requests.answered(request) else { return };
        let State::Up(live) = &self.state else { return };
        let here = &mut Context { own: &live.path, now, jitter: &mut self.jitter, actions };
        match (purpose, reply) {
            (Purpose::Application { id, .. }, reply) => {
                here.actions.push(Action::Replied { id, result: Ok(reply) });
            }
            (Purpose::Expired | Purpose::Ping, _) => {}
            (Purpose::Leave { channel }, _) => self.subscriptions.left(&channel, now.mono),
            (Purpose::Join { channel, generation }, Reply::Joined(joined)) => {
                if joined != channel {
                    return self.violation(now, "a subscription to another channel", actions);
                }
                self.subscriptions.joined(channel, generation, here);
            }
            (Purpose::Join { channel, generation }, Reply::Refused(reason)) => {
                self.subscriptions.join_refused(channel, generation, reason, here);
            }
            (Purpose::Read { channel, generation }, Reply::History { channel: read, messages }) => {
                if read != channel {
                    return self.violation(now, "history of another channel", actions);
                }
                if self.subscriptions.page(&channel, generation, messages, here).is_err() {
                    self.violation(now, "history out of order", actions);
                }
            }
            (Purpose::Read { channel, generation }, Reply::Refused(reason)) => {
                self.subscriptions.read_refused(channel, generation, reason, here);
            }
            // The wire's client lets only replies of the right kind through.
            (Purpose::Join { .. } | Purpose::Read { .. }, _) => {}
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
            self.send(now, Purpose::Join { channel, generation }, &command, actions);
        }
    }

    /// Signs of life, subscriptions and readings that are due.
    pub(super) fn keep_up(&mut self, now: Now, actions: &mut Vec<Action>) {
        let State::Up(live) = &mut self.state else { return };
        if live.dead_at(self.requests.oldest()) <= now.mono {
            return self.hang_up(now, DownReason::Silent, actions);
        }
        if live.ping_at() <= now.mono {
            live.pinged_at = now.mono;
            self.send(now, Purpose::Ping, &Command::Ping, actions);
        }
        self.subscribe(now, actions);
        while let Some((channel, since, generation)) = self.subscriptions.next_read(now.mono) {
            let command = Command::ReadSince { channel: channel.clone(), since };
            self.send(now, Purpose::Read { channel, generation }, &command, actions);
        }
    }

    /// The channels that are followed.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelName> {
        self.subscriptions.names()
    }

    /// Whether the server has taken the subscription to a channel since it is followed.
    pub fn has_joined(&self, channel: &ChannelName) -> bool {
        self.subscriptions.has_joined(channel)
    }

    /// The bytes of deliveries that wait for the history.
    #[cfg(test)]
    pub(super) fn buffered(&self) -> usize {
        self.subscriptions.buffered()
    }

    /// Who the session is, while it lives.
    pub fn path(&self) -> Option<&SessionPath> {
        match &self.state {
            State::Up(live) => Some(&live.path),
            _ => None,
        }
    }
}
