//! Whatever a peer sends before it is a session: nothing but the right signature proves a key.

#![no_main]

use conclave_core::key::SecretKey;
use conclave_core::wire::edge::{Edge, Submit};
use conclave_core::wire::v1::{self, Frame};
use libfuzzer_sys::fuzz_target;

mod parts;

const NONCE: [u8; 32] = [9; 32];

fuzz_target!(|input: &[u8]| {
    let mut input = input;
    let mut edge = Edge::V1(v1::edge::Edge::new(NONCE));
    let mut generator = parts::Counter::default();
    let mut signed = None;
    while let Some((kind, content)) = parts::next(&mut input) {
        if !edge.wants_message() {
            break;
        }
        let secret = SecretKey::from_seed(&[kind / 8 % 3 + 1; 32]);
        let public = secret.public();
        let text = std::str::from_utf8(content).unwrap_or("s");
        // A nonce of another connection proves nothing here.
        let nonce = if content.is_empty() { &NONCE[..] } else { content };
        let signature = secret.sign(nonce);
        let mut out = Vec::new();
        let message = match kind % 8 {
            0 | 1 => Frame::Hello { protocol_version: 1, session: text }.to_bytes(),
            2 => Frame::Register { username: text, machine: "m", pubkey: public.as_bytes() }.to_bytes(),
            3 => Frame::Auth { pubkey: public.as_bytes(), signature: &signature }.to_bytes(),
            4 => Frame::Auth { pubkey: public.as_bytes(), signature: content }.to_bytes(),
            5 => Frame::Auth { pubkey: content, signature: &signature }.to_bytes(),
            _ => content.to_vec(),
        };
        if kind % 8 == 3 && nonce == NONCE {
            signed = Some(public);
        }
        match edge.on_message(&message, &mut generator, &mut out) {
            Ok(Some(Submit::Open(proven))) => {
                assert_eq!(signed, Some(proven.key), "proven without a signature");
                assert!(!edge.wants_message());
            }
            Ok(Some(other)) => panic!("{other:?} before a session"),
            Ok(None) => assert!(edge.is_opening()),
            Err(reason) => {
                edge.farewell(&reason, &mut out);
                assert!(!edge.wants_message() && !edge.is_opening());
            }
        }
        parts::frames(&out, |frame| assert!(matches!(frame, Frame::Challenge { .. } | Frame::Error(_))));
    }
});
