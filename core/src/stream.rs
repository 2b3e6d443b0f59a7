//! Streams: what version 2 adds to channels, and mailboxes. Every message has a sequence number in its stream; a session
//! subscribes from a position; readers report how far they have come.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::key::PublicKey;
use crate::name::{ChannelName, MachineName, SessionPath, UserName};
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{Stamped, Token};
use crate::record::{ChannelId, MachineId, Stamp, UserId};
use crate::sealed::{SealedCommand, SealedNotice, SealedReply};
use crate::time::UnixMillis;

/// The sender's number for a message: the same id from the same user in the same stream is the same message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub [u8; 16]);

impl MessageId {
    /// A UUID of version 7 (RFC 9562) of a moment and fresh random bytes: it grows with time, so that an index of many
    /// stays compact.
    pub fn at(now: UnixMillis, random: [u8; 10]) -> Self {
        let mut id = [0; 16];
        id[..6].copy_from_slice(&now.0.to_be_bytes()[2..]);
        id[6..].copy_from_slice(&random);
        id[6] = 0x70 | id[6] & 0x0f;
        id[8] = 0x80 | id[8] & 0x3f;
        Self(id)
    }
}

/// What a sender of version 2 gives with a message, relayed and stored as it came.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Signed {
    /// The message's id.
    pub id: MessageId,
    /// The machine's Ed25519 signature; the server does not check it, readers do.
    pub signature: Opaque<[u8; 64]>,
    /// Whether the sender asks for an acknowledgement.
    pub acknowledge: bool,
}

/// Where a message comes from: the sender as the server authenticated it, and what the sender gave with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The sender's identities. None for messages stored before the server kept them.
    pub sender: Option<(UserId, MachineId)>,
    /// None for messages that were posted by version 1.
    pub signed: Option<Arc<Signed>>,
    /// From when on the message is not delivered any more; `None`: never.
    pub expires: Option<UnixMillis>,
}

impl Origin {
    /// Whether the message is not delivered any more.
    pub fn has_expired(&self, wall: UnixMillis) -> bool {
        self.expires.is_some_and(|at| at <= wall)
    }
}

/// Names a stream in a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StreamRef {
    /// By the number that the server gave.
    Number(ChannelId),
    /// A channel, by its name.
    Channel(ChannelName),
    /// A mailbox, by whose it is.
    Mailbox(MailboxRef),
}

/// Says whose mailbox is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MailboxRef {
    /// The caller's user's.
    Mine,
    /// That of the caller's session, which must be kept.
    MySession,
    /// A user's.
    User(UserName),
    /// That of a session if it is kept. If it is online and not kept: its user's.
    Session(Box<SessionPath>),
}

/// How a user stands to another's mailboxes, as that one said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It may write, even if the two share no channel.
    Allowed,
    /// It may not write, nor whisper.
    Blocked,
}

/// A change of one's contacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContactChange {
    /// Let somebody write; lifts a block.
    Allow,
    /// Take an allowance back.
    Disallow,
    /// Let somebody not write; takes an allowance back.
    Block,
    /// Lift a block.
    Unblock,
}

/// A contact, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Contact {
    /// The user's name now.
    pub name: UserName,
    /// The user.
    pub user: UserId,
    /// How it stands.
    pub standing: Standing,
}

/// Where a subscription starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Start {
    /// With what is posted from now on.
    Latest,
    /// Right behind this sequence number.
    After(u64),
    /// Right behind the reader's `delivered` position.
    Cursor,
}

/// Which page of a stream to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageFrom {
    /// The messages right behind this sequence number.
    After(u64),
    /// The messages right before this sequence number.
    Before(u64),
}

/// What a session of version 2 asks about a stream. Each request is answered by one [`StreamReply`], or refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StreamCommand {
    /// Subscribe, or move a subscription to another position.
    Subscribe {
        /// The stream.
        stream: StreamRef,
        /// Where to start.
        from: Start,
        /// An invite to a private channel.
        invite: Option<Token>,
    },
    /// End a subscription.
    Unsubscribe {
        /// The stream.
        stream: StreamRef,
    },
    /// Read a page.
    Read {
        /// The stream.
        stream: StreamRef,
        /// Which page.
        from: PageFrom,
        /// Rows at most; the server has a bound of its own.
        limit: usize,
    },
    /// Post a message.
    Post {
        /// The stream.
        stream: StreamRef,
        /// What it says.
        payload: Payload,
        /// Its id and signature.
        signed: Arc<Signed>,
        /// How long it may be delivered; `None`: for as long as it is kept.
        lifetime: Option<Duration>,
    },
    /// Report how far the session's reader has come. Positions only move forward.
    Report {
        /// The stream.
        stream: StreamRef,
        /// Kept by the reader's program up to here.
        delivered: u64,
        /// Put before the reader up to here.
        seen: u64,
    },
    /// Confirm one message.
    Acknowledge {
        /// The stream.
        stream: StreamRef,
        /// The message.
        seq: u64,
        /// A word to its sender.
        word: Opaque<String>,
    },
    /// Ask who has a message.
    Receipts {
        /// The stream.
        stream: StreamRef,
        /// The message.
        seq: u64,
    },
    /// Start or stop notices about readers' positions.
    WatchReceipts {
        /// The stream.
        stream: StreamRef,
        /// Whether to start.
        on: bool,
    },
    /// Start or stop notices about who joins and leaves a channel.
    WatchPresence {
        /// The channel's stream.
        stream: StreamRef,
        /// Whether to start.
        on: bool,
    },
    /// Ask for the keys of a user's machines.
    Keys {
        /// The user.
        user: UserName,
    },
    /// Ask for a stream's number.
    Locate {
        /// The stream.
        stream: StreamRef,
    },
    /// Say who may write to one's mailboxes.
    SetContact {
        /// Whom it is about.
        user: UserName,
        /// What to change.
        change: ContactChange,
    },
    /// List whom one allowed and blocked.
    ListContacts,
    /// Set whether others learn how far one has come.
    SetReceipts {
        /// Whether they do.
        on: bool,
    },
    /// Take part in a sealed channel.
    Sealed(SealedCommand),
}

impl StreamCommand {
    /// A post that is not signed yet: whoever carries it to the server gives it an id and a signature.
    pub fn post(stream: StreamRef, payload: Payload) -> Self {
        let (id, signature) = (MessageId([0; 16]), Opaque([0; 64]));
        let signed = Signed { id, signature, acknowledge: false }.into();
        Self::Post { stream, payload, signed, lifetime: None }
    }

    /// The post, to be delivered for this long only.
    #[must_use]
    pub fn with_lifetime(mut self, wanted: Option<Duration>) -> Self {
        if let Self::Post { lifetime, .. } = &mut self {
            *lifetime = wanted;
        }
        self
    }

    /// A short, fixed word or two for logs: nothing of its content.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Subscribe { .. } => "subscribe",
            Self::Unsubscribe { .. } => "unsubscribe",
            Self::Read { .. } => "read",
            Self::Post { .. } => "post",
            Self::Report { .. } => "report",
            Self::Acknowledge { .. } => "acknowledge",
            Self::Receipts { .. } => "receipts",
            Self::WatchReceipts { .. } => "watch receipts",
            Self::WatchPresence { .. } => "watch presence",
            Self::Keys { .. } => "keys",
            Self::SetContact { change: ContactChange::Allow, .. } => "allow",
            Self::SetContact { change: ContactChange::Disallow, .. } => "disallow",
            Self::SetContact { change: ContactChange::Block, .. } => "block",
            Self::SetContact { change: ContactChange::Unblock, .. } => "unblock",
            Self::ListContacts => "contacts",
            Self::Locate { .. } => "locate",
            Self::SetReceipts { .. } => "set receipts",
            Self::Sealed(command) => command.kind(),
        }
    }
}

/// The answer to a [`StreamCommand`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StreamReply {
    /// Done; there is nothing to say about it.
    Done,
    /// The session is subscribed.
    Subscribed {
        /// The stream.
        stream: ChannelId,
        /// Deliveries start right behind this.
        after: u64,
        /// The stream's last sequence number.
        last: u64,
    },
    /// A page, oldest message first.
    Page {
        /// The stream.
        stream: ChannelId,
        /// The messages.
        messages: Vec<Stamped>,
        /// Whether there are more in the direction that was read.
        more: bool,
    },
    /// The message is durable.
    Stored {
        /// The stream.
        stream: ChannelId,
        /// The message's place.
        stamp: Stamp,
        /// For a mailbox: whether a session that reads it is subscribed to it now, or was handed a whisper.
        present: bool,
    },
    /// Who has a message.
    Receipts {
        /// The stream.
        stream: ChannelId,
        /// The message.
        seq: u64,
        /// The readers of the stream, in the order of their paths.
        readers: Vec<Receipt>,
    },
    /// The keys of a user's machines, in the order of the machines' names.
    Keys {
        /// The user.
        user: UserId,
        /// The machines.
        machines: Vec<MachineKey>,
    },
    /// Where a stream is.
    Located {
        /// The stream.
        stream: ChannelId,
        /// For a mailbox: as in [`StreamReply::Stored`].
        present: bool,
    },
    /// One's contacts, in the order of their names.
    Contacts(Vec<Contact>),
    /// About sealed channels.
    // Boxed, since it is large and rare: every delivery has the room of the largest reply.
    Sealed(Box<SealedReply>),
}

/// How a reader stands to one message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The reader.
    pub reader: Arc<SessionPath>,
    /// How far the message has come.
    pub state: ReceiptState,
    /// When the server learnt of it, if it knows.
    pub at: Option<UnixMillis>,
    /// The reader's word, if it acknowledged the message with one.
    pub word: Option<Opaque<String>>,
    /// Whether the reader's user has turned receipts off, so that the state says no more than that the message is stored,
    /// unless the reader acknowledged it.
    pub off: bool,
}

impl Receipt {
    /// Whether the reader has not come so far, as far as its user lets others know: an acknowledgement is always told.
    pub fn lacks(&self, wanted: ReceiptState) -> bool {
        self.state < wanted && (!self.off || wanted == ReceiptState::Acknowledged)
    }

    /// How far the message has come, in words.
    pub fn said(&self) -> &'static str {
        if self.off && self.state == ReceiptState::Stored { "does not tell" } else { self.state.as_str() }
    }
}

/// How far a message has come to a reader. Each state includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReceiptState {
    /// On the server's disk.
    Stored,
    /// The reader's program has it, and keeps it across a crash.
    Delivered,
    /// It was put before the reader.
    Seen,
    /// The reader confirmed it.
    Acknowledged,
}

impl ReceiptState {
    /// Its word, as it is shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Delivered => "delivered",
            Self::Seen => "seen",
            Self::Acknowledged => "acknowledged",
        }
    }
}

/// A machine's key, for those who check signatures.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MachineKey {
    /// The machine's name.
    pub name: MachineName,
    /// Its identity.
    pub id: MachineId,
    /// Its key.
    pub key: PublicKey,
    /// When it was enrolled.
    pub added: UnixMillis,
}

/// What a session of version 2 is sent without having asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// Messages from the store, for a subscription that is behind.
    Deliveries {
        /// The stream.
        stream: ChannelId,
        /// The messages, in order.
        messages: Vec<Stamped>,
    },
    /// The subscription has caught up.
    Live {
        /// The stream.
        stream: ChannelId,
        /// The last sequence number that was delivered or skipped.
        seq: u64,
    },
    /// The server does not keep these messages any more, or they have expired.
    Gap {
        /// The stream.
        stream: ChannelId,
        /// The first that is missing.
        from: u64,
        /// The last that is missing.
        to: u64,
    },
    /// A subscription ended.
    Ended {
        /// The stream.
        stream: ChannelId,
        /// Why.
        reason: EndReason,
    },
    /// A channel has another name.
    Renamed {
        /// The stream.
        stream: ChannelId,
        /// Its name from now on.
        name: ChannelName,
    },
    /// Readers of a watched stream came further.
    ReceiptsMoved {
        /// The stream.
        stream: ChannelId,
        /// Where they stand now. Shared by all who watch.
        readers: Arc<Vec<Position>>,
    },
    /// Sessions joined or left a watched channel.
    PresenceChanged {
        /// The stream.
        stream: ChannelId,
        /// Who. Shared by all who watch.
        comings: Arc<Comings>,
    },
    /// A machine was added to the session's user.
    MachineAdded(MachineKey),
    /// The server is about to stop.
    Draining,
    /// About a sealed channel.
    Sealed(SealedNotice),
}

/// Who joined and left a channel since it was told last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Comings {
    /// The sessions that joined.
    pub joined: Vec<Arc<SessionPath>>,
    /// The sessions that left.
    pub left: Vec<Arc<SessionPath>>,
    /// There were too many to name them.
    pub many: bool,
}

/// Why a subscription ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The session was kicked.
    Kicked,
    /// The user was banned.
    Banned,
    /// The user is no longer a member.
    Removed,
    /// The channel was deleted.
    Deleted,
    /// The server could not read its store: subscribe again later.
    Unavailable,
}

/// Where a reader stands in a stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The reader.
    pub reader: Arc<SessionPath>,
    /// The claims begin right behind this sequence number.
    pub since: u64,
    /// Delivered up to here.
    pub delivered: u64,
    /// Seen up to here.
    pub seen: u64,
    /// The message that the reader acknowledged last, and its word.
    pub acknowledged: Option<(u64, Opaque<String>)>,
}
