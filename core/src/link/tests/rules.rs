//! The rules of the connection and of requests, one by one.

use alloc::string::String;
use alloc::vec;
use core::time::Duration;

use super::super::*;
use super::scripted::{Scripted, kinds, replied};
use crate::name::ChannelName;
use crate::payload::Payload;
use crate::protocol::{Code, Refusal, Reply};
use crate::wire::MAX_FRAME;
use crate::wire::v1::{Frame, ProtocolError};

const SECOND: Duration = Duration::from_secs(1);

fn reason(actions: &[Action]) -> &DownReason {
    actions
        .iter()
        .find_map(|action| match action {
            Action::Down(reason) => Some(reason),
            _ => None,
        })
        .expect("a Down")
}

#[test]
fn a_failing_server_is_dialed_again_with_growing_waits_and_told_of_once() {
    let mut pair = Scripted::new(true);
    assert_eq!(kinds(&pair.input(Input::Start)), ["Dial"]);
    assert_eq!(kinds(&pair.input(Input::DialFailed("refused"))), ["Down"]);
    let mut waits = vec![];
    for _ in 0..12 {
        let (wait, actions) = pair.wait();
        assert_eq!(kinds(&actions), ["Dial"]);
        waits.push(wait);
        assert!(pair.input(Input::DialFailed("refused")).is_empty(), "told once");
    }
    assert!(waits[0] <= Duration::from_millis(200) && waits[0] >= Duration::from_millis(100));
    assert!(waits[11] >= 15 * SECOND && waits[11] <= 30 * SECOND);
    pair.wait();
    assert_eq!(kinds(&pair.connect()), ["Up"]);
    assert_eq!(kinds(&pair.drop_connection()), ["Down"]);
}

#[test]
fn waits_begin_anew_only_after_thirty_seconds_up() {
    let mut pair = Scripted::up();
    for _ in 0..10 {
        pair.drop_connection();
        pair.reconnect();
    }
    pair.pass(19 * SECOND);
    pair.drop_connection();
    let (wait, _) = pair.wait();
    assert!(wait >= 10 * SECOND, "{wait:?}: a link that flaps is not stable");
    pair.connect();
    pair.pass(15 * SECOND);
    pair.pass(5 * SECOND);
    pair.say(&Frame::Pong);
    pair.pass(11 * SECOND);
    pair.drop_connection();
    let (wait, _) = pair.wait();
    assert!(wait <= Duration::from_millis(200), "{wait:?}: a link that was stable starts quickly");
}

#[test]
fn a_dial_and_a_handshake_have_ten_seconds_each() {
    let mut pair = Scripted::new(true);
    pair.input(Input::Start);
    let (time, actions) = pair.wait();
    assert_eq!(time, 10 * SECOND);
    assert_eq!(kinds(&actions), ["Hangup", "Down"]);
    assert_eq!(reason(&actions), &DownReason::DialTimeout);
    assert_eq!(kinds(&pair.wait().1), ["Dial"]);
    pair.input(Input::Dialed { server_id: None });
    pair.pass(9 * SECOND);
    pair.say(&Frame::Challenge { nonce: &[1; 32] });
    assert_eq!(kinds(&pair.pass(SECOND)), ["Hangup"]);
}

#[test]
fn a_connection_that_comes_too_late_is_hung_up() {
    let mut pair = Scripted::new(true);
    pair.input(Input::Start);
    pair.wait();
    assert_eq!(kinds(&pair.input(Input::Dialed { server_id: None })), ["Hangup"]);
}

#[test]
fn the_link_pings_every_twenty_seconds_and_gives_up_after_sixty_of_silence() {
    let mut pair = Scripted::up();
    for _ in 0..5 {
        let (time, actions) = pair.wait();
        assert_eq!((time, kinds(&actions)), (20 * SECOND, vec![String::from("Ping")]));
        assert!(pair.say(&Frame::Pong).is_empty());
    }
    assert_eq!(kinds(&pair.wait().1), ["Ping"]);
    assert_eq!(kinds(&pair.wait().1), ["Ping"]);
    let (time, actions) = pair.wait();
    assert_eq!(time, 20 * SECOND);
    assert_eq!(kinds(&actions), ["Hangup", "Down"]);
    assert_eq!(reason(&actions), &DownReason::Silent);
}

#[test]
fn deliveries_do_not_hide_that_requests_are_not_answered() {
    let mut pair = Scripted::joined();
    pair.request(1, None);
    for number in 0..59 {
        pair.pass(SECOND);
        pair.deliver(&alloc::format!("{number}"));
    }
    let actions = pair.pass(SECOND);
    assert_eq!(reason(&actions), &DownReason::Silent);
    assert_eq!(replied(&actions), [(1, Err(RequestError::Interrupted))]);
}

#[test]
fn an_unknown_key_is_told_once_with_what_to_do_and_is_let_in_once_it_is_known() {
    let mut pair = Scripted::new(true);
    pair.input(Input::Start);
    pair.input(Input::Dialed { server_id: None });
    let actions = pair.refuse("this machine's key is not enrolled here");
    assert_eq!(kinds(&actions), ["Hangup", "Refused"]);
    let Some(Action::Refused(refused)) = actions.last() else { panic!("refused") };
    let text = alloc::format!("{refused}");
    assert!(text.contains("not enrolled") && text.contains("conclave register"), "{text}");
    assert!(pair.request(1, Some(600 * SECOND)).is_empty(), "it may still be sent");
    let mut longest = Duration::ZERO;
    for _ in 0..12 {
        let (wait, actions) = pair.wait();
        assert_eq!(kinds(&actions), ["Dial"]);
        longest = longest.max(wait);
        pair.input(Input::Dialed { server_id: None });
        assert_eq!(kinds(&pair.refuse("this machine's key is not enrolled here")), ["Hangup"], "told once");
    }
    assert!((15 * SECOND..=30 * SECOND).contains(&longest), "{longest:?}");
    assert_eq!(kinds(&pair.reconnect()), ["Up", "ChannelMsg"]);
    assert_eq!(kinds(&pair.refuse("machine key revoked")), ["Hangup", "Replied", "Down"]);
    pair.wait();
    pair.input(Input::Dialed { server_id: None });
    let actions = pair.refuse("this machine's key is not enrolled here");
    assert_eq!(kinds(&actions), ["Hangup", "Refused"], "told again");
}

#[test]
fn refusals_that_pass_are_retried() {
    for text in
        ["server shutting down", "too many failed authentications from this address: try again in a minute"]
    {
        let mut pair = Scripted::new(true);
        pair.input(Input::Start);
        pair.input(Input::Dialed { server_id: None });
        assert_eq!(kinds(&pair.refuse(text)), ["Hangup", "Down"], "{text}");
        assert_eq!(kinds(&pair.wait().1), ["Dial"]);
    }
}

#[test]
fn an_end_that_the_server_announces_is_no_answer_to_a_request() {
    for text in ["server shutting down", "slow consumer: this session reads more slowly than it is sent to"] {
        let mut pair = Scripted::up();
        pair.request(1, None);
        let actions = pair.refuse(text);
        assert_eq!(replied(&actions), [(1, Err(RequestError::Interrupted))], "{text}");
        assert_eq!(reason(&actions), &DownReason::Ended(String::from(text)));
        assert!(RequestError::Interrupted.may_have_happened());
    }
}

#[test]
fn replies_are_matched_in_order_with_many_under_way() {
    let mut pair = Scripted::up();
    for id in 0..100 {
        assert_eq!(kinds(&pair.request(id, None)), ["ChannelMsg"]);
    }
    for id in 0..100 {
        if id % 3 == 0 {
            let refused = Refusal::Other { code: Code::PermissionDenied, text: String::from("not in 'ops'") };
            assert_eq!(replied(&pair.refuse("not in 'ops'")), [(id, Ok(Reply::Refused(refused)))]);
        } else {
            assert_eq!(replied(&pair.say(&Frame::Ack { detail: None })), [(id, Ok(Reply::Sent))]);
        }
    }
}

#[test]
fn a_drop_fails_what_was_sent_as_what_may_have_happened() {
    let mut pair = Scripted::up();
    pair.request(1, None);
    pair.request(2, Some(SECOND));
    pair.say(&Frame::Ack { detail: None });
    let actions = pair.drop_connection();
    assert_eq!(replied(&actions), [(2, Err(RequestError::Interrupted))]);
    assert!(replied(&pair.pass(2 * SECOND)).is_empty(), "each is answered once");
}

#[test]
fn a_request_while_down_fails_at_once_or_waits_until_its_deadline() {
    let mut pair = Scripted::new(true);
    pair.input(Input::Start);
    assert_eq!(replied(&pair.request(1, None)), [(1, Err(RequestError::NotConnected))]);
    assert!(!RequestError::NotConnected.may_have_happened());
    assert!(pair.request(2, Some(SECOND)).is_empty());
    assert!(pair.request(3, Some(5 * SECOND)).is_empty());
    assert_eq!(replied(&pair.pass(SECOND)), [(2, Err(RequestError::NotConnected))]);
    assert_eq!(kinds(&pair.connect()), ["Up", "ChannelMsg"]);
    assert_eq!(replied(&pair.say(&Frame::Ack { detail: None })), [(3, Ok(Reply::Sent))]);
    assert!(replied(&pair.pass(10 * SECOND)).is_empty());
}

#[test]
fn a_late_answer_goes_to_nobody_else() {
    let mut pair = Scripted::up();
    pair.request(1, Some(SECOND));
    pair.request(2, None);
    assert_eq!(replied(&pair.pass(SECOND)), [(1, Err(RequestError::TimedOut))]);
    assert!(replied(&pair.say(&Frame::Ack { detail: None })).is_empty());
    assert_eq!(replied(&pair.say(&Frame::Ack { detail: None })), [(2, Ok(Reply::Sent))]);
}

#[test]
fn unanswered_requests_are_bounded_in_number_and_bytes() {
    let mut pair = Scripted::up();
    let mut taken = 0;
    while replied(&pair.request(taken, None)).is_empty() {
        taken += 1;
    }
    assert_eq!(taken, requests::MAX_REQUESTS as u64);
    assert_eq!(replied(&pair.request(taken, None)), [(taken, Err(RequestError::Busy))]);
    pair.say(&Frame::Ack { detail: None });
    assert!(replied(&pair.request(taken, None)).is_empty());

    let mut pair = Scripted::up();
    let big = |len| Command::Post {
        channel: ChannelName::new("ops").unwrap(),
        payload: Payload::Plain("x".repeat(len)),
    };
    assert_eq!(replied(&pair.ask(0, big(MAX_FRAME))), [(0, Err(RequestError::TooLarge))]);
    let mut taken = 0;
    while replied(&pair.ask(taken, big(MAX_FRAME / 2))).is_empty() {
        taken += 1;
    }
    assert_eq!(taken, 3);
}

#[test]
fn a_reply_of_another_kind_breaks_the_connection_and_not_the_link() {
    let mut pair = Scripted::up();
    pair.request(1, None);
    let actions = pair.say(&Frame::UserList { users: vec![] });
    assert_eq!(replied(&actions), [(1, Err(RequestError::Interrupted))]);
    assert!(matches!(reason(&actions), DownReason::Protocol(_)));
    assert_eq!(kinds(&pair.reconnect()), ["Up"]);
    assert!(matches!(reason(&pair.say(&Frame::Pong)), DownReason::Protocol(_)), "a reply to nothing");
}

#[test]
fn the_links_own_requests_are_not_the_applications() {
    let mut pair = Scripted::up();
    for command in [Command::Ping, Command::Leave { channel: ChannelName::new("ops").unwrap() }] {
        assert_eq!(replied(&pair.ask(1, command)), [(1, Err(RequestError::Misplaced))]);
    }
}

#[test]
fn a_default_handle_that_collides_is_changed() {
    let text = "session superseded by a newer connection with the same path";
    let mut pair = Scripted::up();
    assert_eq!(kinds(&pair.refuse(text)), ["Hangup", "Down"]);
    pair.reconnect();
    let actions = pair.refuse(text);
    assert_eq!(kinds(&actions), ["Hangup", "Down", "Renamed"]);
    assert_eq!(kinds(&pair.wait().1), ["Dial"]);
    let actions = pair.input(Input::Dialed { server_id: None });
    let Action::Send(hello) = &actions[0] else { panic!("a Hello") };
    assert!(matches!(Frame::decode(hello), Ok(Frame::Hello { session: "dir-2", .. })));
}

#[test]
fn a_chosen_handle_that_collides_is_told_of_and_comes_back_slowly() {
    let text = "session superseded by a newer connection with the same path";
    let mut pair = Scripted::new(false);
    pair.input(Input::Start);
    pair.connect();
    pair.refuse(text);
    pair.reconnect();
    assert_eq!(kinds(&pair.refuse(text)), ["Hangup", "Down", "Collision"]);
    for round in 0..3 {
        let (wait, actions) = pair.wait();
        assert!(wait >= 30 * (1 << round) * SECOND, "{wait:?}");
        assert_eq!(kinds(&actions), ["Dial"]);
        pair.connect();
        assert_eq!(kinds(&pair.refuse(text)), ["Hangup", "Down"], "told once");
    }
}

#[test]
fn a_disabled_or_stopped_link_does_nothing_more() {
    for (input, last) in [(Input::Disable("same server as wss://a"), Some("Disabled")), (Input::Stop, None)] {
        let mut pair = Scripted::up();
        pair.request(1, None);
        let actions = pair.input(input);
        let expected: vec::Vec<_> = ["Hangup", "Replied"].into_iter().chain(last).collect();
        assert_eq!(kinds(&actions), expected);
        assert_eq!(pair.link.next_deadline(), None);
        for input in [Input::Start, Input::Tick, Input::Message(Opaque(&[18])), Input::Closed("")] {
            assert!(pair.input(input).is_empty());
        }
    }
}

#[test]
fn the_users_role_and_whispers_are_handed_on() {
    let mut pair = Scripted::up();
    assert_eq!(pair.say(&Frame::ServerInfo { admin: true }), [Action::Role { admin: true }]);
    let payload = crate::wire::v1::Payload::Plain("psst");
    let whisper = Frame::Whisper { from: super::scripted::BOB, target: super::scripted::OWN, payload };
    assert_eq!(kinds(&pair.say(&whisper)), ["Whispered"]);
}

#[test]
fn bytes_that_are_no_frame_break_the_connection() {
    let mut pair = Scripted::up();
    assert_eq!(kinds(&pair.input(Input::Message(Opaque(&[200, 1, 2])))), ["Hangup", "Down"]);
    pair.reconnect();
    let error = Frame::Error(ProtocolError::VersionMismatch { ours: 2, theirs: 1 });
    assert!(matches!(reason(&pair.say(&error)), DownReason::Protocol(_)));
}
