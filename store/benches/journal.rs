//! What a post, a page of history and a start cost.
//!
//! `cargo bench -p conclave-store`. The data lies in the system's temporary directory: `TMPDIR` names another
//! disk to measure. `CONCLAVE_BENCH_MESSAGES` says how many messages the larger journals hold.

use std::cell::Cell;
use std::path::Path;
use std::sync::{Arc, mpsc};

use conclave_core::key::PublicKey;
use conclave_core::name::{ChannelName, MachineName, SessionPath, UserName};
use conclave_core::payload::Payload;
use conclave_core::protocol::Visibility;
use conclave_core::record::{ChannelId, MachineId, Record, Stamp, UserId};
use conclave_core::time::UnixMillis;
use conclave_store::journal::{Event, History, Journal, Options, Request, Running, Writer};
use divan::Bencher;
use divan::counter::ItemsCount;
use tempfile::TempDir;

const BATCH: usize = 250;

fn main() {
    divan::main();
}

/// Batches of 250 posts spread over so many channels, each waited for as the hub does.
#[divan::bench(args = [(1, 100), (100, 100), (10_000, 100), (100, 1000), (10_000, 1000)], sample_count = 20, sample_size = 20)]
fn post_batches(bencher: Bencher<'_, '_>, (channels, size): (u64, usize)) {
    post(bencher, Options::default(), channels, size, BATCH);
}

/// The same without waiting for the disk: what the processor does.
#[divan::bench(args = [(1, 100), (100, 100), (10_000, 100), (100, 1000), (10_000, 1000)], sample_count = 20, sample_size = 20)]
fn post_batches_ephemeral(bencher: Bencher<'_, '_>, (channels, size): (u64, usize)) {
    post(bencher, Options { ephemeral: true, ..Options::default() }, channels, size, BATCH);
}

/// One post at a time: what an idle server's only client waits.
#[divan::bench(sample_count = 100, sample_size = 10)]
fn post_alone(bencher: Bencher<'_, '_>) {
    post(bencher, Options::default(), 1, 100, 1);
}

/// One post at a time without waiting for the disk: the way there and back.
#[divan::bench(sample_count = 100, sample_size = 10)]
fn post_alone_ephemeral(bencher: Bencher<'_, '_>) {
    post(bencher, Options { ephemeral: true, ..Options::default() }, 1, 100, 1);
}

/// Pages of 500 rows through a channel that lies among others.
#[divan::bench(args = [100, 1000], sample_count = 20, sample_size = 20)]
fn history(bencher: Bencher<'_, '_>, size: usize) {
    let rig = Rig::new(Options { readers: 1, ..Options::default() });
    rig.fill(20, messages().min(1_000_000), size);
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

/// Reading 100,000 users and 10,000 channels with many messages.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn load(bencher: Bencher<'_, '_>) {
    let rig = Rig::new(Options::default());
    rig.people(100_000);
    rig.fill(10_000, messages(), 100);
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

fn post(bencher: Bencher<'_, '_>, options: Options, channels: u64, size: usize, batch: usize) {
    let rig = Rig::new(options);
    rig.fill(channels, channels * 50, size);
    let next = Cell::new(channels * 50);
    bencher
        .counter(ItemsCount::new(batch))
        .with_inputs(|| {
            let from = next.get();
            next.set(from + batch as u64);
            rig.posts(from..from + batch as u64, channels, size)
        })
        .bench_local_values(|records| rig.persist(records));
}

fn read(history: &History, channel: u64, since: i64) -> Option<i64> {
    let request =
        Request { channel: ChannelId(channel), since: UnixMillis(since), max_rows: 500, max_bytes: 16 << 20 };
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
    fn posts(&self, numbers: std::ops::Range<u64>, channels: u64, size: usize) -> Vec<Record> {
        numbers
            .map(|number| {
                let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                Record::Posted {
                    channel: ChannelId(scattered % channels),
                    stamp: Stamp { seq: number, ts: UnixMillis(1_800_000_000_000 + number as i64) },
                    from: Arc::clone(&self.senders[(scattered % 50) as usize]),
                    payload: Arc::new(Payload::Plain("x".repeat(size))),
                }
            })
            .collect()
    }

    fn fill(&self, channels: u64, messages: u64, size: usize) {
        self.persist((0..channels).map(channel).collect());
        let mut at = 0;
        while at < messages {
            let end = (at + 20_000).min(messages);
            self.persist(self.posts(at..end, channels, size));
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
