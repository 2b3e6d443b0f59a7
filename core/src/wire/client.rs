//! The client's side of one connection: a version of the wire on one side, commands and events on the other.
//!
//! [`Client::start`] sends the first messages; each binary message of the server goes to [`Client::on_message`]. Once
//! that returns [`Event::Established`], [`Client::request`] sends commands. After [`Event::HandshakeFailed`],
//! [`Event::Ended`] or [`Event::Violation`] the connection must be closed.

use alloc::string::String;
use alloc::vec::Vec;

use super::v1;
use crate::handshake::{Claim, Established, HandshakeError};
use crate::key::SecretKey;
use crate::name::{ChannelName, Handle, SessionPath};
use crate::payload::Payload;
use crate::protocol::{Command, End, Reply};

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
}

impl Client {
    /// Begins the handshake. `send` is called for each binary message to send, in order.
    pub fn start(credentials: Credentials, send: impl FnMut(Vec<u8>)) -> Self {
        Self::V1(v1::client::Client::start(credentials, send))
    }

    /// Sends a command of an established session. Its answer is an [`Event::Reply`] with this number.
    pub fn request(&mut self, number: RequestNumber, command: &Command, send: impl FnMut(Vec<u8>)) {
        match self {
            Self::V1(client) => client.request(number, command, send),
        }
    }

    /// Takes the server's next binary message. `None` while the handshake goes on.
    pub fn on_message(&mut self, bytes: &[u8], send: impl FnMut(Vec<u8>)) -> Option<Event> {
        match self {
            Self::V1(client) => client.on_message(bytes, send),
        }
    }
}
