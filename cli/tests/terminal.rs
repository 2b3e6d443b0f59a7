//! What differs on a terminal, seen through `script`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use common::{Home, Ran, Server};

/// Runs the program on a terminal of its own.
fn on_terminal(home: &Home, args: &str, variables: &[(&str, &str)]) -> Ran {
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &format!("{} {args}", env!("CARGO_BIN_EXE_conclave")), "/dev/null"]);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("SHELL", "/bin/sh");
    command.env("TERM", "xterm-256color").env("CONCLAVE_CONFIG_DIR", &home.dir);
    common::run(command.envs(variables.iter().copied()), b"")
}

/// The same, with somebody who types `answer`.
fn answering(home: &Home, args: &str, answer: &str) -> Ran {
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &format!("{} {args}", env!("CARGO_BIN_EXE_conclave")), "/dev/null"]);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("SHELL", "/bin/sh");
    command.env("CONCLAVE_CONFIG_DIR", &home.dir);
    common::run(&mut command, format!("{answer}\n").as_bytes())
}

#[test]
fn what_cannot_be_undone_is_asked_for_on_a_terminal_and_done_at_once_in_a_script() {
    let server = Server::with(["--ephemeral", "--admin", "ann"]);
    let home = Home::registered(&server.url, "ann");
    let channels = || home.run(["channel", "list", "--json"]).json().as_array().unwrap().len();
    for name in ["a", "b", "c"] {
        home.run(["channel", "create", name]).ok();
    }
    let refused = answering(&home, "channel delete a", "no");
    assert!(refused.code == 1 && refused.out.contains("#a will be deleted"), "{refused:?}");
    assert!(refused.out.contains("nothing was changed") && refused.out.contains("--yes"), "{refused:?}");
    assert_eq!(channels(), 3);
    answering(&home, "channel delete a", "yes").ok();
    let unasked = on_terminal(&home, "channel delete b --yes", &[]).ok();
    assert!(!unasked.out.contains("will be deleted"), "{unasked:?}");
    home.run(["channel", "delete", "c"]).ok();
    assert_eq!(channels(), 0);
    let refused = answering(&home, "user remove ann", "n");
    assert!(refused.code == 1 && refused.out.contains("That is you"), "{refused:?}");
    home.run(["who"]).ok();
    home.run(["user", "remove", "ann"]).ok();
    home.run(["who"]).code_is(1);
}

#[test]
fn a_server_ends_with_its_terminal() {
    use std::io::{BufRead as _, BufReader};
    let mut command = std::process::Command::new("script");
    let serve = format!("{} serve --ephemeral --bind 127.0.0.1:0", env!("CARGO_BIN_EXE_conclave"));
    command.args(["-qfec", &serve, "/dev/null"]);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("SHELL", "/bin/sh");
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut terminal = command.spawn().unwrap();
    let mut lines = BufReader::new(terminal.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| {
        let rest = line.split_once("conclave serves ws://")?.1;
        Some(rest.split(',').next()?.to_owned())
    });
    let address: std::net::SocketAddr = address.unwrap().parse().unwrap();
    assert!(std::net::TcpStream::connect(address).is_ok());
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    let start = std::time::Instant::now();
    while std::net::TcpStream::connect(address).is_ok() {
        assert!(start.elapsed() < common::PATIENCE, "it goes on without its terminal");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_shown_on_a_terminal_is_seen() {
    let server = Server::start();
    let (ann, bea) = (Home::registered(&server.url, "ann"), Home::registered(&server.url, "bea"));
    ann.run(["channel", "create", "ops"]).ok();
    ann.run(["acl", "add", "ops", "bea"]).ok();
    // A reader claims nothing of what came before it.
    bea.run(["tail", "ops", "--as", "desk", "--no-follow"]).ok();
    ann.run(["send", "ops", "hi"]).ok();
    ann.run(["whisper", "bea", "psst"]).ok();
    on_terminal(&bea, "tail ops --as desk --no-follow", &[]).ok();
    on_terminal(&bea, "inbox", &[]).ok();
    for message in [&["ops", "1"][..], &["--to", "bea", "1"]] {
        let told = ann.run([&["receipts", "--json"], message].concat()).json();
        assert_eq!(told[0]["state"], "seen", "{told}");
    }
}

#[test]
fn another_key_of_a_server_is_accepted_by_an_answer() {
    let (server, other) = (Server::start(), Server::start());
    let door = conclave_tests::client::Door::to(server.address());
    let url = format!("ws://{}", door.address());
    let ann = Home::registered(&url, "ann");
    door.close();
    door.lead_to(other.address());
    let refused = answering(&ann, "server trust", "no");
    assert!(refused.code == 1 && refused.out.contains("proved now:"), "{refused:?}");
    assert!(answering(&ann, "server trust", "yes").ok().out.contains("is trusted with the key"));
    ann.run(["server", "trust"]).ok();
}

#[test]
fn colours_stand_on_a_terminal_and_nowhere_else() {
    let home = Home::new();
    home.run(["key"]).ok();
    assert!(on_terminal(&home, "doctor", &[]).ok().out.contains("\u{1b}["));
    assert!(!on_terminal(&home, "doctor", &[("NO_COLOR", "1")]).ok().out.contains('\u{1b}'));
    assert!(!on_terminal(&home, "doctor --color never", &[]).ok().out.contains('\u{1b}'));
    assert!(!home.run(["doctor"]).ok().out.contains('\u{1b}'));
    assert!(home.run(["doctor", "--color", "always"]).ok().out.contains("\u{1b}["));
    assert!(!on_terminal(&home, "doctor --json", &[]).ok().out.contains('\u{1b}'));
}

#[test]
fn a_failure_is_two_lines_on_a_terminal() {
    let home = Home::new();
    home.run(["key"]).ok();
    let ran = on_terminal(&home, "who", &[]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("\u{1b}[1m\u{1b}[31merror:\u{1b}[0m this machine knows no server"), "{ran:?}");
    assert_eq!(ran.out.lines().count(), 2, "{ran:?}");
}

#[test]
fn send_does_not_wait_for_what_nobody_pipes_in() {
    let server = Server::start();
    let home = Home::registered(&server.url, "ann");
    home.run(["channel", "create", "ops"]).ok();
    let ran = on_terminal(&home, "send --channel ops", &[]);
    assert_eq!(ran.code, 2);
    assert!(ran.out.contains("there is no text to send"), "{ran:?}");
}

#[test]
fn the_demo_gives_a_reader_time_unless_told_not_to() {
    let home = Home::new();
    let ran = on_terminal(&home, "demo --fast", &[]).ok();
    assert!(ran.out.contains("\u{1b}[") && ran.out.contains("conclave register"), "{ran:?}");
    assert!(!home.dir.exists(), "the demo leaves nothing behind");
}

#[test]
fn a_narrow_terminal_breaks_between_words() {
    let home = Home::new();
    home.run(["key"]).ok();
    let mut command = std::process::Command::new("script");
    let program = env!("CARGO_BIN_EXE_conclave");
    command.args(["-qec", &format!("stty rows 24 cols 60; {program} doctor --color never"), "/dev/null"]);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("SHELL", "/bin/sh");
    let ran = common::run(command.env("CONCLAVE_CONFIG_DIR", &home.dir), b"").ok();
    for line in ran.out.lines().filter(|line| line.trim().contains(' ')) {
        // A path that is longer than a line cannot be broken between words.
        let path = home.dir.to_str().unwrap();
        assert!(line.trim_end().chars().count() <= 60 || line.contains(path), "{line}");
    }
    assert!(ran.out.contains("register on one: conclave register\r\n"), "{}", ran.out);
}
