//! Processes that are killed: this test program again, as a child.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use super::*;

/// Says to the child which directory to work in.
const DIR: &str = "CONCLAVE_STATE_TEST_DIR";

/// What the child prints once its handle is its own, and when a message is committed.
const CLAIMED: &str = "claimed ";
const KEPT: &str = "kept ";

/// Not a test by itself: what a child does until it is killed.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let (state, site) = (open(Path::new(&dir)), reader("site"));
    let lease = state.claim_handle("site", Path::new(&dir)).unwrap();
    // Not captured, other than `print!`.
    let mut out = std::io::stdout();
    writeln!(out, "\n{CLAIMED}{}", lease.handle()).unwrap();
    for seq in 1.. {
        let kept = state.keep(&site, STREAM, &[sized(seq, 500)]).unwrap();
        writeln!(out, "\n{KEPT}{kept}").unwrap();
    }
}

/// Starts a child. Dropped, it is killed.
struct Killed(Child);

impl Killed {
    fn start(dir: &Path) -> (Self, impl Iterator<Item = String>) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "state::tests::process::child", "--nocapture"])
            .env(DIR, dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        (Self(child), lines)
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_committed_and_holds_no_handle() {
    let dir = tempfile::tempdir().unwrap();
    let (state, site) = (open(dir.path()), reader("site"));
    state.follow(&site, STREAM, &name("ops"), 0).unwrap();
    let mut last = 0;
    for round in 1..=3 {
        let (child, mut lines) = Killed::start(dir.path());
        let claimed = lines.find_map(|line| line.strip_prefix(CLAIMED).map(str::to_owned)).unwrap();
        assert_eq!(claimed, "site", "round {round}");
        // The child writes without a pause: others may wait for longer than they are patient.
        let mine = loop {
            match state.claim_handle("site", dir.path()) {
                Err(StateError::Busy { .. }) => {}
                claimed => break claimed.unwrap(),
            }
        };
        assert_eq!(mine.handle().as_str(), "site-2", "while the child lives");
        let kept = lines.filter_map(|line| line.strip_prefix(KEPT)?.parse::<u64>().ok());
        last = kept.skip_while(|kept| *kept <= last).nth(9).unwrap();
        drop(child);

        let followed = &state.followed(&site).unwrap()[0];
        assert!(followed.delivered >= last);
        let unread = state.unread(&site, STREAM, 0, ALL).unwrap();
        assert_eq!(unread.len() as u64, followed.delivered, "round {round}");
        assert!(unread.iter().zip(1..).all(|(message, seq)| *message == sized(seq, 500)));
        last = followed.delivered;
    }
    assert_eq!(state.claim_handle("site", dir.path()).unwrap().handle().as_str(), "site");
}

#[test]
fn what_was_not_committed_never_happened() {
    let dir = tempfile::tempdir().unwrap();
    let (state, site) = (open(dir.path()), reader("site"));
    state.follow(&site, STREAM, &name("ops"), 0).unwrap();
    state.keep(&site, STREAM, &messages([1])).unwrap();
    let aborted = open(dir.path());
    aborted.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    aborted.connection.execute_batch("UPDATE streams SET delivered = 9; DELETE FROM unread").unwrap();
    drop(aborted);
    assert_eq!(state.unread(&site, STREAM, 0, ALL).unwrap(), messages([1]));
    assert_eq!(state.keep(&site, STREAM, &messages([2])).unwrap(), 2);
}
