//! What pages name exists: commands and flags, limits and their defaults, metrics, files.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use clap::CommandFactory as _;
use conclave_cli::args::Cli;
use conclave_core::hub::Rate;
use conclave_shell_tokio::server::Options;

use super::page::{page, pages, root};

#[test]
fn every_command_and_flag_that_a_page_names_exists() {
    let mut cli = Cli::command();
    cli.build();
    let mut named = 0;
    for page in pages() {
        for command in page.commands() {
            check(&cli, &command).unwrap_or_else(|what| panic!("{}: {command}: {what}", page.path));
            named += 1;
        }
    }
    assert!(named > 80, "only {named} commands were found");
}

/// Whether the words are a verb's, and the flags its own. Values may be placeholders.
fn check(cli: &clap::Command, typed: &str) -> Result<(), String> {
    let mut command = cli;
    let mut is_verb = true;
    for word in typed.split_whitespace().skip(1) {
        if let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty()) {
            let flag = flag.split('=').next().unwrap_or_default();
            let known = command.get_arguments().any(|arg| arg.get_long() == Some(flag));
            if !known {
                return Err(format!("there is no --{flag}"));
            }
        } else if is_verb && command.has_subcommands() {
            if word == "help" {
                return Ok(());
            }
            let args_conflict = command.is_args_conflicts_with_subcommands_set();
            match command.find_subcommand(word) {
                Some(verb) => command = verb,
                None if args_conflict => is_verb = false,
                None => return Err(format!("there is no {word}")),
            }
        } else {
            is_verb = false;
        }
    }
    Ok(())
}

#[test]
fn the_limits_are_those_of_the_program() {
    let options = Options::default();
    let rate = |rate: Rate| format!("{}:{}", rate.per_second, rate.burst);
    let limits = &options.hub.limits;
    let expected = [
        ("session-posts", rate(limits.session.posts)),
        ("session-whispers", rate(limits.session.whispers)),
        ("session-bytes", rate(limits.session.bytes)),
        ("session-control", rate(limits.session.control)),
        ("session-replies", rate(limits.session.replies)),
        ("user-posts", rate(limits.user.posts)),
        ("user-whispers", rate(limits.user.whispers)),
        ("user-bytes", rate(limits.user.bytes)),
        ("user-control", rate(limits.user.control)),
        ("user-replies", rate(limits.user.replies)),
        ("failed-authentications", rate(options.admission.failures)),
        ("memory-per-user", limits.memory_per_user.to_string()),
        ("memory", limits.memory.to_string()),
        ("sessions", limits.sessions.to_string()),
        ("sessions-per-user", limits.sessions_per_user.to_string()),
        ("subscriptions-per-session", limits.subscriptions_per_session.to_string()),
        ("channels-per-user", limits.channels_per_user.to_string()),
        ("members-per-channel", limits.members_per_channel.to_string()),
        ("bans-per-channel", limits.bans_per_channel.to_string()),
        ("invites-per-channel", limits.invites_per_channel.to_string()),
        ("invites", limits.invites.to_string()),
        ("user-invites", limits.user_invites.to_string()),
        ("stored-per-user", limits.stored_per_user.to_string()),
        ("stored-per-channel", limits.stored_per_channel.to_string()),
        ("stored", limits.stored.to_string()),
        ("disk-free", limits.disk_free.to_string()),
        ("machines-per-user", limits.machines_per_user.to_string()),
        ("contacts-per-user", limits.contacts_per_user.to_string()),
        ("mailbox-messages", limits.mailbox_messages.to_string()),
        ("mailbox-bytes", limits.mailbox_bytes.to_string()),
        ("key-packages-per-machine", limits.key_packages_per_machine.to_string()),
        ("key-package-bytes", limits.key_package_bytes.to_string()),
        ("commit-bytes", limits.commit_bytes.to_string()),
        ("group-info-bytes", limits.group_info_bytes.to_string()),
        ("welcome-bytes", limits.welcome_bytes.to_string()),
        ("roster-entries", limits.roster_entries.to_string()),
        ("roster-entry-bytes", limits.roster_entry_bytes.to_string()),
        ("sealed-bytes", limits.sealed_bytes.to_string()),
        ("name-bytes", limits.name_bytes.to_string()),
        ("users", limits.users.to_string()),
        ("frame-bytes", options.bounds.frame.to_string()),
        ("queue-bytes", options.bounds.queue.to_string()),
        ("registrations-per-address", options.admission.registrations.to_string()),
        ("opening-connections", options.admission.total.to_string()),
        ("opening-connections-per-address", options.admission.per_address.to_string()),
        ("idle-seconds", limits.idle.as_secs().to_string()),
    ];
    let text = page("docs/operating.md").text;
    let section = text.split("\n## Limits\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let documented: Vec<_> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, rest)| (name, rest.split(" | ").next().unwrap_or_default().to_owned()))
        .collect();
    assert_eq!(documented, expected);

    let refused = Command::new(env!("CARGO_BIN_EXE_conclave"))
        .args(["serve", "--ephemeral", "--bind", "127.0.0.1:0", "--limit", "no-such-limit=1"])
        .output()
        .unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    let known = told.split("known: ").nth(1).unwrap().trim().trim_end_matches(", all=off");
    assert_eq!(known.split(", ").collect::<Vec<_>>(), expected.iter().map(|it| it.0).collect::<Vec<_>>());
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let served = served_metrics();
    let text = page("docs/operating.md").text;
    let section = text.split("\n## Monitoring\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: String = section.lines().filter(|line| line.starts_with("| `conclave_")).collect();
    assert_eq!(metrics(&rows), served, "the table of metrics");
    let dashboard = fs::read_to_string(root().join("docs/grafana-dashboard.json")).unwrap();
    let _: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    for (what, text) in [("the dashboard", dashboard.as_str()), ("operating.md", section)] {
        for name in metrics(text) {
            let family = name.strip_suffix("_bucket").unwrap_or(&name);
            assert!(served.contains(family), "{what} names {name}, which is not served");
        }
    }
}

/// What `/metrics` has once each labelled family has a member.
fn served_metrics() -> BTreeSet<String> {
    let home = tempfile::tempdir().unwrap();
    let program = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_conclave"));
        command.env("CONCLAVE_CONFIG_DIR", home.path()).stdin(Stdio::null());
        command
    };
    let mut serve = program();
    serve.args(["serve", "--ephemeral", "--bind", "127.0.0.1:0"]).env("TMPDIR", home.path());
    serve.stderr(Stdio::piped());
    let mut server = serve.spawn().unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let address = lines
        .find_map(|line| Some(line.unwrap().split_once("serves ws://")?.1.split(',').next()?.to_owned()))
        .unwrap();
    let url = format!("ws://{address}");
    // A key that nobody enrolled is turned away, a channel that does not exist is refused.
    assert!(program().arg("key").output().unwrap().status.success());
    assert!(!program().args(["who", "--server", &url]).output().unwrap().status.success());
    let register = ["register", "--server", &url, "--username", "a", "--machine", "m"];
    assert!(program().args(register).output().unwrap().status.success());
    assert!(!program().args(["join", "nowhere"]).output().unwrap().status.success());
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    families
        .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
        .collect()
}

/// The metrics that a text names.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("conclave_")).map(String::from).collect()
}

#[test]
fn the_package_and_the_image_start_the_server_as_it_wants_to_be_started() {
    let mut cli = Cli::command();
    cli.build();
    for unit in ["packaging/conclave.service", "packaging/conclave-backup.service"] {
        let text = fs::read_to_string(root().join(unit)).unwrap();
        let start = text.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        let typed = start.split("/usr/bin/").nth(1).unwrap();
        check(&cli, typed).unwrap_or_else(|what| panic!("{unit}: {typed}: {what}"));
    }
    let serve = cli.find_subcommand("serve").unwrap();
    let known: BTreeSet<_> = serve
        .get_arguments()
        .filter_map(|arg| arg.get_env()?.to_str())
        .chain(["CONCLAVE_LOG", "CONCLAVE_LOG_FORMAT", "CONCLAVE_OTLP_ENDPOINT"])
        .collect();
    for file in ["packaging/serve.env", "Dockerfile"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
        for word in words.filter(|word| word.starts_with("CONCLAVE_")) {
            assert!(known.contains(word), "{file} sets {word}, which nothing reads");
        }
    }
    let text = page("docs/operating.md").text;
    for variable in known {
        assert!(text.contains(variable), "operating.md does not name {variable}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    for page in pages() {
        let dir = root().join(&page.path).parent().unwrap().to_owned();
        let targets = page.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { root().join(&page.path) } else { dir.join(file) };
            assert!(path.exists(), "{}: {target} does not exist", page.path);
            if !anchor.is_empty() {
                let text = fs::read_to_string(path).unwrap();
                let found = text.lines().any(|line| line.starts_with('#') && self::anchor(line) == anchor);
                assert!(found, "{}: {target} has no such heading", page.path);
            }
        }
    }
}

/// The anchor of a heading, as forges make it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The test that a threat is held back by is no good if nobody runs it.
#[test]
fn the_tests_that_the_threat_model_names_exist() {
    let mut sources = String::new();
    let mut open = ["core", "store", "shell", "shell-tokio", "shell-smol", "cli", "tests"]
        .map(|it| root().join(it))
        .to_vec();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
            open.extend(entries.filter(|entry| !entry.ends_with("target")));
        } else if path.extension().is_some_and(|it| it == "rs") {
            sources.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    let text = page("docs/security.md").text;
    let tables = text.lines().filter(|line| line.starts_with("| ") && line.ends_with("` |"));
    let cells = tables.filter_map(|line| line.strip_suffix(" |")?.rsplit(" | ").next());
    let named: Vec<_> = cells.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`')).collect();
    assert!(named.len() > 40, "{named:?}");
    for name in named {
        assert!(
            ["(", "<"].iter().any(|end| sources.contains(&format!("fn {name}{end}"))),
            "there is no test {name}"
        );
    }
}
