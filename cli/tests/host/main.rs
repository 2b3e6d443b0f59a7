//! `conclave host` with real children: agents that answer, hang, flood, fork and crash, and a host that is killed.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "../common/mod.rs"]
mod common;
mod crashes;
mod flood;
mod stage;
mod webhooks;

use std::fs;

use serde_json::json;
use stage::Stage;

#[test]
fn a_message_wakes_an_agent_that_does_not_run() {
    let mut stage = Stage::new(&[]);
    let script = "cat > $DIR/prompt; env > $DIR/env; echo 'It is green.'";
    stage.agent("reviewer", script, "env = [\"TZ\"]\n").start();
    stage.say("the build is <b>red</b>");
    let sent = stage.say_and_wait("@reviewer please look");
    let posts = stage.posts();
    let answer = posts.last().unwrap();
    assert_eq!((&answer["text"], &answer["session"]), (&json!("It is green."), &json!("reviewer")));
    assert_eq!((&answer["reply_to"], &answer["signed"]), (&sent["seq"], &json!("verified")));
    assert_eq!((&answer["hops"], &answer["budget"]), (&json!(1), &json!(8)));
    let prompt = fs::read_to_string(stage.path("prompt")).unwrap();
    assert!(prompt.starts_with("You are aaron/m/reviewer, "), "{prompt}");
    assert!(prompt.contains("the build is &lt;b&gt;red&lt;/b&gt;") && prompt.contains("level"), "{prompt}");
    assert!(prompt.trim_end().ends_with("please look\n</message>"), "{prompt}");
    assert!(!prompt.contains("attempt"), "{prompt}");
    // What the agent was given of the environment.
    let env = stage.lines("env");
    assert!(env.contains(&"CONCLAVE_ATTEMPT=1".to_owned()) && env.contains(&"TZ=UTC".to_owned()), "{env:?}");
    assert!(!env.iter().any(|line| line.starts_with("CONCLAVE_CONFIG_DIR")), "{env:?}");
    // What was put before it counts as seen: the message before, too.
    let before = json!({ "seq": sent["seq"].as_u64().unwrap() - 1 });
    stage.until("seen", |stage| stage.state(&before, "reviewer") == "seen");
}

#[test]
fn a_whisper_is_answered_in_its_senders_mailbox_and_only_by_those_who_may() {
    let mut stage = Stage::new(&[]);
    stage.agent("reviewer", "cat > /dev/null; echo yes", "users = [\"bea\"]\n").start();
    let wait = ["--wait", "acknowledged", "--timeout", "50s"];
    stage.bea.run([&["whisper", "aaron/m/reviewer", "may I?"][..], &wait].concat()).ok();
    let inbox = stage.bea.run(["inbox", "--json"]).json();
    assert_eq!((&inbox["text"], &inbox["session"]), (&json!("yes"), &json!("reviewer")));
    // Its own user may; somebody who is not listed may not.
    stage.aaron.run([&["whisper", "aaron/m/reviewer", "and I?"][..], &wait].concat()).ok();
    let carol = common::Home::registered(&stage.server.url, "carol");
    stage.bea.run(["acl", "add", "ops", "carol"]).ok();
    stage.aaron.run(["allow", "carol"]).ok();
    carol.run(["whisper", "aaron/m/reviewer", "@reviewer let me in"]).ok();
    let sent = stage.say_and_wait("@reviewer still there?");
    assert_eq!(stage.state(&sent, "reviewer"), "acknowledged");
    let runs = stage.logs().matches("run begins").count();
    assert_eq!(runs, 3, "{}", stage.logs());
}

#[test]
fn programs_that_go_wrong_are_ended_and_their_senders_told_no_more_than_that() {
    let mut stage = Stage::new(&[]);
    let quick = "budget = { time_per_run = \"300ms\", output_kib = 1 }\n";
    stage
        .agent("hanging", "echo private >&2; sleep 1000", quick)
        .agent("flooding", "while :; do echo private; done", quick)
        .agent("crashing", "echo private; echo private >&2; exit 7", "")
        .agent("forking", "setsid sleep 20 & sleep 1000 & echo done", "")
        .declare("[[agent]]\nname = \"absent\"\ndirectory = \"/\"\nlevel = \"act\"\n")
        .declare("command = [\"/no/such/program\"]\nchannels = [\"ops\"]\n")
        .start();
    for (agent, says) in [
        ("hanging", "took too long"),
        ("flooding", "too long"),
        ("crashing", "its run failed"),
        ("absent", "could not be started"),
    ] {
        let sent = stage.say(&format!("@{agent} go"));
        stage.until(agent, |stage| !stage.answers(agent).is_empty());
        let answers = stage.answers(agent);
        assert!(answers.len() == 1 && answers[0].contains(says), "{agent}: {answers:?}");
        assert!(!answers[0].contains("private"), "{answers:?}");
        assert_ne!(stage.state(&sent, agent), "acknowledged", "{agent}");
    }
    stage.say_and_wait("@forking go");
    assert_eq!(stage.answers("forking"), ["done"]);
    // Its human sees more.
    assert!(stage.logs().contains("private"), "{}", stage.logs());
}

#[test]
fn the_level_decides_whether_an_agent_runs_and_whether_it_answers() {
    let mut stage = Stage::new(&[]);
    let script = "echo run >> $DIR/runs; echo private";
    stage
        .agent("silent", script, "level = \"notify\"\n")
        .agent("muted", script, "level = \"mute\"\n")
        .agent("talking", "echo hi", "")
        .start();
    stage.say("@muted are you there?");
    stage.say_and_wait("@silent are you?");
    assert_eq!(stage.lines("runs"), ["run"]);
    assert_eq!((stage.answers("silent"), stage.answers("muted")), (vec![], vec![]));
    // What the human sets in config.toml lowers it, at once.
    stage.say_and_wait("@talking are you?");
    assert_eq!(stage.answers("talking"), ["hi"]);
    stage.aaron.run(["perm", "set", "notify", "ops"]).ok();
    stage.until("lowered", |stage| {
        let before = stage.answers("talking").len();
        stage.say_and_wait("@talking and now?");
        stage.answers("talking").len() == before
    });
}

#[test]
fn agents_that_answer_each_other_end_by_themselves() {
    let mut stage = Stage::new(&[]);
    let budget = "budget = { answers = 4 }\n";
    stage.agent("one", "echo '@two your turn'", budget).agent("two", "echo '@one your turn'", "").start();
    stage.say("@one begin");
    stage.until("the end", |stage| {
        stage.posts().iter().any(|it| it["text"].as_str().unwrap().contains("stopped"))
    });
    // The stricter of the two counts.
    assert_eq!((stage.answers("one").len(), stage.answers("two").len()), (3, 2), "{:?}", stage.posts());
    assert_eq!(stage.answers("one").iter().filter(|text| text.contains("stopped")).count(), 1);
    // A person starts it again.
    stage.say("@one once more");
    stage.until("the next round", |stage| stage.answers("two").len() == 4);
}

#[test]
fn a_client_goes_on_with_its_own_session() {
    let mut stage = Stage::new(&[]);
    let script = "echo \"$*\" >> $DIR/args\n\
        echo '{\"type\":\"result\",\"is_error\":false,\"result\":\"ok\",\"session_id\":\"s-1\"}'";
    let path = stage.path("client");
    let more = format!(
        "output = \"claude\"\nresume = [\"/bin/sh\", \"{}\", \"--resume\", \"{{session}}\"]\n",
        path.display()
    );
    stage.agent("client", script, &more).start();
    stage.say_and_wait("@client one");
    stage.kill();
    stage.start();
    stage.say_and_wait("@client two");
    assert_eq!(stage.lines("args"), ["", "--resume s-1"]);
    assert_eq!(stage.answers("client"), ["ok", "ok"]);
}

#[test]
fn a_paused_agent_lets_messages_wait_and_says_how_it_stands() {
    let mut stage = Stage::new(&[]);
    stage.agent("reviewer", "echo hi", "").agent("other", "echo hi", "").start();
    let paused = stage.aaron.run(["host", "pause", "reviewer", "--json"]).json();
    assert_eq!((paused.as_array().unwrap().len(), &paused[0]["state"]), (1, &json!("paused")));
    stage.say("@reviewer look");
    stage.until("it waits", |stage| stage.status("reviewer")["waiting"] == 1);
    stage.kill();
    stage.start();
    stage.until("it waits still", |stage| stage.status("reviewer")["waiting"] == 1);
    assert_eq!(stage.status("reviewer")["state"], "paused");
    stage.aaron.run(["host", "resume"]).ok();
    stage.until("answered", |stage| stage.answers("reviewer") == ["hi"]);
    stage.aaron.run(["host", "status", "nobody"]).fails(1, "there is no agent nobody", "host status");
    // Another host with this configuration is refused.
    stage.aaron.run(["host"]).fails(1, "another host runs", "host status");
    stage.kill();
    stage.aaron.run(["host", "status"]).fails(1, "no host runs", "conclave host");
}

#[test]
fn a_channel_that_is_refused_is_followed_once_it_is_there() {
    let server = common::Server::start();
    let home = common::Home::registered(&server.url, "aaron");
    let agent = "[[agent]]\nname = \"a\"\ndirectory = \"/\"\ncommand = [\"true\"]\nchannels = [\"later\"]\n";
    fs::write(home.path("agents.toml"), agent).unwrap();
    fs::set_permissions(home.path("agents.toml"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let host = common::Running::start(home.command(["host"]));
    host.note("not followed");
    home.run(["channel", "create", "later"]).ok();
    host.note("follows");
}

#[test]
fn a_declaration_that_makes_no_sense_is_refused_with_its_line() {
    let server = common::Server::start();
    let home = common::Home::registered(&server.url, "aaron");
    home.run(["host"]).fails(1, "there is no", "docs/host.md");
    let path = home.path("agents.toml");
    fs::write(&path, "[[agent]]\nname = \"a\"\ndirectory = \"/\"\ncolor = 3\n").unwrap();
    let mode = |mode| fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    mode(0o600);
    home.run(["host"]).fails(1, "agents.toml, line 4: unknown field `color`", "correct line 4");
    mode(0o660);
    home.run(["host"]).fails(1, "can be changed by others (mode 0660)", "chmod 600");
    home.run(["host", "unit"]).ok().out.contains("ExecStart=").then_some(()).unwrap();
}
