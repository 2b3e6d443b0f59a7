//! Copies made, put back and refused; and what a data directory may hold.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use conclave_core::name::SessionPath;
use conclave_core::payload::Payload;
use conclave_core::protocol::Visibility;
use conclave_core::record::{ChannelId, MachineId, Record, Stamp, UserId};
use conclave_core::stream::Origin;
use conclave_core::time::UnixMillis;
use conclave_core::wire::v1::Frame;
use conclave_store::journal::{Event, Journal, Options};
use conclave_tests::client::{Dial, PATIENCE, Peer, Socket, key, post};

use super::process::{Served, history, program, run, serve, with_a_post};

#[test]
fn a_copy_made_while_it_serves_is_whole_and_serves_elsewhere() {
    let base = tempfile::tempdir().unwrap();
    let (dir, copy, other) =
        (base.path().join("data"), base.path().join("copy.db"), base.path().join("other"));
    let mut server = Served::start(serve(&dir));
    let mut ann = with_a_post(&server, "0");
    let poster = std::thread::spawn(move || {
        // Until the server is killed, one after another.
        for count in 1.. {
            ann.send(&post("c", &count.to_string()));
            if ann.next().is_none() {
                return count;
            }
        }
        0
    });
    let start = Instant::now();
    let mut before = 0;
    while before < 100 {
        before = history(&server).len();
        assert!(start.elapsed() < PATIENCE, "nothing is posted");
    }
    let (code, _, err) = run(program().arg("backup").arg("--data-dir").arg(&dir).arg(&copy));
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = run(program().arg("backup").arg("--data-dir").arg(&dir).arg(&copy));
    assert_eq!(code, 1, "a file that exists is overwritten: {err}");
    let restore = |into: &Path| run(program().arg("restore").arg("--data-dir").arg(into).arg(&copy));
    assert_eq!(restore(&dir).0, 1, "what is served is overwritten");
    server.kill();
    let posted = poster.join().unwrap();
    assert_eq!(restore(&dir).0, 1, "what is there is overwritten");
    let (code, _, err) = restore(&other);
    assert_eq!(code, 0, "{err}");
    let restored = Served::start(serve(&other));
    let kept = history(&restored);
    assert!((before..=posted).contains(&kept.len()), "{before} then {} of {posted}", kept.len());
    assert!(kept.iter().enumerate().all(|(nth, text)| *text == nth.to_string()));
    let mut ann = Peer::connect(restored.address, "ann", "s");
    ann.join("c");
    ann.post("c", "and on");
    // A copy is the same server.
    let id = |server: &Served| {
        let socket = Socket::dial(&Dial::plain(server.address)).unwrap();
        socket.header("x-conclave-server-id").map(str::to_owned)
    };
    assert_eq!(id(&restored), id(&Served::start(serve(&dir))));
}

#[test]
fn a_restore_replaces_when_it_is_told_to_and_keeps_what_was_there() {
    let base = tempfile::tempdir().unwrap();
    let (dir, copy) = (base.path().join("data"), base.path().join("copy.db"));
    let server = Served::start(serve(&dir));
    let mut ann = with_a_post(&server, "before");
    let (code, _, err) = run(program().arg("backup").arg("--data-dir").arg(&dir).arg(&copy));
    assert_eq!(code, 0, "{err}");
    ann.post("c", "after");
    drop(ann);
    server.stop();
    let restore = |more: &[&str], from: &Path| {
        run(program().arg("restore").args(more).arg("--data-dir").arg(&dir).arg(from))
    };
    let (code, _, err) = restore(&[], &copy);
    assert!(code == 1 && err.contains(" next: ") && err.contains("--replace"), "{err}");
    let broken = base.path().join("broken.db");
    fs::write(&broken, &fs::read(&copy).unwrap()[..9000]).unwrap();
    for from in [&broken, &base.path().join("absent.db")] {
        let (code, _, err) = restore(&["--replace"], from);
        assert!(code == 1 && err.contains(" next: "), "{err}");
        assert_eq!(history(&Served::start(serve(&dir))), ["before", "after"]);
    }
    let (code, _, err) = restore(&["--replace"], &copy);
    assert_eq!(code, 0, "{err}");
    let kept = err.split("what was there is kept as ").nth(1).unwrap().split(": ").next().unwrap();
    assert_eq!(history(&Served::start(serve(&dir))), ["before"]);
    let (code, _, err) = restore(&["--replace"], Path::new(kept));
    assert_eq!(code, 0, "{err}");
    assert_eq!(history(&Served::start(serve(&dir))), ["before", "after"]);
}

#[test]
fn a_newer_data_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(serve(dir.path()));
    drop(with_a_post(&server, "text"));
    server.stop();
    // SQLite keeps the schema's version at this place of a file's header.
    let file = dir.path().join("conclave.db");
    let mut bytes = fs::read(&file).unwrap();
    let known = u32::from_be_bytes(bytes[60..64].try_into().unwrap());
    bytes[60..64].copy_from_slice(&(known + 1).to_be_bytes());
    fs::write(&file, &bytes).unwrap();
    let (code, _, err) = run(&mut serve(dir.path()));
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("newer") && err.contains(&(known + 1).to_string()), "{err}");
    assert_eq!(fs::read(&file).unwrap(), bytes, "what is refused is left alone");
    bytes[60..64].copy_from_slice(&known.to_be_bytes());
    fs::write(&file, &bytes).unwrap();
    assert_eq!(history(&Served::start(serve(dir.path()))), ["text"]);
}

#[test]
fn stamps_go_on_from_those_of_a_clock_that_was_set_back() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let tomorrow = i64::try_from(now.as_millis()).unwrap() + 86_400_000;
    let (user, channel, at) = (UserId(0), ChannelId(0), UnixMillis(1));
    let mut records = vec![
        Record::UserAdded { user, name: "ann".parse().unwrap(), at },
        Record::MachineAdded {
            machine: MachineId(0),
            user,
            name: "m".parse().unwrap(),
            key: key("ann").public(),
            at,
        },
        Record::ChannelCreated {
            channel,
            name: "c".parse().unwrap(),
            visibility: Visibility::Public,
            creator: user,
            at,
            last: Stamp::default(),
        },
        Record::MemberAdded { channel, user },
    ];
    records.extend((1..=3).map(|seq| Record::Posted {
        channel,
        stamp: Stamp { seq, ts: UnixMillis(tomorrow + seq as i64) },
        from: Arc::new(SessionPath::new("ann", "m", "s").unwrap()),
        payload: Arc::new(Payload::Plain(format!("tomorrow {seq}"))),
        origin: Origin::default(),
    }));
    let (sender, stored) = std::sync::mpsc::channel();
    let journal = Journal::open(dir.path(), Options::default()).unwrap();
    let running = journal.start(move |event| drop(sender.send(event))).unwrap();
    running.writer().persist(0, records).unwrap();
    assert!(matches!(stored.recv(), Ok(Event::Persisted { result: Ok(_), .. })));
    running.stop();

    let server = Served::start(serve(dir.path()));
    let mut ann = Peer::connect(server.address, "ann", "s");
    ann.join("c");
    (0..30).for_each(|nth| ann.post("c", &format!("today {nth}")));
    let stamps: Vec<i64> = ann.history("c").iter().map(|message| message.ts_ms).collect();
    assert_eq!(stamps.len(), 33);
    assert!(stamps.is_sorted_by(|a, b| a < b), "{stamps:?}");
    // Who had read all before reads exactly what is new.
    let page = ann.ask(&Frame::ReadSince { channel: "c", since_ms: stamps[2] });
    assert!(matches!(page, Frame::History { messages, .. } if messages.len() == 30));
}

#[test]
fn an_ephemeral_server_leaves_nothing() {
    let base = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["serve", "--bind", "127.0.0.1:0", "--ephemeral"]).env("TMPDIR", base.path());
    let server = Served::start(command);
    let mut ann = with_a_post(&server, "text");
    assert_eq!(ann.history_texts("c"), ["text"]);
    server.stop();
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn an_ephemeral_server_that_is_killed_leaves_nothing_either() {
    let base = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["serve", "--bind", "127.0.0.1:0", "--ephemeral"]).env("TMPDIR", base.path());
    let mut server = Served::start(command);
    let mut ann = with_a_post(&server, "text");
    assert_eq!(ann.history_texts("c"), ["text"]);
    server.kill();
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
}

/// Only root meets the question.
#[test]
fn a_restore_by_root_changes_no_file_that_the_servers_user_points_it_to() {
    use std::os::unix::fs::{MetadataExt as _, chown, symlink};
    let base = tempfile::tempdir().unwrap();
    let (dir, copy, victim) =
        (base.path().join("data"), base.path().join("copy.db"), base.path().join("victim"));
    Served::start(serve(&base.path().join("source"))).stop();
    let backup =
        |to: &Path| run(program().args(["backup", "--data-dir"]).arg(base.path().join("source")).arg(to));
    assert_eq!(backup(&copy).0, 0);
    fs::write(&victim, "root's").unwrap();
    for planted in ["conclave.lock", "conclave.db.restoring"] {
        fs::create_dir(&dir).unwrap();
        if chown(&dir, Some(65_534), Some(65_534)).is_err() {
            return;
        }
        symlink(&victim, dir.join(planted)).unwrap();
        let (code, _, err) = run(program().args(["restore", "--data-dir"]).arg(&dir).arg(&copy));
        assert!(fs::read(&victim).unwrap() == b"root's", "{planted}: it was overwritten");
        assert_eq!(fs::metadata(&victim).unwrap().uid(), 0, "{planted}: it was given away");
        if planted == "conclave.lock" {
            let place = dir.join(planted).display().to_string();
            assert_eq!(code, 1, "{err}");
            assert!(err.contains(&format!("{place} is a symbolic link")) && err.contains("ls -l"), "{err}");
        } else {
            assert_eq!(code, 0, "{err}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }
    // So is the name that a backup writes under until it is whole.
    let to = base.path().join("again.db");
    symlink(&victim, base.path().join("again.db.part")).unwrap();
    assert_eq!(backup(&to).0, 0);
    assert!(fs::read(&victim).unwrap() == b"root's" && to.exists());
}
