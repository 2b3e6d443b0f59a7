//! Backups and restores.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use super::*;

#[test]
fn a_backup_taken_while_posts_go_on_is_one_moment_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let place = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    let id = rig.running.server_id().to_owned();
    rig.persist(0, vec![user(0), channel(0), post(0, 1, "first")]).unwrap();
    let writer = rig.running.writer();
    let posting = thread::spawn(move || {
        for seq in (2..2000).step_by(2) {
            writer.persist(seq, vec![post(0, seq, "a"), post(0, seq + 1, "b")]).unwrap();
        }
    });
    for count in 0..5 {
        backup(dir.path(), &place.path().join(format!("copy{count}"))).unwrap();
    }
    posting.join().unwrap();
    rig.running.stop();

    let mut longest = 1;
    for count in 0..5 {
        let copy = place.path().join(format!("copy{count}"));
        let other = tempfile::tempdir().unwrap();
        restore(&copy, other.path(), Replace::No).unwrap();
        let journal = open(other.path());
        assert_eq!(journal.server_id(), id);
        let mut directory = Directory::default();
        journal.load(&mut |record| directory.apply(&record)).unwrap();
        let last = directory.channel(ChannelId(0)).unwrap().last.seq;
        assert!(last >= longest && last % 2 == 1, "{last} after {longest}: a batch is whole or not there");
        longest = last;
        let rig = Rig::start(journal);
        assert_eq!(rig.read(0, Range::After(0), usize::MAX).len() as u64, last);
        // One file, and nothing beside it.
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 5);
    }
}

#[test]
fn a_backup_has_the_servers_key_and_all_records() {
    let (dir, other, place) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let copy = place.path().join("copy");
    let journal = open(dir.path());
    let key = journal.server_key();
    let records = vec![
        user(0),
        channel(0),
        signed(0, 1, 0, 7, "one"),
        reader(0, 0, 0),
        cursor(0, 0, 1),
        ack(0, 0, 1, "done"),
    ];
    let expected: Directory = records.iter().collect();
    let rig = Rig::start(journal);
    rig.persist(0, records).unwrap();
    let page = rig.read(0, Range::After(0), 10);
    backup(dir.path(), &copy).unwrap();
    restore(&copy, other.path(), Replace::No).unwrap();
    assert_eq!(loaded(other.path()), expected);
    let restored = open(other.path());
    assert_eq!(restored.server_key().expose(), key.expose());
    let rig = Rig::start(restored);
    assert_eq!(rig.read(0, Range::After(0), 10), page);
    let again = rig.outcome(0, vec![signed(0, 2, 0, 7, "one")]);
    assert_eq!(again, Event::AlreadyStored { batch: 0, posts: vec![(0, stamp(1))] });
}

const DIR: &str = "CONCLAVE_TEST_BACKUP_DIR";

#[test]
fn another_process_takes_a_backup_and_the_server_goes_on() {
    let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let rig = Rig::open(dir.path());
    rig.persist(0, vec![user(0), channel(0), post(0, 1, "before")]).unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "journal::tests::copies::child_that_takes_a_backup"])
        .env(DIR, dir.path())
        .env("CONCLAVE_TEST_BACKUP_TO", place.path().join("copy"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    rig.persist(1, vec![post(0, 2, "after")]).unwrap();
    rig.running.stop();
    assert_eq!(Rig::open(dir.path()).page(0, 0).len(), 2);
    let other = tempfile::tempdir().unwrap();
    restore(&place.path().join("copy"), other.path(), Replace::No).unwrap();
    assert_eq!(Rig::open(other.path()).page(0, 0), [(10, "before".into())]);
}

#[test]
#[ignore = "run by the test above, as another process"]
fn child_that_takes_a_backup() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let to = std::env::var_os("CONCLAVE_TEST_BACKUP_TO").unwrap();
    assert!(matches!(Journal::open(Path::new(&dir), Options::default()), Err(OpenError::InUse { .. })));
    backup(Path::new(&dir), Path::new(&to)).unwrap();
}

#[test]
fn a_backup_overwrites_nothing_and_leaves_nothing_half_done() {
    let dir = tempfile::tempdir().unwrap();
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("copy");
    assert!(matches!(backup(dir.path(), &to), Err(OpenError::Io { .. })));
    fs::write(home::database(dir.path()), "garbage".repeat(1000)).unwrap();
    assert!(matches!(backup(dir.path(), &to), Err(OpenError::NotOurs { .. })));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    fs::write(&to, "precious").unwrap();
    assert!(matches!(backup(dir.path(), &to), Err(OpenError::Exists { .. })));
    assert_eq!(fs::read(&to).unwrap(), b"precious");
}

#[test]
fn a_restore_replaces_only_when_told_and_never_what_is_served() {
    let (dir, other, place) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let copy = place.path().join("copy");
    let rig = Rig::open(dir.path());
    rig.persist(0, vec![user(0), channel(0), post(0, 1, "kept")]).unwrap();
    backup(dir.path(), &copy).unwrap();

    let served = Rig::open(other.path());
    served.persist(0, vec![user(0), channel(0), post(0, 1, "old")]).unwrap();
    assert!(matches!(restore(&copy, other.path(), Replace::Yes), Err(OpenError::InUse { .. })));
    // A log is left behind as by a crash: it must not be taken for the new database's.
    let log = other.path().join("conclave.db-wal");
    let left = fs::read(&log).unwrap();
    served.running.stop();
    fs::write(&log, left).unwrap();
    assert!(matches!(restore(&copy, other.path(), Replace::No), Err(OpenError::Occupied { .. })));
    let aside = restore(&copy, other.path(), Replace::Yes).unwrap().unwrap();
    assert_eq!(Rig::open(other.path()).page(0, 0), [(10, "kept".into())]);
    // What was replaced is whole, with what only its log had, and the next restore leaves it alone.
    assert!(restore(&copy, other.path(), Replace::Yes).unwrap().is_some_and(|path| path != aside));
    let third = tempfile::tempdir().unwrap();
    assert_eq!(restore(&aside, third.path(), Replace::No).unwrap(), None);
    assert_eq!(Rig::open(third.path()).page(0, 0), [(10, "old".into())]);
}

#[cfg(unix)]
#[test]
fn what_root_restores_is_the_servers() {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let copy = place.path().join("copy");
    let server = 12_345;
    if chown(dir.path(), Some(server), Some(server)).is_err() {
        // Only root meets the question.
        return;
    }
    let source = tempfile::tempdir().unwrap();
    drop(open(source.path()));
    backup(source.path(), &copy).unwrap();
    for _ in 0..2 {
        restore(&copy, dir.path(), Replace::Yes).unwrap();
        for file in fs::read_dir(dir.path()).unwrap() {
            let file = file.unwrap();
            let found = file.metadata().unwrap();
            assert_eq!((found.uid(), found.gid()), (server, server), "{}", file.path().display());
        }
    }
}

#[test]
fn what_is_damaged_is_replaced_and_kept_as_it_is() {
    let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let copy = place.path().join("copy");
    let rig = Rig::open(dir.path());
    rig.persist(0, vec![user(0), channel(0), post(0, 1, "kept")]).unwrap();
    backup(dir.path(), &copy).unwrap();
    rig.running.stop();
    for broken in [b"garbage".repeat(1000), vec![]] {
        fs::write(home::database(dir.path()), &broken).unwrap();
        let log = dir.path().join("conclave.db-wal");
        fs::write(&log, "some log").unwrap();
        let aside = restore(&copy, dir.path(), Replace::Yes).unwrap().unwrap();
        assert_eq!(fs::read(&aside).unwrap(), broken);
        assert_eq!(Rig::open(dir.path()).page(0, 0), [(10, "kept".into())]);
    }
}

#[test]
fn a_damaged_backup_is_refused_and_the_directory_stays_as_it_was() {
    let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let copy = place.path().join("copy");
    let rig = Rig::open(dir.path());
    let posts = (1..=500).map(|seq| post(0, seq, &"x".repeat(100)));
    rig.persist(0, [user(0), channel(0)].into_iter().chain(posts).collect()).unwrap();
    backup(dir.path(), &copy).unwrap();
    rig.running.stop();
    let whole = fs::read(&copy).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 4096].fill(0xaa);
    let names = || {
        let names = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    for bad in [damaged, whole[..middle].to_vec(), b"garbage".repeat(1000)] {
        fs::write(&copy, bad).unwrap();
        let before = names();
        let refused = restore(&copy, dir.path(), Replace::Yes).unwrap_err().to_string();
        assert!(refused.contains(copy.to_str().unwrap()), "{refused}");
        assert_eq!(names(), before);
        assert_eq!(Rig::open(dir.path()).page(0, 0).len(), 500);
    }
}

#[test]
fn a_restore_that_cannot_keep_what_it_replaces_changes_nothing() {
    let (source, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let copy = source.path().join("copy");
    drop(open(source.path()));
    backup(source.path(), &copy).unwrap();
    // What has the database's name cannot be given a second one.
    fs::create_dir(other.path().join("conclave.db")).unwrap();
    assert!(restore(&copy, other.path(), Replace::Yes).is_err());
    for left in ["conclave.db.restoring", "conclave.db.replaced"] {
        assert!(!other.path().join(left).exists(), "{left} is left");
    }
}

#[test]
fn an_interrupted_restore_is_not_served_but_can_be_repeated() {
    let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let copy = place.path().join("copy");
    drop(open(dir.path()));
    backup(dir.path(), &copy).unwrap();
    fs::write(dir.path().join("conclave.db.restoring"), "half").unwrap();
    let refused = Journal::open(dir.path(), Options::default());
    assert!(matches!(refused, Err(OpenError::UnfinishedRestore { .. })));
    restore(&copy, dir.path(), Replace::Yes).unwrap();
    drop(open(dir.path()));
}

/// A data directory of another user's, and a file of root's outside of it; `None` where this is not root.
#[cfg(unix)]
fn somebody_elses() -> Option<(tempfile::TempDir, tempfile::TempDir, PathBuf)> {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let (dir, roots) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    chown(dir.path(), Some(65_534), Some(65_534)).ok()?;
    let victim = roots.path().join("victim");
    fs::write(&victim, "root's own").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
    Some((dir, roots, victim))
}

#[cfg(unix)]
#[track_caller]
fn untouched(victim: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    assert!(fs::read(victim).unwrap() == b"root's own", "it was overwritten");
    let found = fs::metadata(victim).unwrap();
    assert_eq!((found.uid(), found.mode() & 0o777), (0, 0o600), "it was given away");
}

#[cfg(unix)]
#[test]
fn a_restore_by_root_follows_no_link_out_of_the_directory() {
    use std::os::unix::fs::symlink;
    let source = tempfile::tempdir().unwrap();
    let copy = source.path().join("copy");
    drop(open(source.path()));
    backup(source.path(), &copy).unwrap();
    for planted in ["conclave.lock", "conclave.db.restoring", "conclave.db", "conclave.db-wal"] {
        let Some((dir, _roots, victim)) = somebody_elses() else { return };
        symlink(&victim, dir.path().join(planted)).unwrap();
        let restored = restore(&copy, dir.path(), Replace::Yes);
        untouched(&victim);
        match planted {
            "conclave.lock" | "conclave.db" => {
                let refused = restored.unwrap_err();
                assert!(matches!(refused, OpenError::Foreign { .. }), "{planted}: {refused}");
            }
            // A name that the restore only removes or makes anew is removed.
            _ => assert_eq!(restored.unwrap(), None, "{planted}"),
        }
        // A second name of root's file is as good as a link.
        let Some((dir, roots, victim)) = somebody_elses() else { return };
        if planted == "conclave.lock" && fs::hard_link(&victim, dir.path().join(planted)).is_ok() {
            assert!(matches!(restore(&copy, dir.path(), Replace::Yes), Err(OpenError::Foreign { .. })));
            untouched(&victim);
        }
        drop(roots);
    }
}

#[cfg(unix)]
#[test]
fn a_backup_by_root_follows_no_link_in_either_directory() {
    use std::os::unix::fs::symlink;
    let source = tempfile::tempdir().unwrap();
    drop(open(source.path()));
    let Some((to, _roots, victim)) = somebody_elses() else { return };
    symlink(&victim, to.path().join("copy.part")).unwrap();
    backup(source.path(), &to.path().join("copy")).unwrap();
    untouched(&victim);
    assert_eq!(names(to.path()), ["copy"]);

    let Some((dir, _roots, _)) = somebody_elses() else { return };
    symlink(home::database(source.path()), home::database(dir.path())).unwrap();
    let to = tempfile::tempdir().unwrap();
    let refused = backup(dir.path(), &to.path().join("copy")).unwrap_err();
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");
    assert_eq!(names(to.path()), [""; 0]);
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    names.collect()
}
