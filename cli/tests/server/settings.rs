//! What an operator sets: variables and flags, who may register, where metrics are read.

use std::net::SocketAddr;

use conclave_core::wire::v1::{Frame, Visibility};
use conclave_tests::client::{Dial, Peer, Refused, Socket, key, post, why};
use conclave_tests::conformance::get;

use super::process::{RUNTIMES, Served, program, run, serve};

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
fn what_is_typed_outweighs_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let begin = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = program();
        command.args(["serve", "--bind", "127.0.0.1:0"]).args(args).envs(variables.iter().copied());
        command
    };
    let place = dir.path().to_str().unwrap();
    let server = Served::start(begin(&["--ephemeral"], &[("CONCLAVE_DATA_DIR", place)]));
    assert!(server.greeting.concat().contains("nothing is kept"), "{:?}", server.greeting);
    assert!(!dir.path().join("conclave.db").exists());
    let server = Served::start(begin(&["--data-dir", place], &[("CONCLAVE_EPHEMERAL", "1")]));
    assert!(server.greeting.concat().contains(&format!("kept in {place}")), "{:?}", server.greeting);
    server.stop();
    for (args, variables) in [
        (&["--ephemeral", "--data-dir", place][..], &[][..]),
        (&[], &[("CONCLAVE_EPHEMERAL", "1"), ("CONCLAVE_DATA_DIR", place)]),
    ] {
        let (code, _, err) = run(&mut begin(args, variables));
        assert_eq!(code, 2, "{err}");
    }
    let server = Served::start(begin(&["--data-dir", place], &[("CONCLAVE_EPHEMERAL", "0")]));
    assert!(server.greeting.concat().contains("kept in"), "{:?}", server.greeting);
}

#[test]
fn an_admin_that_is_pinned_is_whoever_has_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = serve(dir.path());
    command.args(["--admin", &format!("carl={}", key("carl").public())]);
    let server = Served::start(command);
    let mut mallory = Peer::dial(server.address);
    mallory.hello("s");
    let refused = mallory.prove("carl", "m", &key("mallory")).unwrap_err();
    assert!(why(&refused).contains("reserved"), "{refused:?}");
    let mut carl = Peer::register(server.address, "carl");
    assert_eq!(carl.ask(&Frame::ListUsers), Frame::UserList { users: vec!["carl"] });
}

#[test]
fn closed_registration_keeps_strangers_out_and_users_in() {
    for runtime in RUNTIMES {
        let dir = tempfile::tempdir().unwrap();
        let start = |more: &[&str]| {
            let mut command = serve(dir.path());
            command.args(["--runtime", runtime]).args(more);
            Served::start(command)
        };
        let server = start(&[]);
        drop(Peer::register(server.address, "ann"));
        server.stop();
        let server = start(&["--registration", "closed"]);
        let mut refusals = ["ann", "new"].map(|user| {
            let mut stranger = Peer::dial(server.address);
            stranger.hello("s");
            why(&stranger.prove(user, "m", &key("stranger")).unwrap_err())
        });
        refusals.sort_unstable();
        assert!(refusals[0].contains("registration is closed"), "{refusals:?}");
        assert_eq!(refusals[0], refusals[1], "whether a name is taken is told to nobody");
        let mut root = Peer::register(server.address, "root");
        let mut ann = Peer::connect(server.address, "ann", "s");
        assert_eq!(root.ask(&Frame::ListUsers), Frame::UserList { users: vec!["ann", "root"] });
        // Who is in still enrols machines.
        let laptop = key("laptop");
        let public = laptop.public();
        let add = conclave_core::wire::v1::AdminOp::MachineAdd { name: "n", pubkey: public.as_bytes() };
        assert_eq!(ann.admin(add), "n");
        assert!(Peer::connect_with(server.address, &laptop, "s").is_ok());
        server.stop();
    }
    // What a person is told.
    let (dir, config) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut command = serve(dir.path());
    command.env("CONCLAVE_REGISTRATION", "closed");
    let server = Served::start(command);
    let (code, _, err) = run(program()
        .args(["register", "--server", &server.url, "--username", "eve"])
        .args(["--machine", "m", "--config-dir", config.path().to_str().unwrap()]));
    assert!(code == 1 && err.contains(" next: ask the server's operator"), "{err}");
}

#[test]
fn metrics_are_served_at_their_own_address_and_no_longer_at_the_public_one() {
    for runtime in RUNTIMES {
        let dir = tempfile::tempdir().unwrap();
        let mut command = serve(dir.path());
        command.args(["--runtime", runtime]).env("CONCLAVE_METRICS_BIND", "127.0.0.1:0");
        let server = Served::start(command);
        let said = server.greeting.iter().find_map(|line| line.split("metrics: http://").nth(1));
        let own: SocketAddr = said.unwrap().split('/').next().unwrap().parse().unwrap();
        assert_ne!(own, server.address);
        let page = get(own, "/metrics");
        assert!(page.status == 200 && page.body.contains("conclave_sessions 0"), "{page:?}");
        assert_eq!(get(server.address, "/metrics").status, 404);
        assert_eq!(get(server.address, "/health").status, 200);
        // Nothing else is there: no upgrade, no page.
        for path in ["/", "/health"] {
            assert_eq!(get(own, path).status, 404, "{path}");
        }
        assert!(Peer::try_dial(own).is_none());
        // However many are held open there, people are served, and places come back.
        let held: Vec<_> = (0..200).map(|_| std::net::TcpStream::connect(own).unwrap()).collect();
        let _ann = Peer::register(server.address, "ann");
        drop(held);
        let start = std::time::Instant::now();
        while get(own, "/metrics").status != 200 {
            assert!(start.elapsed() < conclave_tests::client::PATIENCE, "no place is free again");
        }
        server.stop();
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for runtime in RUNTIMES {
        let (code, _, err) = run(program()
            .args(["serve", "--ephemeral", "--bind", "127.0.0.1:0", "--runtime", runtime])
            .args(["--metrics-bind", &address]));
        assert!(code == 1 && err.contains("another address with --metrics-bind"), "{err}");
    }
}

#[test]
fn a_session_is_told_after_how_long_it_was_idle() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = serve(dir.path());
    command.args(["--limit", "idle-seconds=2"]);
    let server = Served::start(command);
    let mut ann = Peer::register(server.address, "ann");
    assert_eq!(why(&ann.last_word()), "idle timeout: nothing was heard from this session for 2 seconds");
}

#[test]
fn a_web_page_reaches_a_server_only_from_an_origin_that_is_allowed() {
    const EVIL: &str = "https://evil.example";
    for runtime in RUNTIMES {
        let dir = tempfile::tempdir().unwrap();
        let start = |variables: &[(&str, &str)]| {
            let mut command = serve(dir.path());
            command.args(["--runtime", runtime]).envs(variables.iter().copied());
            Served::start(command)
        };
        let server = start(&[]);
        let dial = |server: &Served, headers: &[(&'static str, &str)]| {
            let dial = Dial::plain(server.address);
            let dial = headers.iter().fold(dial, |dial, (name, value)| dial.header(name, value));
            match Socket::dial(&dial) {
                Ok(_) => 101,
                Err(Refused::Status(status)) => status,
                Err(ended) => panic!("{ended:?}"),
            }
        };
        let own = format!("http://{}", server.address);
        let port = server.address.port();
        assert_eq!(dial(&server, &[]), 101, "a native client sends no origin");
        assert_eq!(dial(&server, &[("origin", &own)]), 101);
        assert_eq!(dial(&server, &[("host", &format!("localhost:{port}"))]), 101);
        assert_eq!(dial(&server, &[("origin", EVIL)]), 403);
        assert_eq!(dial(&server, &[("origin", "null")]), 403);
        // A name that the page's owner made lead here.
        let (host, origin) = (format!("evil.example:{port}"), format!("http://evil.example:{port}"));
        assert_eq!(dial(&server, &[("host", &host), ("origin", &origin)]), 403);
        assert_eq!(dial(&server, &[("host", &host)]), 403);
        server.stop();
        let server =
            start(&[("CONCLAVE_ALLOW_ORIGIN", EVIL), ("CONCLAVE_ALLOW_HOST", "a.example,conclave.test")]);
        assert_eq!(dial(&server, &[("origin", EVIL)]), 101);
        assert_eq!(dial(&server, &[("host", "conclave.test")]), 101);
        assert_eq!(dial(&server, &[("host", "evil.example")]), 403);
        server.stop();
    }
    // What a person is told.
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(serve(dir.path()));
    let mut socket = std::net::TcpStream::connect(server.address).unwrap();
    let request = "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    std::io::Write::write_all(&mut socket, request.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut socket, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("--allow-host evil.example"), "{answer}");
    for wrong in [["--allow-origin", "evil.example"], ["--allow-host", "a:1"]] {
        let (code, _, err) = run(program().args(["serve", "--ephemeral"]).args(wrong));
        assert_eq!(code, 2, "{err}");
    }
}
