//! The server's half of the handshake: who is at the other end, proven by a key.
//!
//! It runs on the connection's own task, since a signature costs tens of microseconds; the hub sees only who
//! has been proven.

use alloc::vec::Vec;

use crate::handshake::{Claim, Proven, Terms};
use crate::key;
use crate::name::{Handle, MachineName, UserName};
use crate::protocol::{CloseReason, Refusal};
use crate::wire::v1::{Frame, VERSION};

/// A handshake that waits for the peer's next frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handshake {
    nonce: [u8; 32],
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Hello,
    Proof { session: Handle, claim: Option<(Claim, Vec<u8>)> },
}

/// What a frame led to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The peer must sign the nonce: send the challenge, wait for the next frame.
    Challenge(Handshake),
    /// Nothing to send, wait for the next frame.
    Wait(Handshake),
    /// The peer has proven its key.
    Proven(Proven),
    /// The connection ends.
    Failed(CloseReason),
}

impl Handshake {
    /// A handshake that will have `nonce` signed: 32 fresh random bytes for every connection.
    pub fn new(nonce: [u8; 32]) -> Self {
        Self { nonce, state: State::Hello }
    }

    /// The nonce that the challenge carries.
    pub fn nonce(&self) -> &[u8; 32] {
        &self.nonce
    }

    /// Takes the peer's next frame.
    pub fn on_frame(self, frame: &Frame<'_>) -> Step {
        match (self.state, frame) {
            (State::Hello, Frame::Hello { protocol_version, .. }) if *protocol_version != VERSION => {
                Step::Failed(CloseReason::Version { theirs: *protocol_version })
            }
            (State::Hello, Frame::Hello { session, .. }) => match Handle::new(session) {
                Ok(session) => {
                    Step::Challenge(Self { nonce: self.nonce, state: State::Proof { session, claim: None } })
                }
                Err(why) => refused(why.into()),
            },
            (State::Proof { session, claim: None }, Frame::Register { username, machine, pubkey }) => {
                match (UserName::new(username), MachineName::new(machine)) {
                    // The key is taken as bytes: it is checked with the signature that proves it.
                    (Ok(user), Ok(machine)) if pubkey.len() == 32 => Step::Wait(Self {
                        nonce: self.nonce,
                        state: State::Proof {
                            session,
                            claim: Some((Claim { user, machine, invite: None }, pubkey.to_vec())),
                        },
                    }),
                    (Err(why), _) | (_, Err(why)) => refused(why.into()),
                    _ => refused(Refusal::KeyLength),
                }
            }
            (State::Proof { session, claim }, Frame::Auth { pubkey, signature }) => {
                let Some(key) = key::verify(pubkey, &self.nonce, signature) else {
                    return refused(Refusal::BadSignature);
                };
                match claim {
                    Some((_, registered)) if registered != key.as_bytes() => refused(Refusal::OtherKey),
                    claim => Step::Proven(Proven {
                        key,
                        session,
                        claim: claim.map(|(claim, _)| claim),
                        terms: Terms::default(),
                    }),
                }
            }
            (State::Hello, _) => Step::Failed(CloseReason::Malformed("expected Hello")),
            (State::Proof { claim: None, .. }, _) => {
                Step::Failed(CloseReason::Malformed("expected Auth or Register"))
            }
            (State::Proof { .. }, _) => Step::Failed(CloseReason::Malformed("expected Auth")),
        }
    }
}

fn refused(why: Refusal) -> Step {
    Step::Failed(CloseReason::Refused(why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;
    use proptest::prelude::*;

    const NONCE: [u8; 32] = [9; 32];
    const HELLO: Frame<'_> = Frame::Hello { protocol_version: 1, session: "s" };

    fn challenged() -> Handshake {
        match Handshake::new(NONCE).on_frame(&HELLO) {
            Step::Challenge(next) => next,
            other => panic!("{other:?}"),
        }
    }

    fn secret() -> SecretKey {
        SecretKey::from_seed(&[7; 32])
    }

    fn register<'a>(user: &'a str, pubkey: &'a [u8]) -> Frame<'a> {
        Frame::Register { username: user, machine: "m", pubkey }
    }

    #[test]
    fn an_enrolled_machine_proves_its_key() {
        let public = secret().public();
        let signature = secret().sign(&NONCE);
        let step = challenged().on_frame(&Frame::Auth { pubkey: public.as_bytes(), signature: &signature });
        let session = Handle::new("s").unwrap();
        assert_eq!(step, Step::Proven(Proven { key: public, session, claim: None, terms: Terms::default() }));
    }

    #[test]
    fn a_new_user_proves_the_key_that_it_registers() {
        let public = secret().public();
        let signature = secret().sign(&NONCE);
        let Step::Wait(next) = challenged().on_frame(&register("u", public.as_bytes())) else { panic!() };
        assert!(matches!(
            next.clone().on_frame(&register("u", public.as_bytes())),
            Step::Failed(CloseReason::Malformed("expected Auth"))
        ));
        match next.on_frame(&Frame::Auth { pubkey: public.as_bytes(), signature: &signature }) {
            Step::Proven(Proven { claim: Some(claim), .. }) => assert_eq!(claim.user.as_str(), "u"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn another_key_than_the_registered_one_proves_nothing() {
        let other = SecretKey::from_seed(&[8; 32]);
        let Step::Wait(next) = challenged().on_frame(&register("u", secret().public().as_bytes())) else {
            panic!()
        };
        let signature = other.sign(&NONCE);
        let step = next.on_frame(&Frame::Auth { pubkey: other.public().as_bytes(), signature: &signature });
        assert_eq!(step, Step::Failed(CloseReason::Refused(Refusal::OtherKey)));
    }

    #[test]
    fn another_version_is_told_ours() {
        let step = Handshake::new(NONCE).on_frame(&Frame::Hello { protocol_version: 2, session: "s" });
        assert_eq!(step, Step::Failed(CloseReason::Version { theirs: 2 }));
    }

    #[test]
    fn a_frame_out_of_place_ends_the_handshake() {
        for frame in [Frame::Ping, Frame::Auth { pubkey: &[], signature: &[] }, register("u", &[0; 32])] {
            let step = Handshake::new(NONCE).on_frame(&frame);
            assert_eq!(step, Step::Failed(CloseReason::Malformed("expected Hello")));
        }
        assert!(matches!(challenged().on_frame(&HELLO), Step::Failed(CloseReason::Malformed(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_prove_a_key_without_its_secret(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 0..4),
        ) {
            let mut handshake = Handshake::new(NONCE);
            for bytes in &frames {
                let Ok(frame) = Frame::decode(bytes) else { continue };
                match handshake.on_frame(&frame) {
                    Step::Challenge(next) | Step::Wait(next) => handshake = next,
                    Step::Failed(_) => return Ok(()),
                    Step::Proven(_) => return Err(TestCaseError::fail("proven by chance")),
                }
            }
        }
    }
}
