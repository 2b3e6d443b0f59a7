//! The server's edge of one connection: a version of the wire on one side, the hub's words on the other.

use alloc::sync::Arc;
use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::v2::encoding::Encoding;
use super::v2::handshake::ServerIdentity;
use super::{v1, v2};
use crate::handshake::{Format, Proven};
use crate::hub::{RequestId, SessionInfo};
use crate::name::{ChannelName, SessionPath};
use crate::payload::Payload;
use crate::protocol::{CloseReason, Command, Reply, Token};
use crate::record::{ChannelId, Stamp};
use crate::stream::{Notice, Origin};
use crate::wire::websocket::Kind;

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
    /// Version 2.
    V2(v2::edge::Edge),
}

impl Edge {
    /// The edge of a new connection; `nonce` is 32 fresh random bytes.
    pub fn new(format: Format, server: &Arc<ServerIdentity>, nonce: [u8; 32]) -> Self {
        match format {
            Format::V1 => Self::V1(v1::edge::Edge::new(nonce)),
            Format::V2 => Self::V2(v2::edge::Edge::new(server.clone(), Encoding::Protobuf, nonce)),
            Format::V2Json => Self::V2(v2::edge::Edge::new(server.clone(), Encoding::Json, nonce)),
        }
    }

    /// Which messages carry the peer's frames.
    pub fn kind(&self) -> Kind {
        match self {
            Self::V1(_) => Kind::Binary,
            Self::V2(edge) => edge.encoding().kind(),
        }
    }

    /// Whether the next message may be handed in. If not, the shell does not read.
    pub fn wants_message(&self) -> bool {
        match self {
            Self::V1(edge) => edge.wants_message(),
            Self::V2(edge) => edge.wants_message(),
        }
    }

    /// Whether the handshake is not yet complete.
    pub fn is_opening(&self) -> bool {
        match self {
            Self::V1(edge) => edge.is_opening(),
            Self::V2(edge) => edge.is_opening(),
        }
    }

    /// Takes one message; what must be sent at once is appended to `out` as WebSocket messages.
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
            Self::V2(edge) => edge.on_message(bytes, generator, out),
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
            Self::V2(edge) => {
                edge.on_reply(request, reply, out);
                None
            }
        }
    }

    /// Tells the peer that it is a session.
    pub fn established(&mut self, session: &SessionInfo, out: &mut Vec<u8>) {
        match self {
            Self::V1(edge) => edge.established(&session.path, session.admin, out),
            Self::V2(edge) => edge.established(session, out),
        }
    }

    /// Hands the session a whisper.
    pub fn whisper(&self, from: &SessionPath, target: &SessionPath, payload: &Payload, out: &mut Vec<u8>) {
        match self {
            Self::V1(_) => v1::edge::encode_whisper(from, target, payload, out),
            Self::V2(edge) => edge.whisper(from, payload, out),
        }
    }

    /// Hands the session a notice. Version 1 has none.
    pub fn notify(&self, notice: Notice, out: &mut Vec<u8>) {
        match self {
            Self::V1(_) => {}
            Self::V2(edge) => edge.notify(notice, out),
        }
    }

    /// Tells the peer why its connection ends.
    pub fn farewell(&mut self, reason: &CloseReason, out: &mut Vec<u8>) {
        match self {
            Self::V1(edge) => edge.farewell(reason, out),
            Self::V2(edge) => edge.farewell(reason, out),
        }
    }
}

/// A post as it is delivered.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The channel's name.
    pub channel: &'a ChannelName,
    /// The post's place in the channel.
    pub stamp: Stamp,
    /// Who posted it.
    pub from: &'a Arc<SessionPath>,
    /// What it says.
    pub payload: &'a Payload,
    /// Where it comes from.
    pub origin: &'a Origin,
}

/// Encodes the deliveries of one channel for all sessions of one format.
#[derive(Debug)]
pub enum Encoder {
    /// Version 1.
    V1(Vec<u8>),
    /// Version 2.
    V2(v2::deliver::Encoder),
}

impl Encoder {
    /// An encoder for one channel.
    pub fn new(format: Format, stream: ChannelId) -> Self {
        match format {
            Format::V1 => Self::V1(Vec::new()),
            Format::V2 => Self::V2(v2::deliver::Encoder::new(Encoding::Protobuf, stream)),
            Format::V2Json => Self::V2(v2::deliver::Encoder::new(Encoding::Json, stream)),
        }
    }

    /// Appends a post; says how many bytes there are so far.
    pub fn push(&mut self, delivery: Delivery<'_>) -> usize {
        let Delivery { channel, stamp, from, payload, origin } = delivery;
        match self {
            Self::V1(out) => {
                v1::edge::encode_delivery(channel, from, payload, out);
                out.len()
            }
            Self::V2(encoder) => {
                encoder.push(from, stamp, payload, origin);
                encoder.len()
            }
        }
    }

    /// The WebSocket messages.
    pub fn finish(self) -> Vec<u8> {
        match self {
            Self::V1(out) => out,
            Self::V2(encoder) => encoder.finish(),
        }
    }
}
