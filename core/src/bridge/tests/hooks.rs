//! What a client's hooks put before the model.

use super::*;
use proptest::prelude::*;

const CONFIRMED: Duration = Duration::from_millis(500);

impl Scene {
    /// Asks as a hook does, and returns what is put before the model.
    fn hook(&mut self, moment: Moment, most: usize) -> (CallId, Option<String>) {
        self.calls += 1;
        let id = CallId(self.calls);
        let actions = self.input(Input::Hook { id, moment, most });
        let hooked = actions.into_iter().find_map(|action| match action {
            Action::Hooked { call, text } if call == id => Some(text.map(|text| text.0)),
            _ => None,
        });
        (id, hooked.unwrap())
    }
}

fn scene(level: Level) -> Scene {
    let mut scene = Scene::new(&[A], settings(&[(A, ops(), level)]), false);
    scene.join(A, "ops");
    scene
}

#[test]
fn a_hook_shows_each_message_once() {
    let mut scene = scene(Level::Notify);
    assert_eq!(scene.hook(Moment::Start, 9000).1, None);
    scene.hear(A, Some("ops"), "bob/m/s", "the <b>build</b> is green");
    let (_, text) = scene.hook(Moment::Tool, 9000);
    let text = text.unwrap();
    assert!(text.contains("the &lt;b&gt;build") && text.contains("level is notify"), "{text}");
    assert_eq!(scene.hook(Moment::Prompt { human: true }, 9000).1, None);
}

#[test]
fn what_the_client_did_not_get_is_unread_again() {
    let mut scene = scene(Level::Notify);
    scene.hear(A, Some("ops"), "bob/m/s", "hello");
    let (call, first) = scene.hook(Moment::Tool, 9000);
    scene.input(Input::Cancel { id: call });
    scene.pass(CONFIRMED);
    assert_eq!(scene.hook(Moment::Tool, 9000).1, first);
}

#[test]
fn an_agent_goes_on_for_what_it_may_answer_and_not_for_ever() {
    let mut scene = scene(Level::Notify);
    scene.hear(A, Some("ops"), "bob/m/s", "it may not answer this");
    assert_eq!(scene.hook(Moment::Stop, 9000).1, None);
    let mut scene = self::scene(Level::Converse);
    for turn in 0..12 {
        scene.hear(A, Some("ops"), "bob/m/s", "again");
        assert_eq!(scene.hook(Moment::Stop, 9000).1.is_some(), turn < 8, "{turn}");
    }
    // A prompt that a program submits does not renew that; a human's does.
    assert!(scene.hook(Moment::Prompt { human: false }, 9000).1.is_some());
    scene.hear(A, Some("ops"), "bob/m/s", "again");
    assert_eq!(scene.hook(Moment::Stop, 9000).1, None);
    assert!(scene.hook(Moment::Prompt { human: true }, 9000).1.is_some());
    scene.hear(A, Some("ops"), "bob/m/s", "again");
    assert!(scene.hook(Moment::Stop, 9000).1.is_some());
}

#[test]
fn a_human_who_submits_a_prompt_renews_the_loop_guards_budget() {
    let send = || ToolCall::Send {
        server: None,
        channel: channel("ops"),
        text: Opaque(String::from("status")),
        reply_to: None,
        mentions: Vec::new(),
        wait: None,
    };
    let mut scene = scene(Level::Converse);
    let sends = |scene: &mut Scene| (0..20).take_while(|_| request(&scene.call(send()).1).is_some()).count();
    assert_eq!(sends(&mut scene), 8);
    scene.hook(Moment::Prompt { human: false }, 9000);
    assert_eq!(sends(&mut scene), 0);
    scene.hook(Moment::Prompt { human: true }, 9000);
    assert_eq!(sends(&mut scene), 8);
}

proptest! {
    /// Whatever arrives and however little room a client gives: an answer fits, nothing is shown twice, and what no hook
    /// showed whole is in the inbox still.
    #[test]
    fn an_answer_fits_and_loses_nothing(
        texts in proptest::collection::vec("[a-z<\"&\u{202e}]{0,300}", 0..12),
        most in 0..3000_usize,
    ) {
        let mut scene = scene(Level::Notify);
        for (number, text) in texts.iter().enumerate() {
            scene.hear(A, Some("ops"), "bob/m/s", &format!("[{number}]{text}[{number}.]"));
        }
        let mut shown = String::new();
        for _ in 0..60 {
            let Some(text) = scene.hook(Moment::Tool, most).1 else { break };
            prop_assert!(text.len() <= most);
            shown.push_str(&text);
        }
        let mut read = String::new();
        while !scene.bridge.inbox().is_empty() {
            let Ok(outcome) = answer(&scene.call(ToolCall::Inbox { limit: None, filter: Filter::default() }).1) else { panic!() };
            read.push_str(&outcome.text());
        }
        for number in 0..texts.len() {
            let (begins, ends) = (format!("[{number}]"), format!("[{number}.]"));
            let count = |what: &str| shown.matches(what).count() + read.matches(what).count();
            prop_assert_eq!((count(&begins), count(&ends)), (1, 1), "{}", number);
        }
    }
}

#[test]
fn a_session_that_is_bounded_never_goes_above_its_bound() {
    let mut config = Config::new(vec![Server::new(A)]);
    config.most = Some(Level::Converse);
    let bridge = Bridge::new(config, settings(&[(A, ops(), Level::Act)]));
    let mut scene = Scene { bridge, now: Now::default(), calls: 0 };
    scene.link(A, LinkEvent::Up { path: path("me/m/s"), user: None, admin: false });
    scene.input(Input::Ready { asks: true });
    scene.join(A, "ops");
    assert_eq!(scene.bridge.level(&Server::new(A), &ops()), Level::Converse);
    let set = ToolCall::SetLevel { server: None, scope: ops(), level: Level::Act };
    let (_, actions) = scene.call(set);
    assert!(matches!(answer(&actions), Err(Failure::NeedsHuman { .. })), "{actions:?}");
    assert!(!actions.iter().any(|action| matches!(action, Action::Ask { .. })), "nobody is asked");
}
