//! Whatever a server or a shell does, in any state: no panic, no memory without bound, no deadline in the past.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::super::*;
use super::scripted::{BOB, OWN, Scripted, ops};
use crate::payload::Payload;
use crate::time::UnixMillis;
use crate::wire::v1::{self, Frame, ProtocolError};

#[derive(Clone, Debug)]
enum Event {
    Bytes(Vec<u8>),
    Frame(u8, u8, i64),
    Shell(u8, u8),
    Pass(u32),
    Deadline,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => proptest::collection::vec(any::<u8>(), 0..60).prop_map(Event::Bytes),
        8 => (any::<u8>(), any::<u8>(), prop_oneof![any::<i64>(), -5i64..20]).prop_map(|(a, b, c)| Event::Frame(a, b, c)),
        4 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Event::Shell(a, b)),
        1 => (0u32..40_000).prop_map(Event::Pass),
        2 => Just(Event::Deadline),
    ]
}

fn frame(pair: &mut Scripted, which: u8, body: u8, number: i64) {
    let text = String::from(char::from(b'a' + body % 3));
    let channel = if body.is_multiple_of(16) { "other" } else { "ops" };
    let payload = || v1::Payload::Plain(&text);
    let from = if body.is_multiple_of(5) { OWN } else { BOB };
    let message = |ts_ms| v1::HistoryMessage { from, ts_ms, payload: payload() };
    let frame = match which % 20 {
        0 => Frame::Challenge { nonce: &[1; 32] },
        1 => Frame::Established { path: OWN },
        2 => Frame::ServerInfo { admin: body.is_multiple_of(2) },
        3 | 4 => Frame::Joined { channel },
        5 => Frame::Ack { detail: None },
        6 => Frame::Pong,
        7 => Frame::Error(ProtocolError::Unauthorized(match body % 5 {
            0 => "session superseded by another",
            1 => "rate limit: try again in 5 ms",
            2 => "server shutting down",
            _ => "no",
        })),
        8 => Frame::Error(ProtocolError::Internal(&text)),
        9..12 => Frame::History { channel, messages: vec![] },
        12 => Frame::History { channel, messages: vec![message(number)] },
        13 => Frame::History { channel, messages: vec![message(number), message(number.saturating_add(1))] },
        14 => Frame::Presence { channel: None, sessions: vec![BOB] },
        15 => Frame::Whisper { from, target: OWN, payload: payload() },
        _ => Frame::ChannelMsg { channel, from, payload: payload() },
    };
    pair.say(&frame);
}

fn shell(pair: &mut Scripted, which: u8, number: u8) {
    let deadline = (number.is_multiple_of(2)).then(|| Duration::from_millis(u64::from(number) * 40));
    match which % 12 {
        0 => drop(pair.input(Input::Start)),
        1 | 2 => drop(pair.input(Input::Dialed { server_id: Some("id") })),
        3 => drop(pair.input(Input::DialFailed("no"))),
        4 => drop(pair.input(Input::Closed("gone"))),
        5 | 6 => drop(pair.request(u64::from(number), deadline)),
        7 => drop(pair.join(JoinFrom::Live)),
        8 => drop(pair.join(JoinFrom::Since(UnixMillis(i64::from(number))))),
        9 => drop(pair.input(Input::Leave { channel: ops() })),
        10 if number < 4 => drop(pair.input(Input::Stop)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_order_of_inputs_breaks_the_link(
        live in any::<bool>(),
        events in proptest::collection::vec(event(), 0..150),
    ) {
        // `Scripted::input` checks after each input that nothing due is left undone.
        let mut pair = if live { Scripted::joined() } else { Scripted::new(true) };
        for event in events {
            match event {
                Event::Bytes(bytes) => drop(pair.input(Input::Message(Opaque(&bytes)))),
                Event::Frame(which, body, number) => frame(&mut pair, which, body, number),
                Event::Shell(which, number) => shell(&mut pair, which, number),
                Event::Pass(millis) => drop(pair.pass(Duration::from_millis(u64::from(millis)))),
                Event::Deadline => {
                    if pair.link.next_deadline().is_some() {
                        pair.wait();
                    }
                }
            }
        }
    }

    #[test]
    fn the_same_inputs_give_the_same_actions(events in proptest::collection::vec(any::<(u8, u8, i64)>(), 0..60)) {
        let run = || {
            let mut pair = Scripted::joined();
            let mut all = Vec::new();
            for &(which, body, _) in &events {
                let text = String::from(char::from(b'a' + body % 3));
                all.extend(match which % 4 {
                    0 => pair.history(&[]),
                    1 => pair.drop_connection(),
                    2 => pair.deliver(&text),
                    _ => pair.pass(Duration::from_millis(u64::from(body) * 20)),
                });
            }
            all
        };
        prop_assert_eq!(run(), run());
    }
}

/// A server that answers every read with a page that moves on costs one read for each of its pages and remembers
/// nothing more.
#[test]
fn an_endless_history_is_handed_on_page_by_page() {
    let mut pair = Scripted::up();
    pair.join(JoinFrom::Since(UnixMillis(0)));
    pair.say(&Frame::Joined { channel: "ops" });
    for ts in 1..5000 {
        let actions = pair.history(&[(ts, "a")]);
        assert_eq!(actions.len(), 2, "one message, one read");
    }
}

#[test]
fn a_flood_of_deliveries_before_the_history_is_read_is_not_kept() {
    let mut pair = Scripted::up();
    pair.join(JoinFrom::Since(UnixMillis(0)));
    pair.say(&Frame::Joined { channel: "ops" });
    let big = "x".repeat(100_000);
    for _ in 0..200 {
        assert!(pair.deliver(&big).is_empty());
    }
    let kept = pair.link.buffered();
    assert!(kept <= 4 * 1024 * 1024, "{kept} bytes are kept");
}

#[test]
fn a_flood_while_the_history_cannot_be_read_is_not_kept() {
    let mut pair = Scripted::joined();
    let mut handed_on = 0;
    for number in 0..5000 {
        let actions = pair.deliver(&alloc::format!("{number}"));
        handed_on += super::scripted::bodies(&actions).len();
    }
    assert_eq!(handed_on, 512, "no more than can be recognised in the history");
    let page: Vec<_> = (0..5000i64).map(|number| (number + 1, alloc::format!("{number}"))).collect();
    let mut at = 0;
    while at < page.len() {
        let rows: Vec<_> = page[at..].iter().take(500).map(|(ts, body)| (*ts, body.as_str())).collect();
        at += rows.len();
        let actions = pair.history(&rows);
        handed_on += super::scripted::bodies(&actions).len();
    }
    assert_eq!(handed_on, 5000);
    assert_eq!(super::scripted::bodies(&pair.deliver("live again")), ["live again"]);
}

#[test]
fn debug_shows_neither_keys_nor_bodies() {
    let mut pair = Scripted::joined();
    let body = "a secret body";
    let bytes = alloc::format!("{:?}", &body.as_bytes()[..5]);
    let bytes = bytes.trim_matches(['[', ']']);
    let command = Command::Post { channel: ops(), payload: Payload::Plain(String::from(body)) };
    let mut shown = alloc::format!("{:?}{:?}", pair.deliver(body), pair.ask(1, command.clone()));
    pair.drop_connection();
    let deadline = Some(pair.now.mono + Duration::from_secs(1));
    let request = Input::Request { id: RequestId(2), command, deadline };
    shown += &alloc::format!("{request:?}{:?}", Input::Message(Opaque(body.as_bytes())));
    pair.input(request);
    shown += &alloc::format!("{:?}", pair.link);
    assert!(!shown.contains(body) && !shown.contains(bytes), "{shown}");
    assert!(!shown.contains(&crate::key::SecretKey::from_seed(&[7; 32]).expose()));
}
