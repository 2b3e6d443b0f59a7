//! The two encodings of version 2: protobuf in binary messages, JSON in text messages.

use alloc::vec::Vec;

use prost::Message as _;

use super::json;
use super::schema::{ClientFrame, ServerFrame, client_frame, server_frame};
use crate::handshake::Format;
use crate::wire::websocket::{self, Kind};

/// How frames are encoded on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// The subprotocol `conclave.v2`.
    Protobuf,
    /// The subprotocol `conclave.v2.json`.
    Json,
}

/// Bytes that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed frame")]
pub struct Malformed;

impl Encoding {
    /// How deliveries to such a connection are encoded.
    pub fn format(self) -> Format {
        match self {
            Self::Protobuf => Format::V2,
            Self::Json => Format::V2Json,
        }
    }

    /// Which messages carry frames.
    pub fn kind(self) -> Kind {
        match self {
            Self::Protobuf => Kind::Binary,
            Self::Json => Kind::Text,
        }
    }

    /// Reads a client's frame.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode_client(self, bytes: &[u8]) -> Result<ClientFrame, Malformed> {
        match self {
            Self::Protobuf => ClientFrame::decode(bytes).map_err(|_| Malformed),
            Self::Json => {
                let text = core::str::from_utf8(bytes).map_err(|_| Malformed)?;
                let bytes = json::client_frame_from_json(text).map_err(|_| Malformed)?;
                ClientFrame::decode(&bytes[..]).map_err(|_| Malformed)
            }
        }
    }

    /// Reads a server's frame.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode_server(self, bytes: &[u8]) -> Result<ServerFrame, Malformed> {
        match self {
            Self::Protobuf => ServerFrame::decode(bytes).map_err(|_| Malformed),
            Self::Json => {
                let text = core::str::from_utf8(bytes).map_err(|_| Malformed)?;
                let bytes = json::server_frame_from_json(text).map_err(|_| Malformed)?;
                ServerFrame::decode(&bytes[..]).map_err(|_| Malformed)
            }
        }
    }

    /// Encodes a client's frame.
    pub fn encode_client(self, kind: client_frame::Kind) -> Vec<u8> {
        let bytes = ClientFrame { kind: Some(kind) }.encode_to_vec();
        match self {
            Self::Protobuf => bytes,
            Self::Json => {
                let mut text = Vec::new();
                let written = json::client_frame_to_json(&bytes, &mut text);
                debug_assert!(written.is_ok(), "what prost wrote is protobuf");
                text
            }
        }
    }

    /// Encodes a server's frame.
    pub fn encode_server(self, kind: server_frame::Kind) -> Vec<u8> {
        let bytes = ServerFrame { kind: Some(kind) }.encode_to_vec();
        self.of_protobuf(bytes)
    }

    /// Turns a server's encoded frame into this encoding.
    pub fn of_protobuf(self, bytes: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Protobuf => bytes,
            Self::Json => {
                let mut text = Vec::new();
                let written = json::server_frame_to_json(&bytes, &mut text);
                // Bodies are checked when they are posted: nothing else here comes from a peer.
                debug_assert!(written.is_ok(), "what the server wrote is protobuf");
                text
            }
        }
    }

    /// Appends an encoded frame of the server to `out` as a WebSocket message.
    pub fn send(self, frame: &[u8], out: &mut Vec<u8>) {
        self.send_parts(&[frame], out);
    }

    /// As [`Encoding::send`], for a frame in parts.
    pub fn send_parts(self, parts: &[&[u8]], out: &mut Vec<u8>) {
        websocket::append_parts(self.kind(), parts, out);
    }
}
