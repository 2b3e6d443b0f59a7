//! The client's side of a connection of version 2.

pub(super) mod decode;
mod encode;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::convert;
use super::encoding::Encoding;
use super::handshake::{ClientHandshake, Identified, Identity};
use super::schema::{self, client_frame, server_frame};
use crate::handshake::{Established, HandshakeError};
use crate::key::PublicKey;
use crate::protocol::{Command, Refusal, Reply};
use crate::record::UserId;
use crate::wire::client::{Credentials, Event, KeyUse, RequestNumber, Session};
use crate::wire::reply_kind::ReplyKind;

/// What this program calls itself.
const PROGRAM: &str = concat!("conclave/", env!("CARGO_PKG_VERSION"));

/// One connection's client. See [`crate::wire::client::Client`] for how to drive it.
#[derive(Clone, Debug)]
pub struct Client {
    encoding: Encoding,
    stage: Stage,
    unanswered: BTreeMap<RequestNumber, ReplyKind>,
}

#[derive(Clone, Debug)]
enum Stage {
    Handshake(Box<(ClientHandshake, Credentials, Session)>),
    Identified(Box<Identified>, PublicKey),
    Established,
    Failed,
}

impl Client {
    /// Begins the handshake.
    pub fn start(
        encoding: Encoding,
        credentials: Credentials,
        session: Session,
        mut send: impl FnMut(Vec<u8>),
    ) -> Self {
        let (handshake, hello) = ClientHandshake::new(encoding, PROGRAM, session.nonce);
        send(hello);
        let stage = Stage::Handshake(Box::new((handshake, credentials, session)));
        Self { encoding, stage, unanswered: BTreeMap::new() }
    }

    /// Sends a command of an established session. `Some` if it is answered without being sent.
    pub fn request(
        &mut self,
        number: RequestNumber,
        command: &Command,
        mut send: impl FnMut(Vec<u8>),
    ) -> Option<Event> {
        let Some(what) = encode::what(command) else {
            let reply = Reply::Refused(Refusal::NeedsOtherVersion { version: 1 });
            return Some(Event::Reply { request: number, reply });
        };
        self.unanswered.insert(number, ReplyKind::of(command));
        let request = schema::Request { id: number.0, what: Some(what) };
        send(self.encoding.encode_client(client_frame::Kind::Request(request)));
        None
    }

    /// Takes the server's next message. `None` while there is nothing to say about it.
    pub fn on_message(&mut self, bytes: &[u8], mut send: impl FnMut(Vec<u8>)) -> Option<Event> {
        match core::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Handshake(opening) => {
                let (handshake, credentials, session) = *opening;
                match handshake.on_frame(bytes) {
                    Ok(Err(handshake)) => {
                        self.stage = Stage::Handshake(Box::new((handshake, credentials, session)));
                        None
                    }
                    Ok(Ok(server)) => {
                        let found = *server.server_key();
                        if let Some(pinned) = session.pinned.filter(|pinned| *pinned != found) {
                            let error = HandshakeError::ServerKeyChanged { pinned, found };
                            return Some(Event::HandshakeFailed(error));
                        }
                        let key = match session.key {
                            KeyUse::PerServer => credentials.key.at_server(&found),
                            KeyUse::Shared => credentials.key,
                        };
                        let identity = server.identify(Identity {
                            key: key.public(),
                            handle: credentials.handle,
                            claim: credentials.claim,
                            keep: session.keep,
                        });
                        let signature = key.sign(identity.to_sign());
                        let (identified, frames) = identity.signed(signature);
                        frames.into_iter().for_each(&mut send);
                        self.stage = Stage::Identified(Box::new(identified), found);
                        None
                    }
                    Err(error) => Some(Event::HandshakeFailed(error)),
                }
            }
            Stage::Identified(identified, server_key) => match identified.on_frame(bytes) {
                Ok(welcome) => {
                    self.stage = Stage::Established;
                    let Some(path) = welcome.you.as_ref().map(decode::path) else {
                        return Some(Event::Violation("a welcome without a name"));
                    };
                    let user = welcome.you.as_ref().and_then(|you| you.user_id.checked_sub(1)).map(UserId);
                    let server_key = Some(server_key);
                    let established = Established { path, user, admin: welcome.server_admin, server_key };
                    Some(Event::Established(established))
                }
                Err(error) => Some(Event::HandshakeFailed(error)),
            },
            Stage::Established => {
                self.stage = Stage::Established;
                let Ok(frame) = self.encoding.decode_server(bytes) else {
                    return Some(Event::Violation("a message that is no frame"));
                };
                // A kind of frame that a newer server added.
                let kind = frame.kind?;
                self.event(kind)
            }
            Stage::Failed => None,
        }
    }

    fn event(&mut self, kind: server_frame::Kind) -> Option<Event> {
        use server_frame::Kind;
        match kind {
            Kind::Reply(reply) => {
                let request = RequestNumber(reply.id);
                let Some(kind) = self.unanswered.remove(&request) else {
                    return Some(Event::Violation("a reply to nothing"));
                };
                match reply.what.and_then(|what| decode::reply(what, kind)) {
                    Some(reply) if kind.fits(&reply) => Some(Event::Reply { request, reply }),
                    _ => Some(Event::Violation("a reply of another kind than the request")),
                }
            }
            Kind::Goodbye(goodbye) => {
                Some(Event::Ended { end: convert::end(goodbye.reason), text: goodbye.message })
            }
            Kind::Challenge(_) | Kind::Proof(_) | Kind::Welcome(_) => {
                Some(Event::Violation("a frame out of place"))
            }
            other => decode::event(other),
        }
    }
}
