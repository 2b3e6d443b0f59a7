//! What needs no server: key, configuration, levels, help.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::fs;

use common::{Home, names, program, run};
use serde_json::json;

#[test]
fn a_key_is_made_once_and_printed_alone() {
    let home = Home::new();
    let first = home.run(["key"]).ok();
    assert_eq!(first.out.trim().len(), 43);
    assert!(first.err.contains("made a new key"));
    let second = home.run(["key"]).ok();
    assert_eq!((second.out, second.err), (first.out.clone(), String::new()));
    let json = home.run(["key", "--json"]).json();
    assert_eq!(json, json!({ "public_key": first.out.trim(), "new": false }));
    assert_eq!(names(&home.dir), ["key"]);
}

#[test]
#[cfg(unix)]
fn a_key_that_others_can_read_is_refused_until_it_is_closed() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    home.run(["key"]).ok();
    let key = home.path("key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    for verb in [&["key"][..], &["status"], &["who", "--server", "ws://127.0.0.1:1"]] {
        home.run(verb).fails(1, "0644", &format!("chmod 600 {}", key.display()));
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    home.run(["key"]).ok();
}

#[test]
fn a_broken_key_is_told_without_being_shown() {
    let home = Home::new();
    home.run(["key"]).ok();
    fs::write(home.path("key"), "not-a-key-but-secret").unwrap();
    let ran = home.run(["status"]).fails(1, "holds no key", "conclave key");
    assert!(!ran.err.contains("secret"));
    fs::remove_file(home.path("key")).unwrap();
    fs::create_dir(home.path("key")).unwrap();
    home.run(["status"]).fails(1, "not a regular file", "ls -l");
}

#[test]
fn a_malformed_configuration_is_told_with_its_line_and_left_alone() {
    let home = Home::new();
    home.run(["key"]).ok();
    let broken = "default_permission = \"notify\"\n\n[[servers]\n";
    fs::write(home.path("config.toml"), broken).unwrap();
    for verb in [
        &["perm", "show"][..],
        &["perm", "set", "act"],
        &["server", "list"],
        &["status"],
        &["who"],
        &["register", "--server", "ws://127.0.0.1:1", "--username", "u"],
    ] {
        home.run(verb).fails(1, "line 3", "correct line 3");
    }
    assert_eq!(fs::read_to_string(home.path("config.toml")).unwrap(), broken);
    fs::write(home.path("config.toml"), "default_permission = \"loud\"\n").unwrap();
    home.run(["perm", "show"]).fails(1, "mute, notify, converse or act", "correct line 1");
}

#[test]
#[cfg(unix)]
fn a_configuration_that_everyone_can_change_is_refused_until_it_is_closed() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    home.run(["perm", "set", "converse"]).ok();
    let file = home.path("config.toml");
    let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600, "it is made for its owner alone");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    for verb in [&["perm", "show"][..], &["perm", "set", "act"], &["who", "--server", "ws://127.0.0.1:1"]] {
        home.run(verb).fails(1, "0666", &format!("chmod 600 {}", file.display()));
    }
    // What groups and others can only read, or a group of one's own can write, is what many systems make.
    for mode in [0o644, 0o664] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        assert!(home.run(["perm", "show"]).ok().out.contains("converse"));
    }
}

#[test]
fn levels_are_set_and_shown() {
    let home = Home::new();
    home.run(["perm", "set", "converse"]).ok();
    home.run(["perm", "set", "act", "--channel", "ops"]).fails(1, "no server", "conclave register");
    fs::write(
        home.path("config.toml"),
        "# mine\nodd = 1\n[[servers]]\nurl = \"wss://a.example/\"\nusername = \"u\"\nmachine = \"m\"\n",
    )
    .unwrap();
    home.run(["perm", "set", "act", "--channel", "ops"]).ok();
    home.run(["perm", "set", "mute", "--whisper", "--server", "wss://A.example"]).ok();
    home.run(["perm", "set", "mute", "--server", "a.example"]).fails(2, "what the level is for", "--whisper");
    let shown = home.run(["perm", "show"]).ok().out;
    assert_eq!(
        shown,
        "SERVER             SCOPE     LEVEL\nwss://a.example/   #ops      act\nwss://a.example/   whispers  mute\n(everywhere else)            notify\n\nagents may write 64 messages in a row\n"
    );
    home.run(["perm", "budget", "20"]).ok();
    assert!(home.run(["perm", "show"]).ok().out.ends_with("agents may write 20 messages in a row\n"));
    assert_eq!(home.run(["perm", "budget", "0"]).code, 2);
    home.run(["perm", "budget", "--default"]).ok();
    assert_eq!(
        home.run(["perm", "show", "--json"]).json(),
        json!({ "default": "notify", "default_mentions_only": false, "overrides": [
            { "server": "wss://a.example/", "channel": "ops", "level": "act", "mentions_only": false },
            { "server": "wss://a.example/", "channel": null, "level": "mute", "mentions_only": false },
        ], "agent_messages": 64 })
    );
    // Mentions only: until it is said otherwise, and not by a change of the level.
    let only = |args: &[&str]| home.run([&["perm", "set"], args].concat()).ok().out;
    assert_eq!(only(&["act", "ops", "--mentions-only"]), "#ops on wss://a.example/: act, mentions only\n");
    assert_eq!(only(&["notify", "ops"]), "#ops on wss://a.example/: notify, mentions only\n");
    assert_eq!(only(&["act", "ops", "--mentions-only=false"]), "#ops on wss://a.example/: act\n");
    assert_eq!(only(&["notify", "--mentions-only"]), "default: notify, mentions only\n");
    assert_eq!(home.run(["perm", "set", "act", "--whisper", "--mentions-only"]).code, 2);
    let file = fs::read_to_string(home.path("config.toml")).unwrap();
    assert!(file.contains("# mine\nodd = 1\n"), "{file}");
    let wrong = home.run(["perm", "set", "loud"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("mute, notify, converse or act"));
}

#[test]
fn writers_at_once_lose_nothing() {
    let home = Home::new();
    fs::create_dir_all(&home.dir).unwrap();
    fs::write(home.path("config.toml"), "[[servers]]\nurl = \"ws://a\"\nusername = \"u\"\nmachine = \"m\"\n")
        .unwrap();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let home = &home;
            scope.spawn(move || {
                for nth in 0..4 {
                    home.run(["perm", "set", "act", "--channel", &format!("{writer}-{nth}")]).ok();
                }
            });
        }
    });
    let levels = home.run(["perm", "show", "--json"]).json();
    assert_eq!(levels["overrides"].as_array().unwrap().len(), 32);
    assert_eq!(names(&home.dir), ["config.toml", "config.toml.lock"]);
}

#[test]
fn servers_are_listed_and_forgotten() {
    let home = Home::new();
    assert_eq!(home.run(["server", "list", "--json"]).json(), json!([]));
    assert_eq!(home.run(["server", "list"]).ok().out, "");
    fs::create_dir_all(&home.dir).unwrap();
    fs::write(
        home.path("config.toml"),
        "[[servers]]\nurl = \"wss://a.example\"\nusername = \"u\"\nmachine = \"m\"\n\n[[servers]]\nurl = \"ws://b:1\"\nusername = \"v\"\nmachine = \"n\"\n\n[[overrides]]\nserver = \"ws://b:1\"\nlevel = \"act\"\n",
    )
    .unwrap();
    assert_eq!(
        home.run(["server", "list"]).ok().out,
        "URL              USER  MACHINE\nwss://a.example  u     m\nws://b:1         v     n\n"
    );
    home.run(["who"]).fails(2, "wss://a.example, ws://b:1", "--server wss://a.example");
    home.run(["server", "remove", "ws://c"]).fails(1, "does not know", "server list");
    home.run(["server", "remove", "b"]).ok();
    assert_eq!(
        home.run(["server", "list", "--json"]).json(),
        json!([{ "url": "wss://a.example", "user": "u", "machine": "m" }])
    );
    assert_eq!(home.run(["perm", "show", "--json"]).json()["overrides"], json!([]));
}

#[test]
fn what_is_typed_wrongly_exits_2_and_says_how_it_is_typed() {
    let home = Home::new();
    for (args, hint) in [
        (&["sned"][..], "send"),
        (&["tail"], "--channel"),
        (&["tail", "--channel", "a/b"], "'/'"),
        (&["tail", "--channel", "a", "--since", "2"], "2h"),
        (&["invite", "create", "--channel", "a", "--uses", "0"], "1.."),
        (&["machine", "add", "--name", "n", "--pubkey", "k"], "base64"),
        (&["whisper", "bob/m", "x"], "user/machine/session"),
        (&["approve", "abcdl"], "five letters"),
        (&["serve", "--limit", "x"], "NAME=VALUE"),
        (&["completions", "tcsh"], "bash"),
        (&["who", "--server", "https://a.example"], "wss://a.example"),
        (&["who", "--server", "wss://ws://a.example"], "as in wss://conclave.example"),
        (&["register", "--username", "u"], "--server"),
    ] {
        let ran = home.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}: {ran:?}");
        assert!(ran.err.contains(hint), "{args:?}: {}", ran.err);
    }
    let bare = home.run::<&str>([]);
    assert_eq!(bare.code, 2);
    assert!(bare.err.contains("conclave demo"));
}

#[test]
fn help_and_version_go_to_standard_output() {
    let home = Home::new();
    assert!(home.run(["--version"]).ok().out.starts_with("conclave "));
    assert!(home.run(["help", "send"]).ok().out.contains("git log -1 | conclave send"));
    assert!(home.run(["tail", "--help"]).ok().out.contains("--since"));
}

#[test]
fn completions_manual_and_skill_are_made() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(home.run(["completions", shell]).ok().out.contains("set-visibility"), "{shell}");
    }
    assert!(home.run(["man"]).ok().out.starts_with(".ie"));
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    home.run(["man", "--dir", pages.to_str().unwrap()]).ok();
    let pages = names(&pages);
    for page in ["conclave.1", "conclave-tail.1", "conclave-channel-create.1"] {
        assert!(pages.contains(&page.to_owned()), "{page}");
    }
    let skill = home.run(["skill"]).ok().out;
    assert!(skill.starts_with("---\nname: conclave\n"));
    home.run(["skill", "install", "--dir", dir.path().to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(dir.path().join("conclave/SKILL.md")).unwrap(), skill);
}

#[test]
fn without_any_home_the_error_says_what_to_name() {
    run(program().arg("key"), b"").fails(1, "HOME", "--config-dir");
}

#[test]
fn variables_that_are_set_to_nothing_count_as_not_set() {
    let home = Home::new();
    let mut command = home.command(["perm", "show"]);
    for name in ["CONCLAVE_ADMINS", "CONCLAVE_BIND", "CONCLAVE_CA", "CONCLAVE_EPHEMERAL"] {
        command.env(name, "");
    }
    run(&mut command, b"").ok();
    let mut command = program();
    command.args(["serve", "--ephemeral", "--bind", "256.0.0.1:1"]).env("CONCLAVE_ADMINS", "");
    assert_eq!(run(&mut command, b"").code, 2);
}

#[test]
fn a_fresh_home_is_led_to_registering() {
    let home = Home::new();
    home.run(["status"]).fails(1, "no key yet", "conclave register --server");
    home.run(["list"]).fails(2, "no verb 'list'", "conclave channel list");
    home.run(["key"]).ok();
    let doctor = home.run(["doctor"]).ok().out;
    assert!(!doctor.contains("All is well") && doctor.contains("conclave register"), "{doctor}");
    assert!(doctor.contains("No check failed; one needs a look."), "{doctor}");
}
