//! What a post, a page of history and a start cost.
//!
//! `cargo bench -p conclave-store`. The data lies in the system's temporary directory: `TMPDIR` names another
//! disk to measure. `CONCLAVE_BENCH_MESSAGES` says how many messages the larger journals hold.

use std::cell::Cell;
use std::path::Path;
use std::sync::{Arc, mpsc};

use conclave_core::hub::Range;
use conclave_core::key::PublicKey;
use conclave_core::name::{ChannelName, MachineName, SessionPath, UserName};
use conclave_core::opaque::Opaque;
use conclave_core::payload::Payload;
use conclave_core::protocol::Visibility;
use conclave_core::record::{ChannelId, MachineId, Record, Stamp, UserId};
use conclave_core::stream::{MessageId, Origin, Signed};
use conclave_core::time::UnixMillis;
use conclave_store::journal::{Event, History, Journal, Options, Request, Running, Writer};
use divan::Bencher;
use divan::counter::ItemsCount;
use tempfile::TempDir;

const BATCH: usize = 250;

/// What posts carry beside their content.
#[derive(Clone, Copy)]
enum Ids {
    /// Nothing: they come from version 1.
    None,
    /// Ids that begin with the time, and signatures.
    Timed,
    /// Ids without any order, and signatures.
    Random,
}

fn main() {
    divan::main();
}

/// Batches of 250 posts spread over so many channels, each waited for as the hub does.
#[divan::bench(args = [(1, 100), (100, 100), (10_000, 100), (100, 1000), (10_000, 1000)], sample_count = 20, sample_size = 20)]
fn post_batches(bencher: Bencher<'_, '_>, (channels, size): (u64, usize)) {
    post(bencher, Options::default(), Ids::None, channels, size, BATCH);
}

/// The same with ids and signatures.
#[divan::bench(args = [(1, 100), (100, 100), (10_000, 100), (100, 1000), (10_000, 1000)], sample_count = 20, sample_size = 20)]
fn post_signed_batches(bencher: Bencher<'_, '_>, (channels, size): (u64, usize)) {
    post(bencher, Options::default(), Ids::Timed, channels, size, BATCH);
}

/// The same without waiting for the disk: what the processor does.
#[divan::bench(args = [(1, 100), (100, 100), (10_000, 100), (100, 1000), (10_000, 1000)], sample_count = 20, sample_size = 20)]
fn post_batches_ephemeral(bencher: Bencher<'_, '_>, (channels, size): (u64, usize)) {
    post(bencher, ephemeral(), Ids::None, channels, size, BATCH);
}

/// The same with ids and signatures.
#[divan::bench(args = [(1, 100), (100, 100), (10_000, 100), (100, 1000), (10_000, 1000)], sample_count = 20, sample_size = 20)]
fn post_signed_batches_ephemeral(bencher: Bencher<'_, '_>, (channels, size): (u64, usize)) {
    post(bencher, ephemeral(), Ids::Timed, channels, size, BATCH);
}

/// The same with ids that do not begin with the time.
#[divan::bench(args = [(100, 100)], sample_count = 20, sample_size = 20)]
fn post_randomly_signed_batches_ephemeral(bencher: Bencher<'_, '_>, (channels, size): (u64, usize)) {
    post(bencher, ephemeral(), Ids::Random, channels, size, BATCH);
}

/// One post at a time: what an idle server's only client waits.
#[divan::bench(sample_count = 100, sample_size = 10)]
fn post_alone(bencher: Bencher<'_, '_>) {
    post(bencher, Options::default(), Ids::None, 1, 100, 1);
}

/// One post at a time without waiting for the disk: the way there and back.
#[divan::bench(sample_count = 100, sample_size = 10)]
fn post_alone_ephemeral(bencher: Bencher<'_, '_>) {
    post(bencher, ephemeral(), Ids::None, 1, 100, 1);
}

/// Pages of 500 rows through a channel that lies among others.
#[divan::bench(args = [100, 1000], sample_count = 20, sample_size = 20)]
fn history(bencher: Bencher<'_, '_>, size: usize) {
    let rig = Rig::new(Options { readers: 1, ..Options::default() });
    rig.fill(Ids::None, 20, messages().min(1_000_000), size);
    let history = rig.running.history();
    let at = Cell::new((0, 0));
    bencher.counter(ItemsCount::new(500_usize)).bench_local(|| {
        let (channel, since) = at.get();
        let page = read(&history, channel, since);
        at.set(match page {
            Some(last) => (channel, last),
            None => ((channel + 1) % 20, 0),
        });
    });
}

/// All of a channel by its sequence, as a reader who was away for long catches up: alone in its journal, or one of many.
#[divan::bench(args = [1, 20], sample_count = 5, sample_size = 1)]
fn catch_up(bencher: Bencher<'_, '_>, channels: u64) {
    let rig = Rig::new(Options { readers: 1, ..Options::default() });
    rig.fill(Ids::Timed, channels, messages(), 100);
    let history = rig.running.history();
    let read_all = || {
        let (mut seq, mut rows) = (0, 0);
        loop {
            let (range, channel) = (Range::After(seq), ChannelId(0));
            let request = Request { channel, range, max_rows: 4096, max_bytes: 1 << 20 };
            let page = history.read_and_wait(request).expect("it is there");
            let Some(last) = page.last() else { return rows };
            (seq, rows) = (last.seq, rows + page.len());
        }
    };
    bencher.counter(ItemsCount::new(read_all())).bench_local(read_all);
}

/// Reading 100,000 users and 10,000 channels with many messages.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn load(bencher: Bencher<'_, '_>) {
    let rig = Rig::new(Options::default());
    rig.people(100_000);
    rig.fill(Ids::None, 10_000, messages(), 100);
    let Rig { running, dir, .. } = rig;
    running.stop();
    bencher.bench_local(|| {
        let journal = Journal::open(dir.path(), Options::default()).expect("it was there");
        let mut records = 0_usize;
        journal.load(&mut |_| records += 1).expect("it is whole");
        assert!(records > 200_000);
    });
}

fn messages() -> u64 {
    std::env::var("CONCLAVE_BENCH_MESSAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000)
}

fn ephemeral() -> Options {
    Options { ephemeral: true, ..Options::default() }
}

fn post(bencher: Bencher<'_, '_>, options: Options, ids: Ids, channels: u64, size: usize, batch: usize) {
    let rig = Rig::new(options);
    rig.fill(ids, channels, channels * 50, size);
    let next = Cell::new(channels * 50);
    bencher
        .counter(ItemsCount::new(batch))
        .with_inputs(|| {
            let from = next.get();
            next.set(from + batch as u64);
            rig.posts(from..from + batch as u64, ids, channels, size)
        })
        .bench_local_values(|records| rig.persist(records));
}

fn read(history: &History, channel: u64, since: i64) -> Option<i64> {
    let request = Request {
        channel: ChannelId(channel),
        range: Range::Since(UnixMillis(since)),
        max_rows: 500,
        max_bytes: 16 << 20,
    };
    let page = history.read_and_wait(request).expect("it is there");
    page.last().map(|message| message.ts.0)
}

struct Rig {
    running: Running,
    writer: Writer,
    done: mpsc::Receiver<Event>,
    senders: Vec<Arc<SessionPath>>,
    dir: TempDir,
}

impl Rig {
    fn new(options: Options) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (sender, done) = mpsc::channel();
        let journal = Journal::open(Path::new(dir.path()), options).expect("a new journal");
        let running = journal.start(move |event| drop(sender.send(event))).expect("a thread");
        let senders = (0..50)
            .map(|number| {
                let path = SessionPath::new(&format!("user{number}"), "workstation", "main");
                Arc::new(path.expect("a path"))
            })
            .collect();
        Self { writer: running.writer(), running, done, senders, dir }
    }

    fn persist(&self, records: Vec<Record>) {
        self.writer.persist(0, records).expect("it runs");
        match self.done.recv() {
            Ok(Event::Persisted { result: Ok(_), .. }) => {}
            other => panic!("{other:?}"),
        }
    }

    /// The posts of these numbers, to channels here and there.
    fn posts(&self, numbers: std::ops::Range<u64>, ids: Ids, channels: u64, size: usize) -> Vec<Record> {
        numbers
            .map(|number| {
                let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                Record::Posted {
                    channel: ChannelId(scattered % channels),
                    stamp: Stamp { seq: number, ts: UnixMillis(1_800_000_000_000 + number as i64) },
                    from: Arc::clone(&self.senders[(scattered % 50) as usize]),
                    payload: Arc::new(match ids {
                        Ids::None => Payload::Plain("x".repeat(size)),
                        Ids::Timed | Ids::Random => Payload::Body("x".repeat(size).into()),
                    }),
                    origin: origin(ids, number, scattered),
                }
            })
            .collect()
    }

    fn fill(&self, ids: Ids, channels: u64, messages: u64, size: usize) {
        self.persist((0..channels).map(channel).collect());
        let mut at = 0;
        while at < messages {
            let end = (at + 20_000).min(messages);
            self.persist(self.posts(at..end, ids, channels, size));
            at = end;
        }
    }

    fn people(&self, users: u64) {
        for number in 0..users {
            if number % 10_000 == 0 {
                let end = (number + 10_000).min(users);
                self.persist((number..end).flat_map(person).collect());
            }
        }
    }
}

/// Of a post from one of 50 machines, some of whose clocks are a little behind.
fn origin(ids: Ids, number: u64, scattered: u64) -> Origin {
    let mut id = [0; 16];
    match ids {
        Ids::None => {}
        Ids::Timed => {
            let ms = 1_800_000_000_000 + number / 10 - scattered % 20;
            id[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
            id[6..].copy_from_slice(&hash(number)[..10]);
        }
        Ids::Random => id = hash(number),
    }
    let mut signature = [0; 64];
    signature.chunks_mut(16).zip(1..).for_each(|(part, nth)| part.copy_from_slice(&hash(number * 8 + nth)));
    let signed = Signed { id: MessageId(id), signature: Opaque(signature), acknowledge: false };
    Origin {
        sender: Some((UserId(scattered % 50), MachineId(scattered % 50))),
        signed: (!matches!(ids, Ids::None)).then(|| Arc::new(signed)),
        expires: None,
    }
}

/// Sixteen bytes without any order.
fn hash(number: u64) -> [u8; 16] {
    let mut wide = u128::from(number).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    for _ in 0..2 {
        wide = (wide ^ (wide >> 59)).wrapping_mul(0x2545_f491_4f6c_dd1d_8a5c_d789_635d_2dff);
    }
    wide.to_be_bytes()
}

fn person(number: u64) -> [Record; 2] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_le_bytes());
    [
        Record::UserAdded {
            user: UserId(number),
            name: UserName::new(&format!("user{number}")).expect("a name"),
            at: UnixMillis(1),
        },
        Record::MachineAdded {
            machine: MachineId(number),
            user: UserId(number),
            name: MachineName::new("workstation").expect("a name"),
            key: PublicKey::from_trusted(key),
            at: UnixMillis(1),
        },
    ]
}

fn channel(number: u64) -> Record {
    Record::ChannelCreated {
        channel: ChannelId(number),
        name: ChannelName::new(&format!("channel{number}")).expect("a name"),
        visibility: Visibility::Public,
        creator: UserId(number),
        at: UnixMillis(1),
        last: Stamp::default(),
    }
}
