//! The server's half of the handshake.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{CLIENT, FEATURES, SERVER, Side, Transcript};
use crate::handshake::{Claim, Proven, Terms};
use crate::key::{self, PublicKey, SecretKey};
use crate::name::{Handle, MachineName, UserName};
use crate::protocol::{CloseReason, Refusal, Token};
use crate::wire::v2::encoding::Encoding;
use crate::wire::v2::schema::client_frame::Kind;
use crate::wire::v2::schema::{self, server_frame};

/// What a server is, and what it accepts: the same for all of its connections.
#[derive(Clone, Debug)]
pub struct ServerIdentity {
    /// The server's key.
    pub key: SecretKey,
    /// Name and version of the server program.
    pub name: &'static str,
    /// The largest frame of an open session, in bytes.
    pub frame_bytes: u32,
    /// Posts per second that one session may send for long; 0 for no limit.
    pub posts_per_second: u32,
    /// Bytes of posts per second that one session may send for long; 0 for no limit.
    pub post_bytes_per_second: u32,
    /// How long messages are kept, in milliseconds; 0 for ever.
    pub retention_ms: i64,
}

/// A handshake that waits for the client's next frame.
#[derive(Clone, Debug)]
pub struct Handshake {
    server: Arc<ServerIdentity>,
    encoding: Encoding,
    transcript: Transcript,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Hello { nonce: [u8; 32] },
    Identity,
    Proof(Box<Proven>),
}

/// What a frame led to.
#[derive(Clone, Debug)]
pub enum Step {
    /// Send these frames, in order, and wait for the next one.
    Continue {
        /// The handshake as it goes on.
        handshake: Handshake,
        /// The encoded frames; may be none.
        send: Vec<Vec<u8>>,
    },
    /// The peer has proven its key.
    Proven(Proven),
    /// The connection ends.
    Failed(CloseReason),
}

impl Handshake {
    /// A handshake on a new connection. `nonce` is 32 fresh random bytes.
    pub fn new(server: Arc<ServerIdentity>, encoding: Encoding, nonce: [u8; 32]) -> Self {
        Self { server, encoding, transcript: Transcript::default(), state: State::Hello { nonce } }
    }

    /// Takes the client's next frame, as it came over the wire.
    pub fn on_frame(mut self, bytes: &[u8]) -> Step {
        let Ok(frame) = self.encoding.decode_client(bytes) else {
            return Step::Failed(CloseReason::Malformed("not a frame that a client sends"));
        };
        // The client's proof does not cover itself.
        let before = self.transcript.clone();
        self.transcript.add(Side::Client, bytes);
        match (self.state, frame.kind) {
            (State::Hello { nonce }, Some(Kind::Hello(hello))) => {
                if hello.nonce.len() != 32 {
                    return malformed("a nonce has 32 bytes");
                }
                if hello.client.len() > 64 {
                    return malformed("a client's name has at most 64 bytes");
                }
                if hello.features == 0 {
                    return malformed("the lowest feature level is 1");
                }
                let Self { server, encoding, mut transcript, .. } = self;
                let challenge = schema::Challenge {
                    server_key: server.key.public().as_bytes().to_vec().into(),
                    nonce: nonce.to_vec().into(),
                    features: hello.features.min(FEATURES),
                    limits: Some(schema::Limits {
                        frame_bytes: server.frame_bytes,
                        window: super::super::edge::WINDOW as u32,
                        posts_per_second: server.posts_per_second,
                        post_bytes_per_second: server.post_bytes_per_second,
                    }),
                };
                let challenge = encoding.encode_server(server_frame::Kind::Challenge(challenge));
                transcript.add(Side::Server, &challenge);
                let signature = server.key.sign(&transcript.to_sign(SERVER));
                let proof = schema::Proof { signature: signature.to_vec().into() };
                let proof = encoding.encode_server(server_frame::Kind::Proof(proof));
                transcript.add(Side::Server, &proof);
                Step::Continue {
                    handshake: Self { server, encoding, transcript, state: State::Identity },
                    send: alloc::vec![challenge, proof],
                }
            }
            (State::Identity, Some(Kind::Identity(identity))) => match proven(&identity, self.encoding) {
                Ok(proven) => {
                    let state = State::Proof(Box::new(proven));
                    Step::Continue { handshake: Self { state, ..self }, send: Vec::new() }
                }
                Err(refusal) => Step::Failed(CloseReason::Refused(refusal)),
            },
            (State::Proof(proven), Some(Kind::Proof(proof))) => {
                let signed = before.to_sign(CLIENT);
                match key::verify(proven.key.as_bytes(), &signed, &proof.signature) {
                    Some(_) => Step::Proven(*proven),
                    None => Step::Failed(CloseReason::Refused(Refusal::BadSignature)),
                }
            }
            (State::Hello { .. }, _) => malformed("expected Hello"),
            (State::Identity, _) => malformed("expected Identity"),
            (State::Proof(_), _) => malformed("expected Proof"),
        }
    }
}

/// What the identity will have proven once its signature is checked.
fn proven(identity: &schema::Identity, encoding: Encoding) -> Result<Proven, Refusal> {
    let claim = match &identity.claim {
        Some(claim) => {
            let invite = Some(&claim.invite).filter(|invite| !invite.is_empty());
            Some(Claim {
                user: UserName::new(&claim.user)?,
                machine: MachineName::new(&claim.machine)?,
                invite: invite.map(|invite| Token::new(invite)),
            })
        }
        None => None,
    };
    Ok(Proven {
        key: PublicKey::new(&identity.machine_key)?,
        session: Handle::new(&identity.handle)?,
        claim,
        terms: Terms { format: encoding.format(), keep: identity.keep },
    })
}

fn malformed(why: &'static str) -> Step {
    Step::Failed(CloseReason::Malformed(why))
}
