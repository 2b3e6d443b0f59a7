//! What is made durable. The directory is a fold over records; the store keeps them; a batch of them happens
//! whole or not at all.

use alloc::string::String;
use alloc::sync::Arc;

use crate::audit::Deed;
use crate::directory::{FreedName, Held, TokenHash, Waiting};
use crate::key::PublicKey;
use crate::name::{ChannelName, Handle, MachineName, SessionPath, UserName};
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{Token, Visibility};
use crate::sealed::{Blob, NewGroup, RosterEntry};
use crate::stream::{MessageId, Origin, Standing};
use crate::time::UnixMillis;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// A number of the server's own, counted up and never given twice: names are attributes, so that who
        /// takes a freed name is nobody's heir.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);
    )*};
}

ids! {
    /// A user's identity.
    UserId;
    /// A machine's identity.
    MachineId;
    /// A stream's identity: a channel's or a mailbox's.
    ChannelId;
    /// A reader's identity.
    ReaderId;
}

/// A message's place in its channel: the sequence is contiguous from 1, the stamp strictly increases with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The message's number in its channel.
    pub seq: u64,
    /// The server's clock when it took the message.
    pub ts: UnixMillis,
}

/// How far a reader has come in a channel. It claims nothing about messages up to `since`: those were skipped, or the
/// reader was not there yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The claims begin right behind this sequence number.
    pub since: u64,
    /// The reader's program keeps everything up to here.
    pub delivered: u64,
    /// When the server learnt of that.
    pub delivered_at: UnixMillis,
    /// Everything up to here was put before the reader; never more than `delivered`.
    pub seen: u64,
    /// When the server learnt of that.
    pub seen_at: UnixMillis,
}

/// The commit that began the epoch of a sealed channel's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LastCommit {
    /// Who posted it.
    pub user: UserId,
    /// Its sender's number for it.
    pub id: MessageId,
    /// Its place in the channel.
    pub stamp: Stamp,
}

/// A reader's confirmation of one message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ack {
    /// The message.
    pub seq: u64,
    /// A word to its sender; may be empty.
    pub word: Opaque<String>,
    /// When.
    pub at: UnixMillis,
}

/// One durable fact.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// A user exists.
    UserAdded {
        /// Its identity, the next one free.
        user: UserId,
        /// Its name.
        name: UserName,
        /// When.
        at: UnixMillis,
    },
    /// A user, its machines, memberships and bans are gone. The channels that it created go by records of
    /// their own, before this one.
    UserRemoved {
        /// Who.
        user: UserId,
    },
    /// A machine is enrolled.
    MachineAdded {
        /// Its identity, the next one free.
        machine: MachineId,
        /// Whose it is.
        user: UserId,
        /// Its name.
        name: MachineName,
        /// Its key.
        key: PublicKey,
        /// When.
        at: UnixMillis,
    },
    /// A machine's key is revoked.
    MachineRemoved {
        /// Whose it was.
        user: UserId,
        /// Which.
        machine: MachineId,
    },
    /// A channel exists; its creator is a member by a record of its own.
    ChannelCreated {
        /// Its identity, the next one free.
        channel: ChannelId,
        /// Its name.
        name: ChannelName,
        /// Its visibility.
        visibility: Visibility,
        /// Its admin.
        creator: UserId,
        /// When.
        at: UnixMillis,
        /// Its newest message; all zero for a new channel.
        last: Stamp,
    },
    /// A channel, its members, bans, invites and messages are gone.
    ChannelDeleted {
        /// Which.
        channel: ChannelId,
    },
    /// A channel has another name.
    ChannelRenamed {
        /// Which.
        channel: ChannelId,
        /// Its name from now on.
        name: ChannelName,
    },
    /// A channel has another visibility.
    VisibilitySet {
        /// Which.
        channel: ChannelId,
        /// Its visibility from now on.
        visibility: Visibility,
    },
    /// A user is a member.
    MemberAdded {
        /// Of which channel.
        channel: ChannelId,
        /// Who.
        user: UserId,
    },
    /// A user is no longer a member.
    MemberRemoved {
        /// Of which channel.
        channel: ChannelId,
        /// Who.
        user: UserId,
    },
    /// A user is banned.
    Banned {
        /// From which channel.
        channel: ChannelId,
        /// Who.
        user: UserId,
    },
    /// A ban is lifted.
    Unbanned {
        /// From which channel.
        channel: ChannelId,
        /// Who.
        user: UserId,
    },
    /// An invite exists.
    InviteCreated {
        /// To which channel.
        channel: ChannelId,
        /// Its secret.
        token: Token,
        /// How often it may be used; `None`: any number of times.
        uses: Option<u32>,
        /// From when on it is worth nothing; `None`: never.
        expires: Option<UnixMillis>,
        /// When; invites are listed in this order.
        at: UnixMillis,
    },
    /// An invite was used once; the last use ends it.
    InviteUsed {
        /// To which channel.
        channel: ChannelId,
        /// Its secret.
        token: Token,
    },
    /// An invite is gone.
    InviteRevoked {
        /// To which channel.
        channel: ChannelId,
        /// Its secret.
        token: Token,
    },
    /// An invite to the server exists: who holds its secret may register.
    UserInviteCreated {
        /// What its secret hashes to.
        invite: TokenHash,
        /// The server admin who made it.
        by: UserId,
        /// How often it may be used; `None`: any number of times.
        uses: Option<u32>,
        /// From when on it is worth nothing; `None`: never.
        expires: Option<UnixMillis>,
        /// When; invites are listed in this order.
        at: UnixMillis,
    },
    /// An invite to the server was used once; the last use ends it.
    UserInviteUsed {
        /// Which.
        invite: TokenHash,
    },
    /// An invite to the server is gone.
    UserInviteRevoked {
        /// Which.
        invite: TokenHash,
    },
    /// A message was posted.
    Posted {
        /// To which channel.
        channel: ChannelId,
        /// Its place there: the one behind the channel's last.
        stamp: Stamp,
        /// Who posted it, as they were called then.
        from: Arc<SessionPath>,
        /// What it says.
        payload: Arc<Payload>,
        /// Where it comes from.
        origin: Origin,
    },
    /// A session's handle is kept: its positions outlive its connections.
    ReaderAdded {
        /// Its identity, the next one free.
        reader: ReaderId,
        /// The user.
        user: UserId,
        /// The machine.
        machine: MachineId,
        /// The handle.
        handle: Handle,
        /// When.
        at: UnixMillis,
    },
    /// A reader stands here now.
    CursorMoved {
        /// The reader.
        reader: ReaderId,
        /// In which channel.
        channel: ChannelId,
        /// Where it stands.
        cursor: Cursor,
    },
    /// A reader confirmed a message.
    Acknowledged {
        /// The reader.
        reader: ReaderId,
        /// In which channel.
        channel: ChannelId,
        /// What it confirmed.
        ack: Ack,
    },
    /// A mailbox exists. Its number is a channel's: all streams are counted together.
    MailboxCreated {
        /// Its identity, the next one free.
        mailbox: ChannelId,
        /// Whose it is.
        user: UserId,
        /// The kept session that it belongs to; `None` for the user's own.
        reader: Option<ReaderId>,
        /// When.
        at: UnixMillis,
        /// Its newest message; all zero for a new mailbox.
        last: Stamp,
    },
    /// A message that was posted to a mailbox waits there for its reader, until a position moves past it. What ended
    /// before this one's stamp waits no more.
    MessageWaits {
        /// Where.
        mailbox: ChannelId,
        /// Which message.
        waiting: Waiting,
    },
    /// A user set whether others learn how far its sessions have come.
    ReceiptsSet {
        /// Who.
        user: UserId,
        /// Whether they do.
        on: bool,
    },
    /// A user allowed or blocked another, or took that back.
    ContactSet {
        /// Who.
        user: UserId,
        /// Whom.
        other: UserId,
        /// How the other stands to the user's mailboxes from now on.
        standing: Option<Standing>,
        /// Whether the other has written to one of them since.
        wrote: bool,
    },
    /// A name that is given up is held back.
    NameHeld {
        /// Which.
        name: FreedName,
        /// For whom, and until when.
        held: Held,
    },
    /// A name is held back no longer.
    NameReleased {
        /// Which.
        name: FreedName,
    },
    /// A channel is sealed. Its creator's machine joins the group by a record of its own.
    GroupCreated {
        /// The channel.
        channel: ChannelId,
        /// The group's suite and id.
        group: NewGroup,
        /// Its epoch; 0 for a new group.
        epoch: u64,
        /// Its GroupInfo; empty for a new group.
        info: Blob,
        /// The commit that began the epoch; none for a new group.
        last: Option<LastCommit>,
    },
    /// A group is in its next epoch. The commit is a message of its own, before this record.
    GroupAdvanced {
        /// The channel.
        channel: ChannelId,
        /// The epoch from now on.
        epoch: u64,
        /// The GroupInfo of that epoch.
        info: Blob,
        /// The commit.
        last: LastCommit,
    },
    /// A machine is in a group.
    GroupJoined {
        /// The channel.
        channel: ChannelId,
        /// Whose it is.
        user: UserId,
        /// Which.
        machine: MachineId,
    },
    /// A machine is no longer in a group.
    GroupLeft {
        /// The channel.
        channel: ChannelId,
        /// Which.
        machine: MachineId,
    },
    /// A welcome waits for a machine, in place of one that waited there before.
    WelcomeKept {
        /// The channel.
        channel: ChannelId,
        /// Whose machine it is for.
        user: UserId,
        /// The machine.
        machine: MachineId,
        /// The epoch that it leads to.
        epoch: u64,
        /// The welcome.
        welcome: Blob,
    },
    /// A welcome was processed.
    WelcomeDropped {
        /// The channel.
        channel: ChannelId,
        /// For which machine it was.
        machine: MachineId,
    },
    /// A machine has one more key package, or another one of last resort.
    KeyPackagePut {
        /// Whose it is.
        user: UserId,
        /// The machine.
        machine: MachineId,
        /// The package.
        package: Blob,
        /// Whether it is that of last resort.
        last_resort: bool,
    },
    /// A machine's oldest key package was given out.
    KeyPackageTaken {
        /// Whose it was.
        user: UserId,
        /// The machine.
        machine: MachineId,
    },
    /// A user's roster has one more entry.
    RosterExtended {
        /// Whose it is.
        user: UserId,
        /// The entry.
        entry: RosterEntry,
    },
    /// Somebody did something. The directory does not hold it.
    Audited(Arc<Deed>),
    /// The identities below these were given before: the next ones of a directory read from a store, where
    /// the newest may have been removed since.
    Counted {
        /// The next user.
        users: u64,
        /// The next machine.
        machines: u64,
        /// The next channel or mailbox.
        channels: u64,
        /// The next reader.
        readers: u64,
    },
}
