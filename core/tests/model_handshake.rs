//! Every sequence of frames that an honest client or an adversary can send before it is a session, on two
//! connections at once. The adversary has a key of its own and hears all that the honest client signs.

#![allow(clippy::unwrap_used, reason = "a test")]

use conclave_core::handshake::Proven;
use conclave_core::key::SecretKey;
use conclave_core::protocol::CloseReason;
use conclave_core::wire::v1::Frame;
use conclave_core::wire::v1::handshake::{Handshake, Step};
use stateright::{Checker, Model, Property};

const NONCES: [[u8; 32]; 2] = [[1; 32], [2; 32]];
const HONEST: u8 = 7;
const ADVERSARY: u8 = 8;
/// Frames on one connection: one more than the longest handshake has.
const FRAMES: u8 = 4;

fn secret(who: u8) -> SecretKey {
    SecretKey::from_seed(&[who; 32])
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum End {
    Waits(Handshake),
    Proven { proven: Proven, registered: Option<u8> },
    Failed(CloseReason),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Connection {
    end: End,
    frames: u8,
    /// Whose key the peer has announced.
    registered: Option<u8>,
    /// Who has signed this connection's nonce and sent it here.
    proofs: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq)]
enum Sent {
    Hello {
        version: u32,
        session: &'static str,
    },
    Register {
        user: &'static str,
        key: u8,
    },
    /// A claim to be `key`, with what `signer` signed for the connection `nonce`.
    Auth {
        key: u8,
        signer: u8,
        nonce: usize,
    },
    Other,
}

struct Handshakes;

impl Model for Handshakes {
    type State = [Connection; 2];
    type Action = (usize, Sent);

    fn init_states(&self) -> Vec<Self::State> {
        vec![NONCES.map(|nonce| Connection {
            end: End::Waits(Handshake::new(nonce)),
            frames: 0,
            registered: None,
            proofs: Vec::new(),
        })]
    }

    fn actions(&self, state: &Self::State, actions: &mut Vec<Self::Action>) {
        for (at, connection) in state.iter().enumerate() {
            if !matches!(connection.end, End::Waits(_)) || connection.frames == FRAMES {
                continue;
            }
            actions.push((at, Sent::Hello { version: 1, session: "s" }));
            actions.push((at, Sent::Hello { version: 2, session: "s" }));
            actions.push((at, Sent::Hello { version: 1, session: "" }));
            for key in [HONEST, ADVERSARY] {
                actions.push((at, Sent::Register { user: "u", key }));
                for (signer, nonce) in [(HONEST, 0), (HONEST, 1), (ADVERSARY, 0), (ADVERSARY, 1)] {
                    actions.push((at, Sent::Auth { key, signer, nonce }));
                }
            }
            actions.push((at, Sent::Register { user: "a/b", key: HONEST }));
            actions.push((at, Sent::Other));
        }
    }

    fn next_state(&self, state: &Self::State, (at, sent): Self::Action) -> Option<Self::State> {
        let mut state = state.clone();
        let connection = &mut state[at];
        let End::Waits(handshake) = connection.end.clone() else { return None };
        connection.frames += 1;
        let step = match &sent {
            Sent::Hello { version, session } => {
                handshake.on_frame(&Frame::Hello { protocol_version: *version, session })
            }
            Sent::Register { user, key } => {
                connection.registered.get_or_insert(*key);
                let pubkey = secret(*key).public();
                handshake.on_frame(&Frame::Register {
                    username: user,
                    machine: "m",
                    pubkey: pubkey.as_bytes(),
                })
            }
            Sent::Auth { key, signer, nonce } => {
                if key == signer && *nonce == at {
                    connection.proofs.push(*key);
                }
                let (pubkey, signature) = (secret(*key).public(), secret(*signer).sign(&NONCES[*nonce]));
                handshake.on_frame(&Frame::Auth { pubkey: pubkey.as_bytes(), signature: &signature })
            }
            Sent::Other => handshake.on_frame(&Frame::Ping),
        };
        connection.end = match step {
            Step::Challenge(next) | Step::Wait(next) => End::Waits(next),
            Step::Proven(proven) => End::Proven { proven, registered: connection.registered },
            Step::Failed(reason) => End::Failed(reason),
        };
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn any(state: &[Connection; 2], is: impl Fn(&End) -> bool) -> bool {
            state.iter().any(|connection| is(&connection.end))
        }
        vec![
            Property::<Self>::always(
                "a key is proven by its own signature of this connection's nonce",
                |_, state| {
                    state.iter().all(|connection| match &connection.end {
                        End::Proven { proven, .. } => {
                            connection.proofs.iter().any(|who| secret(*who).public() == proven.key)
                        }
                        _ => true,
                    })
                },
            ),
            Property::<Self>::always("who registers proves the key that it registered", |_, state| {
                state.iter().all(|connection| match &connection.end {
                    End::Proven { proven, registered } => {
                        proven.claim.is_some() == registered.is_some()
                            && registered.is_none_or(|who| secret(who).public() == proven.key)
                    }
                    _ => true,
                })
            }),
            Property::<Self>::always("the longest handshake has three frames", |_, state| {
                state
                    .iter()
                    .all(|connection| !matches!(connection.end, End::Waits(_)) || connection.frames < 3)
            }),
            Property::<Self>::sometimes("an enrolled machine is proven", |_, state| {
                any(state, |end| matches!(end, End::Proven { proven, .. } if proven.claim.is_none()))
            }),
            Property::<Self>::sometimes("a new user is proven", |_, state| {
                any(state, |end| matches!(end, End::Proven { proven, .. } if proven.claim.is_some()))
            }),
            Property::<Self>::sometimes("another version is told", |_, state| {
                any(state, |end| matches!(end, End::Failed(CloseReason::Version { theirs: 2 })))
            }),
            Property::<Self>::sometimes("a false proof is refused", |_, state| {
                any(state, |end| matches!(end, End::Failed(CloseReason::Refused(_))))
            }),
            Property::<Self>::sometimes("a frame out of place ends it", |_, state| {
                any(state, |end| matches!(end, End::Failed(CloseReason::Malformed(_))))
            }),
            Property::<Self>::sometimes(
                "the adversary is itself while the honest client is itself",
                |_, state| {
                    let key = |at: usize| match &state[at].end {
                        End::Proven { proven, .. } => Some(proven.key),
                        _ => None,
                    };
                    key(0) == Some(secret(HONEST).public()) && key(1) == Some(secret(ADVERSARY).public())
                },
            ),
        ]
    }
}

#[test]
fn no_frames_in_any_order_prove_what_is_not_so() {
    Handshakes.checker().threads(2).spawn_bfs().join().assert_properties();
}
