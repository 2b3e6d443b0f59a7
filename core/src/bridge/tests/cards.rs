//! Permission cards: whom they reach, and whose verdict counts.

use super::*;
use crate::link::{Place, Proof};
use crate::record::{MachineId, UserId};
use crate::stream::{Origin, StreamReply};

fn relayed(approver: &str) -> (Scene, Vec<(SessionPath, Payload)>) {
    let approvers = vec![approver.parse().unwrap()];
    let mut scene = Scene::new(&[A], Settings { approvers, ..Settings::default() }, false);
    let actions = scene.input(Input::Prompt(prompt()));
    let Some((server, id, Command::Who { channel: None })) = request(&actions) else {
        return (scene, vec![]);
    };
    let sessions =
        ["boss/m/s", "boss/phone/x", "eve/m/s", "me/m/s"].map(|text| Arc::new(path(text))).to_vec();
    let reply = Reply::Presence { channel: None, sessions };
    let actions = scene.link(server.as_str(), LinkEvent::Reply { id, result: Ok(reply) });
    let whispers = actions.into_iter().filter_map(|action| match action {
        Action::Request { command: Command::Whisper { target, payload }, .. } => Some((target, payload)),
        _ => None,
    });
    let whispers = whispers.collect();
    (scene, whispers)
}

fn verdicts(actions: &[Action]) -> Vec<(String, bool)> {
    let verdict = |action: &Action| match action {
        Action::Verdict { id, allow } => Some((id.to_string(), *allow)),
        _ => None,
    };
    actions.iter().filter_map(verdict).collect()
}

/// Who is told what became of a verdict.
fn told(actions: &[Action]) -> Option<(SessionPath, Decision)> {
    match request(actions) {
        Some((_, _, Command::Whisper { target, payload: Payload::Plain(text) })) => {
            Some((target, Decision::read(&text)?.1))
        }
        _ => None,
    }
}

#[test]
fn a_card_goes_to_the_approvers_and_only_their_verdict_counts_and_once() {
    let (mut scene, whispers) = relayed("boss");
    let targets: Vec<_> = whispers.iter().map(|(target, _)| target.to_string()).collect();
    assert_eq!(targets, ["boss/m/s", "boss/phone/x"]);
    let Payload::Plain(card) = &whispers[0].1 else { panic!() };
    assert!(card.contains("rm -rf /") && card.contains("abcde"));
    for wrong in ["eve/m/s", "me/other/s"] {
        let actions = scene.hear(A, None, wrong, "yes abcde");
        assert_eq!(pushes(&actions).len(), actions.len(), "{wrong}: nobody is told anything");
    }
    let actions = scene.hear(A, None, "boss/phone/x", "yes ABCDE");
    assert_eq!(verdicts(&actions), [("abcde".into(), true)]);
    assert_eq!(told(&actions), Some((path("boss/phone/x"), Decision::Accepted)));
    let actions = scene.hear(A, None, "boss/m/s", "no abcde");
    assert_eq!((verdicts(&actions).len(), pushes(&actions).len()), (0, 1), "once");
    assert_eq!(told(&actions), Some((path("boss/m/s"), Decision::TooLate)));
    let actions = scene.hear(A, None, "boss/m/s", "no qqqqq");
    assert_eq!(told(&actions), Some((path("boss/m/s"), Decision::Unknown)));
}

#[test]
fn an_approver_whom_nothing_reaches_is_told() {
    let approvers = ["boss", "eve@b.example"].map(|text| text.parse().unwrap()).to_vec();
    let told = |servers: &[&str]| {
        let settings = Settings { approvers: approvers.clone(), ..Settings::default() };
        let scene = Scene::new(servers, settings, false);
        let notices = scene.bridge.inbox().entries().into_iter().filter_map(|entry| match entry {
            Entry::Notice(notice) => Some(notice.text.clone()),
            Entry::Message(_) => None,
        });
        notices.collect::<Vec<_>>().join("")
    };
    assert!(told(&[A]).contains("do not reach eve@b.example:"), "{}", told(&[A]));
    assert!(told(&[A, B]).contains("do not reach boss:"), "{}", told(&[A, B]));
    assert_eq!(told(&[B]), "");
}

#[test]
fn an_approver_is_nobody_else_when_a_link_is_switched_off() {
    let settings = Settings { approvers: vec!["boss".parse().unwrap()], ..Settings::default() };
    let mut scene = Scene::new(&[A, B], settings, false);
    scene.link(A, LinkEvent::Disabled { why: "the server does not know this machine any more".into() });
    assert_eq!(request(&scene.input(Input::Prompt(prompt()))), None, "which of the two is not said");
    assert_eq!(pushes(&scene.hear(B, None, "boss/m/s", "yes abcde")).len(), 1);
}

#[test]
fn an_approver_whom_nothing_reaches_is_told_of_when_the_client_is_ready_and_once() {
    let settings = Settings { approvers: vec!["boss".parse().unwrap()], ..Settings::default() };
    let config = Config::new([A, B].map(Server::new).to_vec());
    let mut bridge = Bridge::new(config, settings);
    let mut actions = vec![];
    bridge.handle(Now::default(), Input::Ready { asks: false }, &mut actions);
    assert_eq!(pushes(&actions).len(), 1);
}

#[test]
fn an_approver_whom_nothing_reaches_is_told_of_once() {
    let settings = Settings { approvers: vec!["eve@b.example".parse().unwrap()], ..Settings::default() };
    let mut scene = Scene::new(&[A], settings.clone(), false);
    let written = |approver: &str| {
        let approvers = vec![approver.parse().unwrap()];
        Input::Configured { settings: Settings { approvers, ..settings.clone() }, again: false }
    };
    assert!(pushes(&scene.input(written("eve@b.example"))).is_empty());
    assert_eq!(pushes(&scene.input(written("eve@c.example"))).len(), 1);
    assert!(pushes(&scene.input(written("eve@a.example"))).is_empty());
    assert_eq!(pushes(&scene.input(written("eve@c.example"))).len(), 1);
}

#[test]
fn the_oldest_card_makes_room_for_a_new_one() {
    let approvers = vec!["boss".parse().unwrap()];
    let mut scene = Scene::new(&[A], Settings { approvers, ..Settings::default() }, false);
    // 35 of them, a second apart.
    let letters = "abcde".chars().flat_map(|first| "mnopqrs".chars().map(move |last| (first, last)));
    for (first, last) in letters {
        let id = format!("{first}bcd{last}").parse().unwrap();
        let actions = scene.input(Input::Prompt(PermissionRequest { id, ..prompt() }));
        assert!(request(&actions).is_some(), "{first}bcd{last} is relayed, too");
        scene.pass(Duration::from_secs(1));
    }
    assert_eq!(
        pushes(&scene.hear(A, None, "boss/m/s", "yes abcdm")).len(),
        1,
        "that one is gone: it is a whisper"
    );
    assert_eq!(verdicts(&scene.hear(A, None, "boss/m/s", "yes ebcds")), [("ebcds".into(), true)]);
}

#[test]
fn a_card_expires() {
    let (mut scene, _) = relayed("boss");
    scene.pass(CARD_LIFETIME);
    assert_eq!(pushes(&scene.hear(A, None, "boss/m/s", "yes abcde")).len(), 1);
}

#[test]
fn a_session_never_answers_its_own_prompt_though_its_user_is_an_approver() {
    let (mut scene, whispers) = relayed("me");
    assert!(whispers.is_empty());
    assert!(scene.hear(A, None, "me/m/s", "yes abcde").is_empty());
    assert_eq!(verdicts(&scene.hear(A, None, "me/phone/s", "yes abcde")).len(), 1);
}

#[test]
fn without_approvers_nothing_is_relayed() {
    let mut scene = Scene::new(&[A], Settings::default(), false);
    assert_eq!(scene.input(Input::Prompt(prompt())), []);
}

#[test]
fn a_prompt_of_another_session_is_answered_by_the_human_only() {
    let mut scene = Scene::new(&[A], settings(&[(A, Scope::Whispers, Level::Converse)]), true);
    assert!(!scene.offers("submit_permission"));
    let card = prompt().card(&path("you/m/s"), UnixMillis(0));
    let actions = scene.hear(A, None, "you/m/s", &card);
    assert!(actions.contains(&Action::ToolsChanged) && scene.offers("submit_permission"));
    assert_eq!(pushes(&actions)[0].meta[0], ("kind", "permission_request".into()));
    let whisper = ToolCall::Whisper {
        server: None,
        target: "you/m/s".parse().unwrap(),
        text: Opaque("yes abcde".into()),
        mentions: vec![],
        wait: None,
    };
    assert_eq!(answer(&scene.call(whisper).1), Err(Failure::Verdict));
    let id = "abcde".parse().unwrap();
    let submit = |from| ToolCall::Submit { id, allow: false, from };
    scene.hear(A, None, "eve/m/s", &card);
    assert!(matches!(answer(&scene.call(submit(None)).1), Err(Failure::WhichPrompt(_))));
    let (_, actions) = scene.call(submit(Some(path("you/m/s"))));
    assert_eq!(request(&actions), None, "the agent alone decides nothing");
    let declined = question(&actions).unwrap();
    let actions = scene.input(Input::Answered { question: declined, agreed: false });
    assert_eq!((request(&actions), answer(&actions)), (None, Err(Failure::NotConfirmed)));
    let (_, actions) = scene.call(submit(Some(path("you/m/s"))));
    let Some(Action::Ask { question, text }) = actions.first() else { panic!("{actions:?}") };
    assert!(text.contains("DENY") && text.contains("|   rm -rf /"), "{text}");
    let actions = scene.input(Input::Answered { question: *question, agreed: true });
    let (_, _, command) = request(&actions).unwrap();
    assert_eq!(command, Command::Whisper { target: path("you/m/s"), payload: plain("no abcde") });
    let actions = scene.pass(CARD_LIFETIME);
    assert!(actions.contains(&Action::ToolsChanged) && !scene.offers("submit_permission"));
}

#[test]
fn where_nobody_can_be_asked_the_human_types_the_verdict() {
    let mut scene = Scene::new(&[A], settings(&[(A, Scope::Whispers, Level::Converse)]), false);
    scene.hear(A, None, "you/m/s", &prompt().card(&path("you/m/s"), UnixMillis(0)));
    let submit = ToolCall::Submit { id: "abcde".parse().unwrap(), allow: true, from: None };
    let command = String::from("conclave approve abcde --to you/m/s");
    assert_eq!(answer(&scene.call(submit).1), Err(Failure::HumanDecides { command }));
}

/// A scene on a server that tells numbers, with an approver.
fn with_numbers(approver: &str) -> Scene {
    let approvers = vec![approver.parse().unwrap()];
    let mut scene = Scene::new(&[A], Settings { approvers, ..Settings::default() }, false);
    scene.link(A, LinkEvent::Up { path: path("me/m/s"), user: Some(UserId(0)), admin: false });
    scene
}

/// Answers each look-up of an approver: the name is this user's, or nobody's.
fn found(scene: &mut Scene, actions: &[Action], user: Option<u64>) -> Vec<Action> {
    let mut all = vec![];
    for action in actions {
        let Action::Request { server, id, command: Command::Stream(StreamCommand::Keys { user: name }) } =
            action
        else {
            continue;
        };
        let reply = match user {
            Some(user) => Reply::Stream(StreamReply::Keys { user: UserId(user), machines: vec![] }),
            None => Reply::Refused(Refusal::NoUser(name.clone())),
        };
        all.extend(scene.link(server.as_str(), LinkEvent::Reply { id: *id, result: Ok(reply) }));
    }
    all
}

fn cards(actions: &[Action]) -> Vec<StreamRef> {
    let card = |action: &Action| match action {
        Action::Request {
            command: Command::Stream(StreamCommand::Post { stream, lifetime, .. }), ..
        } => {
            assert_eq!(*lifetime, Some(CARD_LIFETIME));
            Some(stream.clone())
        }
        _ => None,
    };
    actions.iter().filter_map(card).collect()
}

fn boss() -> UserName {
    UserName::new("boss").unwrap()
}

/// A verdict that the server stores: it says whose it is, and the signature is worth so much.
fn stored_verdict(scene: &mut Scene, sender: u64, proof: Proof) -> Vec<(String, bool)> {
    let origin = Origin { sender: Some((UserId(sender), MachineId(1))), ..Origin::default() };
    let place = Some(Place { stream: ChannelId(9), seq: 1, origin, proof });
    let (from, payload) = (path("boss/m/s"), plain("yes abcde"));
    let event = LinkEvent::Message { channel: None, from, at: None, payload, place };
    verdicts(&scene.link(A, event))
}

#[test]
fn a_card_waits_in_the_approvers_mailbox() {
    let mut scene = with_numbers("boss");
    let actions = scene.input(Input::Prompt(prompt()));
    assert_eq!(cards(&actions), [], "whose the name is comes first");
    let actions = found(&mut scene, &actions, Some(7));
    assert_eq!(cards(&actions), [StreamRef::Mailbox(MailboxRef::User(boss()))]);
    let bind = Action::Bind { server: Server::new(A), bound: Bound::User(boss(), UserId(7)) };
    assert!(actions.contains(&bind));
}

#[test]
fn an_approver_is_whoever_had_the_name_at_its_first_use() {
    let mut scene = with_numbers("boss");
    let bindings = vec![Bound::User(boss(), UserId(7))];
    let actions = scene.link(A, LinkEvent::Bound(bindings));
    let actions = found(&mut scene, &actions, Some(8));
    assert!(pushes(&actions)[0].content.contains("belongs to somebody else"), "{actions:?}");
    assert_eq!(request(&actions), None, "nor may that one write");
    let actions = scene.input(Input::Prompt(prompt()));
    assert_eq!(found(&mut scene, &actions, Some(8)), [], "and it is said once");
    assert_eq!(verdicts(&scene.hear(A, None, "boss/m/s", "yes abcde")), []);
    assert_eq!(stored_verdict(&mut scene, 8, Proof::Verified), []);
    assert_eq!(stored_verdict(&mut scene, 7, Proof::Verified), [], "the server contradicts itself");
    // The human says that the new one is meant.
    let bindings = vec![Bound::User(boss(), UserId(8))];
    let actions = scene.link(A, LinkEvent::Bound(bindings));
    assert!(matches!(request(&found(&mut scene, &actions, Some(8))), Some((_, _, Command::Stream(_)))));
    assert_eq!(stored_verdict(&mut scene, 8, Proof::Verified).len(), 1);
}

#[test]
fn a_verdict_counts_only_from_the_bound_user_and_never_forged() {
    for (sender, proof, counts) in [
        (7, Proof::Verified, true),
        (7, Proof::Unsigned, true),
        (7, Proof::Forged, false),
        (7, Proof::Unchecked, false),
        (8, Proof::Verified, false),
    ] {
        let mut scene = with_numbers("boss");
        let actions = scene.input(Input::Prompt(prompt()));
        found(&mut scene, &actions, Some(7));
        assert_eq!(
            stored_verdict(&mut scene, sender, proof).len(),
            usize::from(counts),
            "{sender} {proof:?}"
        );
    }
}

#[test]
fn an_approver_whom_nobody_is_called_gets_nothing_and_is_told_of() {
    let mut scene = with_numbers("boss");
    let actions = scene.input(Input::Prompt(prompt()));
    let actions = found(&mut scene, &actions, None);
    assert!(pushes(&actions)[0].content.contains("nobody of that name"), "{actions:?}");
    assert_eq!(verdicts(&scene.hear(A, None, "boss/m/s", "yes abcde")), []);
}
