//! What a load writes and counts, in each version of the wire.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use conclave_core::opaque::Opaque;
use conclave_core::payload::Payload;
use conclave_core::protocol::Command;
use conclave_core::stream::{MessageId, Signed, StreamCommand, StreamRef};
use conclave_core::wire::client::RequestNumber;
use conclave_core::wire::v1::{Frame, Path};
use conclave_core::wire::v2::encoding::Encoding;
use conclave_core::wire::{v1, websocket};
use serde::Serialize;

use super::peer::{ACK, CHANNEL_MSG, ERROR, Peer};

/// A version of the wire, and how it is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Wire {
    /// Version 1
    #[default]
    V1,
    /// Version 2, in protobuf
    V2,
    /// Version 2, in JSON
    V2Json,
}

impl Wire {
    pub(super) fn encoding(self) -> Option<Encoding> {
        match self {
            Self::V1 => None,
            Self::V2 => Some(Encoding::Protobuf),
            Self::V2Json => Some(Encoding::Json),
        }
    }

    pub(super) fn subprotocol(self) -> Option<&'static str> {
        match self {
            Self::V1 => None,
            Self::V2 => Some("conclave.v2"),
            Self::V2Json => Some("conclave.v2.json"),
        }
    }

    /// Appends what a client encoded as a WebSocket message.
    pub(super) fn append(self, out: &mut Vec<u8>, frame: &[u8]) {
        const TEXT: u8 = 0x81;
        let start = out.len();
        websocket::append_masked(out, |out| out.extend_from_slice(frame));
        if self == Self::V2Json {
            out[start] = TEXT;
        }
    }

    /// What a message of the server is.
    pub(super) fn read(self, message: &[u8]) -> Message {
        match self {
            Self::V1 => match message.first() {
                Some(&CHANNEL_MSG) => Message::Deliveries(1),
                Some(&ACK) => Message::Stored,
                Some(&ERROR) => Message::Refused,
                _ => Message::Other,
            },
            Self::V2 => match message {
                [0x2a, ..] => Message::Deliveries(fields(message, 0).map_or(0, deliveries)),
                [0x22, ..] => match fields(message, 0).map(is_error) {
                    Some(false) => Message::Stored,
                    _ => Message::Refused,
                },
                _ => Message::Other,
            },
            Self::V2Json => {
                let words = |word: &'static [u8]| {
                    message.split(|byte| *byte == b'"').filter(move |part| *part == word).count() as u64
                };
                if message.starts_with(b"{\"deliveries\"") {
                    Message::Deliveries(words(b"seq"))
                } else if message.starts_with(b"{\"reply\"") {
                    if words(b"error") > 0 { Message::Refused } else { Message::Stored }
                } else {
                    Message::Other
                }
            }
        }
    }
}

/// What a message of the server is to a load.
pub(super) enum Message {
    Deliveries(u64),
    Stored,
    Refused,
    Other,
}

/// The content of the field at `at` that has a length.
fn fields(message: &[u8], at: usize) -> Option<&[u8]> {
    let (length, from) = varint(message, at + 1)?;
    message.get(from..from + length as usize)
}

fn varint(bytes: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(at)?;
        at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value, at));
        }
    }
    None
}

/// How many messages `Deliveries` holds.
fn deliveries(content: &[u8]) -> u64 {
    let (mut at, mut count) = (0, 0);
    while let Some(tag) = content.get(at) {
        let Some((value, next)) = varint(content, at + 1) else { break };
        // The stream's number has no length.
        let is_message = *tag == 0x12;
        at = if is_message { next + value as usize } else { next };
        count += u64::from(is_message);
    }
    count
}

/// Whether a `Reply`, which begins with its request's number, is an error.
fn is_error(content: &[u8]) -> bool {
    varint(content, 1).and_then(|(_, at)| content.get(at)) == Some(&0x1a)
}

/// When a body that a poster wrote was sent, wherever it stands in a message: its first 16 digits.
pub(super) fn sent_at(message: &[u8], size: usize) -> Option<u64> {
    let mut run = 0;
    let end = message.iter().position(|byte| {
        run = if byte.is_ascii_hexdigit() { run + 1 } else { 0 };
        run == size
    })?;
    let start = end + 1 - size;
    let digits = std::str::from_utf8(message.get(start..start + 16)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

/// Numbers of requests: as many bytes for each in protobuf, as many digits in JSON.
const FIRST_REQUEST: u64 = 1 << 34;
/// What is searched for in a template.
const MARK: [u8; 16] = [0xa5; 16];

/// A post that is encoded once. Version 2's carry a signature of zeros: a server does not check it.
pub(super) struct Template {
    bytes: Vec<u8>,
    stamp_at: usize,
    /// Where the request's number and the message's id stand, by version 2.
    request_at: usize,
    id_at: usize,
    wire: Wire,
    poster: u16,
    sent: u64,
}

impl Template {
    /// A poster's post to a channel, `stream` by version 2.
    pub(super) fn new(peer: &Peer, channel: &str, size: usize, poster: u16) -> Self {
        let (wire, body) = (peer.wire(), "0".repeat(size));
        let mut bytes = Vec::new();
        let Some((mut client, stream)) = peer.session() else {
            let nobody = Path { user: "", machine: "", session: "" };
            let frame = Frame::ChannelMsg { channel, from: nobody, payload: v1::Payload::Plain(&body) };
            websocket::append_masked(&mut bytes, |out| frame.encode(out));
            let stamp_at = bytes.len() - size;
            return Self { bytes, stamp_at, request_at: 0, id_at: 0, wire, poster, sent: 0 };
        };
        let signed = Signed { id: MessageId(MARK), signature: Opaque([0; 64]), acknowledge: false };
        let command = Command::Stream(StreamCommand::Post {
            stream: StreamRef::Number(stream),
            payload: Payload::Plain(body.clone()),
            signed: signed.into(),
            lifetime: None,
        });
        let mut frame = Vec::new();
        client.request(RequestNumber(FIRST_REQUEST), &command, |bytes| frame = bytes);
        wire.append(&mut bytes, &frame);
        let (request, id) = match wire {
            Wire::V2Json => (FIRST_REQUEST.to_string().into_bytes(), STANDARD.encode(MARK).into_bytes()),
            _ => (number(FIRST_REQUEST).to_vec(), MARK.to_vec()),
        };
        let find = |what: &[u8]| bytes.windows(what.len()).position(|window| window == what).unwrap_or(0);
        let (request_at, id_at, stamp_at) = (find(&request), find(&id), find(body.as_bytes()));
        Self { bytes, stamp_at, request_at, id_at, wire, poster, sent: 0 }
    }

    /// Appends another post, sent now.
    pub(super) fn append(&mut self, out: &mut Vec<u8>, now: u64) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let mut put = |at: usize, what: &[u8]| out[start + at..start + at + what.len()].copy_from_slice(what);
        put(self.stamp_at, format!("{now:016x}").as_bytes());
        if self.wire != Wire::V1 {
            let request = FIRST_REQUEST + self.sent;
            // A UUID of version 7 in shape: they grow with time.
            let mut id = [0; 16];
            id[..6].copy_from_slice(&now.to_be_bytes()[2..]);
            id[6..8].copy_from_slice(&[0x70, 0]);
            id[8..10].copy_from_slice(&(0x8000 | self.poster).to_be_bytes());
            id[10..].copy_from_slice(&self.sent.to_be_bytes()[2..]);
            match self.wire {
                Wire::V2Json => {
                    put(self.request_at, request.to_string().as_bytes());
                    put(self.id_at, STANDARD.encode(id).as_bytes());
                }
                _ => {
                    put(self.request_at, &number(request));
                    put(self.id_at, &id);
                }
            }
        }
        self.sent += 1;
    }
}

/// A number of 35 bits as protobuf writes it.
fn number(value: u64) -> [u8; 5] {
    std::array::from_fn(|nth| {
        let bits = (value >> (7 * nth)) as u8 & 0x7f;
        if nth < 4 { bits | 0x80 } else { bits }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use conclave_core::wire::v2::schema::{
        Deliveries, Delivery, Error, Live, Reply, Stored, reply, server_frame,
    };

    #[test]
    fn what_a_server_says_is_counted() {
        let delivery =
            |seq| Delivery { seq, body: b"\n\x03\x12\x01x"[..].to_vec().into(), ..Delivery::default() };
        let deliveries = Deliveries { stream: 300, messages: vec![delivery(1), delivery(400), delivery(3)] };
        let stored = Reply { id: 1 << 34, what: Some(reply::What::Stored(Stored::default())) };
        let error = Reply { id: 1 << 34, what: Some(reply::What::Error(Error::default())) };
        for wire in [Wire::V2, Wire::V2Json] {
            let read = |kind| wire.read(&wire.encoding().unwrap().encode_server(kind));
            assert!(matches!(
                read(server_frame::Kind::Deliveries(deliveries.clone())),
                Message::Deliveries(3)
            ));
            assert!(matches!(read(server_frame::Kind::Reply(stored.clone())), Message::Stored));
            assert!(matches!(read(server_frame::Kind::Reply(error.clone())), Message::Refused));
            assert!(matches!(read(server_frame::Kind::Live(Live::default())), Message::Other));
        }
    }

    #[test]
    fn the_time_of_a_body_is_found() {
        let body = format!("{:016x}{}", 0xabc, "0".repeat(112));
        assert_eq!(sent_at(format!("\"text\":\"{body}\",").as_bytes(), 128), Some(0xabc));
        assert_eq!(sent_at(b"nothing", 128), None);
    }
}
