//! The client's side of a connection in version 1.
//!
//! A reply names no request: the server answers in the order of the requests. An error refuses the oldest unanswered
//! request or ends the session; only its text tells which.

use alloc::collections::VecDeque;
use alloc::string::ToString as _;
use alloc::vec::Vec;

use super::{ServerError, ServerEvent, encode_command, server_event};
use crate::protocol::{Command, Refusal, Reply};
use crate::wire::client::{Credentials, Event, RequestNumber};
use crate::wire::reply_kind::ReplyKind;
use crate::wire::v1::Frame;
use crate::wire::v1::handshake::{ClientHandshake, ClientStep};

/// One connection's client. See [`crate::wire::client::Client`] for how to drive it.
#[derive(Clone, Debug)]
pub struct Client {
    stage: Stage,
    /// The oldest first.
    unanswered: VecDeque<(RequestNumber, ReplyKind)>,
}

#[derive(Clone, Debug)]
enum Stage {
    Handshake(ClientHandshake),
    Established,
    Failed,
}

impl Client {
    /// Begins the handshake.
    pub fn start(credentials: Credentials, mut send: impl FnMut(Vec<u8>)) -> Self {
        let Credentials { key, handle, claim } = credentials;
        let (handshake, hello) = ClientHandshake::new(key, &handle, claim);
        send(hello);
        Self { stage: Stage::Handshake(handshake), unanswered: VecDeque::new() }
    }

    /// Sends a command of an established session.
    pub fn request(
        &mut self,
        number: RequestNumber,
        command: &Command,
        mut send: impl FnMut(Vec<u8>),
    ) -> Option<Event> {
        let mut frame = Vec::new();
        if encode_command(command, &mut frame).is_err() {
            let reply = Reply::Refused(Refusal::NeedsOtherVersion { version: 2 });
            return Some(Event::Reply { request: number, reply });
        }
        self.unanswered.push_back((number, ReplyKind::of(command)));
        send(frame);
        None
    }

    /// Takes the server's next message.
    pub fn on_message(&mut self, bytes: &[u8], mut send: impl FnMut(Vec<u8>)) -> Option<Event> {
        match core::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Handshake(handshake) => match handshake.on_frame(bytes) {
                ClientStep::Continue { handshake, send: frames } => {
                    self.stage = Stage::Handshake(handshake);
                    frames.into_iter().for_each(&mut send);
                    None
                }
                ClientStep::Done(established) => {
                    self.stage = Stage::Established;
                    Some(Event::Established(established))
                }
                ClientStep::Failed(error) => Some(Event::HandshakeFailed(error)),
            },
            Stage::Established => {
                self.stage = Stage::Established;
                Some(self.event(bytes))
            }
            Stage::Failed => None,
        }
    }

    fn event(&mut self, bytes: &[u8]) -> Event {
        let Ok(frame) = Frame::decode(bytes) else {
            return Event::Violation("a message that is no frame");
        };
        match server_event(frame) {
            Err(_) => Event::Violation("a frame out of place"),
            Ok(ServerEvent::Delivered { channel, from, payload }) => {
                Event::Delivered { channel, from, payload }
            }
            Ok(ServerEvent::Whispered { from, payload, .. }) => Event::Whispered { from, payload },
            Ok(ServerEvent::Role { admin }) => Event::Role { admin },
            Ok(ServerEvent::Reply(reply)) => self.reply(reply),
            Ok(ServerEvent::Error(ServerError::Version { .. })) => {
                Event::Violation("a mismatch of versions in a live session")
            }
            Ok(ServerEvent::Error(ServerError::Ended { end, text })) => Event::Ended { end: Some(end), text },
            Ok(ServerEvent::Error(ServerError::Refused(refusal))) => self.refused(refusal),
        }
    }

    /// A refusal answers the oldest request; without one, it is an end that this program does not know.
    fn refused(&mut self, refusal: Refusal) -> Event {
        if self.unanswered.is_empty() {
            return Event::Ended { end: None, text: refusal.to_string() };
        }
        self.reply(Reply::Refused(refusal))
    }

    fn reply(&mut self, reply: Reply) -> Event {
        match self.unanswered.pop_front() {
            None => Event::Violation("a reply to nothing"),
            Some((_, kind)) if !kind.fits(&reply) => {
                Event::Violation("a reply of another kind than the request")
            }
            Some((request, _)) => Event::Reply { request, reply },
        }
    }
}
