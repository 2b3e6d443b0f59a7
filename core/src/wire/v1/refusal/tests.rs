use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::name::{ChannelName, MachineName, SessionPath, UnfitName, UserName};
use crate::protocol::{CloseReason, KickTarget};
use crate::wire::v1::Frame;
use crate::wire::v1::edge::Edge;
use crate::wire::websocket;

/// How a variant is counted. A new one has to be given a place here, and an example in [`examples`].
fn place(refusal: &Refusal) -> usize {
    match refusal {
        Refusal::InvalidName(_) => 0,
        Refusal::InvalidKey(_) => 1,
        Refusal::MessageTooLarge { .. } => 2,
        Refusal::InviteWithoutUses => 3,
        Refusal::InviteLifetime => 4,
        Refusal::NoChannel(_) => 5,
        Refusal::NoUser(_) => 6,
        Refusal::NoMachine(_) => 7,
        Refusal::Offline(_) => 8,
        Refusal::NotInChannel { .. } => 9,
        Refusal::NotChannelAdmin(_) => 10,
        Refusal::NotServerAdmin => 11,
        Refusal::RegistrationClosed => 12,
        Refusal::NameReserved => 13,
        Refusal::NameTaken(_) => 14,
        Refusal::KeyTaken => 15,
        Refusal::TooFast { .. } => 16,
        Refusal::Full { .. } => 17,
        Refusal::UsersFull => 18,
        Refusal::NotSubscribed(_) => 19,
        Refusal::SubscriptionEnded => 20,
        Refusal::CreatorStays => 21,
        Refusal::AdminBan => 22,
        Refusal::LastMachine => 23,
        Refusal::AlreadyRegistered => 24,
        Refusal::UnknownKey => 25,
        Refusal::KeyLength => 26,
        Refusal::BadSignature => 27,
        Refusal::OtherKey => 28,
        Refusal::ShuttingDown => 29,
        Refusal::NotStored { .. } => 30,
        Refusal::HistoryUnreadable { .. } => 31,
        Refusal::NoFreshToken => 32,
        Refusal::Other { .. } => 33,
        Refusal::TooManyRegistrations => 34,
        Refusal::InviteNeedsVersion2 => 35,
        Refusal::UnfitName(_) => 36,
        Refusal::NameUnavailable(_) => 37,
        Refusal::SealedNeedsVersion2(_) => 38,
        Refusal::InviteNeeded
        | Refusal::InviteUseless
        | Refusal::NoStream
        | Refusal::NoMessage(_)
        | Refusal::NotSentYet { .. }
        | Refusal::WordTooLong { .. }
        | Refusal::InvalidField(_)
        | Refusal::NeedsOtherVersion { .. }
        | Refusal::NoMailbox
        | Refusal::MailboxFull { .. }
        | Refusal::MailboxNotSubscribed
        | Refusal::TooMuch { .. }
        | Refusal::NotSealed
        | Refusal::NoGroup
        | Refusal::NotInGroup
        | Refusal::CommitUnfit(_)
        | Refusal::WrongEpoch { .. }
        | Refusal::RemovalsDue(_)
        | Refusal::RosterMoved
        | Refusal::NotKept => panic!("version 1 has no request that is refused for this: {refusal}"),
    }
}
const PLACES: usize = 39;

fn channel() -> ChannelName {
    ChannelName::new("ops").unwrap()
}

fn path() -> SessionPath {
    SessionPath::new("ann", "m", "s").unwrap()
}

fn other(code: Code, text: &str) -> Refusal {
    Refusal::Other { code, text: String::from(text) }
}

/// Every reason with the error that version 1 has always sent for it.
fn examples() -> Vec<(Refusal, ProtocolError<'static>)> {
    use ProtocolError::{Internal, MalformedFrame, NotFound, Unauthorized};
    let full = |limit, most| Refusal::Full { limit, most };
    let not_in = |target: &str| Refusal::NotInChannel {
        target: Box::new(target.parse::<KickTarget>().unwrap()),
        channel: channel(),
    };
    let from_nanos = |nanos| Refusal::TooFast { wait: Duration::from_nanos(nanos) };
    Vec::from([
        (InvalidName::Empty.into(), MalformedFrame("a name cannot be empty")),
        (InvalidName::TooLong.into(), MalformedFrame("a name has at most 128 bytes")),
        (
            InvalidName::Character.into(),
            MalformedFrame("a name cannot contain '/', control or invisible characters"),
        ),
        (InvalidName::Space.into(), MalformedFrame("a name cannot start or end with white space")),
        (InvalidName::Path.into(), MalformedFrame("a session is written user/machine/session")),
        (
            InvalidKey.into(),
            MalformedFrame(
                "a key is 32 bytes, URL-safe base64 without padding, and a point of Ed25519 that is not weak",
            ),
        ),
        (
            Refusal::MessageTooLarge { most: 16_773_120 },
            MalformedFrame("a message has at most 16773120 bytes"),
        ),
        (Refusal::InviteWithoutUses, MalformedFrame("an invite is for at least one use")),
        (Refusal::InviteLifetime, MalformedFrame("an invite cannot live that long: leave its lifetime out")),
        (
            Refusal::NoChannel(channel()),
            NotFound("no channel 'ops' that you may see: check its name, or ask for an invite"),
        ),
        (Refusal::NoUser(UserName::new("ann").unwrap()), NotFound("no user 'ann'")),
        (Refusal::NoMachine(MachineName::new("m").unwrap()), NotFound("no machine 'm' of yours")),
        (Refusal::Offline(Box::new(path())), NotFound("'ann/m/s' is not online")),
        (not_in("ann"), NotFound("'ann' is not in 'ops'")),
        (not_in("ann/m/s"), NotFound("'ann/m/s' is not in 'ops'")),
        (Refusal::NotChannelAdmin(channel()), Unauthorized("only an admin of 'ops' may do that")),
        (Refusal::NotServerAdmin, Unauthorized("only an admin of this server may do that")),
        (
            Refusal::InviteNeedsVersion2,
            Unauthorized(
                "new users need an invite here, and this program speaks version 1 of the protocol, which has none: \
                 update it, ask an admin of this server for an invite, then type `conclave register --invite TOKEN`",
            ),
        ),
        (
            Refusal::RegistrationClosed,
            Unauthorized(
                "registration is closed on this server: ask its operator to open it for you, or, if you are a user \
                 here, add this machine from one that is enrolled",
            ),
        ),
        (Refusal::NameReserved, Unauthorized("this name is reserved for another key")),
        (Refusal::NameTaken(channel().into()), Unauthorized("the name 'ops' is in use: choose another")),
        (
            Refusal::NameUnavailable(channel().into()),
            Unauthorized(
                "the name 'ops' looks like one that is in use, or that was until lately: choose another, or ask an admin \
                 of this server (`conclave release NAME`)",
            ),
        ),
        (UnfitName::TooLong { most: 64 }.into(), MalformedFrame("a new name has at most 64 bytes here")),
        (UnfitName::Blank.into(), MalformedFrame("a new name cannot contain characters that look blank")),
        (
            UnfitName::NotComposed.into(),
            MalformedFrame(
                "a new name must be in Unicode's normalization form C: write accented letters as one character each",
            ),
        ),
        (Refusal::KeyTaken, Unauthorized("this key is enrolled already")),
        (from_nanos(20_000_000), Unauthorized("rate limit: try again in 20 ms")),
        (from_nanos(20_000_001), Unauthorized("rate limit: try again in 21 ms")),
        (full(Limit::UserSessions, 64), Unauthorized("at most 64 live sessions of a user: remove one first")),
        (full(Limit::UserMachines, 2), Unauthorized("at most 2 machines of a user: remove one first")),
        (full(Limit::UserChannels, 2), Unauthorized("at most 2 channels of a user: remove one first")),
        (
            full(Limit::SessionChannels, 256),
            Unauthorized("at most 256 channels at once for a session: remove one first"),
        ),
        (full(Limit::ChannelMembers, 3), Unauthorized("at most 3 members of a channel: remove one first")),
        (full(Limit::ChannelBans, 1), Unauthorized("at most 1 bans of a channel: remove one first")),
        (full(Limit::ChannelInvites, 2), Unauthorized("at most 2 invites to a channel: remove one first")),
        (Refusal::UsersFull, Unauthorized("no more users can register here: ask this server's operator")),
        (
            Refusal::TooManyRegistrations,
            Unauthorized(
                "too many registrations from this address: try again later, or ask this server's operator",
            ),
        ),
        (Refusal::NotSubscribed(channel()), Unauthorized("this session is not in 'ops': join it first")),
        (
            Refusal::SealedNeedsVersion2(channel()),
            Unauthorized("'ops' is sealed, which takes version 2 of the protocol: update this program"),
        ),
        (Refusal::SubscriptionEnded, Unauthorized("the subscription ended while its history was read")),
        (Refusal::CreatorStays, Unauthorized("the creator of a channel stays its member")),
        (Refusal::AdminBan, Unauthorized("an admin of a channel cannot be banned from it")),
        (
            Refusal::LastMachine,
            Unauthorized("this is your last machine: add another first, or you could not come back"),
        ),
        (
            Refusal::AlreadyRegistered,
            Unauthorized("this machine's key is enrolled already: connect without registering"),
        ),
        (
            Refusal::UnknownKey,
            Unauthorized(
                "this machine's key is not enrolled here: register a user, or have a machine of yours add it",
            ),
        ),
        (Refusal::KeyLength, Unauthorized("a key has 32 bytes")),
        (Refusal::BadSignature, Unauthorized("the signature does not prove this key")),
        (Refusal::OtherKey, Unauthorized("the proven key is not the one to be registered")),
        (Refusal::ShuttingDown, Unauthorized("server shutting down")),
        (
            Refusal::NotStored { why: "disk full".into() },
            Internal("the server could not store it, nothing was changed or sent: disk full"),
        ),
        (
            Refusal::HistoryUnreadable { why: "disk full".into() },
            Internal("the server could not read its history: disk full"),
        ),
        (Refusal::NoFreshToken, Internal("the server has no fresh token: try again")),
        (other(Code::InvalidArgument, "x"), MalformedFrame("x")),
        (other(Code::NotFound, "no x"), NotFound("no x")),
        (other(Code::PermissionDenied, "x"), Unauthorized("x")),
        (other(Code::AlreadyExists, "x"), Unauthorized("x")),
        (other(Code::RateLimited, "x"), Unauthorized("x")),
        (other(Code::QuotaExceeded, "x"), Unauthorized("x")),
        (other(Code::FailedPrecondition, "x"), Unauthorized("x")),
        (other(Code::Unauthenticated, "x"), Unauthorized("x")),
        (other(Code::Unavailable, "x"), Unauthorized("x")),
        (other(Code::Internal, "x"), Internal("x")),
    ])
}

/// The refusal as a client has it, after version 1.
fn carried(refusal: &Refusal) -> ServerError {
    server_error(error(refusal.code(), &refusal.to_string()))
}

/// What a server's text means.
fn unauthorized(text: &str) -> Refusal {
    match server_error(ProtocolError::Unauthorized(text)) {
        ServerError::Refused(refusal) => refusal,
        end => panic!("{end:?}"),
    }
}

#[test]
fn every_reason_has_the_kind_and_the_text_that_it_always_had() {
    let mut covered = BTreeSet::new();
    for (refusal, expected) in examples() {
        covered.insert(place(&refusal));
        let text = refusal.to_string();
        assert_eq!(error(refusal.code(), &text), expected);
        let kind = match expected {
            ProtocolError::MalformedFrame(_) => "malformed",
            ProtocolError::Unauthorized(_) => "unauthorized",
            ProtocolError::NotFound(_) => "not_found",
            ProtocolError::Internal(_) => "internal",
            ProtocolError::VersionMismatch { .. } => unreachable!("no refusal"),
        };
        assert_eq!(refusal.kind(), kind, "metrics count it as before");

        // As a farewell it is the same frame.
        let (mut edge, mut out) = (Edge::new([0; 32]), Vec::new());
        edge.farewell(&CloseReason::Refused(refusal), &mut out);
        let content = websocket::content(&out).unwrap();
        assert_eq!(Frame::decode(&out[content]), Ok(Frame::Error(expected)));
    }
    assert_eq!(covered.len(), PLACES, "every variant has an example");
}

#[test]
fn every_reason_comes_back_as_itself_but_for_what_the_wire_cannot_carry() {
    for (refusal, _) in examples() {
        let expected = match &refusal {
            // The same text ends a session.
            Refusal::ShuttingDown => {
                ServerError::Ended { end: End::Shutdown, text: "server shutting down".into() }
            }
            // Whole milliseconds.
            Refusal::TooFast { wait } => {
                let millis = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap();
                ServerError::Refused(Refusal::TooFast { wait: Duration::from_millis(millis) })
            }
            // Four kinds for ten classes.
            Refusal::Other { code, text } => {
                let kept = matches!(code, Code::InvalidArgument | Code::NotFound | Code::Internal);
                ServerError::Refused(other(if kept { *code } else { Code::PermissionDenied }, text))
            }
            _ => ServerError::Refused(refusal.clone()),
        };
        assert_eq!(carried(&refusal), expected);
    }
}

#[test]
fn every_end_that_the_server_decides_is_known_as_one() {
    for (reason, end) in [
        (CloseReason::Superseded, End::Superseded),
        (CloseReason::KeyRevoked { own: false }, End::KeyRevoked),
        (CloseReason::UserRemoved { own: false }, End::UserRemoved),
        (CloseReason::Idle { limit: Duration::from_secs(90) }, End::Idle),
        (CloseReason::SlowConsumer, End::SlowConsumer),
        (CloseReason::Shutdown, End::Shutdown),
        (CloseReason::HandshakeTimeout, End::HandshakeTimeout),
    ] {
        let text = reason.to_string();
        assert_eq!(server_error(ProtocolError::Unauthorized(&text)), ServerError::Ended { end, text });
    }
    // Other servers' words.
    for (text, end) in [
        ("session superseded", End::Superseded),
        ("idle timeout", End::Idle),
        ("slow consumer", End::SlowConsumer),
    ] {
        let ended = ServerError::Ended { end, text: text.into() };
        assert_eq!(server_error(ProtocolError::Unauthorized(text)), ended);
    }
}

#[test]
fn a_refusal_about_somebody_of_a_strange_name_ends_nothing() {
    for text in ["user removed is not online", "no such channel: idle", "user removed/m/s is not online"] {
        assert!(matches!(server_error(ProtocolError::Unauthorized(text)), ServerError::Refused(_)), "{text}");
    }
    // A server that sends only the name that it did not find.
    for text in ["user removed", "server shutting down", "idle timeout"] {
        assert!(matches!(server_error(ProtocolError::NotFound(text)), ServerError::Refused(_)), "{text}");
        assert!(
            matches!(server_error(ProtocolError::MalformedFrame(text)), ServerError::Refused(_)),
            "{text}"
        );
    }
}

#[test]
fn other_servers_words_give_a_class() {
    for (text, code) in [
        ("rate limit exceeded", Code::RateLimited),
        ("rate limit: try again in +5 ms", Code::RateLimited),
        ("too many failed authentications from this address: try again in a minute", Code::RateLimited),
        ("at most 64 sessions", Code::QuotaExceeded),
        ("the disk is slow: try again", Code::Unavailable),
        ("the key of 'ann' is enrolled already", Code::FailedPrecondition),
        ("unknown key", Code::PermissionDenied),
    ] {
        assert_eq!(unauthorized(text), other(code, text));
    }
    for code in [Code::RateLimited, Code::Unavailable, Code::Internal] {
        assert!(other(code, "").may_succeed_later());
    }
    assert!(!other(Code::QuotaExceeded, "").may_succeed_later());
    let bare = server_error(ProtocolError::NotFound("ops"));
    assert_eq!(bare, ServerError::Refused(other(Code::NotFound, "not found: ops")));
}

#[test]
fn a_name_in_a_refusal_promises_nothing() {
    let refusal = unauthorized("rate limit: try again in 20 ms");
    assert!(refusal.may_succeed_later());
    assert_eq!(refusal.retry_after(), Some(Duration::from_millis(20)));
    for name in ["try again", "enrolled already", "': join it first", "rate limit: try again in 20 ms"] {
        let name = ChannelName::new(name).unwrap();
        let refusal = unauthorized(&format!("this session is not in '{name}': join it first"));
        assert_eq!(refusal, Refusal::NotSubscribed(name.clone()));
        assert!(!refusal.may_succeed_later());
        let foreign = unauthorized(&format!("you are not in '{name}' yet"));
        assert_eq!(foreign.code(), Code::PermissionDenied, "{foreign}");
    }
}

#[test]
fn a_kick_whose_names_can_be_read_in_two_ways_is_not_guessed() {
    let refusal = Refusal::NotInChannel {
        target: Box::new(KickTarget::User(UserName::new("a").unwrap())),
        channel: ChannelName::new("b' is not in 'c").unwrap(),
    };
    let text = refusal.to_string();
    assert_eq!(carried(&refusal), ServerError::Refused(other(Code::NotFound, &text)));
}

/// Names with what texts are made of in them.
fn tricky() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &["'", " ", "a", "is not in", "': join it first", "no user '", "rate limit", "é"];
    let built = proptest::collection::vec(proptest::sample::select(PIECES), 1..6);
    prop_oneof![built.prop_map(|pieces| pieces.concat()), "\\PC{1,20}"]
        .prop_filter("a name", |text| UserName::new(text).is_ok())
}

fn any_refusal() -> impl Strategy<Value = Refusal> {
    let kicked = prop_oneof![
        tricky().prop_map(|name| KickTarget::User(UserName::new(&name).unwrap())),
        tricky_path().prop_map(KickTarget::Session),
    ];
    prop_oneof![
        proptest::sample::select(examples()).prop_map(|(refusal, _)| refusal),
        tricky().prop_map(|name| Refusal::NoChannel(ChannelName::new(&name).unwrap())),
        tricky().prop_map(|name| Refusal::NoUser(UserName::new(&name).unwrap())),
        tricky().prop_map(|name| Refusal::NoMachine(MachineName::new(&name).unwrap())),
        tricky().prop_map(|name| Refusal::NotChannelAdmin(ChannelName::new(&name).unwrap())),
        tricky().prop_map(|name| Refusal::NotSubscribed(ChannelName::new(&name).unwrap())),
        tricky().prop_map(|name| Refusal::NameTaken(UserName::new(&name).unwrap().into())),
        tricky().prop_map(|name| Refusal::NameUnavailable(UserName::new(&name).unwrap().into())),
        tricky_path().prop_map(|path| Refusal::Offline(Box::new(path))),
        (kicked, tricky()).prop_map(|(target, name)| Refusal::NotInChannel {
            target: Box::new(target),
            channel: ChannelName::new(&name).unwrap(),
        }),
        any::<u64>().prop_map(|millis| Refusal::TooFast { wait: Duration::from_millis(millis) }),
        any::<usize>().prop_map(|most| Refusal::MessageTooLarge { most }),
        (proptest::sample::select(&Limit::ALL[..]), any::<usize>())
            .prop_map(|(limit, most)| Refusal::Full { limit, most }),
        "\\PC{0,100}".prop_map(|why| Refusal::NotStored { why }),
        "\\PC{0,100}".prop_map(|why| Refusal::HistoryUnreadable { why }),
    ]
}

fn tricky_path() -> impl Strategy<Value = SessionPath> {
    (tricky(), tricky(), tricky())
        .prop_map(|(user, machine, session)| SessionPath::new(&user, &machine, &session).unwrap())
}

proptest! {
    #[test]
    fn any_reason_comes_back_as_itself(refusal in any_refusal()) {
        let known = !matches!(refusal, Refusal::Other { .. } | Refusal::ShuttingDown);
        let whole = refusal.retry_after().is_none_or(|wait| wait.subsec_nanos() % 1_000_000 == 0);
        prop_assume!(known && whole);
        let text = refusal.to_string();
        let back = carried(&refusal);
        let ambiguous = matches!(refusal, Refusal::NotInChannel { .. })
            && text.matches("' is not in '").count() > 1;
        if ambiguous {
            // Still the same class and text.
            let ServerError::Refused(back) = back else { panic!("{text} ends nothing") };
            prop_assert_eq!((back.code(), back.to_string()), (refusal.code(), text));
        } else {
            prop_assert_eq!(back, ServerError::Refused(refusal));
        }
    }

    #[test]
    fn any_text_of_any_kind_is_understood_and_shown(text in any::<String>(), kind in 0..4) {
        let refused = match kind {
            0 => server_error(ProtocolError::MalformedFrame(&text)),
            1 => server_error(ProtocolError::Unauthorized(&text)),
            2 => server_error(ProtocolError::NotFound(&text)),
            _ => server_error(ProtocolError::Internal(&text)),
        };
        let shown = match refused {
            ServerError::Refused(refusal) => refusal.to_string(),
            ServerError::Ended { text, .. } => text,
            ServerError::Version { .. } => unreachable!("no version was sent"),
        };
        let cut = &text[..text.floor_char_boundary(MAX_ERROR_TEXT)];
        prop_assert!(shown == cut || (kind == 2 && shown.strip_prefix("not found: ") == Some(cut)), "{}", shown);
    }
}
