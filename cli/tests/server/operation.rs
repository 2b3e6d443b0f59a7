//! What an operator sees: greetings, exit codes, signals, certificates, copies.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Instant;

use conclave_core::wire::v1::{Frame, Visibility};
use conclave_tests::client::{Dial, PATIENCE, Peer, Socket, key, post, why};
use conclave_tests::conformance::get;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::Signal;
use rustls::pki_types::CertificateDer;

use super::process::say;
use super::process::{RUNTIMES, Served, program, run, serve};

/// A channel `c` with a post, and the text in it.
fn with_a_post(server: &Served, text: &str) -> Peer {
    let mut ann = Peer::register(server.address, "ann");
    ann.create("c", Visibility::Public);
    ann.post("c", text);
    ann
}

fn history(server: &Served) -> Vec<&'static str> {
    let mut ann = Peer::connect(server.address, "ann", "reader");
    ann.join("c");
    ann.history_texts("c")
}

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
    let mut server = Served::start(serve(dir.path()));
    // Somebody who keeps a connection open holds a drain up for a while.
    let mut held = TcpStream::connect(server.address).unwrap();
    held.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut first = [0];
    std::io::Read::read_exact(&mut held, &mut first).unwrap();
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
        assert!(err.contains("is in use by another server"), "{err}");
    }
    assert!(ann.is_alive());
    // One that was killed leaves nothing in the way.
    first.kill();
    assert_eq!(history(&Served::start(serve(dir.path()))), ["text"]);
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
fn an_ephemeral_server_leaves_nothing() {
    let base = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["serve", "--bind", "127.0.0.1:0", "--ephemeral"]).env("TMPDIR", base.path());
    // A flag goes before what the environment says.
    command.env("CONCLAVE_DATA_DIR", base.path());
    let server = Served::start(command);
    let mut ann = with_a_post(&server, "text");
    assert_eq!(ann.history_texts("c"), ["text"]);
    server.stop();
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
}

#[test]
fn metrics_are_answered_where_they_are_bound_and_nowhere_else() {
    for runtime in RUNTIMES {
        let dir = tempfile::tempdir().unwrap();
        let mut command = serve(dir.path());
        command.args(["--runtime", runtime, "--metrics-bind", "127.0.0.1:0"]);
        let server = Served::start(command);
        let line = server.greeting.iter().find(|line| line.contains("metrics")).unwrap();
        let (_, address) = line.rsplit_once("address=").unwrap();
        let monitoring = address.trim().parse().unwrap();
        assert_eq!(get(server.address, "/metrics").status, 404);
        assert_eq!(get(server.address, "/health").status, 200);
        assert_eq!(get(monitoring, "/health").status, 200);
        let told = get(monitoring, "/metrics");
        assert!(told.status == 200 && told.body.contains("conclave_sessions"), "{}", told.body);
        assert!(Socket::dial(&Dial::plain(monitoring)).is_err(), "no session there");
        server.stop();
    }
}

#[test]
fn environment_variables_say_what_flags_say() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["serve"]).envs([
        ("CONCLAVE_BIND", "127.0.0.1:0"),
        ("CONCLAVE_ADMINS", "ann,bob"),
        ("CONCLAVE_LIMIT", "session-posts=1:2"),
    ]);
    command.env("CONCLAVE_DATA_DIR", dir.path());
    let server = Served::start(command);
    let mut ann = Peer::register(server.address, "ann");
    assert_eq!(ann.ask(&Frame::ListUsers), Frame::UserList { users: vec!["ann"] });
    ann.create("c", Visibility::Public);
    (0..10).for_each(|_| ann.send(&post("c", "text")));
    let refused = (0..10).filter(|_| matches!(ann.reply(), Frame::Error(_))).count();
    assert!(refused > 0);
    assert!(dir.path().join("conclave.db").exists());
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
fn a_log_tells_no_body_token_or_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = serve(dir.path());
    command.envs([("CONCLAVE_LOG", "trace"), ("CONCLAVE_LOG_FORMAT", "json")]);
    let server = Served::start(command);
    let mut ann = with_a_post(&server, "secret-body");
    let mut bob = Peer::register(server.address, "bob");
    ann.ask(&conclave_tests::client::whisper(
        conclave_core::wire::v1::Path { user: "bob", machine: "m", session: "s" },
        "secret-whisper",
    ));
    let token = ann.invite("c", None, None);
    bob.ask(&Frame::Join { channel: "c", token: Some(token) });
    bob.ask(&Frame::Join { channel: "absent", token: Some("secret-token") });
    bob.history("c");
    drop(Peer::connect_with(server.address, &key("stranger"), "s"));
    let told = get(server.address, "/metrics").body;
    bob.socket().send(b"secret-garbage".to_vec());
    bob.last_word();
    let log = [server.greeting.clone(), server.stop(), vec![told]].concat().concat();
    assert!(log.contains("listening"), "{log}");
    for secret in ["secret-", token, &key("ann").expose(), &key("ann").public().to_string()] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
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
    let replaced = base.path().join("replaced");
    assert_eq!(restore(&replaced).0, 0);
    let mut later = Served::start(serve(&replaced));
    Peer::connect(later.address, "ann", "s").create("later", Visibility::Public);
    later.kill();
    let (code, _, err) =
        run(program().args(["restore", "--replace", "--data-dir"]).arg(&replaced).arg(&copy));
    assert_eq!(code, 0, "{err}");
    let again = Served::start(serve(&replaced));
    let Frame::ChannelList { channels } = Peer::connect(again.address, "ann", "s").ask(&Frame::ListChannels)
    else {
        panic!("no list")
    };
    assert!(channels.iter().all(|channel| channel.name != "later"), "the replaced directory lives on");
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
