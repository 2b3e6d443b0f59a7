//! What an operator sees: greetings, exit codes, signals, certificates.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use conclave_core::wire::v1::Frame;
use conclave_tests::client::{Dial, Peer, Socket, key, post, why};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::Signal;
use rustls::pki_types::CertificateDer;

use super::process::{RUNTIMES, Served, history, program, run, say, serve, with_a_post};

#[test]
fn a_start_says_where_what_is_kept_and_what_to_type_next() {
    for runtime in RUNTIMES {
        let dir = tempfile::tempdir().unwrap();
        let mut command = serve(dir.path());
        command.args(["--runtime", runtime]);
        let server = Served::start(command);
        let [.., served, next] = &server.greeting[..] else { panic!("{:?}", server.greeting) };
        assert_eq!(
            *served,
            format!("conclave serves ws://{}, kept in {}", server.address, dir.path().display())
        );
        let register = format!("conclave register --server ws://{} --username", server.address);
        assert!(next.contains(&register), "{next}");
        assert!(!server.greeting.concat().contains("PLAIN TEXT"));
        server.stop();
    }
}

#[test]
fn plain_text_where_others_reach_it_is_said_loudly() {
    for (bind, register) in [("0.0.0.0:0", "ws://127.0.0.1:"), ("[::]:0", "ws://[::1]:")] {
        if bind.starts_with('[') && TcpListener::bind(bind).is_err() {
            say!("SKIPPED: no IPv6 here");
            continue;
        }
        let mut command = program();
        command.args(["serve", "--ephemeral", "--bind", bind]);
        let server = Served::start(command);
        assert!(server.greeting.iter().any(|line| line.contains("PLAIN TEXT")), "{:?}", server.greeting);
        assert!(server.greeting.iter().any(|line| line.contains("nothing is kept")), "{:?}", server.greeting);
        assert!(server.greeting.last().unwrap().contains(register), "{:?}", server.greeting);
    }
}

#[test]
fn either_signal_drains_and_ends_well() {
    for runtime in RUNTIMES {
        for signal in [Signal::TERM, Signal::INT] {
            let dir = tempfile::tempdir().unwrap();
            let mut command = serve(dir.path());
            command.args(["--runtime", runtime]);
            let mut server = Served::start(command);
            let mut ann = with_a_post(&server, "text");
            for nth in 0..200 {
                ann.send(&post("c", &nth.to_string()));
            }
            // Some are on their way, some are answered.
            assert_eq!(ann.reply(), Frame::Ack { detail: None });
            server.signal(signal);
            let (mut acknowledged, mut last) = (2, None);
            while let Some(frame) = ann.next() {
                acknowledged += usize::from(frame == Frame::Ack { detail: None });
                last = Some(frame);
            }
            let Some(Frame::Error(last)) = last else { panic!("no last word") };
            assert_eq!(why(&last), "server shutting down");
            assert_eq!(server.wait().code(), Some(0));
            assert_eq!(history(&Served::start(serve(dir.path()))).len(), acknowledged);
        }
    }
}

#[test]
fn a_second_signal_does_not_wait() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = serve(dir.path());
    command.args(["--limit", "queue-bytes=67108864"]);
    let mut server = Served::start(command);
    // Somebody who does not read its last word holds a drain up for a while.
    let _deaf = deaf(&server, &mut with_a_post(&server, "text"));
    server.signal(Signal::TERM);
    server.logs("draining");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(1));
}

#[test]
fn a_second_server_on_a_directory_says_so_and_exits() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Served::start(serve(dir.path()));
    let mut ann = with_a_post(&first, "text");
    for runtime in RUNTIMES {
        let (code, out, err) = run(serve(dir.path()).args(["--runtime", runtime]));
        assert_eq!((code, &*out), (1, ""), "{err}");
        let pid = first.pid();
        assert!(err.contains(&format!("is in use by another server (process {pid})")), "{err}");
        let next =
            format!(" next: stop that server (`kill {pid}`), or name another directory with --data-dir");
        assert!(err.contains(&next), "{err}");
    }
    assert!(ann.is_alive());
    // One that was killed leaves nothing in the way.
    first.kill();
    assert_eq!(history(&Served::start(serve(dir.path()))), ["text"]);
}

#[test]
fn a_directory_that_everyone_may_change_is_refused_and_one_that_others_see_draws_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let set = |mode| std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    let advice = format!("chmod 700 {}", dir.path().display());
    for mode in [0o777, 0o702, 0o1777] {
        set(mode);
        let (code, out, err) = run(&mut serve(dir.path()));
        assert_eq!((code, &*out), (1, ""), "{err}");
        assert!(err.contains(&format!("{mode:04o}")) && err.contains(&advice), "{err}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was written");
    }
    for mode in [0o755, 0o770] {
        set(mode);
        let server = Served::start(serve(dir.path()));
        let said = server.greeting.concat();
        assert!(said.contains("WARN") && said.contains(&advice), "{said}");
        server.stop();
    }
    set(0o700);
    let said = Served::start(serve(dir.path())).greeting.concat();
    assert!(!said.contains("chmod"), "{said}");
}

#[test]
fn a_port_in_use_and_wrong_words_are_told_apart_by_the_exit_code() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    for runtime in RUNTIMES {
        let (code, _, err) =
            run(program().args(["serve", "--ephemeral", "--runtime", runtime, "--bind", &port.to_string()]));
        assert_eq!(code, 1, "{err}");
        assert!(err.contains("cannot be listened on") && err.contains("--bind"), "{err}");
    }
    for wrong in [
        ["--limit", "nothing=1"],
        ["--limit", "session-posts"],
        ["--bind", "nowhere"],
        ["--retention", "x"],
        ["--admin", "a/b"],
    ] {
        let (code, _, err) = run(program().args(["serve", "--ephemeral"]).args(wrong));
        assert_eq!(code, 2, "{wrong:?}: {err}");
    }
    for missing in ["--tls-cert", "--tls-key"] {
        let (code, _, err) = run(program().args(["serve", "--ephemeral", missing, "/nowhere"]));
        assert_eq!(code, 2, "{err}");
    }
    let (code, _, err) =
        run(program().args(["serve", "--ephemeral", "--tls-cert", "/no/cert", "--tls-key", "/no/key"]));
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("/no/cert"), "{err}");
}

#[test]
fn data_goes_where_the_platform_has_it_and_is_its_owners_alone() {
    let base = tempfile::tempdir().unwrap();
    let xdg = base.path().join("xdg");
    let elsewhere = base.path().join(".local/share/conclave");
    for (variable, value, expected) in
        [("XDG_DATA_HOME", &*xdg, xdg.join("conclave")), ("HOME", base.path(), elsewhere)]
    {
        let mut command = program();
        command.args(["serve", "--bind", "127.0.0.1:0"]).env(variable, value);
        let server = Served::start(command);
        let _ann = with_a_post(&server, "text");
        assert!(server.greeting.concat().contains(&expected.display().to_string()), "{:?}", server.greeting);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&expected), 0o700);
        let files: Vec<_> = fs::read_dir(&expected).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(files.len() >= 2, "{files:?}");
        files.iter().for_each(|file| assert_eq!(mode(file), 0o600, "{}", file.display()));
    }
    let (code, _, err) = run(program().args(["serve", "--bind", "127.0.0.1:0"]));
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("--data-dir"), "{err}");
}

#[test]
fn a_certificate_is_read_anew_on_a_signal_and_a_broken_one_changes_nothing() {
    for runtime in RUNTIMES {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, private) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let renew = || -> CertificateDer<'static> {
            let CertifiedKey { cert, signing_key } =
                generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            fs::write(&certificate, cert.pem()).unwrap();
            fs::write(&private, signing_key.serialize_pem()).unwrap();
            cert.der().clone()
        };
        let first = renew();
        let mut command = serve(&dir.path().join("data"));
        command.args(["--runtime", runtime, "--tls-cert"]).arg(&certificate).arg("--tls-key").arg(&private);
        let server = Served::start(command);
        assert!(server.url.starts_with("wss://"), "{}", server.url);
        let dial =
            |trusted: &CertificateDer<'static>| Socket::dial(&Dial::tls(server.address, trusted.clone()));
        let mut ann = Peer::new(dial(&first).unwrap());
        ann.hello("s");
        assert!(ann.prove("ann", "m", &key("ann")).is_ok());
        let second = renew();
        server.signal(Signal::HUP);
        server.logs("the certificate was read anew");
        assert!(dial(&first).is_err());
        assert!(dial(&second).is_ok());
        fs::write(&certificate, "no certificate").unwrap();
        server.signal(Signal::HUP);
        server.logs("the certificate was not read anew");
        assert!(dial(&second).is_ok());
        assert!(ann.is_alive());
        server.stop();
    }
}

#[test]
fn a_tls_key_that_everyone_can_read_draws_a_warning() {
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, private) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    fs::write(&certificate, cert.pem()).unwrap();
    fs::write(&private, signing_key.serialize_pem()).unwrap();
    for (mode, warned) in [(0o644, true), (0o602, true), (0o640, false), (0o600, false)] {
        fs::set_permissions(&private, fs::Permissions::from_mode(mode)).unwrap();
        let mut command = serve(dir.path());
        command.arg("--tls-cert").arg(&certificate).arg("--tls-key").arg(&private);
        let server = Served::start(command);
        let said = server.greeting.concat();
        assert_eq!(said.contains(&format!("chmod 600 {}", private.display())), warned, "{mode:o}: {said}");
        server.stop();
    }
}

#[test]
fn an_admin_whose_name_anyone_may_take_draws_a_warning_that_says_how_to_pin_it() {
    let dir = tempfile::tempdir().unwrap();
    let start = |admin: &str| {
        let mut command = program();
        command.args(["serve", "--bind", "127.0.0.1:0", "--admin", admin, "--data-dir"]).arg(dir.path());
        Served::start(command)
    };
    let advice = "--admin carl=KEY";
    let server = start("carl");
    let said = server.greeting.concat();
    assert!(said.contains("is server admin") && said.contains(advice), "{said}");
    drop(Peer::register(server.address, "carl"));
    server.stop();
    // A name that is taken can be taken by nobody else, and so one that a key holds.
    for admin in ["carl".to_owned(), format!("dora={}", key("dora").public())] {
        let server = start(&admin);
        let said = server.greeting.concat();
        assert!(!said.contains("is server admin"), "{said}");
        server.stop();
    }
}

#[test]
fn a_hangup_without_a_certificate_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Served::start(serve(dir.path()));
    let mut ann = with_a_post(&server, "text");
    server.signal(Signal::HUP);
    server.logs("there is none");
    assert!(ann.is_alive() && server.runs());
    server.stop();
}

/// A session with more for it than lies in any socket's buffers: what is written to it is not written.
fn deaf(server: &Served, ann: &mut Peer) -> Peer {
    let mut deaf = Peer::register(server.address, "deaf");
    deaf.join("c");
    let large = "x".repeat(900_000);
    (0..30).for_each(|_| ann.post("c", &large));
    deaf
}

#[test]
fn a_connection_that_asks_for_pages_holds_no_drain_up() {
    for runtime in RUNTIMES {
        let dir = tempfile::tempdir().unwrap();
        let mut command = serve(dir.path());
        command.args(["--runtime", runtime]);
        let server = Served::start(command);
        let mut kept = TcpStream::connect(server.address).unwrap();
        kept.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut first = [0];
        std::io::Read::read_exact(&mut kept, &mut first).unwrap();
        let log = server.stop().join("\n");
        assert!(log.contains("drained") && !log.contains("last word"), "{runtime}: {log}");
    }
}

#[test]
fn a_drain_waits_for_nobody_who_says_nothing_or_does_not_read() {
    for runtime in RUNTIMES {
        let dir = tempfile::tempdir().unwrap();
        let mut command = serve(dir.path());
        command.args(["--runtime", runtime, "--limit", "queue-bytes=67108864"]);
        let mut server = Served::start(command);
        let mut ann = with_a_post(&server, "text");
        let deaf = deaf(&server, &mut ann);
        let _silent = TcpStream::connect(server.address).unwrap();
        let mut opening = Peer::dial(server.address);
        opening.hello("s");
        let start = Instant::now();
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        // The unit's own patience, several times what it takes.
        assert!(start.elapsed() < Duration::from_secs(15), "{runtime}: {:?}", start.elapsed());
        assert_eq!(why(&ann.last_word()), "server shutting down");
        drop(deaf);
    }
}
