//! Batches that cannot be stored: nothing of them stays, all that was acknowledged does, and the next works.

use super::*;

fn kilobytes(count: usize) -> String {
    "x".repeat(count * 1024)
}

#[test]
fn a_full_database_refuses_whole_batches_until_something_is_purged() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { max_size: Some(512 * 1024), ..Options::default() };
    let rig = Rig::start(Journal::open(dir.path(), options).unwrap());
    rig.persist(0, vec![user(0), channel(0)]).unwrap();
    let mut stored = 0;
    let failed = (1..100).find_map(|seq| {
        let result = rig.persist(seq, vec![post(0, seq, &kilobytes(20))]);
        stored += u64::from(result.is_ok());
        result.err()
    });
    assert_eq!(failed, Some(StoreError::Full));
    assert!(stored > 5);
    let batch = vec![user(1), post(0, stored + 1, "small"), post(0, stored + 2, &kilobytes(40))];
    assert_eq!(rig.persist(200, batch), Err(StoreError::Full));
    assert_eq!(rig.page(0, 0).len() as u64, stored);
    assert_eq!(rig.purge(i64::MAX), stored);
    rig.persist(201, vec![post(0, stored + 1, &kilobytes(40))]).unwrap();
    assert_eq!(rig.page(0, 0).len(), 1);
    rig.running.stop();
    let directory = loaded(dir.path());
    assert_eq!(directory.user_count(), 1);
    assert_eq!(directory.channel(ChannelId(0)).unwrap().last.seq, stored + 1);
}

#[test]
fn a_batch_that_contradicts_what_is_stored_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    rig.persist(0, vec![user(0), channel(0), post(0, 1, "one")]).unwrap();
    let twice = rig.persist(1, vec![user(1), post(0, 2, "two"), post(0, 1, "one again")]);
    assert!(matches!(twice, Err(StoreError::Contradiction(_))), "{twice:?}");
    rig.persist(2, vec![user(1), post(0, 2, "two")]).unwrap();
    assert_eq!(rig.page(0, 0), [(10, "one".into()), (20, "two".into())]);
}

#[test]
fn batches_that_waited_together_fail_together_and_the_next_works() {
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
    let outcome = || match events.recv().unwrap() {
        Event::Persisted { batch, result } => (batch, result.is_ok()),
        event => panic!("{event:?}"),
    };
    writer.persist(0, vec![post(0, 1, "one")]).unwrap();
    assert_eq!(outcome(), (0, true));
    writer.persist(1, vec![post(0, 2, "two")]).unwrap();
    writer.persist(2, vec![post(0, 1, "one again")]).unwrap();
    writer.persist(3, vec![post(0, 3, "three")]).unwrap();
    drop(release);
    assert_eq!([outcome(), outcome(), outcome()], [(1, false), (2, false), (3, false)]);
    writer.persist(4, vec![post(0, 2, "two")]).unwrap();
    assert_eq!(outcome(), (4, true));
    drop(running);
    assert_eq!(Rig::open(dir.path()).page(0, 0).len(), 2);
}

#[test]
fn no_error_shows_what_was_posted() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    rig.persist(0, vec![post(0, 1, "secret")]).unwrap();
    let error = rig.persist(1, vec![post(0, 1, "secret")]).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"));
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for place in [file.as_path(), &file.join("below")] {
        let error = Journal::open(place, Options::default()).err().unwrap();
        assert!(matches!(&error, OpenError::Unwritable { dir, .. } if dir == place), "{error}");
        assert!(error.to_string().contains(&place.display().to_string()));
    }
    let taken = dir.path().join("taken");
    std::fs::create_dir_all(taken.join("conclave.db")).unwrap();
    assert!(Journal::open(&taken, Options::default()).is_err());
}

#[test]
fn what_is_not_ours_or_too_new_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = home::database(dir.path());
    let refused = || Journal::open(dir.path(), Options::default()).err().unwrap();

    std::fs::write(&file, "no database at all, but long enough to be looked at".repeat(100)).unwrap();
    let before = std::fs::read(&file).unwrap();
    assert!(matches!(refused(), OpenError::NotOurs { .. }));
    assert_eq!(std::fs::read(&file).unwrap(), before);

    std::fs::remove_file(&file).unwrap();
    Connection::open(&file).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let before = std::fs::read(&file).unwrap();
    assert!(matches!(refused(), OpenError::NotOurs { .. }));
    assert_eq!(std::fs::read(&file).unwrap(), before);

    std::fs::remove_file(&file).unwrap();
    drop(open(dir.path()));
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 1000).unwrap();
    assert!(matches!(refused(), OpenError::NewerSchema { found: 1000, known: 8, .. }));

    std::fs::write(&file, "").unwrap();
    drop(open(dir.path()));
}

#[test]
fn rows_that_make_no_message_are_left_out_and_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    let signed = (6..=12).map(|seq| signed(0, seq, 0, seq as u8, "x"));
    rig.persist(0, (1..=5).map(|seq| post(0, seq, "x")).chain(signed).collect()).unwrap();
    Connection::open(home::database(dir.path()))
        .unwrap()
        .execute_batch(
            "UPDATE messages SET sender = 'nobody' WHERE seq = 2;
             UPDATE messages SET kind = 7 WHERE seq = 3;
             UPDATE messages SET body = x'00' WHERE seq = 4;
             UPDATE messages SET machine = NULL WHERE seq = 6;
             UPDATE messages SET machine = -1 WHERE seq = 7;
             UPDATE messages SET message_id = x'00' WHERE seq = 8;
             UPDATE messages SET signature = NULL WHERE seq = 9;
             UPDATE messages SET flags = NULL WHERE seq = 10;
             UPDATE messages SET body = 'text' WHERE seq = 11;",
        )
        .unwrap();
    let read = |range| rig.read(0, range, 3).iter().map(|message| message.seq).collect::<Vec<_>>();
    for range in [Range::Since(UnixMillis(0)), Range::After(0), Range::Before(13)] {
        assert_eq!(read(range), [1, 5, 12]);
        let why = rig.warning();
        assert!(
            matches!(&why, StoreError::Corrupt(why) if why.starts_with("9 messages of channel 0")),
            "{why}"
        );
    }
}

/// The system's own limit on a file's size is a disk that fails in the middle of a write.
#[cfg(unix)]
mod limited {
    use super::*;
    use std::process::Command;

    const DIR: &str = "CONCLAVE_TEST_LIMITED_DIR";

    #[test]
    fn a_failing_disk_loses_nothing_that_was_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let test = "journal::tests::faults::limited::child_that_posts_until_the_disk_fails";
        let output = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$0\" --exact --ignored --nocapture \"$1\""])
            .arg(std::env::current_exe().unwrap())
            .arg(test)
            .env(DIR, dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
        let stored = said.lines().find_map(|line| line.strip_prefix("stored ")).unwrap();
        let rig = Rig::open(dir.path());
        let page = rig.page(0, 0);
        assert_eq!(page.len().to_string(), stored);
        rig.persist(0, vec![post(0, page.len() as u64 + 1, &kilobytes(1500))]).unwrap();
    }

    #[test]
    #[ignore = "run by the test above, under a limit"]
    fn child_that_posts_until_the_disk_fails() {
        let Some(dir) = std::env::var_os(DIR) else { return };
        let rig = Rig::open(Path::new(&dir));
        let mut stored = 0;
        // One too large again and again, with one that fits behind it.
        for batch in 0..100 {
            let size = if batch % 3 == 2 { 1500 } else { 1 };
            match rig.persist(batch, vec![post(0, stored + 1, &kilobytes(size))]) {
                Ok(_) => stored += 1,
                Err(error) => assert!(matches!(error, StoreError::Full | StoreError::Io(_)), "{error:?}"),
            }
        }
        assert_eq!(stored, 67);
        assert_eq!(rig.page(0, 0).len() as u64, stored);
        #[allow(clippy::print_stdout, reason = "the parent reads it")]
        {
            println!("\nstored {stored}");
        }
    }
}
