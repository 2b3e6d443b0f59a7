//! The server's edge of one connection: a version of the wire on one side, the hub's words on the other.

use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::v1;
pub use super::v1::edge::encode_delivery;
use crate::handshake::Proven;
use crate::hub::RequestId;
use crate::name::SessionPath;
use crate::payload::Payload;
use crate::protocol::{CloseReason, Command, Reply, Token};

/// What a message leads to, for the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submit {
    /// The peer is proven and asks to become a session.
    Open(Proven),
    /// The session asks for something.
    Request {
        /// The number that the reply must carry.
        request: RequestId,
        /// What it asks.
        command: Command,
        /// A fresh secret for what needs one.
        token: Option<Token>,
    },
}

/// One connection's edge, in the version that was negotiated.
#[derive(Clone, Debug)]
pub enum Edge {
    /// Version 1.
    V1(v1::edge::Edge),
}

impl Edge {
    /// The edge of a new connection; `nonce` is 32 fresh random bytes.
    pub fn new(nonce: [u8; 32]) -> Self {
        Self::V1(v1::edge::Edge::new(nonce))
    }

    /// Whether the next message may be handed in. If not, the shell does not read.
    pub fn wants_message(&self) -> bool {
        match self {
            Self::V1(edge) => edge.wants_message(),
        }
    }

    /// Whether the handshake is not yet complete.
    pub fn is_opening(&self) -> bool {
        match self {
            Self::V1(edge) => edge.is_opening(),
        }
    }

    /// Takes one binary message; what must be sent at once is appended to `out` as WebSocket messages.
    ///
    /// # Errors
    /// The connection must end: hand the reason to [`Edge::farewell`], then close.
    pub fn on_message(
        &mut self,
        bytes: &[u8],
        generator: &mut impl CryptoRng,
        out: &mut Vec<u8>,
    ) -> Result<Option<Submit>, CloseReason> {
        match self {
            Self::V1(edge) => edge.on_message(bytes, generator, out),
        }
    }

    /// Takes the hub's answer to a request; may lead to the next request, which waited for it.
    pub fn on_reply(
        &mut self,
        request: RequestId,
        reply: Reply,
        generator: &mut impl CryptoRng,
        out: &mut Vec<u8>,
    ) -> Option<Submit> {
        match self {
            Self::V1(edge) => edge.on_reply(request, reply, generator, out),
        }
    }

    /// Tells the peer that it is a session.
    pub fn established(&mut self, path: &SessionPath, admin: bool, out: &mut Vec<u8>) {
        match self {
            Self::V1(edge) => edge.established(path, admin, out),
        }
    }

    /// Hands the session a whisper.
    pub fn whisper(&self, from: &SessionPath, target: &SessionPath, payload: &Payload, out: &mut Vec<u8>) {
        match self {
            Self::V1(_) => v1::edge::encode_whisper(from, target, payload, out),
        }
    }

    /// Tells the peer why its connection ends.
    pub fn farewell(&mut self, reason: &CloseReason, out: &mut Vec<u8>) {
        match self {
            Self::V1(edge) => edge.farewell(reason, out),
        }
    }
}
