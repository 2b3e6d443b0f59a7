//! Disks that are full, in each of the ways in which one can be.

use std::fs;
use std::path::Path;
use std::process::Command;

use conclave_core::wire::v1::{Frame, ProtocolError, Visibility};
use conclave_tests::client::{Peer, post, why};

use super::process::{Served, behind, say, serve};

/// Posts until one is refused; checks that it is with `Internal` and that nobody saw it. Says what was kept.
fn fill(server: &mut Served) -> Vec<String> {
    let (mut ann, mut bob) = (Peer::register(server.address, "ann"), Peer::register(server.address, "bob"));
    ann.create("c", Visibility::Public);
    bob.join("c");
    let mut kept = Vec::new();
    let refused = loop {
        let body = format!("{} {}", kept.len(), "x".repeat(30_000));
        match ann.ask(&post("c", &body)) {
            Frame::Ack { .. } => kept.push(body),
            Frame::Error(error) => break error,
            other => panic!("{other:?}"),
        }
        assert!(kept.len() < 1_000, "the disk never filled");
    };
    assert!(matches!(refused, ProtocolError::Internal(_)), "{refused:?}");
    assert!(
        why(&refused).starts_with("the server could not store it, nothing was changed or sent"),
        "{refused:?}"
    );
    assert!(bob.texts(kept.len()) == kept);
    bob.hears_nothing();
    // Reading goes on.
    assert!(bob.history_texts("c") == kept);
    assert!(server.runs());
    kept
}

/// Checks that what was kept is there, and that there is room again.
fn recovers(server: &Served, kept: &[String]) {
    let mut ann = Peer::connect(server.address, "ann", "again");
    ann.join("c");
    assert!(ann.history_texts("c") == kept);
    ann.post("c", "room again");
    assert_eq!(ann.history_texts("c").last(), Some(&"room again"));
}

#[test]
fn a_limit_on_file_sizes_is_an_error_to_the_poster_and_no_death() {
    for ignored in ["", "trap '' XFSZ; "] {
        let dir = tempfile::tempdir().unwrap();
        // In blocks of 512 bytes, or of a kilobyte, as the shell has it.
        let script = format!("{ignored}ulimit -S -f 1000 && exec \"$@\"");
        let mut server = Served::start(behind(&script, &serve(dir.path())));
        let kept = fill(&mut server);
        drop(server);
        recovers(&Served::start(serve(dir.path())), &kept);
    }
}

/// The server with a file system of its own, made by `mount` and seen by no other process.
fn on_tmpfs(dir: &Path, mount: &str) -> Option<Command> {
    let works = Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success());
    let serve = serve(dir);
    let inner = behind(&format!("{mount} && exec \"$@\""), &serve);
    let mut outer = super::process::bare("unshare");
    outer.arg("-rm").arg(inner.get_program()).args(inner.get_args());
    if !works {
        say!("SKIPPED: unshare(1) is not allowed here, so that there is no disk to fill or to protect");
    }
    works.then_some(outer)
}

#[test]
fn a_full_disk_is_an_error_to_the_poster_until_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let mount = format!(
        "mount -t tmpfs -o size=3m,mode=0700 conclave '{0}' && head -c 1000000 /dev/zero > '{0}/ballast'",
        dir.path().display()
    );
    let Some(command) = on_tmpfs(dir.path(), &mount) else { return };
    let mut server = Served::start(command);
    let kept = fill(&mut server);
    let ballast = format!("/proc/{}/root{}/ballast", server.pid(), dir.path().display());
    if let Err(why) = fs::remove_file(&ballast) {
        say!("SKIPPED in part: {ballast} cannot be removed: {why}");
        return;
    }
    recovers(&server, &kept);
    server.stop();
}

#[test]
fn a_directory_that_cannot_be_written_is_said_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let (code, out, err) = super::process::run(&mut serve(&file));
    assert_eq!((code, &*out), (1, ""));
    assert!(err.contains("cannot write to the data directory"), "{err}");
}

#[test]
fn a_file_system_that_is_read_only_is_said_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o ro,mode=0700 conclave '{}'", dir.path().display());
    let Some(mut command) = on_tmpfs(dir.path(), &mount) else { return };
    let (code, out, err) = super::process::run(&mut command);
    assert_eq!((code, &*out), (1, ""));
    assert!(err.contains("cannot write to the data directory") && err.contains(" next: "), "{err}");
}
