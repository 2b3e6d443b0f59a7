//! What a server's error text means to a link. Version 1 has four kinds of errors and words for the rest.

use super::api::Fatal;
use super::handshake::HandshakeError;
use crate::protocol::Refusal;

/// What an error with nothing but its text says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Another session took the path.
    Superseded,
    /// Any other end.
    Other,
}

/// Whether an error ends the connection, whatever is unanswered. Compared with the whole text where it is fixed:
/// a refusal may begin with a name that somebody chose.
pub(super) fn ending(text: &str) -> Option<Ending> {
    if text.starts_with("session superseded") {
        return Some(Ending::Superseded);
    }
    let fixed = ["machine key revoked", "user removed", "server shutting down", "handshake timed out"];
    let begun = ["idle timeout", "slow consumer:"];
    (fixed.contains(&text) || text == "slow consumer" || begun.iter().any(|begin| text.starts_with(begin)))
        .then_some(Ending::Other)
}

/// Whether what was refused may succeed later, unchanged.
pub(super) fn may_pass(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Internal(_) => true,
        Refusal::Unauthorized(text) => {
            let hints =
                ["try again", "too many", "rate limit", "shutting down", "timed out", "superseded", "idle"];
            hints.iter().any(|hint| text.contains(hint))
        }
        Refusal::Malformed(_) | Refusal::NotFound(_) => false,
    }
}

/// Whether trying the handshake again cannot help.
pub(super) fn fatal(error: &HandshakeError) -> Option<Fatal> {
    match error {
        HandshakeError::VersionMismatch { .. } => Some(Fatal::Refused(error.clone())),
        HandshakeError::Refused(refusal) if may_pass(refusal) => None,
        HandshakeError::Refused(Refusal::Malformed(_)) => Some(Fatal::Refused(error.clone())),
        HandshakeError::Refused(_) => Some(Fatal::Key(error.clone())),
        HandshakeError::Challenge(_) | HandshakeError::Unexpected(_) | HandshakeError::Malformed => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CloseReason;
    use alloc::string::{String, ToString as _};

    #[test]
    fn every_end_that_the_server_decides_is_known_as_one() {
        assert_eq!(ending(&CloseReason::Superseded.to_string()), Some(Ending::Superseded));
        for reason in [
            CloseReason::KeyRevoked,
            CloseReason::UserRemoved,
            CloseReason::Idle,
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
    fn only_what_cannot_pass_is_fatal() {
        let unauthorized = |text: &str| HandshakeError::Refused(Refusal::Unauthorized(String::from(text)));
        assert!(matches!(fatal(&unauthorized("unknown key")), Some(Fatal::Key(_))));
        assert!(matches!(fatal(&HandshakeError::VersionMismatch { theirs: 2 }), Some(Fatal::Refused(_))));
        for text in ["server shutting down", "handshake timed out", "too many failures, try again in 5 s"] {
            assert_eq!(fatal(&unauthorized(text)), None, "{text}");
        }
        assert_eq!(fatal(&HandshakeError::Refused(Refusal::Internal(String::new()))), None);
        assert_eq!(fatal(&HandshakeError::Malformed), None);
    }
}
