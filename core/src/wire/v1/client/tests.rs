use super::*;
use alloc::vec;
use proptest::prelude::*;

use crate::protocol::{Code, KickTarget};
use crate::wire::MAX_FRAME;
use crate::wire::v1::ProtocolError;

fn frame_of(command: &Command) -> Vec<u8> {
    let mut out = Vec::new();
    encode_command(command, &mut out).unwrap();
    out
}

fn channel() -> ChannelName {
    ChannelName::new("ops").unwrap()
}

#[test]
fn commands_become_the_frames_of_the_specification() {
    let ops = channel();
    let plain = |text: &str| Payload::Plain(String::from(text));
    let nobody = Path { user: "", machine: "", session: "" };
    for (command, frame) in [
        (
            Command::Join { channel: ops.clone(), token: Some(Token::new("t")) },
            Frame::Join { channel: "ops", token: Some("t") },
        ),
        (Command::Leave { channel: ops.clone() }, Frame::Leave { channel: "ops" }),
        (Command::Who { channel: None }, Frame::Who { channel: None }),
        (
            Command::Post { channel: ops.clone(), payload: plain("hi") },
            Frame::ChannelMsg { channel: "ops", from: nobody, payload: v1::Payload::Plain("hi") },
        ),
        (
            Command::Whisper { target: "u/m/s".parse().unwrap(), payload: plain("hi") },
            Frame::Whisper {
                from: nobody,
                target: Path { user: "u", machine: "m", session: "s" },
                payload: v1::Payload::Plain("hi"),
            },
        ),
        (
            Command::ReadSince { channel: ops.clone(), since: UnixMillis(-5) },
            Frame::ReadSince { channel: "ops", since_ms: -5 },
        ),
        (Command::Ping, Frame::Ping),
        (
            Command::Admin(Admin::Kick {
                channel: ops.clone(),
                target: KickTarget::Session("u/m/s".parse().unwrap()),
            }),
            Frame::Admin(AdminOp::Kick { channel: "ops", target: "u/m/s" }),
        ),
        (
            Command::Admin(Admin::InviteCreate {
                channel: ops.clone(),
                uses: Some(3),
                lifetime: Some(Duration::from_millis(1500)),
            }),
            Frame::Admin(AdminOp::InviteCreate { channel: "ops", uses: Some(3), expires_in_secs: Some(2) }),
        ),
    ] {
        assert_eq!(frame_of(&command), frame.to_bytes(), "{command:?}");
    }
}

#[test]
fn names_that_we_would_refuse_are_shown_as_foreign_and_equal_no_other() {
    for (text, shown) in [
        ("", "\u{fffd}"),
        (" aaron", "\u{fffd}aaron"),
        ("aaron\u{200b}", "\u{fffd}aaron\u{fffd}"),
        ("a/b", "\u{fffd}a\u{fffd}b"),
        ("aaron", "aaron"),
    ] {
        assert_eq!(foreign(text, UserName::new).as_str(), shown);
    }
    let long = "é".repeat(100);
    assert!(foreign(&long, UserName::new).as_str().len() <= crate::name::MAX_NAME_LEN);
}

#[test]
fn lists_survive_entries_that_are_odd() {
    let key = crate::key::SecretKey::from_seed(&[1; 32]).public();
    let text = key.to_string();
    let machine = |name, pubkey, added_at| v1::MachineInfo { name, pubkey, added_at };
    let frame = Frame::MachineList {
        machines: vec![
            machine("laptop", &text, "2023-11-14T22:13:20.123Z"),
            machine("no key", "???", "2023-11-14T22:13:20Z"),
            machine("no\ntime", &text, "yesterday"),
        ],
    };
    let Ok(ServerEvent::Reply(Reply::Machines(machines))) = server_event(frame) else { panic!("a list") };
    assert_eq!(machines.len(), 2);
    assert_eq!(machines[0].added, UnixMillis(1_700_000_000_123));
    assert_eq!(machines[0].key, key);
    assert_eq!((machines[1].name.as_str(), machines[1].added), ("\u{fffd}no\u{fffd}time", UnixMillis(0)));

    let invite = |uses_remaining, expires_at| v1::InviteInfo { token: "t", uses_remaining, expires_at };
    let frame = Frame::InviteList {
        invites: vec![
            invite(None, None),
            invite(Some(-1), Some("2023-11-14T22:13:20+00:00")),
            invite(Some(i64::MAX), None),
        ],
    };
    let Ok(ServerEvent::Reply(Reply::Invites(invites))) = server_event(frame) else { panic!("a list") };
    assert_eq!(invites.iter().map(|invite| invite.uses).collect::<Vec<_>>(), [None, Some(0), Some(u32::MAX)]);
    assert_eq!(invites[1].expires, Some(UnixMillis(1_700_000_000_000)));
}

#[test]
fn frames_of_a_client_or_of_the_handshake_are_no_events() {
    for frame in [
        Frame::Ping,
        Frame::ListUsers,
        Frame::Challenge { nonce: &[0; 32] },
        Frame::Established { path: Path { user: "u", machine: "m", session: "s" } },
        Frame::Join { channel: "ops", token: None },
    ] {
        let kind = frame.kind();
        assert_eq!(server_event(frame), Err(Unexpected(kind)));
    }
}

#[test]
fn a_long_error_text_is_cut_between_characters() {
    let text = "é".repeat(MAX_ERROR_TEXT);
    let ServerError::Refused(Refusal::Other { code: Code::Internal, text: kept }) =
        server_error(ProtocolError::Internal(&text))
    else {
        panic!("an internal error")
    };
    assert_eq!(kept.len(), MAX_ERROR_TEXT);
    assert!(text.len() < MAX_FRAME);
}

proptest! {
    #[test]
    fn any_name_of_a_server_becomes_one_that_is_valid(text in any::<String>(), ugly in "[ /\u{200b}\u{85}a\u{3000}é]{0,150}") {
        for text in [text, ugly] {
            let shown = foreign(&text, Handle::new);
            prop_assert!(Handle::new(shown.as_str()).is_ok());
            let foreign = shown.as_str().starts_with(char::REPLACEMENT_CHARACTER);
            prop_assert!(shown.as_str() == text || foreign);
        }
    }

    #[test]
    fn any_frame_becomes_an_event_or_is_unexpected(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(frame) = Frame::decode(&bytes) {
            let _ = server_event(frame);
        }
    }
}
