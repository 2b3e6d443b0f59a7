//! Whatever happens, the rules hold.

use proptest::prelude::*;

use super::*;
use alloc::format;

use crate::link::RequestError;

fn any_event() -> impl Strategy<Value = LinkEvent> {
    let from = prop_oneof![Just("me/m/s"), Just("you/m/s"), Just("boss/m/s"), Just("boss/n/s")];
    let text = prop_oneof![
        Just("hi".to_string()),
        Just("yes abcde".into()),
        Just("no abcde".into()),
        Just(prompt().card(&path("you/m/s"), UnixMillis(0)))
    ];
    prop_oneof![
        Just(LinkEvent::Up { path: path("me/m/s"), user: None, admin: false }),
        any::<bool>().prop_map(|admin| LinkEvent::Role { admin }),
        Just(LinkEvent::Down { why: "gone".into() }),
        (prop_oneof![Just(None), Just(Some(channel("ops")))], from, text).prop_map(
            |(channel, from, text)| {
                LinkEvent::Message {
                    channel,
                    from: path(from),
                    at: None,
                    payload: Payload::Plain(text),
                    place: None,
                }
            }
        ),
        (1..30_u64, 0..4_u8).prop_map(|(id, reply)| LinkEvent::Reply {
            id: RequestId(id),
            result: match reply {
                0 => Ok(Reply::Sent),
                1 => Ok(Reply::Joined(channel("ops"))),
                2 => Ok(Reply::Presence { channel: None, sessions: vec![Arc::new(path("boss/m/s"))] }),
                _ => Err(RequestError::Interrupted),
            },
        }),
        Just(LinkEvent::Lost { channel: channel("ops"), why: "kicked".into() }),
    ]
}

fn any_call() -> impl Strategy<Value = ToolCall> {
    let level = (0..4_usize).prop_map(|level| Level::ALL[level]);
    prop_oneof![
        proptest::option::of(level.clone()).prop_map(|level| ToolCall::Join {
            server: None,
            channel: channel("ops"),
            token: None,
            level
        }),
        Just(ToolCall::Leave { server: None, channel: channel("ops") }),
        Just(send("x")),
        Just(ToolCall::Whisper {
            server: None,
            target: "you/m/s".parse().unwrap(),
            text: Opaque("x".into()),
            mentions: vec![],
            wait: None
        }),
        Just(inbox()),
        Just(ToolCall::Wait { timeout: None }),
        level.prop_map(set),
        Just(ToolCall::Submit { id: "abcde".parse().unwrap(), allow: true, from: None }),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Event(LinkEvent),
    Call(ToolCall),
    Cancel(u64),
    Prompt,
    Answered(u64, bool),
    Pass(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any_event().prop_map(Step::Event),
        6 => any_call().prop_map(Step::Call),
        1 => (1..20_u64).prop_map(Step::Cancel),
        1 => Just(Step::Prompt),
        1 => (1..30_u64, any::<bool>()).prop_map(|(id, agreed)| Step::Answered(id, agreed)),
        1 => (0..700_000_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Whatever happens: nothing is sent below its level, no level rises without the human, a verdict comes from an
    /// approver's other session only, and no call is answered twice.
    #[test]
    fn the_rules_hold_whatever_happens(steps in proptest::collection::vec(any_step(), 0..60), asks in any::<bool>()) {
        let approvers = vec!["boss".parse().unwrap()];
        let mut scene = Scene::new(&[A], Settings { approvers, ..Settings::default() }, asks);
        let server = Server::new(A);
        let mut answered = BTreeSet::new();
        for step in steps {
            let before = scene.bridge.level(&server, &ops());
            let agreed = matches!(step, Step::Answered(_, true));
            let voice = match &step {
                Step::Event(LinkEvent::Message { channel: None, from, .. }) => Some(from.user.as_str() == "boss"),
                _ => None,
            };
            let actions = match step {
                Step::Event(event) => scene.link(A, event),
                Step::Call(call) => scene.call(call).1,
                Step::Cancel(id) => scene.input(Input::Cancel { id: CallId(id) }),
                Step::Prompt => scene.input(Input::Prompt(prompt())),
                Step::Answered(id, agreed) => scene.input(Input::Answered { question: QuestionId(id), agreed }),
                Step::Pass(millis) => scene.pass(Duration::from_millis(millis)),
            };
            let after = scene.bridge.level(&server, &ops());
            prop_assert!(after <= before || agreed);
            for action in &actions {
                match action {
                    Action::Request { command: Command::Post { .. }, .. } => prop_assert!(after.may_emit()),
                    Action::Request { command: Command::Whisper { target, .. }, .. } => {
                        // Whispers stay at their default here: only cards may be whispered, and to approvers.
                        prop_assert_eq!(target.user.as_str(), "boss");
                    }
                    Action::Verdict { .. } => prop_assert_eq!(voice, Some(true)),
                    Action::Answer { call, .. } => prop_assert!(answered.insert(*call), "{:?} twice", call),
                    _ => {}
                }
            }
            prop_assert_eq!(scene.offers("send_channel"),
                after.may_emit() && scene.bridge.has_joined(&server, &channel("ops")));
            if let Some(deadline) = scene.bridge.next_deadline() {
                prop_assert!(deadline > scene.now.mono, "a tick would spin");
            }
        }
        let _ = format!("{:?}", scene.bridge);
    }
}
