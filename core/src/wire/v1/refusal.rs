//! Refusals and ends in version 1, which has four kinds of errors and a text for everything else. This is the one place
//! that reads such texts.
//!
//! Our own texts come back as the reason that they were made from. Other servers' texts become [`Refusal::Other`] with
//! the class that their first words tell. A text may quote a name that somebody chose, so a reason is recognised by the
//! whole text, or by the words before or after every quoted name.

use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use core::str::FromStr;
use core::time::Duration;

use super::ProtocolError;
use super::client::ServerError;
use crate::key::InvalidKey;
use crate::name::{InvalidName, UnfitName};
use crate::protocol::{Code, End, Limit, Refusal};

/// The most of a server's error text that is kept, in bytes.
pub const MAX_ERROR_TEXT: usize = 1024;

/// The error of a refusal of this class.
pub(super) fn error(code: Code, text: &str) -> ProtocolError<'_> {
    match code {
        Code::InvalidArgument => ProtocolError::MalformedFrame(text),
        Code::NotFound => ProtocolError::NotFound(text),
        Code::Internal => ProtocolError::Internal(text),
        Code::PermissionDenied
        | Code::AlreadyExists
        | Code::RateLimited
        | Code::QuotaExceeded
        | Code::FailedPrecondition
        | Code::Unauthenticated
        | Code::Unavailable
        | Code::WrongEpoch
        | Code::RemovalsDue => ProtocolError::Unauthorized(text),
    }
}

/// A server's error as a client understands it, its text cut to [`MAX_ERROR_TEXT`].
pub fn server_error(error: ProtocolError<'_>) -> ServerError {
    let (kind, text) = match error {
        ProtocolError::VersionMismatch { ours, .. } => return ServerError::Version { theirs: ours },
        ProtocolError::MalformedFrame(text) => (Kind::Malformed, text),
        ProtocolError::Unauthorized(text) => (Kind::Unauthorized, text),
        ProtocolError::NotFound(text) => (Kind::NotFound, text),
        ProtocolError::Internal(text) => (Kind::Internal, text),
    };
    let text = &text[..text.floor_char_boundary(MAX_ERROR_TEXT)];
    // The other kinds may begin with a name that somebody chose, or be nothing but one.
    if let (Kind::Unauthorized | Kind::Internal, Some(end)) = (kind, end(text)) {
        return ServerError::Ended { end, text: String::from(text) };
    }
    let known = match kind {
        Kind::Malformed => malformed(text),
        Kind::Unauthorized => unauthorized(text),
        Kind::NotFound => not_found(text),
        Kind::Internal => internal(text),
    };
    // A reason whose text differs in the least is another server's.
    let own = known.or_else(|| fixed(kind, text)).filter(|refusal| refusal.to_string() == text);
    ServerError::Refused(own.unwrap_or_else(|| foreign(kind, text)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Malformed,
    Unauthorized,
    NotFound,
    Internal,
}

/// The end that a text announces. Texts that are fixed are compared as a whole.
fn end(text: &str) -> Option<End> {
    let whole = match text {
        "machine key revoked" => Some(End::KeyRevoked),
        "user removed" => Some(End::UserRemoved),
        "server shutting down" => Some(End::Shutdown),
        "handshake timed out" => Some(End::HandshakeTimeout),
        "slow consumer" => Some(End::SlowConsumer),
        _ => None,
    };
    let begins = [
        ("session superseded", End::Superseded),
        ("idle timeout", End::Idle),
        ("slow consumer:", End::SlowConsumer),
    ];
    let begun = || begins.into_iter().find(|(begin, _)| text.starts_with(begin));
    whole.or_else(|| begun().map(|(_, end)| end))
}

fn malformed(text: &str) -> Option<Refusal> {
    let length = || quoted(text, "a new name has at most ", " bytes here");
    quoted(text, "a message has at most ", " bytes")
        .map(|most| Refusal::MessageTooLarge { most })
        .or_else(|| Some(Refusal::UnfitName(UnfitName::TooLong { most: length()? })))
}

fn not_found(text: &str) -> Option<Refusal> {
    quoted(text, "no channel '", "' that you may see: check its name, or ask for an invite")
        .map(Refusal::NoChannel)
        .or_else(|| quoted(text, "no user '", "'").map(Refusal::NoUser))
        .or_else(|| quoted(text, "no machine '", "' of yours").map(Refusal::NoMachine))
        .or_else(|| quoted(text, "'", "' is not online").map(|path| Refusal::Offline(Box::new(path))))
        .or_else(|| not_in_channel(text))
}

/// Either name may contain the words between them: then nobody can tell where the first one ends.
fn not_in_channel(text: &str) -> Option<Refusal> {
    const BETWEEN: &str = "' is not in '";
    let names = text.strip_prefix('\'')?.strip_suffix('\'')?;
    let mut readings = names.match_indices(BETWEEN).filter_map(|(at, _)| {
        let target = Box::new(names[..at].parse().ok()?);
        let channel = names[at + BETWEEN.len()..].parse().ok()?;
        Some(Refusal::NotInChannel { target, channel })
    });
    readings.next().filter(|_| readings.next().is_none())
}

fn unauthorized(text: &str) -> Option<Refusal> {
    quoted(text, "this session is not in '", "': join it first")
        .map(Refusal::NotSubscribed)
        .or_else(|| {
            let after = "' is sealed, which takes version 2 of the protocol: update this program";
            quoted(text, "'", after).map(Refusal::SealedNeedsVersion2)
        })
        .or_else(|| quoted(text, "only an admin of '", "' may do that").map(Refusal::NotChannelAdmin))
        .or_else(|| quoted(text, "the name '", "' is in use: choose another").map(Refusal::NameTaken))
        .or_else(|| {
            let after = "' looks like one that is in use, or that was until lately: choose another, or ask an admin of \
                         this server (`conclave release NAME`)";
            quoted(text, "the name '", after).map(Refusal::NameUnavailable)
        })
        .or_else(|| {
            let wait = quoted(text, "rate limit: try again in ", " ms")?;
            Some(Refusal::TooFast { wait: Duration::from_millis(wait) })
        })
        .or_else(|| full(text))
}

fn full(text: &str) -> Option<Refusal> {
    let (most, what) = between(text, "at most ", ": remove one first")?.split_once(' ')?;
    let limit = Limit::ALL.into_iter().find(|limit| limit.as_str() == what)?;
    Some(Refusal::Full { limit, most: most.parse().ok()? })
}

fn internal(text: &str) -> Option<Refusal> {
    quoted(text, "the server could not store it, nothing was changed or sent: ", "")
        .map(|why| Refusal::NotStored { why })
        .or_else(|| {
            quoted(text, "the server could not read its history: ", "")
                .map(|why| Refusal::HistoryUnreadable { why })
        })
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.strip_prefix(before)?.strip_suffix(after)
}

/// What stands between `before` and `after`, if it is a `T`.
fn quoted<T: FromStr>(text: &str, before: &str, after: &str) -> Option<T> {
    between(text, before, after)?.parse().ok()
}

/// The reasons whose text has nothing in it that differs.
fn fixed(kind: Kind, text: &str) -> Option<Refusal> {
    let all: &[Refusal] = match kind {
        Kind::Malformed => &[
            Refusal::InvalidName(InvalidName::Empty),
            Refusal::InvalidName(InvalidName::TooLong),
            Refusal::InvalidName(InvalidName::Character),
            Refusal::InvalidName(InvalidName::Space),
            Refusal::InvalidName(InvalidName::Path),
            Refusal::UnfitName(UnfitName::Blank),
            Refusal::UnfitName(UnfitName::NotComposed),
            Refusal::InvalidKey(InvalidKey),
            Refusal::InviteWithoutUses,
            Refusal::InviteLifetime,
        ],
        Kind::Unauthorized => &[
            Refusal::NotServerAdmin,
            Refusal::RegistrationClosed,
            Refusal::InviteNeedsVersion2,
            Refusal::NameReserved,
            Refusal::KeyTaken,
            Refusal::UsersFull,
            Refusal::TooManyRegistrations,
            Refusal::SubscriptionEnded,
            Refusal::CreatorStays,
            Refusal::AdminBan,
            Refusal::LastMachine,
            Refusal::AlreadyRegistered,
            Refusal::UnknownKey,
            Refusal::KeyLength,
            Refusal::BadSignature,
            Refusal::OtherKey,
        ],
        Kind::NotFound => &[],
        Kind::Internal => &[Refusal::NoFreshToken],
    };
    all.iter().find(|refusal| refusal.to_string() == text).cloned()
}

/// Another server's reason, by its class.
fn foreign(kind: Kind, text: &str) -> Refusal {
    let code = match kind {
        Kind::Malformed => Code::InvalidArgument,
        Kind::Internal => Code::Internal,
        Kind::NotFound => {
            // Some servers send only the name that they did not find.
            let says_so = ["no ", "not "].iter().any(|word| text.contains(word));
            let text = if says_so { String::from(text) } else { alloc::format!("not found: {text}") };
            return Refusal::Other { code: Code::NotFound, text };
        }
        Kind::Unauthorized if ["rate limit", "too many"].iter().any(|begin| text.starts_with(begin)) => {
            Code::RateLimited
        }
        Kind::Unauthorized if text.starts_with("at most") => Code::QuotaExceeded,
        Kind::Unauthorized if own_words(text).contains("try again") => Code::Unavailable,
        Kind::Unauthorized if own_words(text).contains("enrolled already") => Code::FailedPrecondition,
        Kind::Unauthorized => Code::PermissionDenied,
    };
    Refusal::Other { code, text: String::from(text) }
}

/// The words that are the server's own for sure: those after the last quoted name.
fn own_words(text: &str) -> &str {
    text.rsplit('\'').next().unwrap_or(text)
}

#[cfg(test)]
mod tests;
