//! Everything that strangers and members can do wrong, at once, to a server that serves others meanwhile.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use conclave_core::wire::v1::{Frame, ProtocolError, Visibility};
use conclave_tests::client::{PATIENCE, Peer, key, masked, why};
use conclave_tests::conformance::metric;

use super::process::{RUNTIMES, Served, behind, say, serve};

/// What the server may take more for all of it, in KiB.
const KIB_MORE: f64 = 48.0 * 1024.0;

/// The head of a message of `len` bytes, whose rest never comes.
fn announced(len: u64) -> Vec<u8> {
    let mut head = vec![0x82, 0xff];
    head.extend(len.to_be_bytes());
    head.extend([0, 0, 0, 0]);
    head.extend([7; 100]);
    head
}

#[test]
fn what_is_announced_and_not_sent_is_not_set_aside() {
    for runtime in RUNTIMES {
        let dir = tempfile::tempdir().unwrap();
        let mut command = serve(dir.path());
        command.args(["--runtime", runtime, "--limit", "frame-bytes=16777216"]);
        let server = Served::start(command);
        let mut ann = Peer::register(server.address, "ann");
        let Some(before) = server.addressed() else { return };
        let mut sessions: Vec<Peer> =
            (0..200).map(|nth| Peer::connect(server.address, "ann", &nth.to_string())).collect();
        for session in &mut sessions {
            session.socket().send_raw(&masked(&Frame::Ping.to_bytes()));
            session.socket().send_raw(&announced(16 << 20));
        }
        // All of it has been read by then.
        sessions.iter_mut().for_each(|session| assert_eq!(session.next(), Some(Frame::Pong)));
        assert!(ann.is_alive());
        let more = server.addressed().unwrap() - before;
        say!("{runtime}: {more} KiB more of addresses for 200 times 16 MiB that were announced");
        assert!(more < 1024.0 * 1024.0, "{more}");
    }
}

/// Bytes that are neither HTTP nor anything else, again and again.
fn throws_garbage(address: SocketAddr, over: &AtomicBool) {
    let mut state = 1_u64;
    while !over.load(Ordering::SeqCst) {
        let bytes: Vec<u8> = (0..2_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as u8
            })
            .collect();
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
        // The same once it is a WebSocket, and once it is a session.
        for session in [false, true] {
            let Some(mut peer) = Peer::try_dial(address) else { continue };
            if session {
                peer.hello("garbage");
                assert!(peer.authenticate(&key("mallory")).is_ok());
            }
            peer.socket().send_raw(&masked(&bytes[..500]));
            while peer.next().is_some() {}
        }
    }
}

/// Messages that are too large, sent whole.
fn sends_too_much(address: SocketAddr, over: &AtomicBool) {
    let large = vec![0; 17 << 20];
    while !over.load(Ordering::SeqCst) {
        let mut peer = Peer::connect(address, "mallory", "large");
        peer.socket().send(large.clone());
        // A reset may overtake the last word.
        let mut last = None;
        while let Some(frame) = peer.next() {
            last = Some(frame);
        }
        if let Some(Frame::Error(error)) = last {
            assert!(matches!(error, ProtocolError::MalformedFrame(_)), "{error:?}");
            assert!(why(&error).contains("too large"), "{error:?}");
        }
    }
}

/// Requests whose answers nobody reads.
fn asks_and_never_reads(address: SocketAddr, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        let mut peer = Peer::connect(address, "mallory", "deaf");
        peer.join("c");
        let ask = masked(&Frame::ReadSince { channel: "c", since_ms: 0 }.to_bytes());
        peer.socket().flood(&ask.repeat(200), Duration::from_millis(500), 4 << 20);
    }
}

#[test]
fn a_crowd_of_every_kind_harms_nobody_and_costs_a_bounded_amount() {
    for runtime in RUNTIMES {
        let dir = tempfile::tempdir().unwrap();
        let mut command = serve(dir.path());
        command.args(["--runtime", runtime, "--limit", "sessions-per-user=2000,idle-seconds=3600"]);
        let mut server = Served::start(command);
        let address = server.address;
        let (mut ann, mut bob) = (Peer::register(address, "ann"), Peer::register(address, "bob"));
        drop(Peer::register(address, "mallory"));
        ann.create("c", Visibility::Public);
        bob.join("c");
        let body = "x".repeat(2_000);
        (0..100).for_each(|nth| ann.post("c", &format!("{nth} {body}")));
        let before = server.resident();
        let over = &AtomicBool::new(false);
        let peak = thread::scope(|scope| {
            // They say nothing, or that much is to come, and wait.
            let mut waiting: Vec<Peer> = (0..200).map(|_| Peer::dial(address)).collect();
            waiting.iter_mut().skip(100).for_each(|peer| peer.socket().send_raw(&announced(4096)));
            let _silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
            let mut sessions: Vec<Peer> =
                (0..300).map(|nth| Peer::connect(address, "mallory", &format!("waits {nth}"))).collect();
            sessions.iter_mut().for_each(|peer| peer.socket().send_raw(&announced(1 << 20)));
            let mut stalled = Peer::connect(address, "mallory", "stalled");
            stalled.join("c");
            let crowd = [throws_garbage, sends_too_much, asks_and_never_reads];
            let crowd = crowd.map(|member| scope.spawn(move || member(address, over)));
            // Those who behave notice nothing.
            let talk = scope.spawn(move || {
                for nth in 100..400 {
                    ann.post("c", &format!("{nth} {body}"));
                }
                let heard = bob.texts(400);
                assert!(heard.iter().enumerate().all(|(nth, text)| text.starts_with(&format!("{nth} "))));
            });
            let mut peak = 0_f64;
            let start = Instant::now();
            while !talk.is_finished() || start.elapsed() < Duration::from_secs(2) {
                peak = peak.max(server.resident().unwrap_or_default());
                assert!(start.elapsed() < PATIENCE, "those who behave are held up");
                thread::sleep(Duration::from_millis(20));
            }
            over.store(true, Ordering::SeqCst);
            talk.join().unwrap();
            crowd.into_iter().for_each(|member| member.join().unwrap());
            peak
        });
        if let Some(before) = before {
            say!("{runtime}: {before} KiB before the crowd, {peak} KiB at most with it");
            assert!(peak - before < KIB_MORE, "{peak} KiB after {before}");
        }
        assert!(server.runs());
        // What they held is given back.
        let start = Instant::now();
        for state in ["authenticating", "session"] {
            let name = format!("conclave_connections{{state=\"{state}\"}}");
            while metric(address, &name) > 0.0 {
                assert!(start.elapsed() < PATIENCE, "{name} stays");
            }
        }
        server.stop();
    }
}

#[test]
fn running_out_of_files_ends_no_session_and_passes() {
    for runtime in RUNTIMES {
        let dir = tempfile::tempdir().unwrap();
        let mut command = serve(dir.path());
        command.args(["--runtime", runtime]);
        let server = Served::start(behind("ulimit -n 64 && exec \"$@\"", &command));
        let (mut ann, mut bob) =
            (Peer::register(server.address, "ann"), Peer::register(server.address, "bob"));
        ann.create("c", Visibility::Public);
        bob.join("c");
        let held: Vec<TcpStream> = (0..120).map(|_| TcpStream::connect(server.address).unwrap()).collect();
        server.logs("a connection could not be accepted");
        ann.post("c", "heard");
        assert_eq!(bob.texts(1), ["heard"]);
        assert_eq!(ann.history_texts("c"), ["heard"]);
        drop(held);
        let _carl = Peer::register(server.address, "carl");
        server.stop();
    }
}
