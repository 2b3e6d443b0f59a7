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
