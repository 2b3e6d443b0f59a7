//! What a client sends allocates no more than it sent, and a post costs no allocation for each recipient.

use std::sync::Arc;

use allocation_counter::measure;
use conclave_core::directory::Directory;
use conclave_core::fanout::{Fanout, Item, Outbound};
use conclave_core::hub::{Action, AuditRead, BatchId, ConnId, Input, Read, RequestId};
use conclave_core::record::Record;
use conclave_core::wire::v1::{AdminOp, Envelope, Frame, Path, Payload};
use proptest::prelude::*;

mod crowd;

/// A frame that is malformed may cost an error's text.
const ERROR: u64 = 512;

fn allocated(bytes: &[u8]) -> u64 {
    measure(|| drop(Frame::decode_from_client(bytes))).bytes_total
}

#[test]
fn decoding_what_a_client_sends_allocates_nothing() {
    let text = "x".repeat(100_000);
    let path = Path { user: &text, machine: &text, session: &text };
    let envelope = Envelope { ciphertext: text.as_bytes(), key_id: Some(&text) };
    for frame in [
        Frame::Hello { protocol_version: 1, session: &text },
        Frame::Auth { pubkey: text.as_bytes(), signature: text.as_bytes() },
        Frame::Register { username: &text, machine: &text, pubkey: text.as_bytes() },
        Frame::Join { channel: &text, token: Some(&text) },
        Frame::ChannelMsg { channel: &text, from: path, payload: Payload::Plain(&text) },
        Frame::Whisper { from: path, target: path, payload: Payload::Encrypted(envelope) },
        Frame::ReadSince { channel: &text, since_ms: -1 },
        Frame::Admin(AdminOp::MachineAdd { name: &text, pubkey: text.as_bytes() }),
    ] {
        assert_eq!(allocated(&frame.to_bytes()), 0, "{frame:?}");
    }
}

#[test]
fn lists_which_only_a_server_sends_allocate_nothing_here() {
    let path = Path { user: "", machine: "", session: "" };
    for frame in [
        Frame::UserList { users: vec![""; 100_000] },
        Frame::Presence { channel: None, sessions: vec![path; 100_000] },
    ] {
        let bytes = frame.to_bytes();
        assert!(Frame::decode(&bytes).is_ok());
        assert_eq!(allocated(&bytes), 0, "{frame:?}");
        // The tag can be written longer than it must be.
        let mut longer = vec![251, bytes[0], 0];
        longer.extend_from_slice(&bytes[1..]);
        assert_eq!(allocated(&longer), 0, "{frame:?}");
    }
}

#[test]
fn a_length_that_lies_allocates_nothing() {
    for tag in 0..28 {
        for at in 0..6 {
            let mut bytes = vec![tag];
            bytes.extend((0..at).map(|_| 1));
            bytes.extend([253, 255, 255, 255, 255, 255, 255, 255, 127]);
            assert!(allocated(&bytes) <= ERROR, "{bytes:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoding_any_bytes_allocates_no_more_than_an_error_text(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        prop_assert!(allocated(&bytes) <= ERROR);
    }

    #[test]
    fn decoding_a_mutated_frame_allocates_no_more_than_an_error_text(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), text in "\\PC{0,300}",
    ) {
        let path = Path { user: &text, machine: "m", session: "s" };
        let frame = Frame::Whisper { from: path, target: path, payload: Payload::Plain(&text) };
        let mut bytes = frame.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        prop_assert!(allocated(&bytes) <= ERROR);
    }
}

/// Takes everything and keeps nothing.
#[derive(Default)]
struct Null {
    bursts: usize,
}

impl Outbound for Null {
    fn probe(&mut self, _: ConnId) {}
    fn send(&mut self, _: ConnId, item: Item) {
        self.bursts += usize::from(matches!(item, Item::Burst(_)));
    }
    fn persist(&mut self, _: BatchId, _: Vec<Record>) {}
    fn read(&mut self, _: Read) {}

    fn read_audit(&mut self, _: AuditRead) {}
    fn drained(&mut self) {}
}

#[test]
fn a_post_costs_the_same_allocations_for_ten_recipients_and_for_a_thousand() {
    let allocations = |subscribers: u64| {
        let mut crowd = crowd::Crowd::new(subscribers);
        let (mut fanout, mut shell, mut actions) =
            (Fanout::default(), Null::default(), Vec::with_capacity(16));
        let mut cycle = |request: u64| {
            let payload = crowd.payload();
            measure(|| {
                crowd.post(RequestId(request), payload, &mut actions);
                fanout.carry_out(&mut actions, &mut shell);
            })
            .count_total
        };
        // The first one makes room that is kept.
        cycle(1);
        let count = cycle(2);
        assert_eq!(shell.bursts as u64, 2 * (subscribers - 1));
        count
    };
    let (few, many) = (allocations(10), allocations(1_000));
    assert_eq!(few, many);
    assert!(many < 40, "{many} allocations for one post");
}

#[test]
fn recipients_share_one_list_for_as_long_as_nobody_comes_or_goes() {
    let mut crowd = crowd::Crowd::new(100);
    let mut lists = Vec::new();
    for request in 0..2 {
        let mut actions = Vec::new();
        let payload = crowd.payload();
        crowd.post(RequestId(request), payload, &mut actions);
        lists.extend(actions.into_iter().filter_map(|action| match action {
            Action::Deliver { to, .. } => Some(to),
            _ => None,
        }));
    }
    assert!(Arc::ptr_eq(&lists[0], &lists[1]));
    crowd.handle(Input::Closed { conn: ConnId(5) }, &mut Vec::new());
    assert_eq!(lists[0].len(), 100, "what was handed out stays as it was");
}

#[test]
fn a_user_takes_at_most_600_bytes_of_memory() {
    let (users, channels) = (10_000, 1_000);
    let records = crowd::records(users, channels);
    let mut directory = None;
    let retained = measure(|| directory = Some(records.iter().collect::<Directory>())).bytes_current;
    assert_eq!(directory.unwrap().user_count() as u64, users);
    let each = retained as u64 / users;
    // Its machine and a tenth of a channel of ten members included.
    assert!(each <= 600, "{each} bytes a user");
}
