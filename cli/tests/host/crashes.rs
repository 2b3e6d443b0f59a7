//! A host that is killed at any moment wakes an agent again with the same message, and answers it once.

use std::time::{Duration, Instant};

use super::stage::Stage;

#[test]
fn a_host_that_is_killed_while_an_agent_works_wakes_it_again_and_says_so() {
    let mut stage = Stage::new(&[]);
    stage.pipe("at");
    let script = "cat > $DIR/prompt.$CONCLAVE_ATTEMPT\n\
        echo \"$CONCLAVE_MESSAGE_ID\" >> $DIR/ids\n\
        echo $$ > $DIR/at\n\
        if [ $CONCLAVE_ATTEMPT = 1 ]; then sleep 1000; fi\n\
        echo \"attempt $CONCLAVE_ATTEMPT\"";
    stage.agent("reviewer", script, "").start();
    let sent = stage.say("@reviewer look");
    let first = stage.told("at");
    stage.kill();
    stage.start();
    stage.told("at");
    stage.until("acknowledged", |stage| stage.state(&sent, "reviewer") == "acknowledged");
    assert_eq!(stage.answers("reviewer"), ["attempt 2"]);
    let ids = stage.lines("ids");
    assert_eq!(ids, [sent["message_id"].as_str().unwrap(); 2]);
    assert!(stage.lines("prompt.2").iter().any(|line| line.contains("attempt 2 at the same message")));
    // The first run's processes do not work beside the second's.
    let alive = std::fs::read_to_string(format!("/proc/{first}/stat")).unwrap_or_default();
    assert!(alive.is_empty() || alive.contains(") Z "), "{alive}");
}

#[test]
fn a_host_that_is_killed_again_and_again_gives_up() {
    let mut stage = Stage::new(&[]);
    stage.pipe("at");
    stage.agent("reviewer", "echo x > $DIR/at; sleep 1000", "").start();
    stage.say("@reviewer look");
    for _ in 0..3 {
        stage.told("at");
        stage.kill();
        stage.start();
    }
    stage.until("told", |stage| stage.answers("reviewer").len() == 1);
    assert!(stage.answers("reviewer")[0].contains("its run failed"));
}

/// Between the end of a run and its acknowledgement there are several writes and two answers of the server: a kill at any of
/// them loses nothing and doubles nothing.
#[test]
fn a_host_that_is_killed_around_the_end_of_a_run_answers_once() {
    let mut stage = Stage::new(&[]);
    stage.pipe("at");
    stage.agent("reviewer", "if [ $CONCLAVE_ATTEMPT = 1 ]; then echo x > $DIR/at; fi; echo done", "").start();
    let mut sent = Vec::new();
    for round in 0..8_u32 {
        sent.push(stage.say(&format!("@reviewer {round}")));
        stage.told("at");
        // No waiting for anything: the moment of the kill.
        let after = Instant::now() + Duration::from_millis(u64::from(round * round));
        while Instant::now() < after {
            std::hint::spin_loop();
        }
        stage.kill();
        stage.start();
        // A run that did not come to its end comes again.
        stage.until("acknowledged", |stage| stage.state(sent.last().unwrap(), "reviewer") == "acknowledged");
    }
    assert_eq!(stage.answers("reviewer").len(), sent.len(), "{:?}", stage.posts());
    let posts = stage.posts();
    for it in &sent {
        let answers = posts.iter().filter(|post| post["reply_to"] == it["seq"]).count();
        assert_eq!(answers, 1, "{it}");
    }
}

#[test]
fn a_server_that_is_away_gets_the_answer_when_it_is_back() {
    let mut stage = Stage::new(&[]);
    stage.pipe("at");
    stage.pipe("go");
    stage.agent("reviewer", "echo x > $DIR/at; cat $DIR/go", "").start();
    let sent = stage.say("@reviewer look");
    stage.told("at");
    stage.restart_server(|stage| {
        std::fs::write(stage.path("go"), "done\n").unwrap();
        stage.note("run ended");
    });
    stage.until("acknowledged", |stage| stage.state(&sent, "reviewer") == "acknowledged");
    assert_eq!(stage.answers("reviewer"), ["done"]);
}
