//! What goes into a link and what comes out.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::requests::{RequestError, RequestId};
use crate::handshake::HandshakeError;
use crate::key::SecretKey;
use crate::name::{ChannelName, Handle, SessionPath};
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{Command, Refusal, Reply, Token};
use crate::text::visible;
use crate::time::{Monotonic, UnixMillis};

/// Who a link is.
#[derive(Clone)]
pub struct Config {
    /// The session's handle.
    pub handle: Handle,
    /// True if no human chose the handle: it may then change when another session has it.
    pub defaulted: bool,
    /// The machine's key.
    pub key: SecretKey,
    /// Random bytes, for jitter and for hashes that nobody else can compute.
    pub seed: [u8; 32],
}

// The seed makes hashes that nobody else can compute.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("handle", &self.handle)
            .field("defaulted", &self.defaulted)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// From where on a channel is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinFrom {
    /// From the subscription on.
    Live,
    /// From after this stamp of the server's: history first.
    Since(UnixMillis),
}

/// What happens to a link.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// Begin.
    Start,
    /// [`super::Link::next_deadline`] has come.
    Tick,
    /// The connection that was asked for stands, up to and with WebSocket's own handshake.
    Dialed {
        /// The response's `x-conclave-server-id`, to be claimed in a [`super::ServerRegistry`] first.
        server_id: Option<&'a str>,
    },
    /// It could not be made; the text is shown.
    DialFailed(&'a str),
    /// A binary message came. Text messages, pings and pongs are not handed on.
    Message(Opaque<&'a [u8]>),
    /// The connection ended; the text is shown.
    Closed(&'a str),
    /// Ask the server.
    Request {
        /// Comes back with the answer.
        id: RequestId,
        /// What to ask; not `Join`, `Leave` or `Ping`.
        command: Command,
        /// Until then it waits for a connection and for the answer. Without one it fails at once when there is no
        /// connection, and waits for the answer as long as the connection lives.
        deadline: Option<Monotonic>,
    },
    /// Follow a channel, now and after every drop. For one that is followed already the server is asked once more, since
    /// version 1 tells nobody that a subscription has ended.
    Join {
        /// The channel.
        channel: ChannelName,
        /// An invite to it, given until the first answer.
        token: Option<Token>,
        /// From where on.
        from: JoinFrom,
    },
    /// Follow it no more. What was still to be handed on is not.
    Leave {
        /// The channel.
        channel: ChannelName,
    },
    /// Another link has this server: end for good, with this reason.
    Disable(&'a str),
    /// End for good.
    Stop,
}

/// What a shell must do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a connection, and answer with [`Input::Dialed`] or [`Input::DialFailed`].
    Dial,
    /// Send this as one binary message.
    Send(Opaque<Vec<u8>>),
    /// Close the connection, or give up making one. Of that one no input is handed on any more.
    Hangup,
    /// Hand on a message of a channel: each once, in the channel's order.
    Deliver {
        /// The channel.
        channel: ChannelName,
        /// Who posted it.
        from: SessionPath,
        /// What it says.
        payload: Payload,
        /// The server's stamp, if it came from the history.
        ts: Option<UnixMillis>,
    },
    /// Hand on a whisper.
    Whispered {
        /// Who whispered.
        from: SessionPath,
        /// What.
        payload: Payload,
    },
    /// A request is over; each is, exactly once.
    Replied {
        /// Which.
        id: RequestId,
        /// The answer; a refusal is one.
        result: Result<Reply, RequestError>,
    },
    /// Tell: the session lives.
    Up {
        /// Who we are there.
        path: SessionPath,
        /// Whether the user administrates the server.
        admin: bool,
        /// The server's id, if it told one.
        server_id: Option<String>,
    },
    /// Tell: the session is lost, or could not be had; the link goes on trying. Told once until the next `Up`.
    Down(DownReason),
    /// Tell: the user became or ceased to be the server's admin.
    Role {
        /// True for an admin.
        admin: bool,
    },
    /// Tell: the server took the subscription, for the first time or again.
    Joined {
        /// To which channel.
        channel: ChannelName,
    },
    /// Tell: the gap is filled. Whatever is posted from here on is handed on, whatever drops.
    CaughtUp {
        /// In which channel.
        channel: ChannelName,
    },
    /// Tell: the server does not take the subscription for now; it is asked again later, unless the channel is followed
    /// already and was asked for once more.
    Deferred {
        /// To which channel.
        channel: ChannelName,
        /// What the server says.
        reason: Refusal,
    },
    /// Tell: the channel is followed no more, or never was.
    Lost {
        /// Which.
        channel: ChannelName,
        /// What the server says.
        reason: Refusal,
    },
    /// Tell: messages come for a channel that is not followed; it may have been renamed.
    Stray {
        /// Which.
        channel: ChannelName,
    },
    /// Tell: another session has the handle; this one goes on under another.
    Renamed {
        /// What it was.
        from: Handle,
        /// What it is from now on.
        to: Handle,
    },
    /// Tell: another session has the handle that was chosen for this one, and both fight for it.
    Collision {
        /// The handle.
        handle: Handle,
    },
    /// Tell: the link has ended by [`Input::Disable`].
    Disabled(String),
    /// Tell: the server does not let this link in, and will not before somebody does something about it. It is tried
    /// again all the same, as after any drop; this is told once for each reason, until the link is up.
    Refused(Refused),
}

/// Why there is no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    /// No connection.
    #[error("cannot connect: {}", visible(.0))]
    Dial(String),
    /// The connection was not made in time.
    #[error("cannot connect: no answer within 10 seconds")]
    DialTimeout,
    /// The handshake failed in a way that may pass.
    #[error("{0}")]
    Handshake(HandshakeError),
    /// The handshake did not end in time.
    #[error("the server did not finish the handshake within 10 seconds")]
    HandshakeTimeout,
    /// The server ended the session and said why.
    #[error("the server ended the session: {}", visible(.0))]
    Ended(String),
    /// The connection ended.
    #[error("the connection ended: {}", visible(.0))]
    Closed(String),
    /// Nothing was heard, or a request was not answered, for a minute.
    #[error("the server was silent for a minute")]
    Silent,
    /// The server sent what it may not.
    #[error("the server broke the protocol: {0}")]
    Protocol(&'static str),
}

/// Why the server does not let a link in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The server does not know the key, or does not want it.
    #[error(
        "{0} (`conclave register` here, or `conclave machine add` on a machine of yours that the server knows)"
    )]
    Key(HandshakeError),
    /// The server speaks another version, or refuses what we say.
    #[error("{0}")]
    Protocol(HandshakeError),
}
