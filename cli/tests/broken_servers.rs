//! Servers that are not there, not what they should be, or gone in the middle: each is told in one line, with
//! one that says what to type, and nothing hangs.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use common::session::{establish, open, send, server};
use common::{Home, Ran, Server};
use conclave_core::wire::v1::{Frame, ProtocolError};

/// A machine with a key that knows `url`.
fn knows(url: &str) -> Home {
    let home = Home::new();
    home.run(["key"]).ok();
    let entry = format!("[[servers]]\nurl = \"{url}\"\nusername = \"ann\"\nmachine = \"m\"\n");
    fs::write(home.path("config.toml"), entry).unwrap();
    home
}

#[test]
fn nobody_at_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    drop(listener);
    let home = knows(&url);
    for verb in [&["who"][..], &["send", "--channel", "c", "x"], &["tail", "--channel", "c"], &["join", "c"]]
    {
        home.run(verb).fails(1, "cannot be reached", "conclave serve");
    }
    home.run(["who", "--server", "ws://no-such-host.invalid"]).fails(1, "no-such-host.invalid", "spelling");
}

/// Its deadline met, it says so; it takes not much longer than that.
fn in_time(run: impl FnOnce() -> Ran) -> Ran {
    let start = Instant::now();
    let ran = run();
    assert!(start.elapsed() < Duration::from_secs(20), "{ran:?}");
    ran
}

#[test]
fn a_server_that_accepts_and_never_answers_meets_the_deadline() {
    let silent = server(|_stream| thread::park());
    let home = knows(&silent);
    for verb in [&["who"][..], &["tail", "--channel", "c"], &["doctor"]] {
        let ran = in_time(|| home.run([verb, &["--timeout", "300ms"]].concat()));
        assert_eq!(ran.code, 1);
        assert!(
            format!("{}{}", ran.out, ran.err).contains("did not answer the WebSocket handshake"),
            "{ran:?}"
        );
    }
}

#[test]
fn a_server_that_stops_in_the_handshake_meets_the_deadline() {
    let silent = server(|stream| {
        let _socket = open(stream);
        thread::park();
    });
    let home = knows(&silent);
    for verb in [&["who"][..], &["tail", "--channel", "c"]] {
        let ran = in_time(|| home.run([verb, &["--timeout", "300ms"]].concat()));
        ran.fails(1, "did not answer", "--timeout");
    }
}

#[test]
fn a_server_that_never_answers_a_request_may_have_carried_it_out() {
    let silent = server(|stream| {
        let _socket = establish(stream);
        thread::park();
    });
    let home = knows(&silent);
    let ran = in_time(|| home.run(["send", "--channel", "c", "x", "--timeout", "300ms"]));
    ran.fails(1, "may have been carried out", "look whether it was done");
}

#[test]
fn a_server_that_goes_away_in_mid_request_may_have_carried_it_out() {
    let leaving = server(|stream| {
        let mut socket = establish(stream);
        socket.read().unwrap();
    });
    let home = knows(&leaving);
    let ran = home.run(["channel", "create", "c"]);
    ran.fails(1, "may have been carried out", "look whether it was done");
}

#[test]
fn a_server_that_cannot_take_a_subscription_now_ends_a_tail_that_has_not_begun() {
    let full = server(|stream| {
        let mut socket = establish(stream);
        while socket.read().is_ok() {
            send(&mut socket, &Frame::Error(ProtocolError::Internal("the disk is full")));
        }
    });
    knows(&full).run(["tail", "--channel", "c"]).fails(1, "the disk is full", "try again");
}

#[test]
fn a_history_that_does_not_come_to_its_end_meets_the_deadline() {
    let leaving = server(|stream| {
        let mut socket = establish(stream);
        let _ = socket.read();
        send(&mut socket, &Frame::Joined { channel: "c" });
        let _ = socket.read();
    });
    let home = knows(&leaving);
    let ran = in_time(|| home.run(["tail", "--channel", "c", "--no-follow", "--timeout", "500ms"]));
    ran.fails(1, "no more came within 500ms", "try again");
}

#[test]
fn what_is_no_conclave_server_is_told() {
    let page = server(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    });
    knows(&page).run(["who"]).fails(1, "404", "host, port and path");
    let garbage = server(|stream| {
        let mut socket = open(stream);
        let _ = socket.send(tungstenite::Message::Binary(vec![255; 40].into()));
        let _ = socket.read();
    });
    knows(&garbage).run(["who"]).fails(1, "no frame", "conclave doctor");
    let newer = server(|stream| {
        let mut socket = open(stream);
        send(&mut socket, &Frame::Error(ProtocolError::VersionMismatch { ours: 9, theirs: 1 }));
        let _ = socket.read();
    });
    knows(&newer).run(["who"]).fails(1, "version 9", "conclave --version");
}

#[test]
fn a_servers_words_drive_no_terminal() {
    let hostile = server(|stream| {
        let mut socket = open(stream);
        send(&mut socket, &Frame::Error(ProtocolError::Unauthorized("\u{1b}]0;owned\u{7}\nerror: pay")));
        let _ = socket.read();
    });
    let ran = knows(&hostile).run(["who"]).fails(1, "\\u{1b}]0;owned", "conclave machine add");
    assert!(!ran.err.contains('\u{1b}') && ran.err.lines().count() == 2, "{ran:?}");
}

#[test]
fn a_wrong_answer_is_told() {
    let confused = server(|stream| {
        let mut socket = establish(stream);
        while socket.read().is_ok() {
            send(&mut socket, &Frame::Pong);
        }
    });
    let home = knows(&confused);
    home.run(["who"]).fails(1, "a reply of another kind than the request", "conclave doctor");
}

fn issue(names: &[&str]) -> (tempfile::TempDir, Vec<String>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (cert_file, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    fs::write(&cert_file, certificate.pem()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    let files = [cert_file, key_file].map(|path| path.to_str().unwrap().to_owned());
    (dir, files.to_vec())
}

#[test]
fn certificates_are_checked_and_a_private_issuer_can_be_trusted() {
    let (_dir, files) = issue(&["localhost"]);
    let server = Server::with(["--ephemeral", "--tls-cert", &files[0], "--tls-key", &files[1]]);
    let url = format!("wss://localhost:{}", server.port);
    let home = Home::new();
    let register = ["register", "--server", &url, "--username", "ann"];
    home.run(register).fails(1, "nobody that this machine trusts", "--ca FILE");
    home.run([&register[..], &["--ca", &files[0]]].concat()).ok();
    assert!(
        fs::read_to_string(home.path("config.toml")).unwrap().contains(&format!("ca = \"{}\"", files[0]))
    );
    home.run(["who"]).ok();
    let status = home.run(["status", "--json"]).json();
    assert_eq!(status["servers"][0]["reachable"], true);
    let ran = home.run(["doctor", "--bridge"]).ok();
    assert!(ran.out.contains("TLSv1_3") && ran.out.contains("DNS"), "{}", ran.out);
    let mut command = home.command(["who", "--ca", "/nowhere.pem"]);
    common::run(&mut command, b"").fails(1, "/nowhere.pem", "--ca FILE");
    let by_address = format!("wss://127.0.0.1:{}", server.port);
    home.run(["who", "--server", &by_address, "--ca", &files[0]]).fails(1, "another name", "host name");
    let plain = format!("ws://localhost:{}", server.port);
    assert_eq!(home.run(["who", "--server", &plain]).code, 1);
    let server = Server::start();
    let tls = format!("wss://localhost:{}", server.port);
    home.run(["who", "--server", &tls]).fails(1, "TLS", "ws://");
}

/// A proxy that leads every `CONNECT` to `port`, and tells what it was asked.
fn proxy(port: u16, answer: &'static str) -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, asked) = channel();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let _ = sender.send(String::from_utf8(head).unwrap());
            let _ = client.write_all(answer.as_bytes());
            if answer.contains("200") {
                join(client, TcpStream::connect(("127.0.0.1", port)).unwrap());
            }
        }
    });
    (address, asked)
}

fn join(client: TcpStream, server: TcpStream) {
    for (mut from, mut to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)] {
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
    }
}

#[test]
fn the_environments_proxy_is_used_and_its_refusals_are_told() {
    let server = Server::with(["--ephemeral", "--allow-host", "conclave.example"]);
    let (address, asked) = proxy(server.port, "HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n");
    let home = Home::new();
    let url = "ws://conclave.example:4390";
    let mut command = home.command(["register", "--server", url, "--username", "ann"]);
    common::run(command.env("HTTP_PROXY", format!("http://us%65r:pass@{address}")), b"").ok();
    let head = asked.recv().unwrap();
    assert!(
        head.starts_with("CONNECT conclave.example:4390 HTTP/1.1\r\nHost: conclave.example:4390\r\n"),
        "{head}"
    );
    assert!(head.contains("Proxy-Authorization: Basic dXNlcjpwYXNz\r\n"), "{head}");
    let mut command = home.command(["doctor"]);
    let seen = common::run(command.env("all_proxy", &address), b"").ok().out;
    assert!(seen.contains(&format!("through {address}")), "{seen}");
    // The proxy is on this machine, and the server is not.
    assert!(seen.contains("whoever is on the way reads along"), "{seen}");

    let with = |variables: &[(&str, &str)]| {
        let mut command = home.command(["who", "--timeout", "5s"]);
        common::run(command.envs(variables.iter().copied()), b"")
    };
    let (closed, _asked) = proxy(0, "HTTP/1.1 403 Forbidden\r\n\r\n");
    with(&[("HTTP_PROXY", &closed)]).fails(1, "403", "NO_PROXY");
    let (locked, _asked) = proxy(0, "HTTP/1.1 407 Authenticate\r\n\r\n");
    with(&[("http_proxy", &locked)]).fails(1, "407", "HTTP_PROXY");
    with(&[("HTTP_PROXY", "socks5://localhost:1")]).fails(1, "HTTP_PROXY", "HTTP_PROXY=http://");
    let direct = with(&[("HTTP_PROXY", &address), ("NO_PROXY", ".example")]);
    assert!(direct.code == 1 && direct.err.contains("conclave.example"), "{direct:?}");
}
