//! The server's edge of one connection of version 2.
//!
//! Requests carry numbers, so any may be under way together and each is answered when it is ready. The window bounds how
//! many: while it is full, [`Edge::wants_message`] says no and the shell stops reading.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand_core::CryptoRng;

use super::convert;
use super::deliver::Encoder;
use super::encoding::Encoding;
use super::handshake::{Handshake, ServerIdentity, Step};
use super::schema::client_frame::Kind;
use super::schema::{self, server_frame};
use crate::handshake::MAX_HANDSHAKE_FRAME;
use crate::hub::{RequestId, SessionInfo};
use crate::name::SessionPath;
use crate::payload::Payload;
use crate::protocol::{CloseReason, Command, Refusal, Reply, Token};
use crate::stream::Notice;
use crate::wire::MAX_FRAME;
use crate::wire::edge::Submit;

/// Requests of one connection that may be under way.
pub(super) const WINDOW: usize = 256;
/// Bytes of such requests; one always may.
const WINDOW_BYTES: usize = 1 << 20;
/// A list is cut to fit a frame: it is no larger than what a client accepts.
const MAX_LIST: usize = MAX_FRAME - 4096;

/// One connection's edge.
#[derive(Clone, Debug)]
pub struct Edge {
    encoding: Encoding,
    server: Arc<ServerIdentity>,
    phase: Phase,
    /// Unanswered requests, by the client's numbers.
    under_way: BTreeMap<u64, UnderWay>,
    bytes_under_way: usize,
}

#[derive(Clone, Debug)]
enum Phase {
    Handshake(Handshake),
    Opening,
    Open,
    Ended,
}

#[derive(Clone, Debug)]
struct UnderWay {
    size: usize,
    /// What is answered in the hub's place, once it has answered.
    refusal: Option<Refusal>,
}

impl Edge {
    /// The edge of a new connection; `nonce` is 32 fresh random bytes.
    pub fn new(server: Arc<ServerIdentity>, encoding: Encoding, nonce: [u8; 32]) -> Self {
        let handshake = Handshake::new(server.clone(), encoding, nonce);
        let phase = Phase::Handshake(handshake);
        Self { encoding, server, phase, under_way: BTreeMap::new(), bytes_under_way: 0 }
    }

    /// How frames are encoded.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Whether the next message may be handed in. If not, the shell does not read.
    pub fn wants_message(&self) -> bool {
        match self.phase {
            Phase::Handshake(_) => true,
            Phase::Opening | Phase::Ended => false,
            Phase::Open => self.under_way.len() < WINDOW && self.bytes_under_way < WINDOW_BYTES,
        }
    }

    /// Whether the handshake is not yet complete.
    pub fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Handshake(_) | Phase::Opening)
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
        match core::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Handshake(handshake) => {
                if bytes.len() > MAX_HANDSHAKE_FRAME {
                    return Err(CloseReason::Malformed("frame too large before authentication"));
                }
                match handshake.on_frame(bytes) {
                    Step::Continue { handshake, send } => {
                        for frame in send {
                            self.encoding.send(&frame, out);
                        }
                        self.phase = Phase::Handshake(handshake);
                        Ok(None)
                    }
                    Step::Proven(proven) => {
                        self.phase = Phase::Opening;
                        Ok(Some(Submit::Open(proven)))
                    }
                    Step::Failed(reason) => Err(reason),
                }
            }
            Phase::Open => {
                let frame = self.encoding.decode_client(bytes);
                let frame = frame.map_err(|_| CloseReason::Malformed("not a frame that a client sends"))?;
                let Some(Kind::Request(request)) = frame.kind else {
                    return Err(CloseReason::Malformed("expected Request"));
                };
                if self.under_way.contains_key(&request.id) {
                    return Err(CloseReason::Malformed("two unanswered requests of one number"));
                }
                self.phase = Phase::Open;
                Ok(Some(self.submit(request, bytes.len(), generator)))
            }
            Phase::Opening => Err(CloseReason::Malformed("frame before the session was established")),
            Phase::Ended => Ok(None),
        }
    }

    fn submit(&mut self, request: schema::Request, size: usize, generator: &mut impl CryptoRng) -> Submit {
        let id = request.id;
        // An invalid request goes to the hub as a ping: it shows that the session lives.
        let (command, refusal) = match convert::command(request) {
            Ok(command) => (command, None),
            Err(refusal) => (Command::Ping, Some(refusal)),
        };
        self.bytes_under_way += size;
        self.under_way.insert(id, UnderWay { size, refusal });
        let invites = matches!(&command, Command::Admin(admin) if admin.makes_invite());
        let token = invites.then(|| fresh_token(generator));
        Submit::Request { request: RequestId(id), command, token }
    }

    /// Takes the hub's answer to a request.
    pub fn on_reply(&mut self, request: RequestId, reply: Reply, out: &mut Vec<u8>) {
        let Some(UnderWay { size, refusal }) = self.under_way.remove(&request.0) else { return };
        self.bytes_under_way -= size;
        let mut reply = refusal.map_or(reply, Reply::Refused);
        reply.fit(MAX_LIST);
        let what = convert::reply(reply);
        self.send(server_frame::Kind::Reply(schema::Reply { id: request.0, what: Some(what) }), out);
    }

    /// Tells the peer that it is a session.
    pub fn established(&mut self, session: &SessionInfo, out: &mut Vec<u8>) {
        self.phase = Phase::Open;
        let welcome = schema::Welcome {
            you: Some(convert::participant(&session.path, Some((session.user, session.machine)))),
            reader: session.reader.map_or(0, |reader| convert::number(reader.0)),
            server_admin: session.admin,
            retention_ms: self.server.retention_ms,
            server: self.server.name.into(),
            now_ms: session.now.0,
        };
        self.send(server_frame::Kind::Welcome(welcome), out);
    }

    /// Hands the session a whisper of version 1.
    pub fn whisper(&self, from: &SessionPath, payload: &Payload, out: &mut Vec<u8>) {
        let whisper =
            schema::Whisper { from: Some(convert::participant(from, None)), body: payload.to_body() };
        let what = schema::event::What::Whisper(whisper);
        self.send(server_frame::Kind::Event(schema::Event { what: Some(what) }), out);
    }

    /// Hands the session a notice.
    pub fn notify(&self, notice: Notice, out: &mut Vec<u8>) {
        if let Notice::Deliveries { stream, messages } = &notice {
            let mut encoder = Encoder::new(self.encoding, *stream);
            for message in messages {
                encoder.push_stored(message);
            }
            out.append(&mut encoder.finish());
        } else {
            self.send(convert::notice(notice), out);
        }
    }

    /// Tells the peer why its connection ends.
    pub fn farewell(&mut self, reason: &CloseReason, out: &mut Vec<u8>) {
        self.phase = Phase::Ended;
        self.send(server_frame::Kind::Goodbye(convert::goodbye(reason)), out);
    }

    fn send(&self, kind: server_frame::Kind, out: &mut Vec<u8>) {
        self.encoding.send(&self.encoding.encode_server(kind), out);
    }
}

/// An invite's secret: 24 random bytes as URL-safe base64.
fn fresh_token(generator: &mut impl CryptoRng) -> Token {
    let mut bytes = [0; 24];
    generator.fill_bytes(&mut bytes);
    Token::new(&URL_SAFE_NO_PAD.encode(bytes))
}
