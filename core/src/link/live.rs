//! A link while its session lives: replies, deliveries, signs of life, subscriptions.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::channels::Channels;
use super::history::{Next, Reading};
use super::requests::{Purpose, RequestError};
use super::streams::Violation;
use super::{Action, Context, DownReason, Link, State};
use crate::key::PublicKey;
use crate::name::{ChannelName, SessionPath};
use crate::payload::Payload;
use crate::protocol::{Command, Reply};
use crate::stream::{Notice, StreamCommand, StreamReply};
use crate::time::{Monotonic, Now};
use crate::wire::client::{Client, RequestNumber};

const PING_EVERY: Duration = Duration::from_secs(20);
const DEAD_AFTER: Duration = Duration::from_secs(60);
/// After so long a server is asked again that could not tell keys.
const KEYS_WAIT: Duration = Duration::from_secs(1);

/// A live session and its connection.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) client: Box<Client>,
    path: SessionPath,
    /// Proven by version 2.
    pub(super) server_key: Option<PublicKey>,
    up_at: Monotonic,
    heard_at: Monotonic,
    pinged_at: Monotonic,
}

impl Live {
    pub(super) fn new(
        client: Box<Client>,
        path: SessionPath,
        server_key: Option<PublicKey>,
        now: Monotonic,
    ) -> Self {
        Self { client, path, server_key, up_at: now, heard_at: now, pinged_at: now }
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
    /// A delivery of version 1.
    pub(super) fn delivered(
        &mut self,
        now: Now,
        channel: ChannelName,
        from: SessionPath,
        payload: Payload,
        actions: &mut Vec<Action>,
    ) {
        let (State::Up(live), Channels::ByContent(subscriptions)) = (&self.state, &mut self.channels) else {
            return;
        };
        let here = &mut Context { own: &live.path, now, jitter: &mut self.jitter, actions };
        subscriptions.delivered(channel, from, payload, here);
    }

    /// What version 2 tells unasked.
    pub(super) fn notice(&mut self, now: Now, notice: Notice, actions: &mut Vec<Action>) {
        let (State::Up(live), Channels::ByPosition(streams)) = (&self.state, &mut self.channels) else {
            return;
        };
        let mut news = Vec::new();
        let here = &mut Context { own: &live.path, now, jitter: &mut self.jitter, actions: &mut news };
        let taken = match notice {
            Notice::Deliveries { stream, messages } => streams.delivered(stream, messages, here),
            Notice::Live { stream, seq } => streams.live(stream, seq, here),
            Notice::Gap { stream, from, to } => streams.gap(stream, from, to, here),
            Notice::Ended { stream, reason } => {
                streams.ended(stream, reason, here);
                Ok(())
            }
            Notice::Renamed { stream, name } => {
                streams.channel_renamed(stream, name, here);
                Ok(())
            }
            // Nobody behind a link asks for these.
            Notice::MachineAdded(_) | Notice::Draining => Ok(()),
            Notice::PresenceChanged { stream, comings } => {
                here.actions.push(Action::PresenceChanged { stream, comings });
                Ok(())
            }
            Notice::Sealed(notice) => {
                here.actions.push(Action::Sealed(notice));
                Ok(())
            }
            Notice::ReceiptsMoved { stream, readers } => {
                here.actions.push(Action::ReceiptsMoved { stream, readers });
                Ok(())
            }
        };
        self.hand_on(now, news, actions);
        if let Err(Violation(what)) = taken {
            self.violation(now, what, actions);
        }
    }

    /// Hands on what streams have to say, once the senders of its messages are known.
    pub(super) fn hand_on(&mut self, now: Now, news: Vec<Action>, actions: &mut Vec<Action>) {
        let State::Up(live) = &self.state else { return };
        let Some(server) = live.server_key else { return };
        self.senders.pass(news, &server, actions);
        self.ask_for_keys(now, actions);
    }

    /// Asks for the keys that messages wait for.
    pub(super) fn ask_for_keys(&mut self, now: Now, actions: &mut Vec<Action>) {
        if let Some(user) = self.senders.next(now.mono) {
            let command = Command::Stream(StreamCommand::Keys { user });
            self.send(now, Purpose::Keys, &command, actions);
        }
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
        match (purpose, &mut self.channels) {
            (Purpose::Application { id, .. }, _) => {
                here.actions.push(Action::Replied { id, result: Ok(reply) });
            }
            (Purpose::Stream(asked), Channels::ByPosition(streams)) => {
                let answer = match reply {
                    Reply::Stream(reply) => Ok(reply),
                    Reply::Refused(refusal) => Err(refusal),
                    // The wire's client lets only replies of the right kind through.
                    _ => return,
                };
                let subscribed = matches!(answer, Ok(StreamReply::Subscribed { .. }));
                let mut news = Vec::new();
                let here =
                    &mut Context { own: &live.path, now, jitter: &mut self.jitter, actions: &mut news };
                let taken = streams.answered(asked, answer, here);
                self.hand_on(now, news, actions);
                match taken {
                    Err(Violation(what)) => self.violation(now, what, actions),
                    Ok(()) if subscribed => self.send_waiting(now, actions),
                    Ok(()) => {}
                }
            }
            (Purpose::Locate { id, deadline, stream, draft }, _) => match reply {
                Reply::Stream(StreamReply::Located { stream: number, .. }) => {
                    self.post(now, (id, deadline), (stream, number), draft, actions);
                }
                other => actions.push(Action::Replied { id, result: Ok(other) }),
            },
            (Purpose::History(reading), _) => {
                let Reading { id, .. } = reading;
                let answer = match reply {
                    Reply::Stream(StreamReply::Page { messages, .. }) => {
                        match reading.page(messages, &mut self.bookmark) {
                            Ok(Next::Ask(reading)) => return self.read_on(now, reading, actions),
                            Ok(Next::Answer(answer)) => Ok(answer),
                            Err(Violation(what)) => {
                                actions.push(Action::Replied { id, result: Err(RequestError::Interrupted) });
                                return self.violation(now, what, actions);
                            }
                        }
                    }
                    refused => Ok(refused),
                };
                actions.push(Action::Replied { id, result: answer });
            }
            (Purpose::Keys, _) => {
                let told = match reply {
                    Reply::Stream(StreamReply::Keys { user, machines }) => Some((user, machines)),
                    Reply::Refused(refusal) if refusal.may_succeed_later() => {
                        let wait = refusal.retry_after().unwrap_or(KEYS_WAIT).max(Duration::from_millis(1));
                        return self.senders.deferred(now.mono + wait);
                    }
                    _ => None,
                };
                if let Some(server) = live.server_key {
                    self.senders.learnt(told, &server, actions);
                    self.ask_for_keys(now, actions);
                }
            }
            (purpose, Channels::ByContent(subscriptions)) => {
                let read = match (purpose, reply) {
                    (Purpose::Leave { channel }, _) => {
                        subscriptions.left(&channel, now.mono);
                        return;
                    }
                    (Purpose::Join { channel, generation }, Reply::Joined(joined)) if joined == channel => {
                        subscriptions.joined(channel, generation, here);
                        return;
                    }
                    (Purpose::Join { .. }, Reply::Joined(_)) => Err("a subscription to another channel"),
                    (Purpose::Join { channel, generation }, Reply::Refused(reason)) => {
                        subscriptions.join_refused(channel, generation, reason, here);
                        return;
                    }
                    (Purpose::Read { channel, generation }, Reply::History { channel: read, messages })
                        if read == channel =>
                    {
                        let page = subscriptions.page(&channel, generation, messages, here);
                        page.map_err(|_| "history out of order")
                    }
                    (Purpose::Read { .. }, Reply::History { .. }) => Err("history of another channel"),
                    (Purpose::Read { channel, generation }, Reply::Refused(reason)) => {
                        subscriptions.read_refused(channel, generation, reason, here);
                        return;
                    }
                    _ => return,
                };
                if let Err(what) = read {
                    self.violation(now, what, actions);
                }
            }
            _ => {}
        }
    }

    fn violation(&mut self, now: Now, what: &'static str, actions: &mut Vec<Action>) {
        self.hang_up(now, DownReason::Protocol(what), actions);
    }

    /// Follows a channel no more.
    pub(super) fn leave(&mut self, now: Now, channel: ChannelName, actions: &mut Vec<Action>) {
        let up = matches!(self.state, State::Up(_));
        match &mut self.channels {
            Channels::ByContent(subscriptions) => {
                if subscriptions.leave(&channel) && up {
                    let command = Command::Leave { channel: channel.clone() };
                    subscriptions.leaving(channel.clone());
                    self.send(now, Purpose::Leave { channel }, &command, actions);
                }
            }
            Channels::ByPosition(streams) => {
                let mut names = self.senders.forget(&channel);
                names.push(channel);
                let left: Vec<_> = names.iter().filter_map(|name| streams.leave(name)).collect();
                for command in left.into_iter().filter(|_| up) {
                    self.send(now, Purpose::Ping, &Command::Stream(command), actions);
                }
            }
        }
    }

    /// Asks for every subscription that can be asked for, and for what else is due on streams.
    pub(super) fn subscribe(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.channels.tick(now.mono);
        loop {
            let (purpose, command) = match &mut self.channels {
                Channels::ByContent(subscriptions) => {
                    let Some((channel, token, generation)) = subscriptions.next_join(now) else { return };
                    let command = Command::Join { channel: channel.clone(), token };
                    (Purpose::Join { channel, generation }, command)
                }
                Channels::ByPosition(streams) => {
                    let Some((asked, command)) = streams.next(now.mono) else { return };
                    (Purpose::Stream(asked), Command::Stream(command))
                }
            };
            self.send(now, purpose, &command, actions);
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
        if self.senders.deadline().is_some_and(|again| again <= now.mono) {
            self.ask_for_keys(now, actions);
        }
        loop {
            let Channels::ByContent(subscriptions) = &mut self.channels else { return };
            let Some((channel, since, generation)) = subscriptions.next_read(now.mono) else { return };
            let command = Command::ReadSince { channel: channel.clone(), since };
            self.send(now, Purpose::Read { channel, generation }, &command, actions);
        }
    }

    /// The channels that are followed.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelName> {
        self.channels.names().into_iter()
    }

    /// Whether the server has taken the subscription to a channel since it is followed.
    pub fn has_joined(&self, channel: &ChannelName) -> bool {
        self.channels.has_joined(channel)
    }

    /// The bytes of deliveries that wait for the history.
    #[cfg(test)]
    pub(super) fn buffered(&self) -> usize {
        match &self.channels {
            Channels::ByContent(subscriptions) => subscriptions.buffered(),
            Channels::ByPosition(_) => 0,
        }
    }

    /// Who the session is, while it lives.
    pub fn path(&self) -> Option<&SessionPath> {
        match &self.state {
            State::Up(live) => Some(&live.path),
            _ => None,
        }
    }
}
