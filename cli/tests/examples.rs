//! The example clients of `docs/examples` against the built server, beside a session of version 1.
//!
//! Needs Python and Node.js with the packages of `.ci/run examples`, which runs it.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::io::{self, Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Instant;

use common::{Home, PATIENCE, Running, Server, run};
use conclave_core::wire::websocket::Head;
use conclave_tests::client::{Door, Peer};
use serde_json::Value;
use tempfile::TempDir;

/// What an example client is written in. Python speaks JSON, TypeScript protobuf.
#[derive(Clone, Copy)]
enum Language {
    Python,
    TypeScript,
}
use Language::{Python, TypeScript};

impl Language {
    /// The program that runs the client, and the client.
    fn program(self) -> (String, &'static str) {
        let (variable, usual, client) = match self {
            Python => ("PYTHON", "python3", "docs/examples/client.py"),
            // A copy, beside what is generated and installed for it.
            TypeScript => ("NODE", "node", "target/examples/typescript/client.ts"),
        };
        (std::env::var(variable).unwrap_or_else(|_| usual.into()), client)
    }
}

/// A user of an example client, with a state directory of its own.
struct Client {
    language: Language,
    user: &'static str,
    url: String,
    state: TempDir,
}

impl Client {
    fn new(url: &str, user: &'static str, language: Language) -> Self {
        Self { language, user, url: url.into(), state: tempfile::tempdir().unwrap() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let (program, client) = self.language.program();
        // Relative paths are from the project's root.
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut command = Command::new(program);
        command.current_dir(root).args([client, &self.url, "--user", self.user]);
        command.args(["--machine", "m", "--channel", "ops", "--state"]).arg(self.state.path()).args(args);
        command
    }

    /// Sends `texts` and goes on listening.
    fn start(&self, texts: &[String]) -> Running {
        let args: Vec<&str> = texts.iter().flat_map(|text| ["--send", text]).collect();
        Running::start(self.command(&args))
    }

    /// Waits until the client has noted that it printed message `seq`.
    #[track_caller]
    fn until_noted(&self, seq: u64) {
        let hex: String = "ops".bytes().map(|byte| format!("{byte:02x}")).collect();
        let file = self.state.path().join(format!("position-{hex}"));
        let start = Instant::now();
        while std::fs::read_to_string(&file).ok() != Some(seq.to_string()) {
            assert!(start.elapsed() < PATIENCE, "message {seq} was not noted");
            thread::yield_now();
        }
    }

    /// Runs until all is sent and printed; gives back what it printed.
    #[track_caller]
    fn finish(&self, args: &[&str]) -> Vec<String> {
        let mut command = self.command(args);
        let ran = run(command.arg("--exit"), b"").ok();
        ran.out.lines().map(String::from).collect()
    }
}

/// A message as the example client prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    seq: u64,
    from: String,
    standing: String,
    text: String,
}

/// `None` for a line that tells something else.
fn message(line: &str) -> Option<Message> {
    let [seq, from, standing, text] = line.split('\t').collect::<Vec<_>>()[..] else { return None };
    let text = serde_json::from_str(text).unwrap();
    Some(Message { seq: seq.parse().unwrap(), from: from.into(), standing: standing.into(), text })
}

#[track_caller]
fn messages(client: &Running, count: usize) -> Vec<Message> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(message(&client.line()));
    }
    all
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|it| &it.text[..]).collect()
}

/// The text in a line of `conclave tail --json`.
fn tailed(line: &str) -> String {
    serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned()
}

/// What the channel holds, as version 1 reads it.
fn history(reader: &Home) -> Vec<String> {
    let ran = reader.run(["tail", "--channel", "ops", "--since", "1h", "--no-follow", "--json"]).ok();
    ran.out.lines().map(tailed).collect()
}

/// A server with the channel `ops`, kept in a directory and reached through a door, and its creator of version 1.
struct Scene {
    data: TempDir,
    server: Server,
    door: Door,
    url: String,
    carl: Home,
}

impl Scene {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let server = serve(&data);
        let door = Door::to(server.address());
        let url = format!("ws://{}", door.address());
        let carl = Home::registered(&url, "carl");
        carl.run(["channel", "create", "ops"]).ok();
        Peer::register(server.address(), "old");
        Self { data, server, door, url, carl }
    }

    /// Posts in version 1, as the user `old`.
    fn post(&self, text: &str) {
        let mut old = Peer::connect(self.server.address(), "old", "s");
        old.join("ops");
        old.post("ops", text);
    }

    fn kill_and_restart(self) -> Self {
        let Self { data, server, door, url, carl } = self;
        door.close();
        server.kill();
        let server = serve(&data);
        door.lead_to(server.address());
        Self { data, server, door, url, carl }
    }
}

fn serve(data: &TempDir) -> Server {
    Server::with(["--data-dir".as_ref(), data.path().as_os_str()])
}

#[test]
fn all_see_one_order_and_who_was_away_gets_what_it_missed() {
    for languages in [(Python, TypeScript), (TypeScript, Python)] {
        all_see_one_order(languages);
    }
}

fn all_see_one_order((anns, bobs): (Language, Language)) {
    let mut scene = Scene::start();
    let tail = Running::start(scene.carl.command(["tail", "--channel", "ops", "--since", "1h", "--json"]));
    let (ann, bob) = (Client::new(&scene.url, "ann", anns), Client::new(&scene.url, "bob", bobs));
    let numbered = |user: &str| (0..5).map(|nth| format!("{user} {nth}")).collect::<Vec<_>>();
    let (ann_runs, bob_runs) = (ann.start(&numbered("ann")), bob.start(&numbered("bob")));
    scene.post("old 0");
    let order = messages(&ann_runs, 11);
    assert_eq!(messages(&bob_runs, 11), order);
    assert_eq!((0..11).map(|_| tailed(&tail.line())).collect::<Vec<_>>(), texts(&order));
    assert!(order.iter().map(|it| it.seq).eq(1..=11));
    for it in &order {
        let standing = if it.text.starts_with("old") { "unsigned" } else { "signed" };
        assert_eq!(it.standing, standing, "{it:?}");
    }

    // The clients come back by themselves when the server does.
    scene = scene.kill_and_restart();
    scene.post("after the kill");
    for client in [&ann_runs, &bob_runs] {
        assert_eq!(texts(&messages(client, 1)), ["after the kill"]);
    }

    // Killed between printing a message and noting it, a client would print it again.
    bob.until_noted(12);
    drop(bob_runs);
    for text in ["missed 1", "missed 2"] {
        scene.post(text);
    }
    let missed: Vec<_> = bob.finish(&[]).iter().filter_map(|line| message(line)).collect();
    assert_eq!(texts(&missed), ["missed 1", "missed 2"]);
    assert_eq!(bob.finish(&[]), Vec::<String>::new());
}

#[test]
fn the_same_id_is_the_same_message() {
    let scene = Scene::start();
    let ann = Client::new(&scene.url, "ann", Python);
    let id = "0198f3a2b4c87d6e8f00112233445566";
    let again = ["--send", "once", "--message-id", id];
    let first = ann.finish(&again);
    assert_eq!(first[0], format!("stored\t1\t{id}"));
    let scene = scene.kill_and_restart();
    assert_eq!(ann.finish(&again), first[..1]);
    assert_eq!(history(&scene.carl), ["once"]);
}

#[test]
fn a_killed_server_loses_and_repeats_nothing() {
    for language in [Python, TypeScript] {
        nothing_is_lost_or_repeated(language);
    }
}

fn nothing_is_lost_or_repeated(language: Language) {
    let mut scene = Scene::start();
    let ann = Client::new(&scene.url, "ann", language);
    let sent: Vec<String> = (0..60).map(|nth| nth.to_string()).collect();
    let runs = ann.start(&sent);
    let mut seen = Vec::new();
    for round in 1..=3 {
        while seen.len() < round * 15 {
            seen.extend(messages(&runs, 1));
        }
        scene = scene.kill_and_restart();
    }
    seen.extend(messages(&runs, sent.len() - seen.len()));
    assert_eq!(texts(&seen), sent);
    assert_eq!(history(&scene.carl), sent);
}

#[test]
fn a_server_that_alters_a_message_is_found_out() {
    let scene = Scene::start();
    let ann = Client::new(&scene.url, "ann", TypeScript);
    let runs = ann.start(&["hello".into(), "pay ann 10".into()]);
    messages(&runs, 2);
    for (user, language) in [("bob", Python), ("bea", TypeScript)] {
        let reader = Client::new(&forging(scene.server.address()), user, language);
        let read: Vec<_> = reader.finish(&[]).iter().filter_map(|line| message(line)).collect();
        assert_eq!(texts(&read), ["hello", "pay eve 10"]);
        assert_eq!(read.iter().map(|it| &it.standing[..]).collect::<Vec<_>>(), ["signed", "FORGED"]);
    }
}

/// A way to the server on which one text becomes another, as if the server had changed it; its URL.
fn forging(server: SocketAddr) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(server).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut from, &mut to));
            thread::spawn(move || {
                let _ = forge(&server, &client);
                let _ = (server.shutdown(Shutdown::Both), client.shutdown(Shutdown::Both));
            });
        }
    });
    url
}

/// Passes on what the server sends, frame by frame.
fn forge(mut server: &TcpStream, mut client: &TcpStream) -> io::Result<()> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        read(&mut server, 1, &mut bytes)?;
    }
    loop {
        client.write_all(&bytes)?;
        bytes.clear();
        let head = loop {
            read(&mut server, 1, &mut bytes)?;
            if let Some(head) = Head::read(&bytes) {
                break head;
            }
        };
        read(&mut server, usize::try_from(head.content).unwrap(), &mut bytes)?;
        let (true_text, false_text) = (b"pay ann", b"pay eve");
        let found = bytes.windows(true_text.len()).position(|window| window == true_text);
        if let Some(at) = found {
            bytes[at..at + false_text.len()].copy_from_slice(false_text);
        }
    }
}

fn read(from: &mut impl Read, count: usize, into: &mut Vec<u8>) -> io::Result<()> {
    let start = into.len();
    into.resize(start + count, 0);
    from.read_exact(&mut into[start..])
}
