//! The client's side of one connection: a version of the wire on one side, commands and events on the other.
//!
//! [`Client::start`] sends the first messages; each binary message of the server goes to [`Client::on_message`]. Once
//! that returns [`Event::Established`], [`Client::request`] sends commands. After [`Event::HandshakeFailed`],
//! [`Event::Ended`] or [`Event::Violation`] the connection must be closed.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::v2::encoding::Encoding;
use super::{v1, v2};
use crate::handshake::{Claim, Established, HandshakeError};
use crate::key::{PublicKey, SecretKey};
use crate::name::{ChannelName, Handle, SessionPath};
use crate::payload::Payload;
use crate::protocol::{Command, End, Reply};
use crate::stream::Notice;

/// With what a client opens a session.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// This machine's key.
    pub key: SecretKey,
    /// The session's handle.
    pub handle: Handle,
    /// Set to register a new user.
    pub claim: Option<Claim>,
}

/// What version 2 needs beyond [`Credentials`].
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// 32 fresh random bytes.
    pub nonce: [u8; 32],
    /// The server's key, if it is known: the handshake fails at any other.
    pub pinned: Option<PublicKey>,
    /// Which of this machine's keys the server knows.
    pub key: KeyUse,
    /// Whether the server keeps positions for the handle.
    pub keep: bool,
}

/// Which of a machine's keys a server knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyUse {
    /// One that is derived for this server ([`SecretKey::at_server`]).
    #[default]
    PerServer,
    /// The machine's own, as version 1 registers it.
    Shared,
}

/// A request's number, unique among the unanswered requests of its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestNumber(pub u64);

/// What a server's message means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The handshake is complete: the session lives.
    Established(Established),
    /// There will be no session.
    HandshakeFailed(HandshakeError),
    /// The answer to a request; a refusal is one.
    Reply {
        /// The request that it answers.
        request: RequestNumber,
        /// The answer, of the kind that the command has.
        reply: Reply,
    },
    /// Someone posted to a channel.
    Delivered {
        /// The channel.
        channel: ChannelName,
        /// Who posted.
        from: SessionPath,
        /// What.
        payload: Payload,
    },
    /// Someone whispered to this session.
    Whispered {
        /// Who whispered.
        from: SessionPath,
        /// What.
        payload: Payload,
    },
    /// Something that version 2 tells unasked.
    Notice(Notice),
    /// The user became or ceased to be an admin of the server.
    Role {
        /// True for an admin.
        admin: bool,
    },
    /// The server ends the session; what is unanswered may have been carried out.
    Ended {
        /// Why, if this program knows the reason.
        end: Option<End>,
        /// The server's text, not to be trusted.
        text: String,
    },
    /// The server broke the protocol.
    Violation(&'static str),
}

/// One connection's client, in the version that was negotiated.
#[derive(Clone, Debug)]
pub enum Client {
    /// Version 1.
    V1(v1::client::Client),
    /// Version 2.
    V2(Box<v2::client::Client>),
}

impl Client {
    /// Begins the handshake of version 1. `send` is called for each message to send, in order.
    pub fn start(credentials: Credentials, send: impl FnMut(Vec<u8>)) -> Self {
        Self::V1(v1::client::Client::start(credentials, send))
    }

    /// Begins the handshake of version 2.
    pub fn start_v2(
        encoding: Encoding,
        credentials: Credentials,
        session: Session,
        send: impl FnMut(Vec<u8>),
    ) -> Self {
        Self::V2(Box::new(v2::client::Client::start(encoding, credentials, session, send)))
    }

    /// Sends a command of an established session. Its answer is an [`Event::Reply`] with this number: at once if the
    /// version has no such command.
    pub fn request(
        &mut self,
        number: RequestNumber,
        command: &Command,
        send: impl FnMut(Vec<u8>),
    ) -> Option<Event> {
        match self {
            Self::V1(client) => client.request(number, command, send),
            Self::V2(client) => client.request(number, command, send),
        }
    }

    /// Takes the server's next message. `None` while there is nothing to say about it.
    pub fn on_message(&mut self, bytes: &[u8], send: impl FnMut(Vec<u8>)) -> Option<Event> {
        match self {
            Self::V1(client) => client.on_message(bytes, send),
            Self::V2(client) => client.on_message(bytes, send),
        }
    }
}
