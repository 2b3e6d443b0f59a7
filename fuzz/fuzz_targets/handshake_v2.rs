//! Version 2's handshake, from either side, in either encoding: whatever the peer sends, nothing but the right signature
//! over everything that was sent proves a key. The first byte chooses encoding and side.

#![no_main]

use std::sync::{Arc, LazyLock};

use conclave_core::key::{self, SecretKey};
use conclave_core::name::Handle;
use conclave_core::wire::client::{Client, Credentials, Event, KeyUse, Session};
use conclave_core::wire::edge::{Edge, Submit};
use conclave_core::wire::v2::edge::Edge as EdgeV2;
use conclave_core::wire::v2::encoding::Encoding;
use conclave_core::wire::v2::handshake::ServerIdentity;
use conclave_core::wire::v2::schema::{self, client_frame, server_frame};
use conclave_core::wire::websocket;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};

mod meter;
mod parts;

static SERVER: LazyLock<Arc<ServerIdentity>> = LazyLock::new(|| {
    Arc::new(ServerIdentity {
        key: SecretKey::from_seed(&[9; 32]),
        name: "fuzzed",
        frame_bytes: 1 << 20,
        posts_per_second: 0,
        post_bytes_per_second: 0,
        retention_ms: 0,
    })
});

/// The transcript, kept a second time, by its description.
#[derive(Default)]
struct Transcript(Sha256);

impl Transcript {
    fn add(&mut self, side: u8, frame: &[u8]) {
        self.0.update([side]);
        self.0.update((frame.len() as u32).to_be_bytes());
        self.0.update(frame);
    }

    fn to_sign(&self, context: &str) -> Vec<u8> {
        [context.as_bytes(), &[0], &self.0.clone().finalize()[..]].concat()
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, input)) = input.split_first() else { return };
    let encoding = if choice % 2 == 0 { Encoding::Protobuf } else { Encoding::Json };
    if choice / 2 % 2 == 0 { server(encoding, input) } else { client(encoding, input) }
});

fn server(encoding: Encoding, mut input: &[u8]) {
    let mut edge = Edge::V2(EdgeV2::new(SERVER.clone(), encoding, [8; 32]));
    let (mut generator, mut transcript) = (parts::Counter::default(), Transcript::default());
    while let Some((kind, content)) = parts::next(&mut input) {
        if !edge.wants_message() {
            break;
        }
        let secret = SecretKey::from_seed(&[kind / 8 % 3 + 1; 32]);
        let text = str::from_utf8(content).unwrap_or("s");
        let signature = secret.sign(&transcript.to_sign("conclave v2 client handshake")).to_vec();
        let frame = match kind % 8 {
            0 | 1 => client_frame::Kind::Hello(schema::Hello {
                features: 1,
                client: text.into(),
                nonce: vec![3; 32].into(),
            }),
            2 | 3 => client_frame::Kind::Identity(schema::Identity {
                machine_key: secret.public().as_bytes().to_vec().into(),
                handle: text.into(),
                claim: (kind >= 128).then(|| schema::Claim { user: text.into(), machine: "m".into(), invite: text.into() }),
                keep: kind >= 64,
            }),
            4 => client_frame::Kind::Proof(schema::Proof { signature: signature.into() }),
            5 => client_frame::Kind::Proof(schema::Proof { signature: content.to_vec().into() }),
            _ => client_frame::Kind::Request(schema::Request::default()),
        };
        let message = if kind % 8 == 7 { content.to_vec() } else { encoding.encode_client(frame) };
        let before = transcript.to_sign("conclave v2 client handshake");
        let mut out = Vec::new();
        let submit = meter::bounded(message.len(), || edge.on_message(&message, &mut generator, &mut out));
        transcript.add(0, &message);
        match submit {
            Ok(Some(Submit::Open(proven))) => {
                let Ok(frame) = encoding.decode_client(&message) else { panic!("proven by no frame") };
                let Some(client_frame::Kind::Proof(proof)) = frame.kind else { panic!("proven by no proof") };
                assert_eq!(key::verify(proven.key.as_bytes(), &before, &proof.signature), Some(proven.key));
                assert!(!edge.wants_message());
            }
            Ok(Some(other)) => panic!("{other:?} before a session"),
            Ok(None) => assert!(edge.is_opening()),
            Err(reason) => {
                edge.farewell(&reason, &mut out);
                assert!(!edge.wants_message() && !edge.is_opening());
            }
        }
        let mut rest = &out[..];
        while let Some(content) = websocket::content(rest) {
            let frame = &rest[content.clone()];
            let kind = encoding.decode_server(frame).expect("a frame").kind;
            use server_frame::Kind::{Challenge, Goodbye, Proof};
            assert!(matches!(kind, Some(Challenge(_) | Proof(_) | Goodbye(_))));
            transcript.add(1, frame);
            rest = &rest[content.end..];
        }
    }
}

fn client(encoding: Encoding, mut input: &[u8]) {
    let credentials = Credentials {
        key: SecretKey::from_seed(&[7; 32]),
        handle: Handle::new("s").expect("a handle"),
        claim: None,
    };
    let pinned = SERVER.key.public();
    let session = Session { nonce: [3; 32], pinned: Some(pinned), key: KeyUse::PerServer, keep: true };
    let mut transcript = Transcript::default();
    let mut client = Client::start_v2(encoding, credentials, session, |frame| transcript.add(0, &frame));
    let mut proven = false;
    while let Some((kind, content)) = parts::next(&mut input) {
        let secret = if kind >= 128 { SecretKey::from_seed(&[6; 32]) } else { SERVER.key.clone() };
        let signature = secret.sign(&transcript.to_sign("conclave v2 server handshake")).to_vec();
        let frame = match kind % 8 {
            0 | 1 => server_frame::Kind::Challenge(schema::Challenge {
                server_key: secret.public().as_bytes().to_vec().into(),
                nonce: vec![8; 32].into(),
                features: u32::from(kind / 8 % 3),
                limits: None,
            }),
            2 | 3 => server_frame::Kind::Proof(schema::Proof { signature: signature.into() }),
            4 => server_frame::Kind::Proof(schema::Proof { signature: content.to_vec().into() }),
            5 => server_frame::Kind::Welcome(schema::Welcome::default()),
            _ => server_frame::Kind::Goodbye(schema::Goodbye::default()),
        };
        let message = if kind % 8 == 7 { content.to_vec() } else { encoding.encode_server(frame) };
        let before = transcript.to_sign("conclave v2 server handshake");
        let mut sent = Vec::new();
        let event = meter::bounded(message.len(), || client.on_message(&message, |frame| sent.push(frame)));
        transcript.add(1, &message);
        if !sent.is_empty() {
            let Ok(frame) = encoding.decode_server(&message) else { panic!("named itself to no frame") };
            let Some(server_frame::Kind::Proof(proof)) = frame.kind else { panic!("named itself unproven") };
            assert_eq!(key::verify(pinned.as_bytes(), &before, &proof.signature), Some(pinned));
            proven = true;
        }
        sent.iter().for_each(|frame| transcript.add(0, frame));
        match event {
            None => {}
            Some(Event::Established(_)) => return assert!(proven, "established with nobody"),
            Some(Event::HandshakeFailed(_) | Event::Violation(_)) => return,
            Some(other) => panic!("{other:?} before a session"),
        }
    }
}
