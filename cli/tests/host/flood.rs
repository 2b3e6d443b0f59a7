//! More messages than a budget has runs.

use std::collections::BTreeSet;

use conclave_core::body;
use conclave_core::link::{Action, Config, Input, JoinFrom, Newest, RequestId};
use conclave_core::payload::Payload;
use conclave_core::protocol::{Command, Reply};
use conclave_core::stream::{StreamCommand, StreamRef, StreamReply};
use conclave_shell_tokio::client::{DialOptions, link};

use super::stage::Stage;

/// Posts texts, each signed, as fast as they are taken.
fn post_all(stage: &Stage, texts: impl Iterator<Item = String>) -> u64 {
    let config = conclave_store::config::ConfigFile::in_dir(&stage.bea.dir).load().unwrap();
    let url = config.servers[0].url.clone();
    let pin = config.pin(&url).unwrap();
    let use_of = if pin.derived {
        conclave_core::wire::client::KeyUse::PerServer
    } else {
        conclave_core::wire::client::KeyUse::Shared
    };
    let config = Config {
        handle: "flood".parse().unwrap(),
        defaulted: true,
        key: conclave_store::keystore::load(&stage.bea.dir).unwrap(),
        seed: [3; 32],
        newest: Some(Newest { pinned: Some(pin.server_key), key: use_of, keep: false }),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut driver = link(url, config, DialOptions::default());
        let channel: conclave_core::name::ChannelName = "ops".parse().unwrap();
        driver.input(Input::Join { channel: channel.clone(), token: None, from: JoinFrom::Live });
        while !matches!(driver.next().await, Action::CaughtUp { .. }) {}
        let (mut open, mut last) = (BTreeSet::new(), 0);
        let mut texts = (0..).zip(texts);
        loop {
            while open.len() < 32
                && let Some((id, text)) = texts.next()
            {
                let payload = Payload::Body(body::of_text(&text));
                let command =
                    Command::Stream(StreamCommand::post(StreamRef::Channel(channel.clone()), payload));
                driver.input(Input::Request { id: RequestId(id), command, deadline: None });
                open.insert(id);
            }
            if open.is_empty() {
                return last;
            }
            if let Action::Replied { id, result } = driver.next().await {
                let Ok(Reply::Stream(StreamReply::Stored { stamp, .. })) = result else {
                    panic!("{result:?}")
                };
                last = last.max(stamp.seq);
                open.remove(&id.0);
            }
        }
    })
}

#[test]
fn a_thousand_messages_against_a_budget_of_ten_give_ten_runs() {
    let mut stage = Stage::new(&["--limit", "all=off"]);
    let budget = "budget = { runs_per_hour = 10, runs_at_once = 3, waiting = 20 }\n";
    stage.agent("reviewer", "echo run >> $DIR/runs", budget).start();
    // Of the server's key nothing is known before the first message.
    stage.say("hello");
    let last = post_all(&stage, (0..1000).map(|nth| format!("@reviewer {nth}")));
    let last = serde_json::json!({ "seq": last });
    stage.until("all delivered", |stage| stage.state(&last, "reviewer") != "stored");
    stage.until("the budget is used", |stage| {
        let status = stage.status("reviewer");
        status["running"] == 0 && status["runs_left"] == 0
    });
    let waiting = stage.status("reviewer")["waiting"].as_u64().unwrap();
    assert!((10..=20).contains(&waiting), "{waiting}");
    assert_eq!(stage.lines("runs").len(), 10);
    let notices = || stage.answers("reviewer");
    stage.until("its sender is told", |_| !notices().is_empty());
    assert!(notices().len() == 1 && notices()[0].contains("not taken"), "{:?}", notices());
    // A restart refills nothing, and tells nobody again.
    stage.kill();
    stage.start();
    stage.say("@reviewer once more");
    stage.until("it is back", |stage| {
        stage.status("reviewer")["waiting"].as_u64().unwrap() > waiting || waiting == 20
    });
    assert_eq!(stage.lines("runs").len(), 10);
    assert_eq!(stage.answers("reviewer").len(), 1);
}
