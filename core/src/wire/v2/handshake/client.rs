//! The client's half of the handshake, as states that consume themselves: [`ClientHandshake`] waits for the server's
//! proof, [`ServerProven`] for the caller's identity (its key may depend on the server's), [`SignedIdentity`] for the
//! signature (the key may live elsewhere), [`Identified`] for the welcome.

use alloc::string::String;
use alloc::vec::Vec;

use super::{CLIENT, FEATURES, SERVER, Side, Transcript};
use crate::handshake::{Claim, HandshakeError};
use crate::key::{self, PublicKey};
use crate::name::Handle;
use crate::protocol::Token;
use crate::wire::v2::convert;
use crate::wire::v2::encoding::Encoding;
use crate::wire::v2::schema::server_frame::Kind;
use crate::wire::v2::schema::{self, client_frame};

/// A handshake that waits for the server's challenge and proof.
#[derive(Clone, Debug)]
pub struct ClientHandshake {
    encoding: Encoding,
    transcript: Transcript,
    challenge: Option<Challenge>,
}

/// What of a challenge is still to be used.
#[derive(Clone, Debug)]
struct Challenge {
    server_key: Vec<u8>,
    limits: ServerLimits,
}

/// What a server accepts of one session. 0 means that there is no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerLimits {
    /// The largest frame, in bytes.
    pub frame_bytes: u32,
    /// Requests that may be unanswered at once.
    pub window: u32,
    /// Posts per second for long.
    pub posts_per_second: u32,
    /// Bytes of posts per second for long.
    pub post_bytes_per_second: u32,
}

/// Who the client is at this server.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The machine's key at this server.
    pub key: PublicKey,
    /// The session's handle.
    pub handle: Handle,
    /// Set to register a new user.
    pub claim: Option<Claim>,
    /// Whether the server shall keep positions for this handle.
    pub keep: bool,
}

/// The server has proven its key: check that it is the one that you expect, then say who you are.
#[derive(Clone, Debug)]
pub struct ServerProven {
    encoding: Encoding,
    transcript: Transcript,
    key: PublicKey,
    limits: ServerLimits,
}

/// The identity is written: sign [`SignedIdentity::to_sign`] with its key.
#[derive(Clone, Debug)]
pub struct SignedIdentity {
    encoding: Encoding,
    to_sign: Vec<u8>,
    identity: Vec<u8>,
}

/// The client's part is done: the next frame is the welcome, or the server's refusal.
#[derive(Clone, Debug)]
pub struct Identified {
    encoding: Encoding,
}

impl ClientHandshake {
    /// Begins; returns the first frame to send, too. `nonce` is 32 fresh random bytes.
    pub fn new(encoding: Encoding, program: &str, nonce: [u8; 32]) -> (Self, Vec<u8>) {
        let hello =
            schema::Hello { features: FEATURES, client: String::from(program), nonce: nonce.to_vec().into() };
        let hello = encoding.encode_client(client_frame::Kind::Hello(hello));
        let mut transcript = Transcript::default();
        transcript.add(Side::Client, &hello);
        (Self { encoding, transcript, challenge: None }, hello)
    }

    /// Takes the server's next frame: `Ok(Err(self))` waits for another.
    ///
    /// # Errors
    /// [`HandshakeError`]: there will be no session.
    pub fn on_frame(mut self, bytes: &[u8]) -> Result<Result<ServerProven, Self>, HandshakeError> {
        let frame = self.encoding.decode_server(bytes).map_err(|_| HandshakeError::Malformed)?;
        match (self.challenge.take(), frame.kind) {
            (None, Some(Kind::Challenge(challenge))) => {
                if challenge.nonce.len() != 32 {
                    return Err(HandshakeError::Challenge(challenge.nonce.len()));
                }
                if challenge.features == 0 || challenge.features > FEATURES {
                    return Err(HandshakeError::Unexpected("feature level"));
                }
                let limits = challenge.limits.unwrap_or_default();
                let limits = ServerLimits {
                    frame_bytes: limits.frame_bytes,
                    window: limits.window,
                    posts_per_second: limits.posts_per_second,
                    post_bytes_per_second: limits.post_bytes_per_second,
                };
                self.transcript.add(Side::Server, bytes);
                self.challenge = Some(Challenge { server_key: challenge.server_key.to_vec(), limits });
                Ok(Err(self))
            }
            (Some(challenge), Some(Kind::Proof(proof))) => {
                let signed = self.transcript.to_sign(SERVER);
                let key = key::verify(&challenge.server_key, &signed, &proof.signature)
                    .ok_or(HandshakeError::ServerNotProven)?;
                self.transcript.add(Side::Server, bytes);
                let Self { encoding, transcript, .. } = self;
                Ok(Ok(ServerProven { encoding, transcript, key, limits: challenge.limits }))
            }
            (_, kind) => Err(unexpected(kind)),
        }
    }
}

impl ServerProven {
    /// The server's key. It is proven: whoever answers holds it. Whether it is the right one is for the caller to say.
    pub fn server_key(&self) -> &PublicKey {
        &self.key
    }

    /// What the server accepts.
    pub fn limits(&self) -> ServerLimits {
        self.limits
    }

    /// Says who the client is.
    pub fn identify(self, identity: Identity) -> SignedIdentity {
        let Identity { key, handle, claim, keep } = identity;
        let claim = claim.map(|Claim { user, machine, invite }| schema::Claim {
            user: user.as_str().into(),
            machine: machine.as_str().into(),
            invite: invite.as_ref().map_or("", Token::expose).into(),
        });
        let identity = schema::Identity {
            machine_key: key.as_bytes().to_vec().into(),
            handle: handle.as_str().into(),
            claim,
            keep,
        };
        let Self { encoding, mut transcript, .. } = self;
        let identity = encoding.encode_client(client_frame::Kind::Identity(identity));
        transcript.add(Side::Client, &identity);
        SignedIdentity { encoding, to_sign: transcript.to_sign(CLIENT), identity }
    }
}

impl SignedIdentity {
    /// What the identity's key must sign.
    pub fn to_sign(&self) -> &[u8] {
        &self.to_sign
    }

    /// Takes the signature; returns the two frames to send.
    pub fn signed(self, signature: [u8; 64]) -> (Identified, [Vec<u8>; 2]) {
        let Self { encoding, identity, .. } = self;
        let proof = schema::Proof { signature: signature.to_vec().into() };
        let proof = encoding.encode_client(client_frame::Kind::Proof(proof));
        (Identified { encoding }, [identity, proof])
    }
}

impl Identified {
    /// Takes the server's answer.
    ///
    /// # Errors
    /// [`HandshakeError`], with the server's reason where it gave one.
    pub fn on_frame(self, bytes: &[u8]) -> Result<schema::Welcome, HandshakeError> {
        let frame = self.encoding.decode_server(bytes).map_err(|_| HandshakeError::Malformed)?;
        match frame.kind {
            Some(Kind::Welcome(welcome)) => Ok(welcome),
            kind => Err(unexpected(kind)),
        }
    }
}

/// A frame that is not the one that was waited for: the server's reason to end, or a breach of the protocol.
fn unexpected(kind: Option<Kind>) -> HandshakeError {
    match kind {
        Some(Kind::Goodbye(goodbye)) => match convert::end(goodbye.reason) {
            Some(end) => HandshakeError::Ended { end, text: goodbye.message },
            None => HandshakeError::Refused(convert::refusal_of_goodbye(&goodbye)),
        },
        Some(Kind::Challenge(_)) => HandshakeError::Unexpected("Challenge"),
        Some(Kind::Proof(_)) => HandshakeError::Unexpected("Proof"),
        Some(Kind::Welcome(_)) => HandshakeError::Unexpected("Welcome"),
        Some(_) => HandshakeError::Unexpected("frame"),
        None => HandshakeError::Malformed,
    }
}
