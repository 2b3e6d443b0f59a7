//! Instruction counts of the hot paths, each with a bound: they do not wobble as seconds do.
//!
//! `cargo bench -p conclave-core --bench instructions` runs each path under valgrind's callgrind, twice with
//! different numbers of rounds, so that what the start costs falls out. It fails if a path costs more than its
//! bound, and says so and passes where there is no valgrind.

#![allow(clippy::print_stdout, reason = "its result is what it prints")]

use std::hint::black_box;
use std::process::Command;

use conclave_core::fanout::{Fanout, Item, Outbound};
use conclave_core::hub::{AuditRead, BatchId, ConnId, Read, RequestId};
use conclave_core::name::SessionPath;
use conclave_core::payload::Payload;
use conclave_core::record::Record;
use conclave_core::wire::v1::edge;
use conclave_core::wire::v1::{Frame, Path, Payload as WirePayload};

#[path = "../tests/crowd/mod.rs"]
mod crowd;

use crowd::Crowd;

/// A hot path: what it is called, how often a round is run, and what one may cost.
struct HotPath {
    name: &'static str,
    bound: u64,
    run: fn(u64),
}

const PATHS: &[HotPath] = &[
    HotPath { name: "decode a post of 128 bytes", bound: 1_100, run: decode },
    HotPath { name: "encode a delivery of 128 bytes", bound: 650, run: encode },
    HotPath { name: "post to 1 subscriber, durable", bound: 3_200, run: post::<1> },
    HotPath { name: "post to 1,000 subscribers, durable", bound: 3_700, run: post::<1_000> },
    HotPath { name: "fan a burst of 64 posts out to 1,000", bound: 150_000, run: fan_out },
];

/// Rounds of the second run beyond those of the first.
const ROUNDS: u64 = 200;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, name, rounds] = &arguments[..]
        && flag == "--path"
    {
        let path = PATHS.iter().find(|path| path.name == name.as_str());
        return path.into_iter().for_each(|path| (path.run)(rounds.parse().unwrap_or(0)));
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("instructions NOT counted: valgrind is not installed");
        return;
    }
    let mut worse = false;
    for path in PATHS {
        let each = (count(path.name, 2 * ROUNDS) - count(path.name, ROUNDS)) / ROUNDS;
        let verdict = if each > path.bound { "TOO MANY" } else { "ok" };
        println!("{:<42} {each:>9} instructions, at most {:>9}  {verdict}", path.name, path.bound);
        worse |= each > path.bound;
    }
    std::process::exit(i32::from(worse));
}

/// Instructions of a whole run of so many rounds.
fn count(name: &str, rounds: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap_or_default())
        .args(["--path", name, &rounds.to_string()])
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default();
    text.lines()
        .find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
        .unwrap_or_else(|| panic!("valgrind counted nothing: {text}"))
}

fn path() -> SessionPath {
    SessionPath::new("aaron", "workstation", "session").unwrap_or_else(|_| unreachable!("these are names"))
}

fn decode(rounds: u64) {
    let body = "x".repeat(128);
    let from = Path { user: "", machine: "", session: "" };
    let bytes = Frame::ChannelMsg { channel: "ops", from, payload: WirePayload::Plain(&body) }.to_bytes();
    for _ in 0..rounds {
        let _ = black_box(Frame::decode(black_box(&bytes)));
    }
}

fn encode(rounds: u64) {
    let crowd = Crowd::new(1);
    let (path, payload) = (path(), crowd.payload());
    let mut out = Vec::with_capacity(4096);
    for _ in 0..rounds {
        out.clear();
        edge::encode_delivery(&crowd.channel, &path, black_box(&payload), &mut out);
        black_box(&out);
    }
}

fn post<const SUBSCRIBERS: u64>(rounds: u64) {
    let mut crowd = Crowd::new(SUBSCRIBERS);
    let mut actions = Vec::new();
    for nth in 0..rounds {
        let payload = crowd.payload();
        crowd.submit(RequestId(nth), payload, &mut actions);
        crowd.commit(&mut actions);
        actions.clear();
    }
}

fn fan_out(rounds: u64) {
    struct Nobody;
    impl Outbound for Nobody {
        fn probe(&mut self, _: ConnId) {}
        fn send(&mut self, conn: ConnId, item: Item) {
            black_box((conn, item));
        }
        fn persist(&mut self, _: BatchId, _: Vec<Record>) {}
        fn read(&mut self, _: Read) {}

        fn read_audit(&mut self, _: AuditRead) {}
        fn drained(&mut self) {}
    }
    let mut crowd = Crowd::new(1_000);
    let mut actions = Vec::new();
    for nth in 0..64 {
        crowd.submit(RequestId(nth), Payload::Plain("x".repeat(128)), &mut actions);
    }
    crowd.commit(&mut actions);
    let mut fanout = Fanout::default();
    for _ in 0..rounds {
        let mut released = actions.clone();
        fanout.carry_out(&mut released, &mut Nobody);
    }
}
