//! What a handshake decides, whichever version of the wire it was held in.

use alloc::string::{String, ToString as _};
use core::time::Duration;

use crate::key::PublicKey;
use crate::name::{Handle, MachineName, SessionPath, UserName};
use crate::protocol::{End, Refusal, Token};
use crate::record::UserId;
use crate::text::visible;

/// How long a handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest message before authentication, in bytes.
pub const MAX_HANDSHAKE_FRAME: usize = 4096;

/// What a new user claims: its name, and one for its first machine. The same at both ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The user name to be claimed.
    pub user: UserName,
    /// The name for the machine whose key was proven.
    pub machine: MachineName,
    /// What an admin of the server gave the user to register with. Version 1 has no place for it.
    pub invite: Option<Token>,
}

/// What a finished handshake proved to the server: the peer holds this key. Whether the key is enrolled is the hub's to
/// say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proven {
    /// The key whose possession was proven.
    pub key: PublicKey,
    /// The handle that the session asks for.
    pub session: Handle,
    /// Set if the peer registers.
    pub claim: Option<Claim>,
    /// How the session is served.
    pub terms: Terms,
}

/// How a session is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Terms {
    /// How deliveries to it are encoded.
    pub format: Format,
    /// Whether its positions outlive the connection.
    pub keep: bool,
}

/// How deliveries to a session are encoded. Sessions of one format share the encoded bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// Version 1.
    #[default]
    V1,
    /// Version 2, protobuf.
    V2,
    /// Version 2, JSON.
    V2Json,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::V1, Self::V2, Self::V2Json];

    /// Whether a session that takes deliveries too slowly reads them from the store later. Version 1 has no positions: such
    /// a session is dropped.
    pub const fn resumes(self) -> bool {
        !matches!(self, Self::V1)
    }
}

/// A session that a server has established, as the client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Established {
    /// Who we are there.
    pub path: SessionPath,
    /// Our user's number there, which version 2 tells.
    pub user: Option<UserId>,
    /// Whether the user administrates the server.
    pub admin: bool,
    /// The server's key, which version 2 proves.
    pub server_key: Option<PublicKey>,
}

/// Why a client's handshake ended without a session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The server speaks another version.
    #[error("the server speaks protocol version {theirs}, this program {ours}: update the older of the two")]
    VersionMismatch {
        /// What this program speaks.
        ours: u32,
        /// What the server speaks.
        theirs: u32,
    },
    /// The server refused the session. The text is the server's.
    #[error("the server refused the session: {}", visible(&.0.to_string()))]
    Refused(Refusal),
    /// The server ended the connection before there was a session.
    #[error("the server refused the session: {}", visible(text))]
    Ended {
        /// Why.
        end: End,
        /// The server's text.
        text: String,
    },
    /// The server's signature does not prove its key.
    #[error("the server could not prove its key: somebody may sit between you and it")]
    ServerNotProven,
    /// The server has another key than the one that is pinned.
    #[error(
        "the server's key has changed: it was {pinned}, now it is {found}. Somebody may sit between you and it"
    )]
    ServerKeyChanged {
        /// The key that was expected.
        pinned: PublicKey,
        /// The key that the server proved.
        found: PublicKey,
    },
    /// The server's challenge is not 32 bytes long.
    #[error("the server sent a challenge of {0} bytes instead of 32")]
    Challenge(usize),
    /// The server sent a frame that has no place here; its name.
    #[error("the server sent an unexpected {0} during the handshake")]
    Unexpected(&'static str),
    /// The server sent bytes that are no frame.
    #[error("the server sent what is no frame: is it a conclave server?")]
    Malformed,
}
