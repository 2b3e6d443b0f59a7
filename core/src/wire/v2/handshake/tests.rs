//! The handshake, and the attacks on it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::handshake::{Claim, Format, HandshakeError, Proven};
use crate::key::{PublicKey, SecretKey};
use crate::name::{Handle, MachineName, UserName};
use crate::protocol::{CloseReason, Refusal};
use crate::wire::v2::encoding::Encoding;
use crate::wire::v2::schema::{self, ClientFrame, ServerFrame, client_frame, server_frame};

fn server(seed: u8) -> Arc<ServerIdentity> {
    Arc::new(ServerIdentity {
        key: SecretKey::from_seed(&[seed; 32]),
        name: "conclave/test",
        frame_bytes: 1 << 20,
        posts_per_second: 100,
        post_bytes_per_second: 0,
        retention_ms: 0,
    })
}

fn machine() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

/// What the user's program says to a server: with the key that belongs to this server.
fn identity(server: &PublicKey) -> (SecretKey, Identity) {
    let key = machine().at_server(server);
    let handle = Handle::new("agent").unwrap();
    let identity = Identity { key: key.public(), handle, claim: None, keep: true };
    (key, identity)
}

fn go_on(step: Step) -> (Handshake, Vec<Vec<u8>>) {
    match step {
        Step::Continue { handshake, send } => (handshake, send),
        other => panic!("{other:?}"),
    }
}

fn proven(step: Step) -> Proven {
    match step {
        Step::Proven(proven) => proven,
        other => panic!("{other:?}"),
    }
}

fn refused(step: &Step) -> bool {
    matches!(step, Step::Failed(CloseReason::Refused(Refusal::BadSignature)))
}

/// A client and a server that have exchanged everything up to the client's identity.
struct Met {
    server: Handshake,
    client: ServerProven,
}

fn meet(encoding: Encoding, at: &Arc<ServerIdentity>, client_nonce: u8, server_nonce: u8) -> Met {
    let (client, hello) = ClientHandshake::new(encoding, "conclave/test", [client_nonce; 32]);
    let server = Handshake::new(at.clone(), encoding, [server_nonce; 32]);
    let (server, send) = go_on(server.on_frame(&hello));
    let [challenge, proof] = &send[..] else { panic!("{send:?}") };
    let client = client.on_frame(challenge).unwrap().unwrap_err();
    let client = client.on_frame(proof).unwrap().unwrap();
    Met { server, client }
}

/// The frames by which a client names itself to whoever has proven `ServerProven`'s key.
fn answer(client: ServerProven) -> [Vec<u8>; 2] {
    let (key, identity) = identity(client.server_key());
    let to_sign = client.identify(identity);
    let signature = key.sign(to_sign.to_sign());
    to_sign.signed(signature).1
}

#[test]
fn both_sides_prove_their_keys_in_either_encoding() {
    for (encoding, format) in [(Encoding::Protobuf, Format::V2), (Encoding::Json, Format::V2Json)] {
        let at = server(1);
        let Met { server, client } = meet(encoding, &at, 3, 4);
        assert_eq!(*client.server_key(), at.key.public());
        assert_eq!(client.limits().posts_per_second, 100);
        let [identity, proof] = answer(client);
        let (server, send) = go_on(server.on_frame(&identity));
        assert!(send.is_empty());
        let proven = proven(server.on_frame(&proof));
        assert_eq!(proven.key, machine().at_server(&at.key.public()).public());
        assert_eq!(
            (proven.session.as_str(), proven.terms.format, proven.terms.keep),
            ("agent", format, true)
        );
    }
}

#[test]
fn a_new_user_claims_names() {
    let Met { server, client } = meet(Encoding::Protobuf, &server(1), 3, 4);
    let (key, mut identity) = identity(client.server_key());
    let (user, machine) = (UserName::new("ann").unwrap(), MachineName::new("m").unwrap());
    identity.claim = Some(Claim { user, machine, invite: None });
    let claim = identity.claim.clone();
    let to_sign = client.identify(identity);
    let signature = key.sign(to_sign.to_sign());
    let (_, [identity, proof]) = to_sign.signed(signature);
    let (server, _) = go_on(server.on_frame(&identity));
    assert_eq!(proven(server.on_frame(&proof)).claim, claim);
}

/// The attack that worked on version 1: a server that the victim contacts passes another server's challenge on.
#[test]
fn a_relayed_handshake_ends_at_the_key_of_the_server_behind() {
    let (evil, bank) = (server(6), server(1));
    // The relay speaks with the bank, and shows the victim the bank's own challenge and proof.
    let (victim, hello) = ClientHandshake::new(Encoding::Protobuf, "conclave/test", [3; 32]);
    let at_bank = Handshake::new(bank.clone(), Encoding::Protobuf, [4; 32]);
    let (_, send) = go_on(at_bank.on_frame(&hello));
    let victim = victim.on_frame(&send[0]).unwrap().unwrap_err();
    let victim = victim.on_frame(&send[1]).unwrap().unwrap();
    // The victim meant to reach `evil`; it sees the bank's key, which is not the one that it pinned.
    assert_ne!(*victim.server_key(), evil.key.public());
    assert_eq!(*victim.server_key(), bank.key.public());
}

/// The relay shows the victim its own key instead, and hands the victim's answer to the bank.
#[test]
fn an_answer_to_one_server_proves_nothing_at_another() {
    let (evil, bank) = (server(6), server(1));
    let Met { client: victim, .. } = meet(Encoding::Protobuf, &evil, 3, 4);
    let [identity, proof] = answer(victim);
    let Met { server: at_bank, .. } = meet(Encoding::Protobuf, &bank, 3, 4);
    let (at_bank, _) = go_on(at_bank.on_frame(&identity));
    assert!(refused(&at_bank.on_frame(&proof)));
    // Even if it were taken: the key is another one at each server.
    let own = |server: &Arc<ServerIdentity>| machine().at_server(&server.key.public()).public();
    assert_ne!(own(&evil), own(&bank));
}

#[test]
fn a_recorded_handshake_cannot_be_replayed() {
    let at = server(1);
    let Met { client, .. } = meet(Encoding::Protobuf, &at, 3, 4);
    let [identity, proof] = answer(client);
    // The same client's frames on a new connection, where the server's nonce is another.
    let Met { server: later, .. } = meet(Encoding::Protobuf, &at, 3, 5);
    let (later, _) = go_on(later.on_frame(&identity));
    assert!(refused(&later.on_frame(&proof)));
}

#[test]
fn a_recorded_server_cannot_be_replayed() {
    let at = server(1);
    let (_, hello) = ClientHandshake::new(Encoding::Protobuf, "conclave/test", [3; 32]);
    let (_, send) = go_on(Handshake::new(at, Encoding::Protobuf, [4; 32]).on_frame(&hello));
    let (client, _) = ClientHandshake::new(Encoding::Protobuf, "conclave/test", [9; 32]);
    let client = client.on_frame(&send[0]).unwrap().unwrap_err();
    assert_eq!(client.on_frame(&send[1]).unwrap_err(), HandshakeError::ServerNotProven);
}

#[test]
fn another_key_in_the_challenge_is_not_proven() {
    let (_, hello) = ClientHandshake::new(Encoding::Protobuf, "conclave/test", [3; 32]);
    let (_, send) = go_on(Handshake::new(server(1), Encoding::Protobuf, [4; 32]).on_frame(&hello));
    let mut frame = ServerFrame::decode(&send[0][..]).unwrap();
    let Some(server_frame::Kind::Challenge(challenge)) = &mut frame.kind else { panic!() };
    challenge.server_key = server(6).key.public().as_bytes().to_vec().into();
    let (client, _) = ClientHandshake::new(Encoding::Protobuf, "conclave/test", [3; 32]);
    let client = client.on_frame(&frame.encode_to_vec()).unwrap().unwrap_err();
    assert_eq!(client.on_frame(&send[1]).unwrap_err(), HandshakeError::ServerNotProven);
}

/// Terms that somebody in between changed are not what the server signed.
#[test]
fn a_lowered_feature_level_is_found_out() {
    let (_, hello) = ClientHandshake::new(Encoding::Protobuf, "conclave/test", [3; 32]);
    let (_, send) = go_on(Handshake::new(server(1), Encoding::Protobuf, [4; 32]).on_frame(&hello));
    let mut frame = ServerFrame::decode(&send[0][..]).unwrap();
    let Some(server_frame::Kind::Challenge(challenge)) = &mut frame.kind else { panic!() };
    challenge.limits = None;
    let (client, _) = ClientHandshake::new(Encoding::Protobuf, "conclave/test", [3; 32]);
    let client = client.on_frame(&frame.encode_to_vec()).unwrap().unwrap_err();
    assert_eq!(client.on_frame(&send[1]).unwrap_err(), HandshakeError::ServerNotProven);
    // And a changed Hello is not what the client's transcript has.
    let mut changed = ClientFrame::decode(&hello[..]).unwrap();
    let Some(client_frame::Kind::Hello(hello)) = &mut changed.kind else { panic!() };
    hello.client = "another program".into();
    let at = Handshake::new(server(1), Encoding::Protobuf, [4; 32]);
    let (_, send) = go_on(at.on_frame(&changed.encode_to_vec()));
    let (client, _) = ClientHandshake::new(Encoding::Protobuf, "conclave/test", [3; 32]);
    let client = client.on_frame(&send[0]).unwrap().unwrap_err();
    assert_eq!(client.on_frame(&send[1]).unwrap_err(), HandshakeError::ServerNotProven);
}

/// A proof is for one side: sent back to where it came from, it proves nothing.
#[test]
fn a_reflected_proof_proves_nothing() {
    let at = server(1);
    let (client, hello) = ClientHandshake::new(Encoding::Protobuf, "conclave/test", [3; 32]);
    let (server, send) = go_on(Handshake::new(at.clone(), Encoding::Protobuf, [4; 32]).on_frame(&hello));
    let client = client.on_frame(&send[0]).unwrap().unwrap_err();
    let client = client.on_frame(&send[1]).unwrap().unwrap();
    // A peer that claims the server's own key, with the server's own signature.
    let handle = Handle::new("agent").unwrap();
    let stolen = Identity { key: at.key.public(), handle, claim: None, keep: false };
    let reflected = ServerFrame::decode(&send[1][..]).unwrap();
    let Some(server_frame::Kind::Proof(proof)) = reflected.kind else { panic!() };
    let signature: [u8; 64] = proof.signature[..].try_into().unwrap();
    let (_, [identity, proof]) = client.identify(stolen).signed(signature);
    let (server, _) = go_on(server.on_frame(&identity));
    assert!(refused(&server.on_frame(&proof)));
}

#[test]
fn a_changed_identity_is_not_what_was_signed() {
    for change in [
        |identity: &mut schema::Identity| identity.handle = "another".into(),
        |identity: &mut schema::Identity| identity.keep = false,
        |identity: &mut schema::Identity| {
            identity.claim =
                Some(schema::Claim { user: "u".into(), machine: "m".into(), invite: "i".into() });
        },
        |identity: &mut schema::Identity| {
            identity.machine_key = SecretKey::from_seed(&[8; 32]).public().as_bytes().to_vec().into();
        },
    ] {
        let Met { server, client } = meet(Encoding::Protobuf, &server(1), 3, 4);
        let [identity, proof] = answer(client);
        let mut frame = ClientFrame::decode(&identity[..]).unwrap();
        let Some(client_frame::Kind::Identity(identity)) = &mut frame.kind else { panic!() };
        change(identity);
        let (server, _) = go_on(server.on_frame(&frame.encode_to_vec()));
        assert!(refused(&server.on_frame(&proof)));
    }
}

#[test]
fn frames_out_of_place_end_the_handshake() {
    let encode = |kind| ClientFrame { kind: Some(kind) }.encode_to_vec();
    let proof = encode(client_frame::Kind::Proof(schema::Proof { signature: [0; 64].to_vec().into() }));
    let request = encode(client_frame::Kind::Request(schema::Request::default()));
    let start = || Handshake::new(server(1), Encoding::Protobuf, [4; 32]);
    for frame in [&proof, &request, &Vec::new(), &alloc::vec![0xff]] {
        assert!(matches!(start().on_frame(frame), Step::Failed(CloseReason::Malformed(_))));
        let Met { server, .. } = meet(Encoding::Protobuf, &server(1), 3, 4);
        assert!(matches!(server.on_frame(frame), Step::Failed(CloseReason::Malformed(_))));
    }
}

#[test]
fn a_client_names_itself_in_64_bytes() {
    for (length, is_taken) in [(0, true), (64, true), (65, false)] {
        let nonce = [3; 32].to_vec().into();
        let hello = schema::Hello { features: 1, client: "x".repeat(length), nonce };
        let frame = ClientFrame { kind: Some(client_frame::Kind::Hello(hello)) }.encode_to_vec();
        let step = Handshake::new(server(1), Encoding::Protobuf, [4; 32]).on_frame(&frame);
        assert_eq!(matches!(step, Step::Continue { .. }), is_taken, "{length}");
    }
}

proptest! {
    #[test]
    fn no_frames_prove_a_key_without_its_secret(
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..4),
        json in any::<bool>(),
    ) {
        let encoding = if json { Encoding::Json } else { Encoding::Protobuf };
        let Met { server, .. } = meet(encoding, &server(1), 3, 4);
        let mut handshake = server;
        for frame in &frames {
            match handshake.on_frame(frame) {
                Step::Continue { handshake: next, .. } => handshake = next,
                Step::Failed(_) => return Ok(()),
                Step::Proven(_) => return Err(TestCaseError::fail("proven by chance")),
            }
        }
    }

    /// Whatever single bit of the conversation somebody in between flips, no session comes of it.
    #[test]
    fn a_flipped_bit_anywhere_ends_the_handshake(frame in 0..5usize, bit in any::<prop::sample::Index>()) {
        let mut count = 0;
        let mut pass = |mut bytes: Vec<u8>| {
            if count == frame {
                let at = bit.index(bytes.len() * 8);
                bytes[at / 8] ^= 1 << (at % 8);
            }
            count += 1;
            bytes
        };
        let (client, hello) = ClientHandshake::new(Encoding::Protobuf, "conclave/test", [3; 32]);
        let server = Handshake::new(server(1), Encoding::Protobuf, [4; 32]);
        let Step::Continue { handshake: server, send } = server.on_frame(&pass(hello)) else { return Ok(()) };
        let Ok(Err(client)) = client.on_frame(&pass(send[0].clone())) else { return Ok(()) };
        let Ok(Ok(client)) = client.on_frame(&pass(send[1].clone())) else { return Ok(()) };
        let [identity, proof] = answer(client);
        let Step::Continue { handshake: server, .. } = server.on_frame(&pass(identity)) else { return Ok(()) };
        prop_assert!(!matches!(server.on_frame(&pass(proof)), Step::Proven(_)));
    }
}
