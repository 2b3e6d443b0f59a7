//! Files torn by a crash or damaged by a disk.

use std::fs;

use proptest::prelude::*;

use super::*;

const BATCHES: u64 = 12;

/// The database and its log as a crash would leave them, and how long the log was after each batch.
fn crashed() -> (Vec<u8>, Vec<u8>, Vec<usize>) {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    let log = dir.path().join("conclave.db-wal");
    let mut lengths = Vec::new();
    for batch in 0..BATCHES {
        let mut records = vec![post(0, batch * 2 + 1, &"x".repeat(700)), post(0, batch * 2 + 2, "y")];
        if batch == 0 {
            records.extend([user(0), channel(0)]);
        }
        rig.persist(batch, records).unwrap();
        lengths.push(fs::metadata(&log).unwrap().len() as usize);
    }
    let files = (fs::read(home::database(dir.path())).unwrap(), fs::read(log).unwrap(), lengths);
    rig.running.stop();
    files
}

#[test]
fn a_search_by_time_ends_whatever_numbers_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    rig.persist(0, vec![user(0), channel(0), post(0, 1, "one"), post(0, 2, "two")]).unwrap();
    rig.running.stop();
    for numbers in ["-1, 0", "-9, -8", "-9223372036854775808, 9223372036854775807", "-1, 5"] {
        let (first, second) = numbers.split_once(", ").unwrap();
        let damage = format!(
            "UPDATE messages SET seq = {first} WHERE body = 'one'; UPDATE messages SET seq = {second} WHERE body = 'two'"
        );
        Connection::open(home::database(dir.path())).unwrap().execute_batch(&damage).unwrap();
        let journal = open(dir.path());
        let rig = Rig::start(journal);
        for since in [0, 10, 20] {
            rig.page(0, since);
        }
        rig.running.stop();
    }
}

#[derive(Clone, Debug)]
enum Tear {
    Cut,
    Flip(u8),
    Zero(usize),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn a_torn_log_keeps_every_batch_before_the_tear(
        tears in prop::collection::vec(
            (any::<prop::sample::Index>(), prop_oneof![
                Just(Tear::Cut),
                (1_u8..).prop_map(Tear::Flip),
                (1_usize..10_000).prop_map(Tear::Zero),
            ]),
            16,
        )
    ) {
        let (database, log, lengths) = crashed();
        for (at, tear) in tears {
            let at = at.index(log.len());
            let mut torn = log.clone();
            match tear {
                Tear::Cut => torn.truncate(at),
                Tear::Flip(bits) => torn[at] ^= bits,
                Tear::Zero(count) => torn[at..].iter_mut().take(count).for_each(|byte| *byte = 0),
            }
            let dir = tempfile::tempdir().unwrap();
            fs::write(home::database(dir.path()), &database).unwrap();
            fs::write(dir.path().join("conclave.db-wal"), torn).unwrap();
            let page = Rig::open(dir.path()).page(0, 0);
            let whole = lengths.iter().filter(|length| **length <= at).count();
            prop_assert!(page.len() >= whole * 2, "{} rows of {whole} batches", page.len());
            prop_assert_eq!(page.len() % 2, 0, "a batch is whole or not there");
            for (row, seq) in page.iter().zip(1..) {
                prop_assert_eq!(row.0, seq * 10);
            }
        }
    }

    /// Whatever a file holds, it is refused, or served as far as it can be read.
    #[test]
    fn a_damaged_database_is_an_error_and_no_panic(
        damages in prop::collection::vec(
            prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
            24,
        )
    ) {
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::open(dir.path());
        let mut records: Vec<_> = (0..50).map(user).chain((0..50).map(channel)).collect();
        records.extend((1..=200).map(|seq| {
            let body = "x".repeat(seq as usize);
            let old = seq % 3 == 0;
            if old { post(seq % 50, seq, &body) } else { signed(seq % 50, seq, seq % 50, seq as u8, &body) }
        }));
        records.extend((0..50).map(|id| reader(id, id, id)));
        records.extend((0..50).flat_map(|id| [cursor(id, id, 3), ack(id, id, 1, "thanks"), ack(id, 0, 2, "")]));
        rig.persist(0, records).unwrap();
        rig.running.stop();
        let whole = fs::read(home::database(dir.path())).unwrap();
        for damage in damages {
            let mut damaged = whole.clone();
            for (at, byte) in damage {
                let at = at.index(damaged.len());
                damaged[at] = byte;
            }
            fs::write(home::database(dir.path()), damaged).unwrap();
            let _ = fs::remove_file(dir.path().join("conclave.db-wal"));
            let Ok(journal) = Journal::open(dir.path(), Options::default()) else { continue };
            let mut directory = Directory::default();
            let _ = journal.load(&mut |record| directory.apply(&record));
            let Ok(running) = journal.start(drop) else { continue };
            let _ = running.writer().persist(0, vec![post(0, 1_000, "more"), user(1_000)]);
            let _ = running.writer().persist(1, vec![signed(1, 1_000, 1, 1, "again"), signed(1, 1_001, 1, 200, "new")]);
            let _ = running.writer().persist(2, vec![cursor(2, 2, 4), ack(2, 2, 2, "done")]);
            let _ = running.writer().persist(3, vec![Record::UserRemoved { user: UserId(3) }]);
            running.writer().purge_older_than(UnixMillis(1_000));
            for channel in 0..50 {
                for range in [Range::Since(UnixMillis(500)), Range::After(2), Range::Before(100)] {
                    let channel = ChannelId(channel);
                    let request = Request { channel, range, max_rows: 500, max_bytes: 1 << 20 };
                    let _ = running.history().read_and_wait(request);
                }
            }
        }
    }
}
