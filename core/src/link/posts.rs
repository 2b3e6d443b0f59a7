//! Requests of the application in the version that is spoken: posts get an id and a signature, mailboxes are found, history
//! is read by time.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::channels::Channels;
use super::history::Reading;
use super::requests::{Purpose, RequestId};
use super::{Action, Link, State};
use crate::name::ChannelName;
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{Command, Refusal, Reply};
use crate::record::ChannelId;
use crate::sealed::SealedCommand;
use crate::stream::{MailboxRef, MessageId, Signed, StreamCommand, StreamRef};
use crate::time::{Monotonic, Now};
use crate::wire::client::KeyUse;
use crate::wire::v2::signature;

/// A message that is still to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Draft {
    payload: Payload,
    acknowledge: bool,
    lifetime: Option<Duration>,
    /// The id that the application gave.
    id: MessageId,
}

/// The application leaves a message's id to the link.
const UNGIVEN: MessageId = MessageId([0; 16]);

impl Draft {
    fn new(payload: Payload) -> Self {
        Self { payload, acknowledge: false, lifetime: None, id: UNGIVEN }
    }

    /// The command that it came as.
    pub(super) fn command(self, stream: StreamRef) -> Command {
        let Self { payload, acknowledge, lifetime, id } = self;
        let signed = Signed { id, signature: Opaque([0; 64]), acknowledge }.into();
        Command::Stream(StreamCommand::Post { stream, payload, signed, lifetime })
    }
}

/// An application's request, and its deadline.
type Asked = (RequestId, Option<Monotonic>);

impl Link {
    /// Sends a request of the application in the version that is spoken, or keeps it until its channel is joined.
    pub(super) fn put(&mut self, now: Now, asked: Asked, command: Command, actions: &mut Vec<Action>) {
        let (id, deadline) = asked;
        if let Channels::ByContent(_) = &self.channels {
            return self.send(now, Purpose::Application { id, deadline }, &command, actions);
        }
        match command {
            Command::Post { channel, payload } => {
                self.post_to(now, asked, channel, Draft::new(payload), actions);
            }
            Command::Whisper { target, payload } => {
                let mailbox = MailboxRef::Session(Box::new(target));
                self.locate(now, asked, mailbox, Draft::new(payload), actions);
            }
            Command::Stream(StreamCommand::Post { stream, payload, signed, lifetime })
                if !matches!(stream, StreamRef::Number(_)) =>
            {
                let draft = Draft { payload, acknowledge: signed.acknowledge, lifetime, id: signed.id };
                match stream {
                    StreamRef::Channel(channel) => self.post_to(now, asked, channel, draft, actions),
                    StreamRef::Mailbox(mailbox) => self.locate(now, asked, mailbox, draft, actions),
                    StreamRef::Number(_) => {}
                }
            }
            Command::Stream(StreamCommand::Sealed(SealedCommand::Commit {
                stream: StreamRef::Channel(channel),
                body,
                signed,
                group_info,
                welcomes,
            })) => match self.place_of(&channel) {
                Some((number, _)) => {
                    let Some(signed) = self.sign(now, number, &body, &signed) else { return };
                    let stream = StreamRef::Number(number);
                    let commit = SealedCommand::Commit { stream, body, signed, group_info, welcomes };
                    let command = Command::Stream(StreamCommand::Sealed(commit));
                    self.send(now, Purpose::Application { id, deadline }, &command, actions);
                }
                None => {
                    let stream = StreamRef::Channel(channel.clone());
                    let commit = SealedCommand::Commit { stream, body, signed, group_info, welcomes };
                    self.not_yet(asked, channel, Command::Stream(StreamCommand::Sealed(commit)), actions);
                }
            },
            Command::ReadSince { channel, since } => match self.place_of(&channel) {
                Some(place) => {
                    let reading = Reading::new(asked, channel, place, since, self.bookmark);
                    self.read_on(now, reading, actions);
                }
                None => self.not_yet(asked, channel.clone(), Command::ReadSince { channel, since }, actions),
            },
            command => self.send(now, Purpose::Application { id, deadline }, &command, actions),
        }
    }

    fn place_of(&self, channel: &ChannelName) -> Option<(ChannelId, u64)> {
        match &self.channels {
            Channels::ByPosition(streams) => streams.place(channel).flatten(),
            Channels::ByContent(_) => None,
        }
    }

    /// A request about a channel whose stream is not known: it waits if the channel is followed.
    fn not_yet(
        &mut self,
        (id, deadline): Asked,
        channel: ChannelName,
        command: Command,
        actions: &mut Vec<Action>,
    ) {
        let is_followed = match &self.channels {
            Channels::ByPosition(streams) => streams.place(&channel).is_some(),
            Channels::ByContent(_) => false,
        };
        match deadline {
            Some(deadline) if is_followed => self.requests.wait(id, deadline, command),
            _ => {
                let reply = Reply::Refused(Refusal::NotSubscribed(channel));
                actions.push(Action::Replied { id, result: Ok(reply) });
            }
        }
    }

    fn post_to(
        &mut self,
        now: Now,
        asked: Asked,
        channel: ChannelName,
        draft: Draft,
        actions: &mut Vec<Action>,
    ) {
        match self.place_of(&channel) {
            Some((stream, _)) => self.post(now, asked, (StreamRef::Number(stream), stream), draft, actions),
            None => {
                let command = draft.command(StreamRef::Channel(channel.clone()));
                self.not_yet(asked, channel, command, actions);
            }
        }
    }

    /// Asks for a mailbox's number: what is posted there is signed over it.
    fn locate(
        &mut self,
        now: Now,
        (id, deadline): Asked,
        mailbox: MailboxRef,
        draft: Draft,
        actions: &mut Vec<Action>,
    ) {
        let stream = StreamRef::Mailbox(mailbox);
        let command = Command::Stream(StreamCommand::Locate { stream: stream.clone() });
        self.send(now, Purpose::Locate { id, deadline, stream, draft }, &command, actions);
    }

    /// Posts under a new id, which the message keeps however often it is sent. A mailbox is named as the application named
    /// it, since the server hands a whisper to the named session if that speaks version 1; its number is signed.
    pub(super) fn post(
        &mut self,
        now: Now,
        (id, deadline): Asked,
        (stream, number): (StreamRef, ChannelId),
        draft: Draft,
        actions: &mut Vec<Action>,
    ) {
        let Draft { payload, acknowledge, lifetime, id: kept } = draft;
        let payload = Payload::Body(payload.to_body());
        let wanted = Signed { id: kept, signature: Opaque([0; 64]), acknowledge };
        let Some(signed) = self.sign(now, number, &payload, &wanted) else { return };
        let command = Command::Stream(StreamCommand::Post { stream, payload, signed, lifetime });
        self.send(now, Purpose::Application { id, deadline }, &command, actions);
    }

    /// What goes with a message: its id, a fresh one unless the application gave one, and the signature over both.
    fn sign(
        &mut self,
        now: Now,
        stream: ChannelId,
        payload: &Payload,
        wanted: &Signed,
    ) -> Option<Arc<Signed>> {
        let State::Up(live) = &self.state else { return None };
        let (server, newest) = (live.server_key?, self.newest?);
        let key = match newest.key {
            KeyUse::PerServer => &self.key.at_server(&server),
            KeyUse::Shared => &self.key,
        };
        let id = match wanted.id {
            UNGIVEN => self.fresh.message_id(now.wall),
            given => given,
        };
        let signature = Opaque(key.sign(&signature::to_sign(&server, stream, &id, &payload.to_body())));
        Some(Arc::new(Signed { id, signature, acknowledge: wanted.acknowledge }))
    }

    pub(super) fn read_on(&mut self, now: Now, reading: Reading, actions: &mut Vec<Action>) {
        let command = Command::Stream(reading.command());
        self.send(now, Purpose::History(reading), &command, actions);
    }
}
