//! Thousands of sessions that say nothing.

use std::thread;
use std::time::Instant;

use conclave_core::wire::v1::Visibility;
use conclave_tests::client::{PATIENCE, Peer};
use conclave_tests::conformance::metric;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::process::{RUNTIMES, Served, say, serve};

const SESSIONS: usize = 5_000;
/// Files that are open for other reasons than a session.
const OTHERS: u64 = 300;
/// What a quiet session may cost, in KiB of the server's memory; a debug build's, several times what it is.
const KIB_EACH: f64 = 32.0;

/// As many sessions as the system allows, which inherits what is allowed here.
fn allowed() -> usize {
    let limits = getrlimit(Resource::Nofile);
    let wanted = SESSIONS as u64 + OTHERS;
    if limits.current.is_some_and(|soft| soft < wanted) {
        let current = Some(limits.maximum.map_or(wanted, |hard| hard.min(wanted)));
        let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limits });
    }
    let current = getrlimit(Resource::Nofile).current.unwrap_or(wanted);
    SESSIONS.min(usize::try_from(current.saturating_sub(OTHERS)).unwrap_or(0))
}

#[test]
fn five_thousand_idle_sessions_cost_little_and_hear_everything() {
    let count = allowed();
    if count < SESSIONS {
        say!("ONLY {count} sessions: the system allows no more open files");
    }
    for runtime in RUNTIMES {
        let dir = tempfile::tempdir().unwrap();
        let mut command = serve(dir.path());
        let per_user = "sessions-per-user=10000,idle-seconds=3600";
        command.args(["--runtime", runtime, "--limit", per_user]);
        let server = Served::start(command);
        let mut ann = Peer::register(server.address, "ann");
        ann.create("c", Visibility::Public);
        // What a server needs once, it has now.
        let warm: Vec<Peer> =
            (0..50).map(|nth| Peer::connect(server.address, "ann", &format!("w{nth}"))).collect();
        drop(warm);
        let before = server.resident();

        let address = server.address;
        let mut idle: Vec<Peer> = thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|worker| {
                    scope.spawn(move || {
                        (worker..count)
                            .step_by(8)
                            .map(|nth| {
                                let mut peer = Peer::connect(address, "ann", &nth.to_string());
                                peer.join("c");
                                peer
                            })
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        assert_eq!(ann.who(Some("c")).len(), count + 1);
        if let (Some(before), Some(after)) = (before, server.resident()) {
            let each = (after - before) / count as f64;
            say!(
                "{runtime}: {count} idle sessions, {before} KiB before, {after} KiB with them: {each:.1} KiB each"
            );
            assert!(each < KIB_EACH, "{each} KiB each");
        }
        ann.post("c", "to everyone");
        assert!(idle.iter_mut().all(|peer| peer.texts(1) == ["to everyone"]));
        drop(idle);
        let sessions = "conclave_connections{state=\"session\"}";
        let start = Instant::now();
        while metric(server.address, sessions) > 1.0 {
            assert!(start.elapsed() < PATIENCE, "they stay");
        }
        assert_eq!(ann.who(None), ["ann/m/s"]);
        server.stop();
    }
}
