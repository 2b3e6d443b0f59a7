//! Why a connection ends: [`CloseReason`] as the server decides it, [`End`] as a client understands it.

use core::time::Duration;

use super::Refusal;

/// Why the server ends a connection. `Display` is the text that the client receives.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CloseReason {
    /// The same path connected anew.
    #[error("session superseded by a newer connection with the same path")]
    Superseded,
    /// The machine was removed.
    #[error("machine key revoked")]
    KeyRevoked {
        /// The session asked for it itself.
        own: bool,
    },
    /// The user was removed.
    #[error("user removed")]
    UserRemoved {
        /// The session asked for it itself.
        own: bool,
    },
    /// Nothing was received for too long.
    #[error("idle timeout: nothing was heard from this session for {} seconds", limit.as_secs())]
    Idle {
        /// How long that is.
        limit: Duration,
    },
    /// The session does not read what it is sent.
    #[error("slow consumer: this session reads more slowly than it is sent to")]
    SlowConsumer,
    /// The server stops.
    #[error("server shutting down")]
    Shutdown,
    /// The handshake took too long.
    #[error("handshake timed out")]
    HandshakeTimeout,
    /// The connection did not become a session.
    #[error("{0}")]
    Refused(Refusal),
    /// The peer speaks another version.
    #[error("protocol version {theirs} is not spoken here")]
    Version {
        /// The peer's version.
        theirs: u32,
    },
    /// The peer broke the protocol: a message that cannot be decoded, or one out of place.
    #[error("{0}")]
    Malformed(&'static str),
}

impl CloseReason {
    /// Whether messages still queued for the peer are dropped. The server does not wait for a slow consumer. A session
    /// that was removed receives nothing more, unless it removed itself: then it gets the confirmation.
    pub fn cuts_off(&self) -> bool {
        matches!(
            self,
            Self::SlowConsumer | Self::KeyRevoked { own: false } | Self::UserRemoved { own: false }
        )
    }

    /// A short, fixed word for metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::KeyRevoked { .. } => "key_revoked",
            Self::UserRemoved { .. } => "user_removed",
            Self::Idle { .. } => "idle",
            Self::SlowConsumer => "slow_consumer",
            Self::Shutdown => "shutdown",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Refused(_) => "refused",
            Self::Version { .. } => "version",
            Self::Malformed(_) => "malformed",
        }
    }
}

/// Why a server ended a connection, as far as a client can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// A newer connection took the session's path.
    Superseded,
    /// The machine was removed from its user.
    KeyRevoked,
    /// The user was removed from the server.
    UserRemoved,
    /// The server received nothing for too long.
    Idle,
    /// The session read too slowly.
    SlowConsumer,
    /// The server stops.
    Shutdown,
    /// The handshake took too long.
    HandshakeTimeout,
}

impl End {
    /// Whether the same key may connect again. If not, somebody has to enrol it first.
    pub fn may_reconnect(self) -> bool {
        !matches!(self, Self::KeyRevoked | Self::UserRemoved)
    }
}
