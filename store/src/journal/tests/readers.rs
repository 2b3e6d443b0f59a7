//! Readers, positions and acknowledgements: the tables hold what the directory does.

use super::*;

/// Stores `records` and compares what is loaded with what they make.
fn check(batches: Vec<Vec<Record>>) -> (tempfile::TempDir, Directory) {
    let dir = tempfile::tempdir().unwrap();
    let expected: Directory = batches.iter().flatten().collect();
    let rig = Rig::open(dir.path());
    for batch in batches {
        rig.persist(0, batch).unwrap();
    }
    rig.running.stop();
    assert_eq!(loaded(dir.path()), expected);
    (dir, expected)
}

fn readers_of_two() -> Vec<Record> {
    let mut records: Vec<Record> = (0..2).flat_map(|id| [user(id), channel(id)]).collect();
    records.extend([reader(0, 0, 0), reader(1, 0, 1), reader(2, 1, 2)]);
    for id in 0..3 {
        records.extend([cursor(id, 0, 5), cursor(id, 1, 6), ack(id, 0, 4, "one"), ack(id, 1, 4, "")]);
    }
    records
}

#[test]
fn positions_and_acknowledgements_are_kept() {
    let (_dir, directory) = check(vec![readers_of_two(), vec![cursor(0, 0, 9), ack(0, 0, 4, "again")]]);
    let reader = directory.reader(ReaderId(0)).unwrap();
    assert_eq!(reader.cursors[&ChannelId(0)].delivered, 9);
    assert_eq!(reader.acks[&ChannelId(0)].len(), 1);
}

#[test]
fn the_newest_acknowledgements_are_kept_in_their_order() {
    let many = (1..=70).map(|seq| ack(0, 0, 71 - seq, "x")).collect();
    // One that is renewed is the newest.
    let (dir, directory) = check(vec![readers_of_two(), many, vec![ack(0, 0, 30, "y"), ack(0, 0, 90, "z")]]);
    let acks = &directory.reader(ReaderId(0)).unwrap().acks[&ChannelId(0)];
    let newest: Vec<u64> = acks.iter().rev().take(3).map(|ack| ack.seq).collect();
    assert_eq!((acks.len(), newest), (64, vec![90, 30, 1]));
    assert_eq!(rows(dir.path(), "acks"), 64 + 5);
}

#[test]
fn what_goes_takes_its_readers_along() {
    let count = |dir: &Path| ["readers", "cursors", "acks"].map(|table| rows(dir, table));
    let removed = Record::UserRemoved { user: UserId(1) };
    let (dir, _) = check(vec![readers_of_two(), vec![removed]]);
    assert_eq!(count(dir.path()), [2, 4, 4]);
    let removed = Record::MachineRemoved { user: UserId(0), machine: MachineId(1) };
    let (dir, _) = check(vec![readers_of_two(), vec![removed]]);
    assert_eq!(count(dir.path()), [2, 4, 4]);
    let deleted = Record::ChannelDeleted { channel: ChannelId(1) };
    let (dir, _) = check(vec![readers_of_two(), vec![deleted]]);
    assert_eq!(count(dir.path()), [3, 3, 3]);
}

#[test]
fn records_about_what_is_gone_change_nothing() {
    let late = vec![cursor(7, 0, 3), ack(7, 0, 3, "x"), cursor(0, 7, 3), ack(0, 7, 3, "x")];
    let (dir, _) = check(vec![readers_of_two(), late]);
    assert_eq!(["cursors", "acks"].map(|table| rows(dir.path(), table)), [6, 6]);
}

#[test]
fn the_identities_of_readers_are_never_given_twice() {
    let (_dir, directory) = check(vec![readers_of_two(), vec![Record::UserRemoved { user: UserId(1) }]]);
    assert_eq!(directory.next_reader(), ReaderId(3));
    let counted = Record::Counted { users: 0, machines: 0, channels: 0, readers: 9 };
    let (_dir, directory) = check(vec![vec![counted]]);
    assert_eq!(directory.next_reader(), ReaderId(9));
}

#[test]
fn damaged_rows_are_named_when_loaded() {
    for (damage, named) in [
        ("UPDATE readers SET handle = 'a/b' WHERE id = 1", "a name cannot contain"),
        ("UPDATE cursors SET seen = -1 WHERE reader = 1", "a number is -1"),
        ("UPDATE acks SET at = 9223372036854775807", "a time is"),
        ("UPDATE meta SET value = 'x' WHERE key = 'next_reader'", "Invalid column type"),
    ] {
        let (dir, _) = check(vec![readers_of_two()]);
        Connection::open(home::database(dir.path())).unwrap().execute_batch(damage).unwrap();
        let error = open(dir.path()).load(&mut drop).unwrap_err();
        assert!(matches!(&error, OpenError::Corrupt { why, .. } if why.contains(named)), "{error}");
    }
}
