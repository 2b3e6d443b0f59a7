//! Deliveries, encoded once for all who receive them, without a type in between: this is the hot path.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::convert;
use super::encoding::Encoding;
use crate::body::{put_bytes, put_message, put_number};
use crate::name::SessionPath;
use crate::payload::Payload;
use crate::protocol::Stamped;
use crate::record::{ChannelId, Stamp};
use crate::stream::Origin;

/// A frame is ended once its deliveries have this many bytes, so that a reader holds no more at once.
const FRAME: usize = 256 << 10;

/// Encodes messages of one stream, in order, into WebSocket messages.
#[derive(Debug)]
pub struct Encoder {
    encoding: Encoding,
    stream: u64,
    /// Whole WebSocket messages.
    out: Vec<u8>,
    /// The deliveries of the frame that is open.
    deliveries: Vec<u8>,
    delivery: Vec<u8>,
    participant: Vec<u8>,
    /// Whose participant it is.
    from: Option<Arc<SessionPath>>,
}

impl Encoder {
    /// An encoder for one stream.
    pub fn new(encoding: Encoding, stream: ChannelId) -> Self {
        Self {
            encoding,
            stream: convert::number(stream.0),
            out: Vec::new(),
            deliveries: Vec::new(),
            delivery: Vec::new(),
            participant: Vec::new(),
            from: None,
        }
    }

    /// Appends a message that was just posted.
    pub fn push(&mut self, from: &Arc<SessionPath>, stamp: Stamp, payload: &Payload, origin: &Origin) {
        if !self.from.as_ref().is_some_and(|last| Arc::ptr_eq(last, from)) {
            self.participant(from, origin);
            self.from = Some(from.clone());
        }
        self.append(stamp.seq, stamp.ts.0, payload, origin);
    }

    /// Appends a message from the store.
    pub fn push_stored(&mut self, message: &Stamped) {
        self.participant(&message.from, &message.origin);
        self.append(message.seq, message.ts.0, &message.payload, &message.origin);
    }

    fn participant(&mut self, path: &SessionPath, origin: &Origin) {
        self.from = None;
        self.participant.clear();
        put_bytes(&mut self.participant, 1, path.user.as_str().as_bytes());
        put_bytes(&mut self.participant, 2, path.machine.as_str().as_bytes());
        put_bytes(&mut self.participant, 3, path.session.as_str().as_bytes());
        if let Some((user, machine)) = origin.sender {
            put_number(&mut self.participant, 4, convert::number(user.0));
            put_number(&mut self.participant, 5, convert::number(machine.0));
        }
    }

    /// The fields of `Delivery`, in the order of their numbers.
    fn append(&mut self, seq: u64, stamp_ms: i64, payload: &Payload, origin: &Origin) {
        let out = &mut self.delivery;
        out.clear();
        put_number(out, 1, seq);
        put_number(out, 2, stamp_ms as u64);
        put_message(out, 3, &self.participant);
        if let Some(signed) = &origin.signed {
            put_bytes(out, 4, &signed.id.0);
        }
        match payload {
            Payload::Body(body) => put_message(out, 5, body),
            other => put_message(out, 5, &other.to_body()),
        }
        if let Some(signed) = &origin.signed {
            put_bytes(out, 6, &signed.signature[..]);
            put_number(out, 7, u64::from(signed.acknowledge));
        }
        if let Some(at) = origin.expires {
            put_number(out, 8, at.0 as u64);
        }
        put_message(&mut self.deliveries, 2, &self.delivery);
        if self.deliveries.len() >= FRAME {
            self.end_frame();
        }
    }

    fn end_frame(&mut self) {
        if self.deliveries.is_empty() {
            return;
        }
        // ServerFrame { deliveries: Deliveries { stream, messages } }
        let mut stream = Vec::with_capacity(12);
        put_number(&mut stream, 1, self.stream);
        let mut head = Vec::with_capacity(16);
        put_message(&mut head, 5, &[]);
        head.pop();
        crate::body::put_varint(&mut head, (stream.len() + self.deliveries.len()) as u64);
        let parts: [&[u8]; 3] = [&head, &stream, &self.deliveries];
        match self.encoding {
            Encoding::Protobuf => self.encoding.send_parts(&parts, &mut self.out),
            Encoding::Json => {
                let frame = self.encoding.of_protobuf(parts.concat());
                self.encoding.send(&frame, &mut self.out);
            }
        }
        self.deliveries.clear();
    }

    /// Bytes so far, about.
    pub fn len(&self) -> usize {
        self.out.len() + self.deliveries.len()
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The WebSocket messages.
    pub fn finish(mut self) -> Vec<u8> {
        self.end_frame();
        self.out
    }
}
