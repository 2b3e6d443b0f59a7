//! A server that lies about messages, and a reader that has pinned its senders' keys: whatever the server invents, alters
//! or says of somebody else, nothing is shown as signed but what its sender signed, for this stream of this server.
//!
//! A signature says nothing about a message's place and time. A server can leave messages out, put them in another order,
//! and leave signatures out: such a message is shown as unsigned.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use conclave_core::body;
use conclave_core::key::{PublicKey, SecretKey};
use conclave_core::record::ChannelId;
use conclave_core::stream::MessageId;
use conclave_core::wire::v2::encoding::Encoding;
use conclave_core::wire::v2::schema::{Deliveries, Delivery, Participant, server_frame};
use conclave_core::wire::v2::signature;
use proptest::prelude::*;

/// A delivery as a reader shows it; see docs/protocol-v2.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Signed,
    Unsigned,
    Forged,
    Unknown,
}

/// A reader of one server, with the keys that it pinned, by the machines' numbers.
struct Reader {
    server: PublicKey,
    pins: BTreeMap<u64, (String, String, PublicKey)>,
}

impl Reader {
    /// The server tells of a machine. What is pinned stays: another key or owner for it is a forgery.
    fn told(&mut self, number: u64, user: &str, machine: &str, key: PublicKey) -> bool {
        let told = (user.to_owned(), machine.to_owned(), key);
        *self.pins.entry(number).or_insert(told.clone()) == told
    }

    fn shows(&self, stream: u64, delivery: &Delivery) -> Shown {
        let from = delivery.from.clone().unwrap_or_default();
        if delivery.signature.is_empty() {
            return Shown::Unsigned;
        }
        let Some((user, machine, key)) = self.pins.get(&from.machine_id) else { return Shown::Unknown };
        let Some(stream) = stream.checked_sub(1) else { return Shown::Forged };
        let Ok(id) = <[u8; 16]>::try_from(&delivery.message_id[..]) else { return Shown::Forged };
        let holds = signature::verify(
            key,
            &self.server,
            ChannelId(stream),
            &MessageId(id),
            &delivery.body,
            &delivery.signature,
        );
        if holds && (user, machine) == (&from.user, &from.machine) { Shown::Signed } else { Shown::Forged }
    }
}

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn server() -> PublicKey {
    secret(1).public()
}

/// The machines' users, by their numbers.
const USERS: [&str; 3] = ["ann", "bob", "cid"];

fn participant(nth: usize) -> Participant {
    Participant {
        user: USERS[nth].into(),
        machine: "m".into(),
        handle: "s".into(),
        user_id: nth as u64 + 1,
        machine_id: nth as u64 + 1,
    }
}

/// What a user honestly posted to a stream of a server.
fn posted(nth: usize, server: &PublicKey, stream: u64, id: u8, text: &str) -> Delivery {
    let (id, body) = (MessageId([id; 16]), body::of_text(text));
    let signed = signature::to_sign(server, ChannelId(stream - 1), &id, &body);
    Delivery {
        expires_ms: 0,
        seq: 1,
        stamp_ms: 1,
        from: Some(participant(nth)),
        message_id: id.0.to_vec().into(),
        body,
        signature: secret(nth as u8 + 10).sign(&signed).to_vec().into(),
        acknowledge: false,
    }
}

fn reader() -> Reader {
    let mut reader = Reader { server: server(), pins: BTreeMap::new() };
    for (nth, user) in USERS.into_iter().enumerate() {
        assert!(reader.told(nth as u64 + 1, user, "m", secret(nth as u8 + 10).public()));
    }
    reader
}

#[test]
fn what_was_posted_is_shown_as_signed_by_whoever_posted_it() {
    let reader = reader();
    for nth in 0..USERS.len() {
        assert_eq!(reader.shows(3, &posted(nth, &server(), 3, 1, "hello")), Shown::Signed);
    }
}

#[test]
fn each_lie_is_found_out() {
    let reader = reader();
    let honest = posted(0, &server(), 3, 1, "pay ann");
    let with = |change: &dyn Fn(&mut Delivery)| {
        let mut lie = honest.clone();
        change(&mut lie);
        reader.shows(3, &lie)
    };
    assert_eq!(with(&|it| it.body = body::of_text("pay bob")), Shown::Forged, "altered");
    assert_eq!(with(&|it| it.from = Some(participant(1))), Shown::Forged, "misattributed to another machine");
    assert_eq!(
        with(&|it| it.from.as_mut().unwrap().user = "bob".into()),
        Shown::Forged,
        "under another name"
    );
    assert_eq!(
        with(&|it| it.from.as_mut().unwrap().machine = "n".into()),
        Shown::Forged,
        "another machine's name"
    );
    assert_eq!(
        with(&|it| it.message_id = vec![2; 16].into()),
        Shown::Forged,
        "posted twice, under another id"
    );
    assert_eq!(with(&|it| it.message_id = vec![1; 15].into()), Shown::Forged, "without a whole id");
    assert_eq!(with(&|it| it.signature = vec![0; 64].into()), Shown::Forged, "invented");
    assert_eq!(with(&|it| it.signature = it.signature.slice(..63)), Shown::Forged, "cut");
    assert_eq!(
        with(&|it| it.from.as_mut().unwrap().machine_id = 9),
        Shown::Unknown,
        "from nobody who is known"
    );
    assert_eq!(with(&|it| it.signature = Vec::new().into()), Shown::Unsigned, "it is nobody's word");
    assert_eq!(reader.shows(4, &honest), Shown::Forged, "shown in another stream");
    let elsewhere = posted(0, &secret(2).public(), 3, 1, "pay ann");
    assert_eq!(reader.shows(3, &elsewhere), Shown::Forged, "posted on another server");
    let own = posted(0, &server(), 3, 1, "pay ann");
    let other = posted(1, &server(), 3, 1, "pay ann");
    assert_ne!(own.signature, other.signature, "the same words of another");
}

#[test]
fn a_key_that_is_put_in_the_place_of_a_pinned_one_is_found_out() {
    let mut reader = reader();
    // The server's own key for ann's machine, and a message that it signed with that.
    assert!(!reader.told(1, "ann", "m", secret(99).public()));
    assert!(!reader.told(1, "bob", "m", secret(10).public()), "another owner");
    let mut forged = posted(0, &server(), 3, 1, "pay bob");
    let signed = signature::to_sign(&server(), ChannelId(2), &MessageId([1; 16]), &forged.body);
    forged.signature = secret(99).sign(&signed).to_vec().into();
    assert_eq!(reader.shows(3, &forged), Shown::Forged);
    // A new machine is a new number: what it signs is its own word, under its own name.
    assert!(reader.told(4, "dan", "m", secret(99).public()));
    forged.from = Some(Participant { user: "ann".into(), machine_id: 4, ..participant(0) });
    assert_eq!(reader.shows(3, &forged), Shown::Forged);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, ..ProptestConfig::default() })]

    /// Whatever the server puts together of what it has seen, what is shown as signed was said so by its sender.
    #[test]
    fn no_mixture_of_true_messages_is_shown_as_signed(
        parts in proptest::collection::vec(0..6usize, 4),
        streams in proptest::collection::vec(3..5u64, 6),
        shown_in in 3..5u64,
    ) {
        let reader = reader();
        let all: Vec<Delivery> = (0..6)
            .map(|nth| posted(nth % 3, &server(), streams[nth], nth as u8 / 2, ["x", "y"][nth % 2]))
            .collect();
        let mixed = Delivery {
            from: all[parts[0]].from.clone(),
            message_id: all[parts[1]].message_id.clone(),
            body: all[parts[2]].body.clone(),
            signature: all[parts[3]].signature.clone(),
            ..all[0].clone()
        };
        let said = all.iter().zip(&streams).any(|(one, stream)| {
            *stream == shown_in
                && (&one.from, &one.message_id, &one.body) == (&mixed.from, &mixed.message_id, &mixed.body)
        });
        prop_assert!(said || reader.shows(shown_in, &mixed) != Shown::Signed);
    }

    /// Whatever single bit of a frame is flipped on its way, what is shown as signed is what was said.
    #[test]
    fn a_flipped_bit_never_changes_what_is_shown_as_signed(bit in any::<prop::sample::Index>(), json in any::<bool>()) {
        let encoding = if json { Encoding::Json } else { Encoding::Protobuf };
        let (reader, honest) = (reader(), posted(0, &server(), 3, 1, "pay ann"));
        let deliveries = Deliveries { stream: 3, messages: vec![honest.clone()] };
        let mut frame = encoding.encode_server(server_frame::Kind::Deliveries(deliveries));
        let at = bit.index(frame.len() * 8);
        frame[at / 8] ^= 1 << (at % 8);
        let Ok(read) = encoding.decode_server(&frame) else { return Ok(()) };
        let Some(server_frame::Kind::Deliveries(read)) = read.kind else { return Ok(()) };
        for delivery in &read.messages {
            if reader.shows(read.stream, delivery) == Shown::Signed {
                let from = delivery.from.clone().unwrap();
                prop_assert_eq!(read.stream, 3);
                prop_assert_eq!((&from.user, &from.machine), (&"ann".into(), &"m".into()));
                prop_assert_eq!((&delivery.message_id, &delivery.body), (&honest.message_id, &honest.body));
            }
        }
    }
}
