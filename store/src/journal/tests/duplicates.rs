//! The same message id from the same user in the same channel is the same message.

use super::*;

fn already(batch: u64, posts: &[(usize, u64)]) -> Event {
    Event::AlreadyStored { batch, posts: posts.iter().map(|(at, seq)| (*at, stamp(*seq))).collect() }
}

fn bodies(rig: &Rig, channel: u64) -> Vec<String> {
    rig.read(channel, Range::After(0), 100).iter().map(|message| text(&message.payload)).collect()
}

#[test]
fn what_a_sender_gave_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    let records = vec![post(0, 1, "old"), signed(0, 2, 5, 8, "new"), signed(0, 3, 5, 9, "newer")];
    rig.persist(0, records.clone()).unwrap();
    let page = rig.read(0, Range::After(0), 10);
    assert_eq!(page.len(), 3);
    for (message, record) in page.into_iter().zip(records) {
        let Record::Posted { stamp, from, payload, origin, .. } = record else { unreachable!() };
        let (from, payload) = (SessionPath::clone(&from), Payload::clone(&payload));
        assert_eq!(message, Stamped { from, ts: stamp.ts, payload, seq: stamp.seq, origin });
    }
}

#[test]
fn a_post_that_is_stored_already_is_told_with_its_place_and_nothing_of_its_batch_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    rig.persist(0, vec![user(0), channel(0), signed(0, 1, 0, 1, "one"), signed(0, 2, 0, 2, "two")]).unwrap();
    let again = vec![
        signed(0, 3, 0, 2, "two"),
        user(1),
        signed(0, 4, 0, 3, "three"),
        post(0, 5, "from version 1"),
        signed(0, 6, 0, 1, "one"),
        Record::ChannelDeleted { channel: ChannelId(0) },
    ];
    assert_eq!(rig.outcome(1, again), already(1, &[(0, 2), (4, 1)]));
    assert_eq!(bodies(&rig, 0), ["one", "two"]);
    // The channel whose deletion was taken back with the rest is not purged.
    assert_eq!(rig.purge(0), 0);
    assert_eq!(bodies(&rig, 0), ["one", "two"]);
    rig.persist(2, vec![user(1), signed(0, 3, 0, 3, "three")]).unwrap();
    rig.running.stop();

    let directory = loaded(dir.path());
    assert_eq!((directory.user_count(), directory.channel_count()), (2, 1));
    let rig = Rig::open(dir.path());
    assert_eq!(bodies(&rig, 0), ["one", "two", "three"]);
    assert_eq!(rig.outcome(3, vec![signed(0, 4, 0, 3, "three")]), already(3, &[(0, 3)]));
}

#[test]
fn the_same_id_of_another_user_or_in_another_channel_is_another_message() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    rig.persist(0, vec![signed(0, 1, 0, 1, "one")]).unwrap();
    rig.persist(1, vec![signed(0, 2, 1, 1, "other user"), signed(1, 1, 0, 1, "other channel")]).unwrap();
    assert_eq!(bodies(&rig, 0), ["one", "other user"]);
    assert_eq!(bodies(&rig, 1), ["other channel"]);
}

#[test]
fn a_message_that_was_purged_is_stored_again_as_new() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    rig.persist(0, vec![signed(0, 1, 0, 1, "one"), signed(0, 2, 0, 2, "two")]).unwrap();
    assert_eq!(rig.purge(20), 1);
    assert_eq!(rig.outcome(1, vec![signed(0, 3, 0, 2, "two")]), already(1, &[(0, 2)]));
    rig.persist(2, vec![signed(0, 3, 0, 1, "one")]).unwrap();
    assert_eq!(bodies(&rig, 0), ["two", "one"]);
}

#[test]
fn a_batch_with_one_message_twice_contradicts_itself() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    let twice = rig.persist(0, vec![signed(0, 1, 0, 1, "one"), signed(0, 2, 0, 1, "one")]);
    assert!(matches!(twice, Err(StoreError::Contradiction(_))), "{twice:?}");
    assert_eq!(bodies(&rig, 0), Vec::<String>::new());
    rig.persist(1, vec![signed(0, 1, 0, 1, "one")]).unwrap();
    let twice = vec![signed(0, 2, 0, 1, "one"), signed(0, 3, 0, 1, "one")];
    assert_eq!(rig.outcome(2, twice), already(2, &[(0, 1), (1, 1)]));
}

#[test]
fn of_batches_that_waited_together_only_those_with_duplicates_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (sender, events) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let running = open(dir.path())
        .start(move |event| {
            sender.send(event).unwrap();
            // Holds the writer until all that is to wait together does.
            let _ = held.lock().unwrap().recv();
        })
        .unwrap();
    let writer = running.writer();
    let outcome = || events.recv().unwrap();
    let stored = |event| matches!(event, Event::Persisted { result: Ok(_), .. });
    writer.persist(0, vec![signed(0, 1, 0, 1, "one")]).unwrap();
    assert!(stored(outcome()));
    let channel_deleted = Record::ChannelDeleted { channel: ChannelId(1) };
    writer.persist(1, vec![channel(1), post(1, 1, "kept"), signed(0, 2, 0, 2, "two")]).unwrap();
    writer.persist(2, vec![channel_deleted, signed(0, 3, 0, 1, "one")]).unwrap();
    // A duplicate of one that waits with it.
    writer.persist(3, vec![signed(0, 3, 0, 3, "three"), signed(0, 4, 0, 2, "two")]).unwrap();
    writer.persist(4, vec![signed(0, 3, 0, 4, "four")]).unwrap();
    drop(release);
    assert!(stored(outcome()));
    assert_eq!([outcome(), outcome()], [already(2, &[(1, 1)]), already(3, &[(1, 2)])]);
    assert!(stored(outcome()));
    drop(running);
    let rig = Rig::open(dir.path());
    assert_eq!(bodies(&rig, 0), ["one", "two", "four"]);
    assert_eq!(bodies(&rig, 1), ["kept"]);
}

#[test]
fn no_error_shows_an_id_or_what_was_posted() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    rig.persist(0, vec![signed(0, 1, 0, b'q', "secret")]).unwrap();
    for again in [vec![signed(0, 1, 0, b'r', "secret")], vec![signed(0, 2, 0, b's', "secret"); 2]] {
        let error = rig.persist(1, again).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("secret") && !shown.contains("rrr") && !shown.contains("sss"), "{shown}");
    }
}
