//! What goes into a link and what comes out.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::requests::{RequestError, RequestId};
use crate::handshake::HandshakeError;
use crate::key::{PublicKey, SecretKey};
use crate::name::{ChannelName, Handle, SessionPath, UserName};
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{Command, Refusal, Reply, Token};
use crate::record::{ChannelId, MachineId, UserId};
use crate::sealed::SealedNotice;
use crate::stream::{Comings, EndReason, Origin, Position};
use crate::text::visible;
use crate::time::{Monotonic, UnixMillis};
use crate::wire::client::KeyUse;
use alloc::sync::Arc;

/// Who a link is.
#[derive(Clone)]
pub struct Config {
    /// The session's handle.
    pub handle: Handle,
    /// True if no human chose the handle: it may then change when another session has it.
    pub defaulted: bool,
    /// The machine's key.
    pub key: SecretKey,
    /// Random bytes, used for this link alone: for jitter, nonces, message ids, and hashes that nobody else can compute.
    pub seed: [u8; 32],
    /// How version 2 is spoken. `None`: only version 1 is.
    pub newest: Option<Newest>,
}

/// How a link speaks version 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    /// The server's key, if it is known: any other key is refused, and so is version 1.
    pub pinned: Option<PublicKey>,
    /// Which of this machine's keys the server knows.
    pub key: KeyUse,
    /// Whether the server keeps positions for the handle.
    pub keep: bool,
}

/// A version of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Version 1.
    V1,
    /// Version 2, in binary messages: the subprotocol `conclave.v2`.
    V2,
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
    /// From after this message of this very stream, whatever it is called by now. On a server of version 1, as `Live`.
    After {
        /// The stream.
        stream: ChannelId,
        /// The last message that is not to be handed on.
        seq: u64,
    },
}

/// A mailbox of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnMailbox {
    /// The user's, which all of its sessions read.
    User,
    /// That of this session, which must be kept.
    Session,
}

/// Where a message lies, and what its sender gave with it. Version 1 tells nothing of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The stream.
    pub stream: ChannelId,
    /// Its number in the stream.
    pub seq: u64,
    /// The sender's identities, the message's id and its signature.
    pub origin: Origin,
    /// What the signature is worth.
    pub proof: Proof,
}

/// What a message's signature proves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// There is none: a program of version 1 posted it. The server's word is all there is.
    #[default]
    Unsigned,
    /// The sender's machine signed it for this place.
    Verified,
    /// The sender's machine did not sign this: the message was forged, altered or moved here.
    Forged,
    /// The server has no key of the sender's machine to check it with: it may have been removed.
    Unchecked,
}

impl Proof {
    /// Its word, as it is shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Verified => "verified",
            Self::Forged => "forged",
            Self::Unchecked => "unchecked",
        }
    }
}

/// Why a channel is followed no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The server refused the subscription.
    Refused(Refusal),
    /// The server ended it.
    Ended(EndReason),
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Ended(reason) => f.write_str(match reason {
                EndReason::Kicked => "this session was kicked",
                EndReason::Banned => "this user was banned",
                EndReason::Removed => "this user is no longer a member",
                EndReason::Deleted => "the channel was deleted",
                EndReason::Unavailable => "the server cannot read its history",
            }),
        }
    }
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
        /// The response's `x-conclave-server-id`.
        server_id: Option<&'a str>,
    },
    /// It could not be made; the text is shown.
    DialFailed(&'a str),
    /// The server is there, but does not speak the version that was asked for.
    VersionRefused,
    /// A binary message came. Text messages, pings and pongs are not handed on.
    Message(Opaque<&'a [u8]>),
    /// The connection ended; the text is shown.
    Closed(&'a str),
    /// Ask the server.
    Request {
        /// Comes back with the answer.
        id: RequestId,
        /// What to ask; not `Join`, `Leave` or `Ping`. `Post`, `Whisper` and `ReadSince` are put into the version that is
        /// spoken. A post or a
        /// commit to a stream by its name is signed, and given an id unless it has one: what is sealed anew keeps its id.
        command: Command,
        /// Until then it waits for a connection and for the answer. Without one it fails at once when there is no
        /// connection, and waits for the answer as long as the connection lives.
        deadline: Option<Monotonic>,
    },
    /// The key of a sender's machine, as the application knows it: no other is accepted.
    Pin {
        /// The user.
        user: UserId,
        /// The machine.
        machine: MachineId,
        /// Its key.
        key: PublicKey,
    },
    /// The reader has come so far in a stream. Only forward; the server is told, also after a drop.
    Report {
        /// The stream.
        stream: ChannelId,
        /// The program keeps everything up to here, even if it is killed.
        delivered: u64,
        /// Everything up to here was put before the reader.
        seen: u64,
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
    /// Read a mailbox of our own, now and after every drop. Version 1 has none.
    Open {
        /// Which.
        mailbox: OwnMailbox,
        /// Its stream, and the last message that is not to be handed on. `None`: from what the server knows to be
        /// delivered, or from the first message.
        after: Option<(ChannelId, u64)>,
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
    /// Make a connection for this version, and answer with [`Input::Dialed`], [`Input::DialFailed`] or
    /// [`Input::VersionRefused`].
    Dial(Version),
    /// Send this as one binary message.
    Send(Opaque<Vec<u8>>),
    /// Close the connection, or give up making one. Of that one no input is handed on any more.
    Hangup,
    /// Hand on a message of a channel or of a mailbox: each once, in its order there. Own messages are passed over
    /// ([`Action::Passed`]), but for commits, which are applied when they come back.
    Deliver {
        /// The channel; `None` for a mailbox.
        channel: Option<ChannelName>,
        /// Who posted it.
        from: SessionPath,
        /// What it says.
        payload: Payload,
        /// The server's stamp, if it is known: by version 1 only for what came from the history.
        ts: Option<UnixMillis>,
        /// Where it lies, by version 2.
        place: Option<Place>,
    },
    /// Messages of a stream that are not handed on: own ones, or purged ones. The position is behind them.
    Passed {
        /// The channel; `None` for a mailbox.
        channel: Option<ChannelName>,
        /// The stream.
        stream: ChannelId,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
        /// True if the server does not keep them any more.
        purged: bool,
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
        /// Our user's number there, which version 2 tells.
        user: Option<UserId>,
        /// Whether the user administrates the server.
        admin: bool,
        /// The server's id, if it told one.
        server_id: Option<String>,
        /// The server's key, which version 2 proves.
        server_key: Option<PublicKey>,
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
        /// Its stream, and the message behind which it is handed on, by version 2.
        position: Option<(ChannelId, u64)>,
    },
    /// Tell: a mailbox is being read.
    Opened {
        /// Which.
        mailbox: OwnMailbox,
        /// Its stream, and the message behind which it is handed on.
        position: Option<(ChannelId, u64)>,
    },
    /// Tell: the gap is filled. Whatever is posted from here on is handed on, whatever drops.
    CaughtUp {
        /// In which channel.
        channel: ChannelName,
    },
    /// Tell: everything that waited in a mailbox is handed on.
    MailboxCaughtUp {
        /// Which.
        mailbox: OwnMailbox,
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
        /// Why.
        why: Loss,
    },
    /// Tell: a followed channel has another name. It is the same one, and is followed on.
    ChannelRenamed {
        /// Its stream.
        stream: ChannelId,
        /// What it was called.
        from: ChannelName,
        /// What it is called now.
        to: ChannelName,
    },
    /// Tell: the key of a machine that was heard for the first time, to be pinned.
    SenderKey {
        /// The user.
        user: UserId,
        /// The user's name, as the server tells it.
        name: UserName,
        /// The machine.
        machine: MachineId,
        /// Its key.
        key: PublicKey,
    },
    /// Tell: readers of a stream whose receipts are watched came further.
    ReceiptsMoved {
        /// The stream.
        stream: ChannelId,
        /// Where they stand now.
        readers: Arc<Vec<Position>>,
    },
    /// Tell: sessions joined or left a channel whose presence is watched.
    PresenceChanged {
        /// The channel's stream.
        stream: ChannelId,
        /// Who.
        comings: Arc<Comings>,
    },
    /// Tell: something about a sealed channel.
    Sealed(SealedNotice),
    /// Tell: messages come for a channel that is not followed; it may have been renamed. Version 1 only.
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
    /// The server has another key than the one that is pinned.
    #[error("{0}")]
    ServerKey(HandshakeError),
    /// The server's key is pinned, and the server does not prove it.
    #[error(
        "the server proved its key before and does not now: it speaks version 1 only, or somebody sits in between"
    )]
    Downgrade,
}
