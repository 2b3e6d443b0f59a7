//! What the core costs: `cargo bench -p conclave-core`.

#![allow(missing_docs, clippy::unwrap_used, reason = "benchmarks")]

use conclave_core::directory::Directory;
use conclave_core::fanout::{Fanout, Item, Outbound};
use conclave_core::hub::{Action, AuditRead, BatchId, ConnId, Input, Read, RequestId};
use conclave_core::key::SecretKey;
use conclave_core::name::{ChannelName, SessionPath};
use conclave_core::payload::Payload;
use conclave_core::protocol::Command;
use conclave_core::record::Record;
use conclave_core::wire::v1::edge;
use conclave_core::wire::v1::handshake::{Handshake, Step};
use conclave_core::wire::v1::{self, Frame, Path};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

#[path = "../tests/crowd/mod.rs"]
mod crowd;

use crowd::Crowd;

const CROWDS: [u64; 4] = [1, 100, 1_000, 10_000];

fn main() {
    divan::main();
}

fn message(text: &str) -> Vec<u8> {
    let from = Path { user: "", machine: "", session: "" };
    Frame::ChannelMsg { channel: "channel-0", from, payload: v1::Payload::Plain(text) }.to_bytes()
}

#[divan::bench]
fn decode_128_bytes(bencher: Bencher<'_, '_>) {
    let bytes = message(&"x".repeat(128));
    bencher.bench_local(|| Frame::decode_from_client(black_box(&bytes)).is_ok());
}

#[divan::bench]
fn encode_128_bytes(bencher: Bencher<'_, '_>) {
    let from = SessionPath::new("user-0", "machine", "session").unwrap();
    let (channel, payload) = (ChannelName::new("channel-0").unwrap(), Payload::Plain("x".repeat(128)));
    let mut out = Vec::with_capacity(1_024);
    bencher.bench_local(|| {
        out.clear();
        edge::encode_delivery(black_box(&channel), &from, black_box(&payload), &mut out);
    });
}

#[divan::bench]
fn decode_and_encode_128_bytes(bencher: Bencher<'_, '_>) {
    let bytes = message(&"x".repeat(128));
    let mut out = Vec::with_capacity(1_024);
    bencher.bench_local(|| {
        out.clear();
        if let Ok(frame) = Frame::decode_from_client(black_box(&bytes)) {
            frame.encode(&mut out);
        }
    });
}

/// The server's half: a challenge, and a signature checked.
#[divan::bench]
fn handshake(bencher: Bencher<'_, '_>) {
    let secret = SecretKey::from_seed(&[1; 32]);
    let (public, signature) = (secret.public(), secret.sign(&[2; 32]));
    bencher.bench_local(|| {
        let hello = Frame::Hello { protocol_version: 1, session: "session" };
        let Step::Challenge(next) = Handshake::new([2; 32]).on_frame(&hello) else { panic!() };
        let auth = Frame::Auth { pubkey: public.as_bytes(), signature: &signature };
        assert!(matches!(next.on_frame(black_box(&auth)), Step::Proven(_)));
    });
}

/// Request, commit, durable, delivered: what the hub does for one post in a commit of its own.
#[divan::bench(args = CROWDS)]
fn post(bencher: Bencher<'_, '_>, subscribers: u64) {
    let mut crowd = Crowd::new(subscribers);
    let (mut actions, mut request) = (Vec::new(), 0);
    bencher
        .counter(ItemsCount::new(subscribers))
        .with_inputs(|| Payload::Plain("x".repeat(128)))
        .bench_local_values(|payload| {
            request += 1;
            actions.clear();
            crowd.post(RequestId(request), payload, &mut actions);
        });
}

/// Takes everything and keeps nothing.
struct Null;

impl Outbound for Null {
    fn probe(&mut self, _: ConnId) {}
    fn send(&mut self, conn: ConnId, item: Item) {
        black_box((conn, &item));
    }
    fn persist(&mut self, _: BatchId, _: Vec<Record>) {}
    fn read(&mut self, _: Read) {}

    fn read_audit(&mut self, _: AuditRead) {}
    fn drained(&mut self) {}
}

/// The same with fan-out to a shell that does nothing.
#[divan::bench(args = CROWDS)]
fn post_and_fan_out(bencher: Bencher<'_, '_>, subscribers: u64) {
    let mut crowd = Crowd::new(subscribers);
    let (mut fanout, mut actions, mut request) = (Fanout::default(), Vec::new(), 0);
    bencher
        .counter(ItemsCount::new(subscribers))
        .with_inputs(|| Payload::Plain("x".repeat(128)))
        .bench_local_values(|payload| {
            request += 1;
            crowd.post(RequestId(request), payload, &mut actions);
            fanout.carry_out(&mut actions, &mut Null);
        });
}

/// A hundred posts in one commit, as under load.
#[divan::bench(args = CROWDS)]
fn hundred_posts_and_fan_out(bencher: Bencher<'_, '_>, subscribers: u64) {
    let mut crowd = Crowd::new(subscribers);
    let (mut fanout, mut actions, mut request) = (Fanout::default(), Vec::new(), 0);
    let payloads = || vec![Payload::Plain("x".repeat(128)); 100];
    bencher.counter(ItemsCount::new(subscribers * 100)).with_inputs(payloads).bench_local_values(
        |payloads| {
            for payload in payloads {
                request += 1;
                crowd.submit(RequestId(request), payload, &mut actions);
            }
            crowd.commit(&mut actions);
            fanout.carry_out(&mut actions, &mut Null);
        },
    );
}

fn ask(crowd: &mut Crowd, command: Command, actions: &mut Vec<Action>) {
    actions.clear();
    crowd.handle(Input::Request { conn: ConnId(0), request: RequestId(0), command, token: None }, actions);
}

#[divan::bench(args = CROWDS)]
fn leave_and_join(bencher: Bencher<'_, '_>, subscribers: u64) {
    let mut crowd = Crowd::new(subscribers);
    let mut actions = Vec::new();
    bencher.bench_local(|| {
        let channel = crowd.channel.clone();
        ask(&mut crowd, Command::Leave { channel: channel.clone() }, &mut actions);
        ask(&mut crowd, Command::Join { channel, token: None }, &mut actions);
    });
}

#[divan::bench(args = CROWDS)]
fn who(bencher: Bencher<'_, '_>, subscribers: u64) {
    let mut crowd = Crowd::new(subscribers);
    let mut actions = Vec::new();
    bencher.bench_local(|| {
        let channel = Some(crowd.channel.clone());
        ask(&mut crowd, Command::Who { channel }, &mut actions);
    });
}

/// Everyone leaves at once.
#[divan::bench(args = [1_000, 10_000], sample_count = 10)]
fn all_disconnect(bencher: Bencher<'_, '_>, subscribers: u64) {
    let full = Crowd::new(subscribers);
    bencher.with_inputs(|| full.hub.clone()).bench_local_values(|mut hub| {
        let mut actions = Vec::new();
        for conn in 0..subscribers {
            hub.handle(full.now, Input::Closed { conn: ConnId(conn) }, &mut actions);
        }
        hub
    });
}

/// What a start folds: 100,000 users with a machine each, 10,000 channels with ten members each.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn fold(bencher: Bencher<'_, '_>) {
    let records = crowd::records(100_000, 10_000);
    bencher.bench_local(|| records.iter().collect::<Directory>());
}
