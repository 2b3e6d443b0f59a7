//! The client's half of the handshake: `Hello`, `Challenge`, `Auth`, `Established`, `ServerInfo`; a new user
//! sends `Register` before `Auth`.
//!
//! [`ClientHandshake::new`] gives the first frame; each frame of the server goes to
//! [`ClientHandshake::on_frame`], which consumes the machine: an error leaves nothing half open behind.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use crate::handshake::{Claim, Established, HandshakeError};
use crate::key::SecretKey;
use crate::name::{Handle, SessionPath};
use crate::wire::v1::client::{self, ServerError};
use crate::wire::v1::{Frame, VERSION};

/// What follows a frame.
#[derive(Clone, Debug)]
pub enum ClientStep {
    /// Send these, each as one message, and hand on the next frame.
    Continue {
        /// The handshake as it goes on.
        handshake: ClientHandshake,
        /// The frames to send, in order; may be empty.
        send: Vec<Vec<u8>>,
    },
    /// The session lives.
    Done(Established),
    /// There will be no session; the connection is to be closed.
    Failed(HandshakeError),
}

/// A handshake under way.
#[derive(Clone, Debug)]
pub struct ClientHandshake(State);

#[derive(Clone, Debug)]
enum State {
    Challenge { key: Box<SecretKey>, claim: Option<Claim> },
    Established,
    ServerInfo { path: SessionPath },
}

impl ClientHandshake {
    /// Begins; returns the first frame to send, too.
    pub fn new(key: SecretKey, handle: &Handle, claim: Option<Claim>) -> (Self, Vec<u8>) {
        let hello = Frame::Hello { protocol_version: VERSION, session: handle.as_str() };
        (Self(State::Challenge { key: Box::new(key), claim }), hello.to_bytes())
    }

    /// Takes the next message of the server.
    pub fn on_frame(self, bytes: &[u8]) -> ClientStep {
        let Ok(frame) = Frame::decode(bytes) else {
            return ClientStep::Failed(HandshakeError::Malformed);
        };
        match (self.0, frame) {
            (_, Frame::Error(error)) => ClientStep::Failed(match client::server_error(error) {
                ServerError::Version { theirs } => HandshakeError::VersionMismatch { ours: VERSION, theirs },
                ServerError::Refused(refusal) => HandshakeError::Refused(refusal),
                ServerError::Ended { end, text } => HandshakeError::Ended { end, text },
            }),
            (State::Challenge { key, claim }, Frame::Challenge { nonce }) => {
                answer(&key, claim.as_ref(), nonce)
            }
            (State::Established, Frame::Established { path }) => ClientStep::Continue {
                handshake: Self(State::ServerInfo { path: client::path(path) }),
                send: Vec::new(),
            },
            (State::ServerInfo { path }, Frame::ServerInfo { admin }) => {
                ClientStep::Done(Established { path, user: None, admin, server_key: None })
            }
            (_, other) => ClientStep::Failed(HandshakeError::Unexpected(other.kind())),
        }
    }
}

fn answer(key: &SecretKey, claim: Option<&Claim>, nonce: &[u8]) -> ClientStep {
    let Ok(nonce) = <&[u8; 32]>::try_from(nonce) else {
        return ClientStep::Failed(HandshakeError::Challenge(nonce.len()));
    };
    let public = key.public();
    let auth = Frame::Auth { pubkey: public.as_bytes(), signature: &key.sign(nonce) }.to_bytes();
    let send = match claim {
        None => vec![auth],
        Some(Claim { user, machine, .. }) => vec![
            Frame::Register { username: user.as_str(), machine: machine.as_str(), pubkey: public.as_bytes() }
                .to_bytes(),
            auth,
        ],
    };
    ClientStep::Continue { handshake: ClientHandshake(State::Established), send }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::verify;
    use crate::name::{MachineName, UserName};
    use crate::protocol::{Code, Refusal};
    use crate::wire::v1::{Path, ProtocolError};
    use alloc::string::{String, ToString as _};
    use proptest::prelude::*;

    const PATH: Path<'static> = Path { user: "aaron", machine: "laptop", session: "dir" };

    fn begin(claim: Option<Claim>) -> ClientHandshake {
        let (handshake, hello) =
            ClientHandshake::new(SecretKey::from_seed(&[7; 32]), &Handle::new("dir").unwrap(), claim);
        assert_eq!(hello, Frame::Hello { protocol_version: 1, session: "dir" }.to_bytes());
        handshake
    }

    fn go_on(handshake: ClientHandshake, frame: &Frame<'_>) -> (ClientHandshake, Vec<Vec<u8>>) {
        match handshake.on_frame(&frame.to_bytes()) {
            ClientStep::Continue { handshake, send } => (handshake, send),
            other => panic!("{other:?}"),
        }
    }

    fn fail(handshake: ClientHandshake, frame: &Frame<'_>) -> HandshakeError {
        match handshake.on_frame(&frame.to_bytes()) {
            ClientStep::Failed(error) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_session_is_established_by_signing_the_challenge() {
        let (handshake, send) = go_on(begin(None), &Frame::Challenge { nonce: &[9; 32] });
        assert_eq!(send.len(), 1);
        let Ok(Frame::Auth { pubkey, signature }) = Frame::decode(&send[0]) else { panic!("Auth") };
        assert!(verify(pubkey, &[9; 32], signature).is_some());
        let (handshake, send) = go_on(handshake, &Frame::Established { path: PATH });
        assert!(send.is_empty());
        match handshake.on_frame(&Frame::ServerInfo { admin: true }.to_bytes()) {
            ClientStep::Done(Established { path, admin: true, .. }) => {
                assert_eq!(path.to_string(), "aaron/laptop/dir")
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_new_user_registers_and_then_proves_the_same_key() {
        let claim = Claim {
            user: UserName::new("aaron").unwrap(),
            machine: MachineName::new("laptop").unwrap(),
            invite: None,
        };
        let (_, send) = go_on(begin(Some(claim)), &Frame::Challenge { nonce: &[9; 32] });
        let Ok(Frame::Register { username: "aaron", machine: "laptop", pubkey: claimed }) =
            Frame::decode(&send[0])
        else {
            panic!("Register")
        };
        let Ok(Frame::Auth { pubkey, .. }) = Frame::decode(&send[1]) else { panic!("Auth") };
        assert_eq!(claimed, pubkey);
    }

    #[test]
    fn each_error_tells_what_happened() {
        let unauthorized = ProtocolError::Unauthorized("unknown key\u{1b}[2J");
        let error = fail(begin(None), &Frame::Error(unauthorized));
        assert_eq!(
            error,
            HandshakeError::Refused(Refusal::Other {
                code: Code::PermissionDenied,
                text: String::from("unknown key\u{1b}[2J")
            })
        );
        assert!(!error.to_string().contains('\u{1b}'), "a peer's text drives no terminal");
        let version = ProtocolError::VersionMismatch { ours: 9, theirs: 1 };
        assert_eq!(
            fail(begin(None), &Frame::Error(version)),
            HandshakeError::VersionMismatch { ours: 1, theirs: 9 }
        );
        for len in [0, 31, 33] {
            let frame = Frame::Challenge { nonce: &[0; 33][..len] };
            assert_eq!(fail(begin(None), &frame), HandshakeError::Challenge(len));
        }
        assert_eq!(
            fail(begin(None), &Frame::Established { path: PATH }),
            HandshakeError::Unexpected("Established")
        );
        let ClientStep::Failed(HandshakeError::Malformed) = begin(None).on_frame(&[255, 255]) else {
            panic!()
        };
    }

    #[test]
    fn a_second_challenge_is_not_signed() {
        let (handshake, _) = go_on(begin(None), &Frame::Challenge { nonce: &[9; 32] });
        let error = fail(handshake, &Frame::Challenge { nonce: &[8; 32] });
        assert_eq!(error, HandshakeError::Unexpected("Challenge"));
    }

    proptest! {
        #[test]
        fn any_bytes_at_any_point_are_answered(
            point in 0..3,
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut handshake = begin(None);
            if point > 0 {
                handshake = go_on(handshake, &Frame::Challenge { nonce: &[9; 32] }).0;
            }
            if point > 1 {
                handshake = go_on(handshake, &Frame::Established { path: PATH }).0;
            }
            let _ = handshake.on_frame(&bytes);
        }
    }
}
