//! The handshake of version 2 with somebody in between: an honest client, an honest server with two connections, and an
//! adversary that carries every frame, keeps all that it has heard, and may deliver any of it to anyone, change it, sign
//! with its own keys, or play a server of its own. Every sequence within these bounds.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use conclave_core::handshake::Proven;
use conclave_core::key::{PublicKey, SecretKey};
use conclave_core::name::Handle;
use conclave_core::wire::v2::encoding::Encoding;
use conclave_core::wire::v2::handshake::{
    ClientHandshake, Handshake, Identity, ServerIdentity, ServerProven, Step,
};
use conclave_core::wire::v2::schema::{self, client_frame, server_frame};
use stateright::{Checker, Model, Property};

const ENCODING: Encoding = Encoding::Protobuf;
/// Seeds of keys.
const BANK: u8 = 1;
const EVIL: u8 = 6;
const VICTIM: u8 = 7;
/// Frames that are delivered in one run: an honest handshake has five, and three more open a second connection.
const DELIVERIES: usize = 8;

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn server(seed: u8) -> Arc<ServerIdentity> {
    Arc::new(ServerIdentity {
        key: secret(seed),
        name: "server",
        frame_bytes: 1,
        posts_per_second: 0,
        post_bytes_per_second: 0,
        retention_ms: 0,
    })
}

/// Where an honest end stands. What it has heard is all that decides its state.
#[derive(Clone, Debug)]
enum End<W, P> {
    Waits(W),
    Proven(P),
    Failed,
}

#[derive(Clone, Debug)]
struct State {
    /// The client, which wants to reach the bank and has pinned its key, or has no pin.
    client: End<Option<ClientHandshake>, PublicKey>,
    /// Two connections of the bank.
    bank: [End<Option<Handshake>, Proven>; 2],
    /// The adversary's own server, at its own handshake with the client.
    evil: End<Option<Handshake>, Proven>,
    /// Frames that were sent by somebody: who knows them can send them again.
    heard: BTreeSet<Vec<u8>>,
    /// What each end was delivered, in order: this is what a state is.
    log: Vec<(To, Vec<u8>)>,
    /// The victim signed these frames' transcript for the server with this key.
    signed_for: Option<PublicKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum To {
    Client,
    Bank(usize),
    Evil,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        (self.per_end(), &self.heard) == (other.per_end(), &other.heard)
    }
}

impl Eq for State {}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.per_end(), &self.heard).hash(hasher);
    }
}

impl State {
    /// The order of deliveries to different ends makes no difference.
    fn per_end(&self) -> Vec<Vec<&[u8]>> {
        [To::Client, To::Bank(0), To::Bank(1), To::Evil]
            .map(|end| self.log.iter().filter(|(to, _)| *to == end).map(|(_, frame)| &frame[..]).collect())
            .into()
    }
}

struct World {
    /// Whether the client has pinned the bank's key. If not, it takes whichever key is proven.
    pinned: bool,
}

fn client_frame(kind: client_frame::Kind) -> Vec<u8> {
    ENCODING.encode_client(kind)
}

fn server_frame(kind: server_frame::Kind) -> Vec<u8> {
    ENCODING.encode_server(kind)
}

/// What the adversary makes of what it has heard.
fn forged(heard: &BTreeSet<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut made = Vec::new();
    for frame in heard {
        if let Ok(frame) = ENCODING.decode_server(frame) {
            match frame.kind {
                Some(server_frame::Kind::Challenge(challenge)) => {
                    // Another key, or lower terms.
                    let key = secret(EVIL).public().as_bytes().to_vec().into();
                    made.push(server_frame(server_frame::Kind::Challenge(schema::Challenge {
                        server_key: key,
                        ..challenge.clone()
                    })));
                    made.push(server_frame(server_frame::Kind::Challenge(schema::Challenge {
                        limits: None,
                        ..challenge
                    })));
                }
                // A server's proof, sent back as a client's.
                Some(server_frame::Kind::Proof(proof)) => {
                    made.push(client_frame(client_frame::Kind::Proof(proof)));
                }
                _ => {}
            }
        }
        if let Ok(frame) = ENCODING.decode_client(frame) {
            match frame.kind {
                Some(client_frame::Kind::Hello(hello)) => {
                    let lower = schema::Hello { client: "x".into(), ..hello };
                    made.push(client_frame(client_frame::Kind::Hello(lower)));
                }
                Some(client_frame::Kind::Identity(identity)) => {
                    let other = schema::Identity { handle: "stolen".into(), ..identity.clone() };
                    made.push(client_frame(client_frame::Kind::Identity(other)));
                    let bank = secret(BANK).public().as_bytes().to_vec().into();
                    let reflected = schema::Identity { machine_key: bank, ..identity };
                    made.push(client_frame(client_frame::Kind::Identity(reflected)));
                }
                _ => {}
            }
        }
    }
    made
}

impl Model for World {
    type State = State;
    type Action = (To, Vec<u8>);

    fn init_states(&self) -> Vec<State> {
        let (client, hello) = ClientHandshake::new(ENCODING, "c", [3; 32]);
        let bank = |nonce| End::Waits(Some(Handshake::new(server(BANK), ENCODING, [nonce; 32])));
        vec![State {
            client: End::Waits(Some(client)),
            bank: [bank(4), bank(5)],
            evil: End::Waits(Some(Handshake::new(server(EVIL), ENCODING, [8; 32]))),
            heard: [hello].into(),
            log: Vec::new(),
            signed_for: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Self::Action>) {
        // An end that refused says nothing more and has told nothing: what comes after can be had without it.
        let refused = matches!(state.client, End::Failed)
            || state.bank.iter().chain([&state.evil]).any(|end| matches!(end, End::Failed));
        if refused || state.log.len() >= DELIVERIES {
            return;
        }
        let mut frames = state.heard.clone();
        frames.extend(forged(&state.heard));
        for frame in frames {
            let (is_client, is_server) =
                (ENCODING.decode_client(&frame).is_ok(), ENCODING.decode_server(&frame).is_ok());
            if matches!(state.client, End::Waits(_)) && is_server {
                actions.push((To::Client, frame.clone()));
            }
            for nth in 0..2 {
                if matches!(state.bank[nth], End::Waits(_)) && is_client {
                    actions.push((To::Bank(nth), frame.clone()));
                }
            }
            if matches!(state.evil, End::Waits(_)) && is_client {
                actions.push((To::Evil, frame));
            }
        }
    }

    fn next_state(&self, state: &State, (to, frame): Self::Action) -> Option<State> {
        let mut state = state.clone();
        state.log.push((to, frame.clone()));
        match to {
            To::Client => {
                let End::Waits(client) = &mut state.client else { return None };
                state.client = match client.take()?.on_frame(&frame) {
                    Err(_) => End::Failed,
                    Ok(Err(client)) => End::Waits(Some(client)),
                    Ok(Ok(proven)) => self.identified(proven, &mut state.heard, &mut state.signed_for),
                };
            }
            To::Bank(nth) => {
                let (end, sent) = serve(&mut state.bank[nth], &frame)?;
                state.bank[nth] = end;
                state.heard.extend(sent);
            }
            To::Evil => {
                let (end, sent) = serve(&mut state.evil, &frame)?;
                state.evil = end;
                state.heard.extend(sent);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn at_bank(state: &State, is: impl Fn(&Proven) -> bool) -> bool {
            state.bank.iter().any(|end| matches!(end, End::Proven(proven) if is(proven)))
        }
        vec![
            Property::<Self>::always("who has pinned a key names itself to nobody else", |world, state| {
                !world.pinned || state.signed_for.is_none_or(|key| key == secret(BANK).public())
            }),
            Property::<Self>::always("a key is proven at the bank by who signed for the bank", |_, state| {
                let bank = secret(BANK).public();
                let victim = secret(VICTIM).at_server(&bank).public();
                !at_bank(state, |proven| proven.key != victim || state.signed_for != Some(bank))
            }),
            Property::<Self>::always("what is proven is what the victim said", |_, state| {
                !at_bank(state, |proven| proven.session.as_str() != "s" || !proven.terms.keep)
            }),
            Property::<Self>::always("one signature opens one session", |_, state| {
                state.bank.iter().filter(|end| matches!(end, End::Proven(_))).count() <= 1
            }),
            Property::<Self>::sometimes("the victim is proven at the bank", |_, state| {
                at_bank(state, |_| true)
            }),
            Property::<Self>::sometimes("a forgery is refused", |_, state| {
                matches!(state.client, End::Failed) || state.bank.iter().any(|end| matches!(end, End::Failed))
            }),
            Property::<Self>::sometimes("who has no pin may speak with the adversary", |world, state| {
                world.pinned || matches!(state.evil, End::Proven(_))
            }),
        ]
    }
}

impl World {
    /// The server has proven a key: the client compares it with its pin, then names itself with its key for that server.
    fn identified(
        &self,
        proven: ServerProven,
        heard: &mut BTreeSet<Vec<u8>>,
        signed_for: &mut Option<PublicKey>,
    ) -> End<Option<ClientHandshake>, PublicKey> {
        let found = *proven.server_key();
        if self.pinned && found != secret(BANK).public() {
            return End::Failed;
        }
        let key = secret(VICTIM).at_server(&found);
        let handle = Handle::new("s").unwrap();
        let to_sign = proven.identify(Identity { key: key.public(), handle, claim: None, keep: true });
        let signature = key.sign(to_sign.to_sign());
        heard.extend(to_sign.signed(signature).1);
        *signed_for = Some(found);
        End::Proven(found)
    }
}

type Served = End<Option<Handshake>, Proven>;

fn serve(end: &mut Served, frame: &[u8]) -> Option<(Served, Vec<Vec<u8>>)> {
    let End::Waits(handshake) = end else { return None };
    Some(match handshake.take()?.on_frame(frame) {
        Step::Continue { handshake, send } => (End::Waits(Some(handshake)), send),
        Step::Proven(proven) => (End::Proven(proven), Vec::new()),
        Step::Failed(_) => (End::Failed, Vec::new()),
    })
}

#[test]
fn nobody_in_between_becomes_who_it_is_not() {
    for pinned in [true, false] {
        World { pinned }.checker().threads(2).spawn_bfs().join().assert_properties();
    }
}
