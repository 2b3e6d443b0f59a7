//! What is logged and exported: who did what, and never what was said or what it takes to be somebody.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use conclave_core::wire::v1::{AdminOp, Frame, Path, Visibility};
use conclave_tests::client::{Dial, PATIENCE, Peer, Socket, key, post, whisper, why};
use conclave_tests::conformance::get;
use serde_json::Value;

use super::process::{RUNTIMES, Served, run, serve};

/// A word that stands in everything that must not be told.
const CANARY: &str = "canary";

/// Says and does everything that a session can; gives back what must not be told of it.
fn does_everything(server: &Served) -> Vec<String> {
    let mut ann = Peer::register(server.address, "ann");
    let mut bob = Peer::register(server.address, "bob");
    let mut root = Peer::register(server.address, "root");
    ann.create("plans", Visibility::Private);
    ann.post("plans", "canary of a post");
    ann.ask(&whisper(Path { user: "bob", machine: "m", session: "s" }, "canary of a whisper"));
    let token = ann.invite("plans", None, None).to_owned();
    let revoked = ann.invite("plans", Some(1), Some(60)).to_owned();
    ann.admin(AdminOp::InviteRevoke { token: &revoked });
    ann.ask(&Frame::Admin(AdminOp::InviteList { channel: "plans" }));
    bob.ask(&Frame::Join { channel: "plans", token: Some(&token) });
    bob.ask(&Frame::Join { channel: "absent", token: Some("canary-of-a-token") });
    bob.ask(&post("absent", "canary of a refusal"));
    bob.history("plans");
    let laptop = key("laptop").public();
    ann.admin(AdminOp::MachineAdd { name: "laptop", pubkey: laptop.as_bytes() });
    ann.admin(AdminOp::MachineRemove { name: "laptop" });
    ann.admin(AdminOp::RenameChannel { name: "plans", new_name: "deeds" });
    ann.admin(AdminOp::Ban { channel: "deeds", user: "bob" });
    bob.ask(&Frame::Admin(AdminOp::DeleteChannel { name: "deeds" }));
    drop(Peer::connect_with(server.address, &key("stranger"), "s"));
    // Garbage, of which a word may be quoted in an error.
    let mut opening = Peer::dial(server.address);
    opening.socket().send(b"canary of a stranger's garbage".to_vec());
    opening.last_word();
    let mut again = Peer::connect(server.address, "bob", "s");
    bob.last_word();
    again.socket().send(b"canary of a session's garbage".to_vec());
    again.last_word();
    root.admin(AdminOp::UserRemove { username: "bob" });
    let request = Dial::plain(server.address).header("authorization", "canary of a header");
    drop(Socket::dial(&request));
    let _ = get(server.address, "/canary-of-a-path");
    let mut secret = vec![CANARY.to_owned(), token, revoked];
    for user in ["ann", "bob", "root", "laptop", "stranger"] {
        secret.extend(shapes(user));
    }
    secret
}

/// A user's key and its seed, in each of the shapes in which they could be printed.
fn shapes(user: &str) -> Vec<String> {
    let pair = key(user);
    let seed = pair.expose();
    let mut shapes = vec![seed.as_str().to_owned(), pair.public().to_string()];
    let bytes = pair.public().as_bytes().to_owned();
    shapes.push(format!("{bytes:?}"));
    shapes.push(bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }));
    shapes
}

/// A server that logs all that it can, and would log its libraries if that could be asked for.
fn talkative(runtime: &str, dir: &std::path::Path) -> Command {
    let mut command = serve(dir);
    command.args(["--runtime", runtime, "--verbose"]);
    command.env("CONCLAVE_LOG", "trace,tungstenite=trace,hyper=trace,rustls=trace,conclave_shell=trace");
    command
}

fn tells_nothing(told: &str, secret: &[String]) {
    for secret in secret {
        assert!(!told.contains(secret.as_str()), "{secret} in {told}");
    }
}

#[test]
fn a_log_tells_who_did_what_and_no_body_token_or_key() {
    for runtime in RUNTIMES {
        let dir = tempfile::tempdir().unwrap();
        let server = Served::start(talkative(runtime, dir.path()));
        let secret = does_everything(&server);
        let metrics = get(server.address, "/metrics").body;
        let log = [server.greeting.clone(), server.stop()].concat().join("\n");
        tells_nothing(&log, &secret);
        tells_nothing(&metrics, &secret);
        for told in [
            "listening",
            "a user registered user=ann machine=m",
            "done by=ann/m/s operation=\"channel create\" channel=\"plans\" subject=\"private\"",
            "done by=ann/m/s operation=\"invite create\" channel=\"plans\"",
            "done by=ann/m/s operation=\"machine add\" subject=\"laptop\"",
            "done by=ann/m/s operation=\"channel rename\" channel=\"plans\" subject=\"deeds\"",
            "done by=ann/m/s operation=\"ban\" channel=\"deeds\" subject=\"bob\"",
            "refused by=bob/m/s operation=\"channel delete\" channel=\"deeds\" kind=\"not_found\"",
            "done by=root/m/s operation=\"user remove\" subject=\"bob\"",
            "a session was ended session=bob/m/s reason=\"superseded\"",
            "drained",
        ] {
            assert!(log.contains(told), "{told} is not in {log}");
        }
    }
}

#[test]
fn a_log_for_programs_is_json_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = talkative("tokio", dir.path());
    command.args(["--metrics-bind", "127.0.0.1:0"]).env("CONCLAVE_LOG_FORMAT", "json");
    let server = Served::start(command);
    let mut ann = Peer::register(server.address, "ann");
    ann.create("c", Visibility::Public);
    let lines = [server.greeting.clone(), server.stop()].concat();
    let events: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}")))
        .collect();
    for event in &events {
        for field in ["timestamp", "level", "message", "target"] {
            assert!(event[field].is_string(), "{field} is not in {event}");
        }
        assert!(event["target"].as_str().unwrap().starts_with("conclave"), "{event}");
    }
    let created = events.iter().find(|event| event["operation"] == "channel create").unwrap();
    assert_eq!((&created["by"], &created["channel"]), (&Value::from("ann/m/s"), &Value::from("c")));
    // Also why it does not start.
    let served = Served::start(serve(dir.path()));
    let (code, _, err) = run(talkative("tokio", dir.path()).env("CONCLAVE_LOG_FORMAT", "json"));
    let told: Value = serde_json::from_str(&err).unwrap_or_else(|why| panic!("{why}: {err}"));
    assert_eq!((code, &told["level"]), (1, &Value::from("ERROR")));
    assert!(told["message"].as_str().unwrap().contains("in use") && told["next"].is_string(), "{told}");
    served.stop();
}

#[test]
fn nobody_has_to_read_the_log() {
    for (runtime, kept) in RUNTIMES.iter().flat_map(|runtime| [(runtime, true), (runtime, false)]) {
        let dir = tempfile::tempdir().unwrap();
        let mut command = serve(dir.path());
        command.args(["--runtime", runtime, "--limit", "name-bytes=128"]);
        let server = Served::unread(command, kept);
        let mut ann = Peer::register(server.address, "ann");
        // Far more than a pipe holds.
        let name = |nth: usize| format!("{nth} {}", "x".repeat(120));
        ann.create(&name(0), Visibility::Public);
        for nth in 0..1_000 {
            ann.admin(AdminOp::RenameChannel { name: &name(nth), new_name: &name(nth + 1) });
        }
        assert!(ann.is_alive());
        server.stop();
    }
}

/// A collector of OpenTelemetry's: what it is sent, by path.
fn collector() -> (SocketAddr, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, sent) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let sender = sender.clone();
            thread::spawn(move || collect(stream, &sender));
        }
    });
    (address, sent)
}

fn collect(stream: std::net::TcpStream, sender: &Sender<(String, Vec<u8>)>) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (mut request, mut length) = (String::new(), 0);
        reader.read_line(&mut request).ok().filter(|count| *count > 0)?;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            if header.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
        sender.send((request.split(' ').nth(1)?.to_owned(), body)).ok()?;
    }
}

#[test]
fn a_collector_that_is_named_is_sent_traces_and_the_log_and_no_secret() {
    let (address, sent) = collector();
    let dir = tempfile::tempdir().unwrap();
    let mut command = talkative("tokio", dir.path());
    command.env("CONCLAVE_OTLP_ENDPOINT", format!("http://{address}/"));
    let server = Served::start(command);
    let secret = does_everything(&server);
    // All that is left to be sent is sent before it ends.
    server.stop();
    let sent: Vec<(String, Vec<u8>)> = sent.try_iter().collect();
    let all = |path: &str| {
        let bodies = sent.iter().filter(|(to, _)| to == path);
        bodies.map(|(_, body)| String::from_utf8_lossy(body).into_owned()).collect::<String>()
    };
    let (traces, logs) = (all("/v1/traces"), all("/v1/logs"));
    assert!(traces.contains("commit") && traces.contains("open connection"), "{traces}");
    assert!(logs.contains("listening") && logs.contains("channel create"), "{logs}");
    assert!(logs.contains("service.name"), "{logs}");
    tells_nothing(&traces, &secret);
    tells_nothing(&logs, &secret);
}

#[test]
fn nothing_is_exported_that_was_not_asked_for() {
    let (address, sent) = collector();
    let endpoint = format!("http://{address}");
    let dir = tempfile::tempdir().unwrap();
    let mut command = serve(dir.path());
    // The variables of other programs are none of this one's.
    for variable in [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
    ] {
        command.env(variable, &endpoint);
    }
    command.env("CONCLAVE_OTLP_ENDPOINT", "");
    let server = Served::start(command);
    does_everything(&server);
    server.stop();
    assert_eq!(sent.try_iter().count(), 0);
}

#[test]
fn a_collector_that_is_gone_or_silent_holds_nobody_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), gone] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = serve(dir.path());
        command.env("CONCLAVE_OTLP_ENDPOINT", format!("http://{address}"));
        let server = Served::start(command);
        let mut ann = Peer::register(server.address, "ann");
        ann.create("c", Visibility::Public);
        (0..100).for_each(|_| ann.post("c", "text"));
        let start = std::time::Instant::now();
        server.stop();
        assert_eq!(why(&ann.last_word()), "server shutting down");
        assert!(start.elapsed() < PATIENCE / 4, "{:?}", start.elapsed());
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = serve(dir.path());
    command.env("CONCLAVE_OTLP_ENDPOINT", "collector:4318");
    let (code, _, err) = run(&mut command);
    assert!(code == 1 && err.contains("write it as http://HOST:4318"), "{err}");
}

#[test]
fn a_user_who_repeats_an_operation_does_not_fill_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(serve(dir.path()));
    let mut ann = Peer::register(server.address, "ann");
    let mut root = Peer::register(server.address, "root");
    ann.create("plans", Visibility::Public);
    for _ in 0..200 {
        for visibility in [Visibility::Private, Visibility::Public] {
            ann.admin(AdminOp::SetVisibility { name: "plans", visibility });
        }
    }
    root.admin(AdminOp::UserRemove { username: "ann" });
    ann.last_word();
    let log = server.stop();
    let lines = log.iter().filter(|line| line.contains("set-visibility") && line.contains("ann/m/s")).count();
    assert!((1..100).contains(&lines), "{lines} lines for 400 operations");
    let counted =
        log.iter().any(|line| line.contains("too often to log each") && line.contains("set-visibility: 3"));
    assert!(counted, "how many there were is said: {log:#?}");
    assert!(log.iter().any(|line| line.contains("user remove") && line.contains("root")), "{log:#?}");
}
