//! Which kind of reply answers which command: a server that sends another kind has lost count, or is hostile.

use crate::protocol::{Admin, Command, Reply};
use crate::stream::{StreamCommand, StreamReply};

/// The kind of a reply that is no refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyKind {
    Joined,
    Ack,
    Presence,
    Channels,
    Machines,
    Users,
    Invites,
    UserInvites,
    Audit,
    Invite,
    History,
    Pong,
    Stream,
    Sealed,
}

impl ReplyKind {
    /// The kind that answers `command`.
    pub(super) fn of(command: &Command) -> Self {
        match command {
            Command::Join { .. } => Self::Joined,
            Command::Leave { .. } | Command::Post { .. } | Command::Whisper { .. } => Self::Ack,
            Command::Who { .. } => Self::Presence,
            Command::ListChannels => Self::Channels,
            Command::ListMachines => Self::Machines,
            Command::ListUsers => Self::Users,
            Command::ReadSince { .. } => Self::History,
            Command::Ping => Self::Pong,
            Command::Stream(StreamCommand::Sealed(_)) => Self::Sealed,
            Command::Stream(_) => Self::Stream,
            Command::Admin(admin) => match admin {
                Admin::AclList { .. } | Admin::BanList { .. } => Self::Users,
                Admin::InviteList { .. } => Self::Invites,
                Admin::UserInviteList => Self::UserInvites,
                Admin::Audit { .. } => Self::Audit,
                Admin::InviteCreate { .. } | Admin::UserInvite { .. } => Self::Invite,
                _ => Self::Ack,
            },
        }
    }

    /// Whether `reply` is of this kind. A refusal answers any command.
    pub(super) fn fits(self, reply: &Reply) -> bool {
        match reply {
            Reply::Refused(_) => true,
            Reply::Sent | Reply::Done(_) => self == Self::Ack,
            Reply::Joined(_) => self == Self::Joined,
            Reply::Presence { .. } => self == Self::Presence,
            Reply::Channels(_) => self == Self::Channels,
            Reply::Machines(_) => self == Self::Machines,
            Reply::Users(_) => self == Self::Users,
            Reply::Invites(_) => self == Self::Invites,
            Reply::UserInvites(_) => self == Self::UserInvites,
            Reply::Audit { .. } => self == Self::Audit,
            Reply::Invite(_) => self == Self::Invite,
            Reply::History { .. } => self == Self::History,
            Reply::Pong => self == Self::Pong,
            Reply::Stream(StreamReply::Sealed(_)) => self == Self::Sealed,
            Reply::Stream(StreamReply::Done) => matches!(self, Self::Stream | Self::Sealed),
            Reply::Stream(_) => self == Self::Stream,
        }
    }
}
