//! Databases that an older release made.

use super::*;
use conclave_core::protocol::Token;
use conclave_core::record::MachineId;
use conclave_core::sealed::NewGroup;

/// A database as release 0.1.0 made it: two channels with posts, of which one has lost its first to a purge.
fn first_release(dir: &Path) {
    let connection = Connection::open(home::database(dir)).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.execute_batch(include_str!("../schema/1.sql")).unwrap();
    connection
        .execute_batch(
            "INSERT INTO meta VALUES ('server_id', 'an id');
             UPDATE meta SET value = 1 WHERE key IN ('next_user', 'next_machine');
             UPDATE meta SET value = 2 WHERE key = 'next_channel';
             INSERT INTO users VALUES (0, 'user0', 1);
             INSERT INTO machines VALUES (0, 0, 'box', zeroblob(32), 1);
             INSERT INTO channels VALUES (0, 'channel0', 0, 0, 2, 0, 0), (1, 'channel1', 0, 0, 2, 2, 20);
             INSERT INTO members VALUES (0, 0);
             INSERT INTO messages (channel, ts, seq, sender, kind, body, key_id) VALUES
                 (0, 10, 1, 'user0/box/main', 0, 'one', NULL),
                 (1, 30, 3, 'user0/box/main', 0, 'third', NULL),
                 (0, 20, 2, 'user0/box/main', 1, x'c0de', 'key');
             PRAGMA application_id = 0x636f6e63;
             PRAGMA user_version = 1;",
        )
        .unwrap();
}

/// Everything that a database holds, its schema included.
fn dump(dir: &Path) -> Vec<String> {
    let connection = Connection::open(home::database(dir)).unwrap();
    let column = |sql: &str| {
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>()
    };
    let mut all = column("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY name");
    all.extend(column("SELECT key || quote(value) FROM meta"));
    all.extend(column("SELECT channel || ' ' || ts || ' ' || seq || quote(body) FROM messages ORDER BY id"));
    all.push(
        connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).unwrap().to_string(),
    );
    all
}

#[test]
fn a_database_of_the_first_release_keeps_its_content_and_takes_what_is_new() {
    let dir = tempfile::tempdir().unwrap();
    first_release(dir.path());
    let journal = open(dir.path());
    assert_eq!(journal.server_id(), "an id");
    let key = journal.server_key();
    drop(journal);
    let directory = loaded(dir.path());
    assert_eq!(directory.channel(ChannelId(0)).unwrap().last, stamp(2));
    assert_eq!(directory.channel(ChannelId(1)).unwrap().last, stamp(3));
    assert_eq!(directory.next_channel(), ChannelId(2));

    let journal = open(dir.path());
    assert_eq!(journal.server_key().expose(), key.expose());
    let rig = Rig::start(journal);
    let old = rig.read(0, Range::Since(UnixMillis(0)), 10);
    assert_eq!(old.iter().map(|message| (message.seq, message.ts.0)).collect::<Vec<_>>(), [(1, 10), (2, 20)]);
    assert!(old.iter().all(|message| message.origin == Origin::default()));
    assert!(matches!(&old[1].payload, Payload::Encrypted(sealed) if sealed.key_id.as_deref() == Some("key")));
    rig.persist(0, vec![signed(0, 3, 0, 1, "new"), reader(0, 0, 0), cursor(0, 0, 3), ack(0, 0, 3, "yes")])
        .unwrap();
    let again = rig.outcome(1, vec![signed(0, 4, 0, 1, "new")]);
    assert_eq!(again, Event::AlreadyStored { batch: 1, posts: vec![(0, stamp(3))] });
    let last = rig.read(0, Range::After(1), 10);
    assert_eq!(last.iter().map(|message| message.seq).collect::<Vec<_>>(), [2, 3]);
    rig.running.stop();
    let directory = loaded(dir.path());
    assert_eq!(directory.reader(ReaderId(0)).unwrap().cursors[&ChannelId(0)].delivered, 3);
}

/// A database that release 0.1.0 itself made.
fn made_by_the_first_release(dir: &Path) {
    let connection = Connection::open(home::database(dir)).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.execute_batch(include_str!("fixtures/0.1.0.sql")).unwrap();
}

#[test]
fn what_the_first_release_itself_left_is_all_there() {
    let dir = tempfile::tempdir().unwrap();
    made_by_the_first_release(dir.path());
    let journal = open(dir.path());
    assert_eq!(journal.server_id(), "62d1baa9edbdb117a1068c153e9bc848");
    drop(journal);

    let directory = loaded(dir.path());
    for (id, name, machine) in [(0, "ann", "box"), (1, "bob", "desk"), (2, "cid", "tower")] {
        let (found, user) = directory.user_named(name).unwrap();
        assert_eq!((found, user.machines.len()), (UserId(id), 1));
        assert_eq!(user.machines[0].name.as_str(), machine);
        assert_eq!(directory.machine_with(&user.machines[0].key).unwrap().0, UserId(id));
    }
    let (deploys, channel) = directory.channel_named("deploys").unwrap();
    assert_eq!((deploys, channel.visibility, channel.last.seq), (ChannelId(0), Visibility::Public, 6));
    assert!(channel.banned.contains(&UserId(2)) && channel.members.contains(&UserId(0)));
    let (plans, channel) = directory.channel_named("plans").unwrap();
    assert_eq!((plans, channel.visibility, channel.last.seq), (ChannelId(1), Visibility::Private, 2));
    assert!(channel.members.contains(&UserId(1)) && channel.members.contains(&UserId(2)));
    let (invited, invite) = directory.invite(&Token::new("ZxTdIk_wbwLAKFwl7y3ozmVFAdacuo_t")).unwrap();
    assert_eq!((invited, invite.uses), (plans, Some(3)));
    assert_eq!((directory.channel_named("gone"), directory.next_channel()), (None, ChannelId(3)));

    let rig = Rig::start(open(dir.path()));
    let mut texts = Vec::new();
    for message in rig.read(0, Range::After(0), 10) {
        assert_eq!(message.seq, texts.len() as u64 + 1);
        let Payload::Plain(text) = message.payload else { panic!("{:?}", message.payload) };
        texts.push(text);
    }
    let long = "x".repeat(200_000);
    let written =
        ["message 1", "message 2", "message 3", "grüße 🦀, with a line\nbreak", "after the rename", &*long];
    assert_eq!(texts, written);
    let plans: Vec<_> = rig.read(1, Range::Since(UnixMillis(0)), 10);
    assert_eq!(
        plans.iter().map(|message| message.from.to_string()).collect::<Vec<_>>(),
        ["bob/desk/cli-16077-adb41d88", "cid/tower/cli-16078-695216bf"]
    );
    // What is posted now comes behind it.
    rig.persist(0, vec![signed(0, 7, 0, 1, "new")]).unwrap();
    assert_eq!(rig.read(0, Range::After(6), 10).len(), 1);
    rig.running.stop();
}

#[test]
fn a_database_before_sealed_channels_keeps_its_content_and_takes_their_groups() {
    let dir = tempfile::tempdir().unwrap();
    let connection = Connection::open(home::database(dir.path())).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    for migration in [
        include_str!("../schema/1.sql"),
        include_str!("../schema/2.sql"),
        include_str!("../schema/3.sql"),
        include_str!("../schema/4.sql"),
        include_str!("../schema/5.sql"),
        include_str!("../schema/6.sql"),
        include_str!("../schema/7.sql"),
    ] {
        connection.execute_batch(migration).unwrap();
    }
    connection
        .execute_batch(
            "INSERT INTO meta VALUES ('server_id', 'an id'), ('server_key', zeroblob(32));
             UPDATE meta SET value = 1 WHERE key IN ('next_user', 'next_machine', 'next_channel');
             INSERT INTO users VALUES (0, 'user0', 1);
             INSERT INTO machines VALUES (0, 0, 'box', zeroblob(32), 1);
             INSERT INTO channels VALUES (0, 'channel0', 0, 0, 2, 0, 0);
             INSERT INTO members VALUES (0, 0);
             PRAGMA application_id = 0x636f6e63;
             PRAGMA user_version = 7;",
        )
        .unwrap();
    drop(connection);
    let rig = Rig::start(open(dir.path()));
    let (channel, user, machine) = (ChannelId(0), UserId(0), MachineId(0));
    let blob = |text: &'static str| Opaque(bytes::Bytes::from(text));
    let group = NewGroup::new(3, "group".into()).unwrap();
    rig.persist(
        0,
        vec![
            Record::GroupCreated { channel, group, epoch: 0, info: blob(""), last: None },
            Record::GroupJoined { channel, user, machine },
            Record::WelcomeKept { channel, user, machine, epoch: 1, welcome: blob("welcome") },
            Record::KeyPackagePut { user, machine, package: blob("package"), last_resort: false },
        ],
    )
    .unwrap();
    rig.running.stop();
    let directory = loaded(dir.path());
    let group = directory.group(channel).unwrap();
    assert_eq!((group.made.suite, group.machines.len(), group.removals.len()), (3, 1, 0));
    assert_eq!(group.welcomes[&machine], (1, blob("welcome")));
    assert_eq!(directory.stock(machine).unwrap().packages, [blob("package")]);
}

#[test]
fn a_migrated_database_has_the_schema_of_a_new_one() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    first_release(old.path());
    drop((open(old.path()), open(new.path())));
    let schema = |dir: &Path| -> Vec<String> {
        let connection = Connection::open(home::database(dir)).unwrap();
        let mut statement =
            connection.prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY name").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(schema(old.path()), schema(new.path()));
}

#[test]
fn a_database_that_cannot_be_migrated_is_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    first_release(dir.path());
    // One number twice in a channel: the old schema did not forbid it.
    Connection::open(home::database(dir.path()))
        .unwrap()
        .execute_batch("UPDATE messages SET seq = 1 WHERE channel = 0")
        .unwrap();
    let before = dump(dir.path());
    for _ in 0..2 {
        let error = Journal::open(dir.path(), Options::default()).err().unwrap();
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
        assert_eq!(dump(dir.path()), before);
    }
}

#[test]
fn every_data_directory_has_a_key_of_its_own_that_stays() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let key = |dir: &Path| open(dir).server_key().expose();
    let first = key(one.path());
    assert_eq!(key(one.path()), first);
    assert_ne!(key(two.path()), first);
    for (damage, named) in [
        ("UPDATE meta SET value = x'00' WHERE key = 'server_key'", "its server key is not 32 bytes"),
        ("DELETE FROM meta WHERE key = 'server_key'", "it has no server key"),
    ] {
        Connection::open(home::database(one.path())).unwrap().execute_batch(damage).unwrap();
        let error = Journal::open(one.path(), Options::default()).err().unwrap();
        assert!(matches!(&error, OpenError::Corrupt { why, .. } if why == named), "{error}");
    }
}
