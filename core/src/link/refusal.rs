//! Which failed handshakes keep failing until somebody does something about them.

use super::api::Refused;
use crate::handshake::HandshakeError;
use crate::protocol::Code;

/// Why every further handshake will fail, or `None` if one may succeed.
pub(super) fn lasting(error: &HandshakeError) -> Option<Refused> {
    match error {
        HandshakeError::Refused(refusal) => match refusal.code() {
            // A user with too many sessions loses one sooner or later.
            Code::RateLimited | Code::QuotaExceeded | Code::Unavailable | Code::Internal => None,
            Code::InvalidArgument | Code::NotFound => Some(Refused::Protocol(error.clone())),
            Code::PermissionDenied
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::WrongEpoch
            | Code::RemovalsDue
            | Code::Unauthenticated => Some(Refused::Key(error.clone())),
        },
        // What ends a session says nothing about its key, unless the key itself was removed.
        HandshakeError::Ended { end, .. } => (!end.may_reconnect()).then(|| Refused::Key(error.clone())),
        HandshakeError::VersionMismatch { .. } => Some(Refused::Protocol(error.clone())),
        HandshakeError::ServerKeyChanged { .. } => Some(Refused::ServerKey(error.clone())),
        HandshakeError::Challenge(_)
        | HandshakeError::ServerNotProven
        | HandshakeError::Unexpected(_)
        | HandshakeError::Malformed => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{End, Limit, Refusal};
    use alloc::string::String;
    use core::time::Duration;

    #[test]
    fn only_what_cannot_pass_lasts() {
        let refused = |refusal| lasting(&HandshakeError::Refused(refusal));
        let other = |code| Refusal::Other { code, text: String::new() };
        for refusal in [Refusal::UnknownKey, other(Code::PermissionDenied), other(Code::Unauthenticated)] {
            assert!(matches!(refused(refusal.clone()), Some(Refused::Key(_))), "{refusal}");
        }
        for refusal in [other(Code::InvalidArgument), other(Code::NotFound)] {
            assert!(matches!(refused(refusal.clone()), Some(Refused::Protocol(_))), "{refusal}");
        }
        for refusal in [
            Refusal::TooFast { wait: Duration::from_millis(20) },
            Refusal::Full { limit: Limit::UserSessions, most: 64 },
            other(Code::RateLimited),
            other(Code::QuotaExceeded),
            other(Code::Unavailable),
            other(Code::Internal),
        ] {
            assert_eq!(refused(refusal.clone()), None, "{refusal}");
        }
        assert!(matches!(
            lasting(&HandshakeError::VersionMismatch { ours: 1, theirs: 2 }),
            Some(Refused::Protocol(_))
        ));
        assert_eq!(lasting(&HandshakeError::Malformed), None);
    }

    #[test]
    fn an_end_lasts_only_if_the_key_was_removed() {
        let ended = |end| lasting(&HandshakeError::Ended { end, text: String::new() });
        for end in [End::KeyRevoked, End::UserRemoved] {
            assert!(matches!(ended(end), Some(Refused::Key(_))), "{end:?}");
        }
        for end in [End::Superseded, End::Idle, End::SlowConsumer, End::Shutdown, End::HandshakeTimeout] {
            assert_eq!(ended(end), None, "{end:?}");
        }
    }
}
