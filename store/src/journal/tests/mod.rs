//! The journal from outside: what its users may rely on.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use conclave_core::directory::Directory;
use conclave_core::name::{ChannelName, SessionPath, UserName};
use conclave_core::payload::Payload;
use conclave_core::protocol::Visibility;
use conclave_core::record::{ChannelId, Record, Stamp, UserId};
use conclave_core::time::UnixMillis;

use super::*;

/// A running journal, and what it tells.
struct Rig {
    running: Running,
    events: Receiver<Event>,
}

impl Rig {
    fn start(journal: Journal) -> Self {
        let (sender, events) = mpsc::channel();
        let running = journal.start(move |event| drop(sender.send(event))).unwrap();
        Self { running, events }
    }

    fn open(dir: &Path) -> Self {
        Self::start(Journal::open(dir, Options::default()).unwrap())
    }

    fn persist(&self, batch: u64, records: Vec<Record>) -> Result<CommitStats, StoreError> {
        self.running.writer().persist(batch, records).unwrap();
        loop {
            if let Event::Persisted { batch: done, result } = self.events.recv().unwrap() {
                assert_eq!(done, batch);
                return result;
            }
        }
    }

    fn page(&self, channel: u64, since: i64) -> Vec<(i64, String)> {
        let request = Request {
            channel: ChannelId(channel),
            since: UnixMillis(since),
            max_rows: 500,
            max_bytes: 1 << 20,
        };
        let page = self.running.history().read_and_wait(request).unwrap();
        page.into_iter().map(|message| (message.ts.0, text(&message.payload))).collect()
    }

    fn purge(&self, cutoff: i64) -> u64 {
        self.running.writer().purge_older_than(UnixMillis(cutoff));
        match self.events.recv().unwrap() {
            Event::Purged { rows } => rows,
            event => panic!("{event:?}"),
        }
    }
}

fn text(payload: &Payload) -> String {
    match payload {
        Payload::Plain(text) => text.clone(),
        Payload::Encrypted(_) => panic!("it was posted in the plain"),
    }
}

fn user(id: u64) -> Record {
    Record::UserAdded {
        user: UserId(id),
        name: UserName::new(&format!("user{id}")).unwrap(),
        at: UnixMillis(1),
    }
}

fn channel(id: u64) -> Record {
    Record::ChannelCreated {
        channel: ChannelId(id),
        name: ChannelName::new(&format!("channel{id}")).unwrap(),
        visibility: Visibility::Public,
        creator: UserId(0),
        at: UnixMillis(2),
        last: Stamp::default(),
    }
}

fn post(channel: u64, seq: u64, body: &str) -> Record {
    Record::Posted {
        channel: ChannelId(channel),
        stamp: Stamp { seq, ts: UnixMillis(seq as i64 * 10) },
        from: Arc::new(SessionPath::new("user0", "box", "main").unwrap()),
        payload: Arc::new(Payload::Plain(body.into())),
    }
}

fn loaded(dir: &Path) -> Directory {
    let mut directory = Directory::default();
    Journal::open(dir, Options::default()).unwrap().load(&mut |record| directory.apply(&record)).unwrap();
    directory.check().unwrap();
    directory
}

#[test]
fn what_was_persisted_is_read_now_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let records = vec![user(0), channel(0), post(0, 1, "one"), post(0, 2, "two")];
    let expected: Directory = records.iter().collect();
    let rig = Rig::open(dir.path());
    let stats = rig.persist(7, records).unwrap();
    assert_eq!((stats.rows, stats.bytes), (4, 6));
    assert_eq!(rig.page(0, 0), [(10, "one".into()), (20, "two".into())]);
    assert_eq!(rig.page(0, 10), [(20, "two".into())]);
    rig.running.stop();
    assert_eq!(loaded(dir.path()), expected);
    assert_eq!(Rig::open(dir.path()).page(0, 0).len(), 2);
}

#[test]
fn a_purged_channel_counts_on() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    let records = vec![user(0), channel(0), post(0, 1, "one"), post(0, 2, "two")];
    let expected: Directory = records.iter().collect();
    rig.persist(0, records).unwrap();
    assert_eq!(rig.purge(20), 1);
    assert_eq!(rig.page(0, 0), [(20, "two".into())]);
    assert_eq!(rig.purge(1000), 1);
    assert_eq!(rig.page(0, 0), []);
    rig.running.stop();
    assert_eq!(loaded(dir.path()), expected);
}

#[test]
fn a_second_owner_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = Journal::open(dir.path(), Options::default()).unwrap();
    let id = first.server_id().to_owned();
    assert!(matches!(Journal::open(dir.path(), Options::default()), Err(OpenError::InUse { .. })));
    drop(first);
    assert_eq!(Journal::open(dir.path(), Options::default()).unwrap().server_id(), id);
}
