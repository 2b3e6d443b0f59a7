//! The journal from outside: what its users may rely on.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use conclave_core::directory::Directory;
use conclave_core::hub::Range;
use conclave_core::name::{ChannelName, Handle, SessionPath, UserName};
use conclave_core::opaque::Opaque;
use conclave_core::payload::Payload;
use conclave_core::protocol::{Stamped, Visibility};
use conclave_core::record::{Ack, ChannelId, Cursor, MachineId, ReaderId, Record, Stamp, UserId};
use conclave_core::stream::{MessageId, Origin, Signed};
use conclave_core::time::UnixMillis;

use super::*;

mod copies;
mod damage;
mod duplicates;
mod faults;
mod migration;
mod model;
mod ranges;
mod readers;
mod trail;

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
        Self::start(open(dir))
    }

    fn warning(&self) -> StoreError {
        match self.events.recv().unwrap() {
            Event::Warning(error) => error,
            event => panic!("{event:?}"),
        }
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

    /// What became of a batch.
    fn outcome(&self, batch: u64, records: Vec<Record>) -> Event {
        self.running.writer().persist(batch, records).unwrap();
        self.events.recv().unwrap()
    }

    fn read(&self, channel: u64, range: Range, max_rows: usize) -> Vec<Stamped> {
        let request = Request { channel: ChannelId(channel), range, max_rows, max_bytes: 1 << 20 };
        self.running.history().read_and_wait(request).unwrap()
    }

    fn page(&self, channel: u64, since: i64) -> Vec<(i64, String)> {
        let page = self.read(channel, Range::Since(UnixMillis(since)), 500);
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

fn open(dir: &Path) -> Journal {
    Journal::open(dir, Options::default()).unwrap()
}

fn text(payload: &Payload) -> String {
    match payload {
        Payload::Plain(text) => text.clone(),
        Payload::Body(body) => String::from_utf8(body.to_vec()).unwrap(),
        Payload::Encrypted(_) => panic!("it was posted in the plain"),
    }
}

/// The stamp that `post` gives.
fn stamp(seq: u64) -> Stamp {
    Stamp { seq, ts: UnixMillis(seq as i64 * 10) }
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
        stamp: stamp(seq),
        from: Arc::new(SessionPath::new("user0", "box", "main").unwrap()),
        payload: Arc::new(Payload::Plain(body.into())),
        origin: Origin::default(),
    }
}

/// A post of version 2 by a user, under an id.
fn signed(channel: u64, seq: u64, user: u64, id: u8, body: &str) -> Record {
    let Record::Posted { channel, stamp, from, .. } = post(channel, seq, body) else { unreachable!() };
    let signed = Signed {
        id: MessageId([id; 16]),
        signature: Opaque([id ^ 0xff; 64]),
        acknowledge: id.is_multiple_of(2),
    };
    Record::Posted {
        channel,
        stamp,
        from,
        payload: Arc::new(Payload::Body(body.as_bytes().to_vec().into())),
        origin: Origin {
            sender: Some((UserId(user), MachineId(user))),
            signed: Some(Arc::new(signed)),
            expires: id.is_multiple_of(3).then_some(UnixMillis(77)),
        },
    }
}

fn reader(id: u64, user: u64, machine: u64) -> Record {
    Record::ReaderAdded {
        reader: ReaderId(id),
        user: UserId(user),
        machine: MachineId(machine),
        handle: Handle::new(&format!("reader{id}")).unwrap(),
        at: UnixMillis(3),
    }
}

fn cursor(reader: u64, channel: u64, delivered: u64) -> Record {
    let at = UnixMillis(delivered as i64);
    let cursor = Cursor { since: 1, delivered, delivered_at: at, seen: delivered / 2, seen_at: at };
    Record::CursorMoved { reader: ReaderId(reader), channel: ChannelId(channel), cursor }
}

fn ack(reader: u64, channel: u64, seq: u64, word: &str) -> Record {
    let ack = Ack { seq, word: Opaque(word.into()), at: UnixMillis(7) };
    Record::Acknowledged { reader: ReaderId(reader), channel: ChannelId(channel), ack }
}

/// How many rows a table of a stopped journal has.
fn rows(dir: &Path, table: &str) -> usize {
    let connection = Connection::open(home::database(dir)).unwrap();
    let sql = format!("SELECT count(*) FROM {table}");
    connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap() as usize
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

#[test]
fn everything_queued_is_answered_before_the_end_and_nothing_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let Rig { running, events } = Rig::open(dir.path());
    let (writer, history) = (running.writer(), running.history());
    for batch in 0..50 {
        writer.persist(batch, vec![post(0, batch + 1, "x")]).unwrap();
    }
    running.stop();
    let answered: Vec<_> = events
        .into_iter()
        .map(|event| match event {
            Event::Persisted { batch, result: Ok(_) } => batch,
            event => panic!("{event:?}"),
        })
        .collect();
    assert_eq!(answered, (0..50).collect::<Vec<_>>());
    assert_eq!(writer.persist(50, Vec::new()), Err(StoreError::Closed));
    let request = Request { channel: ChannelId(0), range: Range::After(0), max_rows: 1, max_bytes: 1 };
    assert_eq!(history.read_and_wait(request), Err(StoreError::Closed));
    assert_eq!(Rig::open(dir.path()).page(0, 0).len(), 50);
}

#[test]
fn a_journal_that_was_stopped_is_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    rig.persist(0, vec![user(0)]).unwrap();
    rig.running.stop();
    let mut files: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["conclave.db", "conclave.lock"]);
}

#[test]
fn commits_wait_for_the_disk_also_after_a_purge() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    let posts = (1..=1000).map(|seq| post(0, seq, "x"));
    rig.persist(0, [user(0), channel(0)].into_iter().chain(posts).collect()).unwrap();
    rig.running.stop();
    let journal = open(dir.path());
    let full = |connection: &Connection| {
        let pragma = |name: &str| {
            let sql = format!("PRAGMA {name}");
            connection.query_row(&sql, [], |row| row.get::<_, rusqlite::types::Value>(0)).unwrap()
        };
        pragma("synchronous") == 2.into() && pragma("journal_mode") == "wal".to_owned().into()
    };
    assert!(full(&journal.connection));
    let mut purge = purge::Purge::default();
    purge.sweep(UnixMillis(9_000));
    let mut steps = 0;
    while purge.is_due() {
        purge.step(&journal.connection, &journal.options).unwrap();
        assert!(full(&journal.connection));
        steps += 1;
    }
    assert!(steps > 5, "{steps}");
    // One that fails, too; and the connection that takes the place of one that failed.
    journal
        .connection
        .execute_batch("CREATE TRIGGER t BEFORE DELETE ON messages BEGIN SELECT RAISE(ABORT, 'x'); END")
        .unwrap();
    purge.sweep(UnixMillis(i64::MAX));
    assert!(purge.step(&journal.connection, &journal.options).is_err());
    assert!(full(&journal.connection));
    assert!(full(&schema::reopen(&journal.file, &journal.options).unwrap()));
}

#[test]
fn an_ephemeral_journal_leaves_nothing_behind() {
    let elsewhere = Path::new("/nowhere/at/all");
    let journal = Journal::open(elsewhere, Options { ephemeral: true, ..Options::default() }).unwrap();
    let dir = journal.dir().to_path_buf();
    assert!(dir.exists() && !elsewhere.exists());
    let rig = Rig::start(journal);
    if cfg!(unix) {
        assert!(!dir.exists(), "a kill would leave it");
    }
    rig.persist(0, vec![user(0), channel(0)]).unwrap();
    // Long enough for the log to be moved into the database, some times over.
    let body = "x".repeat(4000);
    for batch in 1..=200 {
        let posts = (batch * 50..batch * 50 + 50).map(|seq| post(0, seq, &body));
        rig.persist(batch, posts.collect()).unwrap();
    }
    assert_eq!(rig.purge(100_000), 9950);
    let page = rig.page(0, 0);
    assert_eq!((page.len(), page[0].0), (50, 100_000));
    rig.running.stop();
    assert!(!dir.exists());
}

#[test]
fn the_messages_of_a_deleted_channel_are_purged_even_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    let posts = (1..=1000).map(|seq| post(0, seq, "x"));
    rig.persist(0, [user(0), channel(0)].into_iter().chain(posts).collect()).unwrap();
    rig.persist(1, vec![Record::ChannelDeleted { channel: ChannelId(0) }]).unwrap();
    rig.running.stop();
    let rig = Rig::open(dir.path());
    // What is left of deleted channels goes before what is old.
    rig.purge(0);
    assert_eq!(rig.page(0, 0), []);
    rig.running.stop();
    assert_eq!(rows(dir.path(), "messages"), 0);
    assert_eq!(rows(dir.path(), "deleted_channels"), 0);
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_the_data() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("a/b");
    let rig = Rig::open(&dir);
    rig.persist(0, vec![user(0)]).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for file in ["conclave.db", "conclave.db-wal", "conclave.lock"] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
}
