//! `conclave chat` on a pseudo-terminal: keys go to the built program, and what it draws is read from an emulated screen.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use common::{Home, PATIENCE, Server};

/// The program on a terminal of its own.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    bytes: Receiver<Vec<u8>>,
    screen: vt100::Parser,
}

impl Terminal {
    fn start(home: &Home, (columns, rows): (u16, u16), args: &str, variables: &[(&str, &str)]) -> Self {
        let program = env!("CARGO_BIN_EXE_conclave");
        let mut command = Command::new("script");
        command.args([
            "-qfec",
            &format!("stty rows {rows} cols {columns}; exec {program} chat {args}"),
            "/dev/null",
        ]);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("SHELL", "/bin/sh");
        command.env("TERM", "xterm-256color").env("TZ", "UTC").env("CONCLAVE_CONFIG_DIR", &home.dir);
        command.envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (keys, mut out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, bytes) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys, bytes, screen: vt100::Parser::new(rows, columns, 0) }
    }

    fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    fn text(&self) -> String {
        self.screen.screen().contents()
    }

    /// Waits until the screen is as it should be.
    #[track_caller]
    fn until(&mut self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let text = self.text();
            if is_so(&text) {
                return text;
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            match self.bytes.recv_timeout(left) {
                Ok(bytes) => self.screen.process(&bytes),
                Err(error) => panic!("{what}: {error}\n{text}"),
            }
        }
    }

    #[track_caller]
    fn shows(&mut self, wanted: &str) -> String {
        self.until(wanted, |text| text.contains(wanted))
    }

    #[track_caller]
    fn ends(mut self) {
        self.keys("\u{11}");
        assert!(common::wait(&mut self.child).success());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn two(url: &str) -> (Home, Home) {
    let (ann, bea) = (Home::registered(url, "ann"), Home::registered(url, "bea"));
    ann.run(["channel", "create", "ops"]).ok();
    ann.run(["acl", "add", "ops", "bea"]).ok();
    (ann, bea)
}

#[test]
fn two_people_talk_and_each_sees_that_the_other_saw_it() {
    let server = Server::start();
    let (ann, bea) = two(&server.url);
    let mut hers = Terminal::start(&ann, (100, 30), "", &[]);
    hers.shows("#ops  1 here");
    let mut other = Terminal::start(&bea, (60, 20), "ops", &[]);
    hers.shows("#ops  2 here");
    other.shows("#ops  2 here");
    hers.keys("the build is green\r");
    other.shows("  the build is green");
    hers.shows("seen 1/1");
    // A paste of several lines is one message, and sends nothing by itself.
    other.keys("\u{1b}[200~one\ntwo\u{1b}[201~");
    other.shows("> one");
    other.keys("\r");
    hers.until("both lines", |text| text.contains("  one") && text.contains("  two"));
    hers.ends();
    other.ends();
}

#[test]
fn what_is_typed_while_the_server_is_away_is_sent_once_when_it_is_back() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().to_str().unwrap();
    let server = Server::with(["--data-dir", dir]);
    let address = server.address().to_string();
    let (ann, bea) = two(&server.url);
    let mut hers = Terminal::start(&ann, (100, 30), "ops", &[]);
    hers.shows("#ops  1 here");
    server.kill();
    hers.shows("not connected");
    hers.keys("are you there?\r");
    hers.shows("sending…");
    let server = Server::at(&address, ["--data-dir", dir]);
    hers.until("it is stored", |text| text.contains("are you there?") && !text.contains("sending…"));
    hers.ends();
    let told = bea.run(["tail", "ops", "--no-follow"]).ok().out;
    assert_eq!(told.matches("are you there?").count(), 1, "{told}");
    drop(server);
}

#[test]
fn what_was_not_on_the_screen_is_unread_in_the_next_run() {
    let server = Server::start();
    let (ann, bea) = two(&server.url);
    let mut hers = Terminal::start(&ann, (100, 30), "ops", &[]);
    hers.shows("#ops  1 here");
    hers.ends();
    bea.run(["send", "ops", "@ann look"]).ok();
    bea.run(["whisper", "ann", "psst"]).ok();
    let mut hers = Terminal::start(&ann, (100, 30), "", &[]);
    let text = hers.until("new", |text| text.contains("── new ──") && text.contains("@ann look"));
    assert!(text.contains("bea"), "{text}");
    // The person's name carries one unread message, until it is opened.
    hers.until("one unread", |text| text.lines().any(|line| line.contains("bea ") && line.contains(" 1 │")));
    hers.keys("\u{1b}[1;3B");
    hers.shows("  psst");
    hers.until("none unread", |text| !text.lines().any(|line| line.contains(" 1 │")));
    hers.ends();
    let receipts = bea.run(["receipts", "--to", "ann", "1", "--json"]).json();
    assert_eq!(receipts[0]["state"], "seen", "{receipts}");
}

#[test]
fn hostile_text_reaches_no_terminal_and_no_colour_is_drawn_where_none_is_wanted() {
    let server = Server::start();
    let (ann, bea) = two(&server.url);
    let mut hers = Terminal::start(&ann, (80, 24), "ops", &[("NO_COLOR", "1")]);
    hers.shows("#ops  1 here");
    bea.run(["send", "ops", "a\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}b"]).ok();
    hers.shows("  a\\u{1b}]0;owned\\u{7}\\u{1b}[2J\\u{202e}b");
    let screen = hers.screen.screen();
    for row in 0..24 {
        for column in 0..80 {
            let cell = screen.cell(row, column).unwrap();
            assert_eq!((cell.fgcolor(), cell.bgcolor()), (vt100::Color::Default, vt100::Color::Default));
        }
    }
    hers.ends();
}

#[test]
fn without_a_terminal_it_says_what_to_type_instead() {
    let home = Home::new();
    home.run(["chat"]).fails(2, "chat needs a terminal", "conclave tail --json");
}
