//! The rules of followed channels, one by one.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::super::*;
use super::scripted::{BOB, OWN, Scripted, bodies, kinds, ops};
use crate::protocol::Token;
use crate::time::UnixMillis;
use crate::wire::v1::{self, Frame, ProtocolError};

const SECOND: Duration = Duration::from_secs(1);

fn sent(actions: &[Action]) -> Vec<Frame<'_>> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Send(bytes) => Frame::decode(bytes).ok(),
            _ => None,
        })
        .collect()
}

fn since(actions: &[Action]) -> Option<i64> {
    sent(actions).into_iter().find_map(|frame| match frame {
        Frame::ReadSince { since_ms, .. } => Some(since_ms),
        _ => None,
    })
}

#[test]
fn history_is_read_to_its_end_before_the_channel_is_live() {
    let mut pair = Scripted::up();
    pair.join(JoinFrom::Since(UnixMillis(10_000)));
    assert_eq!(since(&pair.say(&Frame::Joined { channel: "ops" })), Some(8_000));
    let actions = pair.history(&[(9_000, "old"), (11_000, "a"), (11_001, "b")]);
    assert_eq!(bodies(&actions), ["a", "b"]);
    assert_eq!(since(&actions), Some(11_001));
    assert_eq!(kinds(&pair.history(&[])), ["CaughtUp"]);
}

#[test]
fn live_messages_are_handed_on_at_once_and_without_a_read() {
    let mut pair = Scripted::joined();
    for number in 0..200 {
        let body = format!("{number}");
        let actions = pair.deliver(&body);
        assert_eq!(kinds(&actions), ["Deliver"]);
        assert_eq!(bodies(&actions), [body]);
    }
}

#[test]
fn equal_texts_cost_no_read_in_a_channel_that_was_empty() {
    let mut pair = Scripted::joined();
    for _ in 0..100 {
        assert_eq!(kinds(&pair.deliver("tick")), ["Deliver"]);
    }
}

#[test]
fn equal_texts_cost_no_read_after_a_pause() {
    let mut pair = Scripted::up();
    pair.join(JoinFrom::Since(UnixMillis(0)));
    pair.say(&Frame::Joined { channel: "ops" });
    pair.history(&[(5, "tick"), (6, "tick")]);
    pair.history(&[]);
    // Two seconds later one reading settles what is still to come.
    let (time, actions) = pair.wait();
    assert_eq!((time, since(&actions)), (2 * SECOND, Some(5)));
    pair.history(&[(6, "tick")]);
    pair.history(&[]);
    for _ in 0..50 {
        assert_eq!(kinds(&pair.deliver("tick")), ["Deliver"]);
    }
}

#[test]
fn a_text_that_may_be_a_repetition_is_looked_up() {
    let mut pair = Scripted::up();
    pair.join(JoinFrom::Since(UnixMillis(0)));
    pair.say(&Frame::Joined { channel: "ops" });
    pair.history(&[(5, "tick")]);
    pair.history(&[]);
    let actions = pair.deliver("tick");
    assert_eq!((bodies(&actions).len(), since(&actions)), (0, Some(4)));
    assert_eq!(bodies(&pair.history(&[(5, "tick"), (7, "tick")])), ["tick"]);
    assert!(bodies(&pair.history(&[])).is_empty());
    // Another text ends the doubt.
    assert_eq!(kinds(&pair.deliver("tock")), ["Deliver"]);
    assert_eq!(kinds(&pair.deliver("tick")), ["Deliver"]);
}

#[test]
fn many_live_messages_are_anchored_in_the_background() {
    let mut pair = Scripted::joined();
    let texts: Vec<_> = (0..300).map(|number| format!("{number}")).collect();
    let mut read = None;
    for text in &texts {
        let actions = pair.deliver(text);
        assert_eq!(bodies(&actions), [text.as_str()], "nothing waits for the reading");
        read = read.or(since(&actions));
    }
    // Nothing was in the history before, so the reading begins where the joining did.
    assert_eq!(read, Some(-2000));
    let page: Vec<_> = texts.iter().zip(1..).map(|(text, ts)| (ts, text.as_str())).take(256).collect();
    assert!(
        pair.history(&page).is_empty(),
        "nothing is handed on twice, and what is anchored needs no more reads"
    );
    // A minute or two later the rest follows, from one millisecond before the cursor.
    let mut actions = Vec::new();
    while since(&actions).is_none() {
        actions = pair.wait().1;
        if kinds(&actions) == ["Ping"] {
            pair.say(&Frame::Pong);
        }
    }
    assert_eq!(since(&actions), Some(255));
}

#[test]
fn a_gap_is_filled_without_what_was_handed_on_live() {
    let mut pair = Scripted::joined();
    assert_eq!(bodies(&pair.deliver("a")), ["a"]);
    assert_eq!(bodies(&pair.deliver("a")), ["a"]);
    pair.drop_connection();
    assert_eq!(kinds(&pair.reconnect()), ["Up", "Join"]);
    assert_eq!(since(&pair.say(&Frame::Joined { channel: "ops" })), Some(-2000));
    let actions = pair.history(&[(1, "a"), (2, "a"), (3, "a"), (4, "b")]);
    assert_eq!(bodies(&actions), ["a", "b"]);
    assert_eq!(kinds(&pair.history(&[])), ["CaughtUp"]);
}

#[test]
fn an_empty_channel_that_is_joined_live_misses_no_first_message() {
    let mut pair = Scripted::up();
    pair.join(JoinFrom::Live);
    let mut actions = pair.say(&Frame::Joined { channel: "ops" });
    while since(&actions).is_some() {
        actions = pair.history(&[]);
    }
    assert_eq!(kinds(&actions), ["CaughtUp"]);
    pair.drop_connection();
    pair.reconnect();
    pair.say(&Frame::Joined { channel: "ops" });
    assert_eq!(bodies(&pair.history(&[(5, "first")])), ["first"]);
}

#[test]
fn a_channel_joined_live_hands_on_no_history() {
    let mut pair = Scripted::up();
    pair.join(JoinFrom::Live);
    let mut actions = pair.say(&Frame::Joined { channel: "ops" });
    let log = [(1_699_999_000_000, "old"), (1_699_999_999_000, "older than the join")];
    while let Some(since) = since(&actions) {
        let page: Vec<_> = log.into_iter().filter(|&(ts, _)| ts > since).collect();
        actions = pair.history(&page);
        assert!(bodies(&actions).is_empty());
    }
    assert_eq!(kinds(&actions), ["CaughtUp"]);
    assert_eq!(bodies(&pair.deliver("new")), ["new"]);
    pair.drop_connection();
    pair.reconnect();
    assert_eq!(since(&pair.say(&Frame::Joined { channel: "ops" })), Some(1_699_999_998_999));
}

#[test]
fn own_messages_are_not_handed_on() {
    let mut pair = Scripted::joined();
    let own = |ts_ms| v1::HistoryMessage { from: OWN, ts_ms, payload: v1::Payload::Plain("mine") };
    let message = Frame::ChannelMsg { channel: "ops", from: OWN, payload: v1::Payload::Plain("mine") };
    assert!(pair.say(&message).is_empty());
    pair.drop_connection();
    pair.reconnect();
    pair.say(&Frame::Joined { channel: "ops" });
    let actions = pair.say(&Frame::History { channel: "ops", messages: alloc::vec![own(5), own(6)] });
    assert!(bodies(&actions).is_empty());
    assert_eq!(since(&actions), Some(6), "but the cursor moves on");
}

#[test]
fn a_refused_join_is_told_and_not_repeated() {
    let mut pair = Scripted::joined();
    pair.drop_connection();
    pair.reconnect();
    let actions = pair.say(&Frame::Error(ProtocolError::NotFound("no channel 'ops'")));
    assert_eq!(kinds(&actions), ["Lost"]);
    pair.drop_connection();
    assert_eq!(kinds(&pair.reconnect()), ["Up"]);
}

#[test]
fn a_join_or_read_over_the_rate_limit_is_repeated_later() {
    let mut pair = Scripted::up();
    pair.join(JoinFrom::Since(UnixMillis(0)));
    assert_eq!(kinds(&pair.refuse("rate limit: try again in 20 ms")), ["Deferred"]);
    assert_eq!(kinds(&pair.wait().1), ["Join"]);
    pair.say(&Frame::Joined { channel: "ops" });
    let mut last = Duration::ZERO;
    for _ in 0..4 {
        assert!(pair.refuse("rate limit: try again in 20 ms").is_empty());
        let (wait, actions) = pair.wait();
        assert_eq!(since(&actions), Some(-2000));
        assert!(wait > last / 2);
        last = wait;
    }
    assert_eq!(bodies(&pair.history(&[(1, "a")])), ["a"]);
}

#[test]
fn a_channel_whose_join_must_wait_after_a_drop_is_told_of_and_misses_nothing() {
    let mut pair = Scripted::joined();
    assert_eq!(bodies(&pair.deliver("seen")), ["seen"]);
    pair.drop_connection();
    assert_eq!(kinds(&pair.reconnect()), ["Up", "Join"]);
    assert_eq!(kinds(&pair.refuse("rate limit: try again in 20 ms")), ["Deferred"]);
    assert_eq!(kinds(&pair.wait().1), ["Join"]);
    let actions = pair.say(&Frame::Joined { channel: "ops" });
    assert_eq!(kinds(&actions), ["Joined", "ReadSince"]);
    assert_eq!(bodies(&pair.history(&[(1, "seen"), (2, "missed")])), ["missed"]);
    assert_eq!(kinds(&pair.history(&[])), ["CaughtUp"]);
}

#[test]
fn a_channel_that_is_joined_once_more_is_asked_for_and_misses_nothing() {
    let mut pair = Scripted::joined();
    assert_eq!(bodies(&pair.deliver("seen")), ["seen"]);
    // A kick, which nobody tells of, and a message that is not delivered.
    assert_eq!(kinds(&pair.join(JoinFrom::Live)), ["Join"]);
    assert_eq!(kinds(&pair.say(&Frame::Joined { channel: "ops" })), ["Joined", "ReadSince"]);
    assert_eq!(bodies(&pair.history(&[(1, "seen"), (2, "missed")])), ["missed"]);
    assert_eq!(kinds(&pair.history(&[])), ["CaughtUp"]);
    assert_eq!(bodies(&pair.deliver("live")), ["live"]);
}

#[test]
fn what_comes_before_the_answer_to_a_join_once_more_keeps_its_place() {
    let mut pair = Scripted::joined();
    assert_eq!(bodies(&pair.deliver("seen")), ["seen"]);
    // A kick, and a message that is missed; another server's deliveries may overtake its answer.
    pair.join(JoinFrom::Live);
    assert!(bodies(&pair.deliver("second")).is_empty());
    pair.say(&Frame::Joined { channel: "ops" });
    assert_eq!(bodies(&pair.history(&[(1, "seen"), (2, "first"), (3, "second")])), ["first", "second"]);
    pair.history(&[]);
    assert_eq!(bodies(&pair.deliver("third")), ["third"]);
}

#[test]
fn a_search_for_the_end_begins_anew_when_a_channel_is_joined_once_more() {
    let mut pair = Scripted::up();
    pair.join(JoinFrom::Live);
    let start = pair.now.wall.0;
    assert_eq!(kinds(&pair.say(&Frame::Joined { channel: "ops" })), ["Joined", "ReadSince"]);
    assert_eq!(kinds(&pair.history(&[])), ["ReadSince"]);
    assert_eq!(bodies(&pair.deliver("first")), ["first"]);
    assert_eq!(kinds(&pair.history(&[(start, "first")])), ["ReadSince"]);
    // A kick, and a message that is not delivered.
    assert_eq!(kinds(&pair.join(JoinFrom::Live)), ["Join"]);
    assert!(pair.history(&[(start, "first")]).is_empty(), "it is read again after the answer");
    assert_eq!(kinds(&pair.say(&Frame::Joined { channel: "ops" })), ["Joined", "ReadSince"]);
    let mut actions = pair.deliver("later");
    pair.drop_connection();
    pair.reconnect();
    pair.say(&Frame::Joined { channel: "ops" });
    actions.extend(pair.history(&[(start, "first"), (start + 1, "missed"), (start + 2, "later")]));
    assert_eq!(bodies(&actions), ["missed", "later"]);
}

#[test]
fn a_channel_that_is_joined_once_more_and_refused_is_lost_or_stands() {
    let mut pair = Scripted::joined();
    pair.join(JoinFrom::Live);
    assert!(bodies(&pair.deliver("it stands")).is_empty());
    assert_eq!(kinds(&pair.refuse("rate limit: try again in 20 ms")), ["Deferred", "ReadSince"]);
    assert_eq!(bodies(&pair.history(&[(1, "it stands")])), ["it stands"]);
    pair.history(&[]);
    assert_eq!(bodies(&pair.deliver("and goes on")), ["and goes on"]);
    assert_eq!(kinds(&pair.join(JoinFrom::Live)), ["Join"]);
    let banned = Frame::Error(ProtocolError::NotFound("no channel 'ops' that you may see"));
    assert_eq!(kinds(&pair.say(&banned)), ["Lost"]);
}

#[test]
fn a_token_that_comes_while_a_join_is_under_way_is_tried() {
    for once_more in [false, true] {
        let mut pair = if once_more { Scripted::joined() } else { Scripted::up() };
        assert_eq!(kinds(&pair.join(JoinFrom::Live)), ["Join"]);
        let token = Some(Token::new("secret"));
        assert!(pair.input(Input::Join { channel: ops(), token, from: JoinFrom::Live }).is_empty());
        let refused = Frame::Error(ProtocolError::NotFound("no channel 'ops' that you may see"));
        let actions = pair.say(&refused);
        assert!(matches!(sent(&actions)[..], [Frame::Join { token: Some("secret"), .. }]), "{actions:?}");
        assert_eq!(kinds(&pair.say(&refused)), ["Lost"]);
    }
}

#[test]
fn a_read_that_is_under_way_when_a_channel_is_joined_once_more_decides_nothing() {
    for refused in [false, true] {
        let mut pair = Scripted::up();
        pair.join(JoinFrom::Since(UnixMillis(0)));
        pair.say(&Frame::Joined { channel: "ops" });
        assert_eq!(kinds(&pair.join(JoinFrom::Live)), ["Join"]);
        if refused {
            assert!(pair.refuse("this session is not in 'ops': join it first").is_empty());
        } else {
            assert!(pair.history(&[(1, "a")]).is_empty(), "it is read again after the answer");
        }
        let actions = pair.say(&Frame::Joined { channel: "ops" });
        assert_eq!(kinds(&actions), ["Joined", "ReadSince"]);
        assert_eq!(bodies(&pair.history(&[(1, "a"), (2, "b")])), ["a", "b"]);
    }
}

#[test]
fn a_read_refused_for_good_means_that_the_subscription_is_gone() {
    let mut pair = Scripted::up();
    pair.join(JoinFrom::Since(UnixMillis(0)));
    pair.say(&Frame::Joined { channel: "ops" });
    assert_eq!(kinds(&pair.refuse("this session is not in 'ops': join it first")), ["Lost"]);
}

#[test]
fn an_invite_is_given_until_the_first_answer_only() {
    let mut pair = Scripted::up();
    let token = Some(Token::new("secret"));
    let actions = pair.input(Input::Join { channel: ops(), token, from: JoinFrom::Since(UnixMillis(0)) });
    assert!(matches!(sent(&actions)[..], [Frame::Join { token: Some("secret"), .. }]));
    pair.drop_connection();
    assert!(matches!(sent(&pair.reconnect())[..], [Frame::Join { token: Some("secret"), .. }]));
    pair.say(&Frame::Joined { channel: "ops" });
    pair.drop_connection();
    assert!(matches!(sent(&pair.reconnect())[..], [Frame::Join { token: None, .. }]));
}

#[test]
fn a_channel_left_and_joined_again_starts_anew() {
    let mut pair = Scripted::joined();
    assert_eq!(kinds(&pair.input(Input::Leave { channel: ops() })), ["Leave"]);
    assert!(pair.join(JoinFrom::Since(UnixMillis(0))).is_empty(), "the old subscription has to end first");
    assert!(pair.deliver("old").is_empty());
    assert_eq!(kinds(&pair.say(&Frame::Ack { detail: Some("ops") })), ["Join"]);
    pair.say(&Frame::Joined { channel: "ops" });
    assert_eq!(bodies(&pair.history(&[(5, "old")])), ["old"]);
}

#[test]
fn a_page_for_a_channel_left_meanwhile_is_nobodys() {
    let mut pair = Scripted::up();
    pair.join(JoinFrom::Since(UnixMillis(0)));
    pair.say(&Frame::Joined { channel: "ops" });
    pair.input(Input::Leave { channel: ops() });
    pair.join(JoinFrom::Since(UnixMillis(0)));
    assert!(pair.history(&[(1, "a")]).is_empty());
    assert_eq!(kinds(&pair.say(&Frame::Ack { detail: Some("ops") })), ["Join"]);
}

#[test]
fn a_message_of_an_unknown_channel_is_told_of_once() {
    let mut pair = Scripted::up();
    let message = |channel| Frame::ChannelMsg { channel, from: BOB, payload: v1::Payload::Plain("x") };
    assert_eq!(kinds(&pair.say(&message("renamed"))), ["Stray"]);
    assert!(pair.say(&message("renamed")).is_empty());
    let names: Vec<String> = (0..100).map(|number| format!("{number}")).collect();
    let told: usize = names.iter().map(|name| pair.say(&message(name)).len()).sum();
    assert!(told < 20, "a server cannot make the link remember without bound");
}

#[test]
fn history_that_breaks_its_rules_breaks_the_connection() {
    let pages: [&[(i64, &str)]; 4] = [
        &[(5, "a"), (4, "b")],
        &[(-2000, "at the cursor, which is exclusive")],
        &[(-3000, "a")],
        &[(6, "a"), (5, "a")],
    ];
    for page in pages {
        let mut pair = Scripted::up();
        pair.join(JoinFrom::Since(UnixMillis(0)));
        pair.say(&Frame::Joined { channel: "ops" });
        assert_eq!(kinds(&pair.history(page)), ["Hangup", "Down"]);
    }
    let mut pair = Scripted::up();
    pair.join(JoinFrom::Since(UnixMillis(0)));
    pair.say(&Frame::Joined { channel: "ops" });
    let actions = pair.say(&Frame::History { channel: "other", messages: alloc::vec![] });
    assert_eq!(kinds(&actions), ["Hangup", "Down"]);
}

#[test]
fn a_server_that_stamps_two_messages_alike_makes_nothing_loop_or_repeat() {
    let mut pair = Scripted::up();
    pair.join(JoinFrom::Since(UnixMillis(0)));
    pair.say(&Frame::Joined { channel: "ops" });
    let actions = pair.history(&[(5, "a"), (5, "b")]);
    assert_eq!(bodies(&actions), ["a", "b"]);
    assert_eq!(since(&actions), Some(5));
    pair.history(&[]);
    pair.drop_connection();
    pair.reconnect();
    assert_eq!(since(&pair.say(&Frame::Joined { channel: "ops" })), Some(4));
    // A third of the same stamp, written after the first two were read, is not lost either.
    assert_eq!(bodies(&pair.history(&[(5, "a"), (5, "b"), (5, "c")])), ["c"]);
    pair.history(&[]);
}

#[test]
fn a_delivery_that_the_history_does_not_know_is_believed() {
    let mut pair = Scripted::up();
    pair.join(JoinFrom::Since(UnixMillis(0)));
    pair.say(&Frame::Joined { channel: "ops" });
    pair.history(&[(5, "a")]);
    pair.history(&[]);
    pair.pass(3 * SECOND);
    pair.drop_connection();
    pair.reconnect();
    pair.say(&Frame::Joined { channel: "ops" });
    assert!(bodies(&pair.deliver("purged at once")).is_empty());
    pair.history(&[(5, "a")]);
    assert_eq!(bodies(&pair.history(&[])), ["purged at once"]);
    assert_eq!(bodies(&pair.deliver("b")), ["b"]);
}

#[test]
fn what_the_purge_took_is_not_mistaken_for_a_later_message() {
    let mut pair = Scripted::joined();
    assert_eq!(bodies(&pair.deliver("a")), ["a"]);
    for page in [&[][..], &[(9, "a")]] {
        pair.pass(3 * SECOND);
        pair.drop_connection();
        pair.reconnect();
        pair.say(&Frame::Joined { channel: "ops" });
        assert_eq!(bodies(&pair.history(page)).len(), page.len(), "posted during the second drop");
        if !page.is_empty() {
            pair.history(&[]);
        }
    }
}

#[test]
fn what_is_left_of_the_live_messages_after_a_purge_is_recognised() {
    let mut pair = Scripted::up();
    pair.join(JoinFrom::Since(UnixMillis(0)));
    pair.say(&Frame::Joined { channel: "ops" });
    pair.history(&[(1, "witness")]);
    pair.history(&[]);
    for body in ["a", "b", "c"] {
        assert_eq!(bodies(&pair.deliver(body)), [body]);
    }
    pair.drop_connection();
    pair.reconnect();
    pair.say(&Frame::Joined { channel: "ops" });
    assert_eq!(bodies(&pair.history(&[(4, "c"), (5, "d"), (6, "a")])), ["d", "a"]);
}

#[test]
fn a_delivery_that_the_server_forgot_is_made_up_for_and_its_successor_not_repeated() {
    let mut pair = Scripted::up();
    pair.join(JoinFrom::Since(UnixMillis(0)));
    pair.say(&Frame::Joined { channel: "ops" });
    pair.history(&[(1, "a")]);
    pair.history(&[]);
    assert_eq!(bodies(&pair.deliver("c")), ["c"], "'b' was never delivered");
    pair.drop_connection();
    pair.reconnect();
    pair.say(&Frame::Joined { channel: "ops" });
    assert_eq!(bodies(&pair.history(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")])), ["b", "d"]);
}

#[test]
fn many_channels_do_not_read_all_at_once() {
    let mut pair = Scripted::up();
    let names: Vec<String> = (0..20).map(|number| format!("c{number:02}")).collect();
    for name in &names {
        let channel = crate::name::ChannelName::new(name).unwrap();
        pair.input(Input::Join { channel, token: None, from: JoinFrom::Since(UnixMillis(0)) });
    }
    let mut reads = 0;
    for name in &names {
        reads += usize::from(since(&pair.say(&Frame::Joined { channel: name })).is_some());
    }
    assert_eq!(reads, 4);
    // Each answer lets the next one ask; in the end every channel has caught up.
    let mut caught_up = 0;
    for name in &names {
        let actions = pair.say(&Frame::History { channel: name, messages: alloc::vec![] });
        caught_up += kinds(&actions).iter().filter(|kind| *kind == "CaughtUp").count();
    }
    assert_eq!(caught_up, 20);
}

#[test]
fn what_was_posted_under_a_former_handle_hides_nothing_that_was_handed_on() {
    let mut pair = Scripted::joined();
    // We post under the first handle, and hear others after it.
    assert_eq!(bodies(&pair.deliver("a")), ["a"]);
    assert_eq!(bodies(&pair.deliver("b")), ["b"]);
    pair.refuse("session superseded by a newer connection with the same path");
    pair.reconnect();
    let actions = pair.refuse("session superseded by a newer connection with the same path");
    assert!(kinds(&actions).contains(&String::from("Renamed")));
    assert_eq!(kinds(&pair.wait().1), ["Dial"]);
    pair.input(Input::Dialed { server_id: None });
    pair.say(&Frame::Challenge { nonce: &[3; 32] });
    pair.say(&Frame::Established { path: v1::Path { session: "dir-2", ..OWN } });
    pair.say(&Frame::ServerInfo { admin: false });
    pair.say(&Frame::Joined { channel: "ops" });
    let row = |from, ts_ms, body| v1::HistoryMessage { from, ts_ms, payload: v1::Payload::Plain(body) };
    let messages =
        alloc::vec![row(OWN, 5, "mine"), row(BOB, 6, "a"), row(BOB, 7, "b"), row(OWN, 8, "theirs")];
    let actions = pair.say(&Frame::History { channel: "ops", messages });
    assert_eq!(bodies(&actions), ["theirs"], "what came after the last message may be the other session's");
}

#[test]
fn what_another_session_posts_under_a_former_handle_keeps_its_place() {
    let mut pair = Scripted::up();
    pair.join(JoinFrom::Since(UnixMillis(0)));
    pair.say(&Frame::Joined { channel: "ops" });
    pair.history(&[(1, "first")]);
    pair.history(&[]);
    assert_eq!(bodies(&pair.deliver("a")), ["a"]);
    pair.pass(Duration::from_secs(3));
    pair.refuse("session superseded by a newer connection with the same path");
    pair.reconnect();
    pair.refuse("session superseded by a newer connection with the same path");
    pair.wait();
    pair.input(Input::Dialed { server_id: None });
    pair.say(&Frame::Challenge { nonce: &[3; 32] });
    pair.say(&Frame::Established { path: v1::Path { session: "dir-2", ..OWN } });
    pair.say(&Frame::ServerInfo { admin: false });
    pair.say(&Frame::Joined { channel: "ops" });
    let theirs = Frame::ChannelMsg { channel: "ops", from: OWN, payload: v1::Payload::Plain("theirs") };
    let mut actions = pair.say(&theirs);
    actions.extend(pair.deliver("b"));
    // Before "a" is found in the history, whoever posted "theirs" may have been us.
    let row = |from, ts_ms, body| v1::HistoryMessage { from, ts_ms, payload: v1::Payload::Plain(body) };
    let before = [row(BOB, 1, "first"), row(BOB, 5, "missed")];
    let messages = before.into_iter().chain([row(OWN, 6, "theirs"), row(BOB, 7, "b")]).collect();
    actions.extend(pair.say(&Frame::History { channel: "ops", messages }));
    actions.extend(pair.history(&[]));
    assert_eq!(bodies(&actions), ["missed", "b"], "it is left out, and does not come late");
}

#[test]
fn a_busy_channel_whose_search_is_cut_off_repeats_nothing() {
    let mut pair = Scripted::up();
    pair.join(JoinFrom::Live);
    let joined = pair.say(&Frame::Joined { channel: "ops" });
    let first = since(&joined).unwrap();
    // Nothing is newer than the guess; what is delivered meanwhile is more than is remembered.
    let actions = pair.history(&[]);
    assert!(since(&actions).unwrap() < first);
    let texts: Vec<_> = (0..600).map(|number| format!("{number}")).collect();
    for text in &texts {
        assert_eq!(bodies(&pair.deliver(text)), [text.as_str()]);
    }
    // The history's end moves away while it is looked for.
    let page: Vec<_> = texts.iter().zip(first + 1..).map(|(text, ts)| (ts, text.as_str())).take(1).collect();
    pair.history(&page);
    pair.drop_connection();
    pair.reconnect();
    let mut actions = pair.say(&Frame::Joined { channel: "ops" });
    // A server with all of them in its history.
    for _ in 0..50 {
        let Some(since) = since(&actions) else { break };
        let rows: Vec<_> = texts.iter().zip(first + 1..).map(|(text, ts)| (ts, text.as_str())).collect();
        let page: Vec<_> = rows.into_iter().filter(|(ts, _)| *ts > since).collect();
        actions = pair.history(&page);
        assert!(bodies(&actions).is_empty(), "handed on before");
    }
}
