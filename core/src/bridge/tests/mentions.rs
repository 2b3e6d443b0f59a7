//! Who is mentioned: on the way out, and on the way in.

use super::*;
use crate::body::{self, Context};
use crate::link::{Place, Proof, RequestError};
use crate::record::UserId;
use crate::stream::{Origin, StreamReply};

const STREAM: ChannelId = ChannelId(3);
const ME: UserId = UserId(6);

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

/// On #ops at `converse`, whose server speaks version 2.
fn scene() -> Scene {
    let mut scene = Scene::new(&[A], settings(&[(A, ops(), Level::Converse)]), false);
    scene.link(A, LinkEvent::Up { path: path("me/m/s"), user: Some(ME), admin: false });
    let followed =
        LinkEvent::Followed { channel: Some(channel("ops")), stream: STREAM, unread: false, skipped: None };
    scene.link(A, followed);
    scene
}

fn mentioning(text: &str, names: &[&str]) -> ToolCall {
    ToolCall::Send {
        server: None,
        channel: channel("ops"),
        text: Opaque(text.into()),
        reply_to: None,
        mentions: names.iter().map(|name| user(name)).collect(),
        wait: None,
    }
}

/// The user whose number is asked for.
fn asked(actions: &[Action]) -> (RequestId, String) {
    match request(actions) {
        Some((_, id, Command::Stream(StreamCommand::Keys { user }))) => (id, user.as_str().into()),
        other => panic!("{other:?}"),
    }
}

fn known(id: u64) -> Reply {
    Reply::Stream(StreamReply::Keys { user: UserId(id), machines: vec![] })
}

fn nobody() -> Reply {
    Reply::Refused(Refusal::NoUser(user("x")))
}

impl Scene {
    fn replies(&mut self, id: RequestId, reply: Reply) -> Vec<Action> {
        self.link(A, LinkEvent::Reply { id, result: Ok(reply) })
    }
}

/// What a post says beside its text.
fn posted(actions: &[Action]) -> Context {
    match request(actions) {
        Some((_, _, Command::Post { payload: Payload::Body(body), .. })) => body::context(&body),
        Some((_, _, Command::Post { .. })) => Context::default(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_become_the_numbers_that_the_server_tells() {
    let mut scene = scene();
    let (_, actions) = scene.call(mentioning("see @ann and @prop, @bob", &["bob"]));
    let (id, name) = asked(&actions);
    assert_eq!(name, "bob");
    let actions = scene.replies(id, known(8));
    let (id, name) = asked(&actions);
    assert_eq!(name, "ann");
    let actions = scene.replies(id, known(4));
    let (id, name) = asked(&actions);
    assert_eq!(name, "prop");
    // Nobody is called that: it is a word of the text.
    let actions = scene.replies(id, nobody());
    assert_eq!(posted(&actions).mentions, [UserId(8), UserId(4)]);
    let (_, id, _) = request(&actions).unwrap();
    let Ok(Outcome::Sent { mentioned, .. }) = answer(&scene.replies(id, Reply::Sent)) else { panic!() };
    assert_eq!(mentioned, [user("bob"), user("ann")]);
}

#[test]
fn a_message_does_not_go_out_without_whom_it_must_mention() {
    let mut scene = scene();
    let (_, actions) = scene.call(mentioning("hi", &["bob"]));
    let (id, _) = asked(&actions);
    let actions = scene.replies(id, nobody());
    assert_eq!(answer(&actions), Err(Failure::NobodyMentioned(user("bob"))));
    assert!(request(&actions).is_none());
    // Nor where the link breaks meanwhile: it is certain that nothing was posted.
    let (id, _) = asked(&scene.call(mentioning("hi @bob", &[])).1);
    let broken = LinkEvent::Reply { id, result: Err(RequestError::Interrupted) };
    assert!(matches!(answer(&scene.link(A, broken)), Err(Failure::Down { .. })));
}

#[test]
fn a_level_that_was_lowered_or_a_cancel_meanwhile_keeps_a_message_back() {
    let mut scene = scene();
    let (id, _) = asked(&scene.call(mentioning("hi", &["bob"])).1);
    scene.call(set(Level::Notify));
    assert!(matches!(answer(&scene.replies(id, known(8))), Err(Failure::Level { .. })));
    let mut scene = self::scene();
    let (call, actions) = scene.call(mentioning("hi", &["bob"]));
    let (id, _) = asked(&actions);
    scene.input(Input::Cancel { id: call });
    assert_eq!(scene.replies(id, known(8)), []);
}

#[test]
fn version_1_takes_no_mentions() {
    let mut scene = Scene::new(&[A], settings(&[(A, ops(), Level::Converse)]), false);
    scene.join(A, "ops");
    let result = answer(&scene.call(mentioning("hi", &["bob"])).1);
    assert_eq!(result, Err(Failure::NoMentions(Server::new(A))));
    let (_, actions) = scene.call(mentioning("hi @bob", &[]));
    assert_eq!(posted(&actions), Context::default());
}

#[test]
fn a_message_that_mentions_the_agents_user_is_marked() {
    let mut scene = scene();
    let mut arrives = |seq: u64, mentions: Vec<UserId>| {
        let payload = Payload::Body(body::of_content("look", &Context { mentions, ..Context::default() }));
        let place = Some(Place { stream: STREAM, seq, origin: Origin::default(), proof: Proof::Verified });
        let (channel, from, at) = (Some(channel("ops")), path("eve/m/s"), Some(UnixMillis(1)));
        let actions = scene.link(A, LinkEvent::Message { channel, from, at, payload, place });
        let push = pushes(&actions)[0].clone();
        (
            push.content.contains("mentions_you=\"true\""),
            push.meta.iter().any(|(key, _)| *key == "mentions_you"),
        )
    };
    assert_eq!(arrives(1, vec![UserId(9), ME]), (true, true));
    assert_eq!(arrives(2, vec![UserId(9)]), (false, false));
    let outcome = answer(&scene.call(inbox()).1).unwrap();
    assert_eq!(outcome.text().matches("mentions_you=\"true\"").count(), 1);
}

#[test]
fn a_message_without_a_stamp_says_when_it_came() {
    let mut scene = scene();
    scene.now.wall = UnixMillis(1000);
    scene.hear(A, Some("ops"), "eve/m/s", "hi");
    let text = answer(&scene.call(inbox()).1).unwrap().text();
    assert!(text.contains(" received_at=\"1970-01-01T00:00:01Z\"") && !text.contains(" at="), "{text}");
}
