//! What a server's error text means to a link. Version 1 has four kinds of errors and words for the rest.

use super::api::Refused;
use crate::handshake::HandshakeError;
use crate::protocol::Refusal;

/// What an error with nothing but its text says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Another session took the path.
    Superseded,
    /// Any other end.
    Other,
}

/// Whether an error ends the connection, whatever is unanswered. Compared with the whole text where it is fixed:
/// a refusal may begin with a name that somebody chose.
pub(crate) fn ending(text: &str) -> Option<Ending> {
    if text.starts_with("session superseded") {
        return Some(Ending::Superseded);
    }
    let fixed = ["machine key revoked", "user removed", "server shutting down", "handshake timed out"];
    let begun = ["idle timeout", "slow consumer:"];
    (fixed.contains(&text) || text == "slow consumer" || begun.iter().any(|begin| text.starts_with(begin)))
        .then_some(Ending::Other)
}

/// The words of a refusal that are the server's own for sure: those after the name that it quotes, which somebody
/// chose.
pub fn own_words(text: &str) -> &str {
    text.rsplit('\'').next().unwrap_or(text)
}

/// Whether what was refused may succeed later, unchanged.
pub fn may_pass(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Internal(_) => true,
        Refusal::Unauthorized(text) => {
            let begins = ["rate limit", "too many", "server shutting down", "handshake timed out"];
            begins.iter().any(|begin| text.starts_with(begin)) || own_words(text).contains("try again")
        }
        Refusal::Malformed(_) | Refusal::NotFound(_) => false,
    }
}

/// Whether a handshake fails as long as nobody does something about it.
pub(super) fn lasting(error: &HandshakeError) -> Option<Refused> {
    let HandshakeError::Refused(refusal) = error else {
        let version = matches!(error, HandshakeError::VersionMismatch { .. });
        return version.then(|| Refused::Protocol(error.clone()));
    };
    match refusal {
        refusal if may_pass(refusal) => None,
        Refusal::Unauthorized(text) => {
            // A full house empties, a lost session comes back, and what ends a session is no verdict on its key.
            let passes = text.starts_with("at most") || ending(text).is_some_and(|_| !is_gone(text));
            (!passes).then(|| Refused::Key(error.clone()))
        }
        _ => Some(Refused::Protocol(error.clone())),
    }
}

fn is_gone(text: &str) -> bool {
    matches!(text, "machine key revoked" | "user removed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CloseReason;
    use alloc::string::{String, ToString as _};
    use core::time::Duration;

    #[test]
    fn every_end_that_the_server_decides_is_known_as_one() {
        assert_eq!(ending(&CloseReason::Superseded.to_string()), Some(Ending::Superseded));
        for reason in [
            CloseReason::KeyRevoked { own: false },
            CloseReason::UserRemoved { own: false },
            CloseReason::Idle { limit: Duration::from_secs(90) },
            CloseReason::SlowConsumer,
            CloseReason::Shutdown,
            CloseReason::HandshakeTimeout,
        ] {
            assert_eq!(ending(&reason.to_string()), Some(Ending::Other), "{reason}");
        }
    }

    #[test]
    fn a_refusal_about_somebody_of_a_strange_name_ends_nothing() {
        for text in ["user removed is not online", "no such channel: idle", "user removed/m/s is not online"]
        {
            assert_eq!(ending(text), None);
        }
    }

    #[test]
    fn a_name_in_a_refusal_promises_nothing() {
        let refusal = |text: &str| Refusal::Unauthorized(String::from(text));
        assert!(may_pass(&refusal("rate limit: try again in 20 ms")));
        assert!(!may_pass(&refusal("this session is not in 'try again': join it first")));
    }

    #[test]
    fn only_what_cannot_pass_lasts() {
        let unauthorized = |text: &str| HandshakeError::Refused(Refusal::Unauthorized(String::from(text)));
        assert!(matches!(lasting(&unauthorized("unknown key")), Some(Refused::Key(_))));
        assert!(matches!(
            lasting(&HandshakeError::VersionMismatch { ours: 1, theirs: 2 }),
            Some(Refused::Protocol(_))
        ));
        for text in [
            "server shutting down",
            "handshake timed out",
            "too many failed authentications from this address: try again in a minute",
            "at most 64 live sessions of a user: remove one first",
            "session superseded by a newer connection with the same path",
        ] {
            assert_eq!(lasting(&unauthorized(text)), None, "{text}");
        }
        for text in ["machine key revoked", "user removed"] {
            assert!(matches!(lasting(&unauthorized(text)), Some(Refused::Key(_))), "{text}");
        }
        assert_eq!(lasting(&HandshakeError::Refused(Refusal::Internal(String::new()))), None);
        assert_eq!(lasting(&HandshakeError::Malformed), None);
    }
}
