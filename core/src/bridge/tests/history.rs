//! What is read back of a channel.

use super::*;
use crate::payload::Envelope;

#[test]
fn history_is_read_to_its_end_or_to_a_full_page() {
    let mut scene = Scene::new(&[A], Settings::default(), false);
    let catch_up =
        || ToolCall::CatchUp { server: None, channel: channel("ops"), since: Some(Since::At(UnixMillis(5))) };
    assert_eq!(answer(&scene.call(catch_up()).1), Err(Failure::NotJoined(channel("ops"))));
    scene.join(A, "ops");
    let row = |ts, size| Stamped::without_origin(path("you/m/s"), UnixMillis(ts), plain(&"x".repeat(size)));
    let page = |messages| Reply::History { channel: channel("ops"), messages };
    let (_, actions) = scene.call(catch_up());
    let (server, id, command) = request(&actions).unwrap();
    assert_eq!(command, Command::ReadSince { channel: channel("ops"), since: UnixMillis(5) });
    let actions =
        scene.link(server.as_str(), LinkEvent::Reply { id, result: Ok(page(vec![row(6, 9), row(7, 9)])) });
    let (_, id, command) = request(&actions).unwrap();
    assert_eq!(command, Command::ReadSince { channel: channel("ops"), since: UnixMillis(7) });
    let result = answer(&scene.link(A, LinkEvent::Reply { id, result: Ok(page(vec![])) }));
    assert!(matches!(result, Ok(Outcome::History { messages, more: None, .. }) if messages.len() == 2));
    let result = scene.served(catch_up(), page(vec![row(6, 9), row(7, PAGE_BYTES)]));
    assert!(
        matches!(result, Ok(Outcome::History { messages, more: Some(UnixMillis(6)), .. }) if messages.len() == 1)
    );
    assert_eq!(
        scene.served(catch_up(), page(vec![row(5, 9)])),
        Err(Failure::Confused),
        "stamps that do not grow"
    );
    assert_eq!(scene.served(catch_up(), page(vec![row(7, 9), row(6, 9)])), Err(Failure::Confused));
}

#[test]
fn messages_that_share_a_millisecond_are_read_and_not_parted() {
    let mut scene = Scene::new(&[A], Settings::default(), false);
    scene.join(A, "ops");
    let catch_up =
        || ToolCall::CatchUp { server: None, channel: channel("ops"), since: Some(Since::At(UnixMillis(5))) };
    let read = |scene: &mut Scene, rows: &[(i64, usize)]| {
        let row = |&(ts, size): &(i64, usize)| {
            Stamped::without_origin(path("you/m/s"), UnixMillis(ts), plain(&"x".repeat(size)))
        };
        let messages = rows.iter().map(row).collect();
        match scene.served(catch_up(), Reply::History { channel: channel("ops"), messages }) {
            Ok(Outcome::History { messages, more, .. }) => (messages.len(), more.map(|ts| ts.0)),
            other => panic!("{other:?}"),
        }
    };
    // Whoever asks from the stamp of the last one would never see the rest of its millisecond.
    assert_eq!(read(&mut scene, &[(6, 9), (6, 9), (7, 9), (7, PAGE_BYTES)]), (2, Some(6)));
    assert_eq!(read(&mut scene, &[(6, 9), (6, PAGE_BYTES), (6, 9), (7, 9)]), (3, Some(6)));
}

#[test]
fn a_message_too_large_for_an_answer_is_in_the_inbox() {
    let mut scene = Scene::new(&[A], Settings::default(), false);
    scene.join(A, "ops");
    let catch_up =
        ToolCall::CatchUp { server: None, channel: channel("ops"), since: Some(Since::At(UnixMillis(5))) };
    let text = "x".repeat(900_000);
    let large = Stamped::without_origin(path("you/m/s"), UnixMillis(6), plain(&text));
    let (_, id, _) = request(&scene.call(catch_up.clone()).1).unwrap();
    let first = Reply::History { channel: channel("ops"), messages: vec![large.clone()] };
    let (_, id, _) = request(&scene.link(A, LinkEvent::Reply { id, result: Ok(first) })).unwrap();
    let sealed = Payload::Encrypted(Envelope { ciphertext: vec![0; 60_000], key_id: None });
    let second = Reply::History {
        channel: channel("ops"),
        messages: vec![Stamped { ts: UnixMillis(7), payload: sealed, ..large.clone() }],
    };
    let outcome = answer(&scene.link(A, LinkEvent::Reply { id, result: Ok(second) })).unwrap();
    assert!(matches!(outcome, Outcome::History { more: Some(UnixMillis(6)), .. }));
    let shown = outcome.text();
    // Once, however often it is read.
    let first = Reply::History { channel: channel("ops"), messages: vec![large] };
    let (_, id, _) = request(&scene.call(catch_up).1).unwrap();
    let (_, id, _) = request(&scene.link(A, LinkEvent::Reply { id, result: Ok(first) })).unwrap();
    let last = Reply::History { channel: channel("ops"), messages: vec![] };
    assert!(answer(&scene.link(A, LinkEvent::Reply { id, result: Ok(last) })).is_ok());
    assert_eq!(scene.bridge.inbox().len(), 1);
    assert!(shown.len() < PAGE_BYTES && shown.contains("of 900000") && shown.contains("in the inbox"));
    let mut read = String::new();
    while let Ok(Outcome::Read { page, .. }) = answer(&scene.call(inbox()).1)
        && !page.entries.is_empty()
    {
        page.entries.iter().for_each(|unread| read.push_str(&unread.text()));
    }
    assert!(read == text);
}

#[test]
fn what_is_read_for_a_cancelled_call_is_not_seen() {
    let mut scene = Scene::new(&[A], Settings::default(), false);
    scene.join(A, "ops");
    let catch_up = || ToolCall::CatchUp { server: None, channel: channel("ops"), since: None };
    let row = Stamped::without_origin(path("you/m/s"), UnixMillis(6), plain("x"));
    let (call, actions) = scene.call(catch_up());
    let (_, id, _) = request(&actions).unwrap();
    scene.input(Input::Cancel { id: call });
    let page = Reply::History { channel: channel("ops"), messages: vec![row] };
    assert_eq!(scene.link(A, LinkEvent::Reply { id, result: Ok(page) }), []);
    let (_, _, command) = request(&scene.call(catch_up()).1).unwrap();
    assert_eq!(command, Command::ReadSince { channel: channel("ops"), since: UnixMillis(0) });
}

#[test]
fn what_an_answer_did_not_show_is_not_seen() {
    let mut scene = Scene::new(&[A], Settings::default(), false);
    scene.join(A, "ops");
    let catch_up = || ToolCall::CatchUp { server: None, channel: channel("ops"), since: None };
    let row = |ts| Stamped::without_origin(path("you/m/s"), UnixMillis(ts), plain("x"));
    let first = Reply::History { channel: channel("ops"), messages: vec![row(6), row(9)] };
    let (_, id, _) = request(&scene.call(catch_up()).1).unwrap();
    let actions = scene.link(A, LinkEvent::Reply { id, result: Ok(first) });
    let (_, id, _) = request(&actions).unwrap();
    let refusal = Refusal::TooFast { wait: core::time::Duration::from_millis(20) };
    assert!(answer(&scene.link(A, LinkEvent::Reply { id, result: Ok(Reply::Refused(refusal)) })).is_err());
    let (_, _, command) = request(&scene.call(catch_up()).1).unwrap();
    assert_eq!(command, Command::ReadSince { channel: channel("ops"), since: UnixMillis(0) });
}

#[test]
fn only_what_was_read_is_not_read_again() {
    let mut scene = Scene::new(&[A], Settings::default(), false);
    scene.join(A, "ops");
    let catch_up = |since| ToolCall::CatchUp { server: None, channel: channel("ops"), since };
    let page = |messages| Reply::History { channel: channel("ops"), messages };
    let row = |ts| Stamped::without_origin(path("you/m/s"), UnixMillis(ts), plain("x"));
    let asked = |actions: &[Action]| match request(actions) {
        Some((_, id, Command::ReadSince { since, .. })) => (id, since.0),
        other => panic!("{other:?}"),
    };
    // A moment that has not come, or that a fast clock gives, is no message that was seen.
    let late = Some(Since::At(UnixMillis(4_000_000_000_000)));
    assert!(scene.served(catch_up(late), page(vec![])).is_ok());
    let (_, actions) = scene.call(catch_up(None));
    let (id, since) = asked(&actions);
    assert_eq!(since, 0);
    let actions = scene.link(A, LinkEvent::Reply { id, result: Ok(page(vec![row(6), row(9)])) });
    let (id, _) = asked(&actions);
    scene.link(A, LinkEvent::Reply { id, result: Ok(page(vec![])) });
    assert!(scene.served(catch_up(late), page(vec![])).is_ok());
    assert_eq!(asked(&scene.call(catch_up(None)).1).1, 9);
}
