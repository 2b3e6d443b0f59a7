//! What a change of the directory depends on or alters.

use crate::directory::{Look, TokenHash, looks};
use crate::key::PublicKey;
use crate::protocol::Visibility;
use crate::record::{ChannelId, Record, UserId};

/// Something that a change depends on or alters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Touch {
    User(UserId),
    /// A user's name, by one of its looks.
    UserName(Look),
    Key(PublicKey),
    Channel(ChannelId),
    /// A channel's name, by one of its looks.
    ChannelName(Look),
    /// An invite to the server.
    UserInvite(TokenHash),
    /// How many invites to the server there are.
    UserInvites,
    /// Whether anyone may post to a channel.
    Posts(ChannelId),
    /// Whether a user may post at all.
    PostsOf(UserId),
    /// Whether a user may post to a channel.
    PostsBy(ChannelId, UserId),
}

/// Hands over what a record depends on or alters.
pub(super) fn touches(record: &Record, mut touch: impl FnMut(Touch)) {
    match record {
        Record::UserAdded { user, name, .. } => {
            touch(Touch::User(*user));
            looks(name.as_str()).for_each(|look| touch(Touch::UserName(look)));
        }
        Record::UserRemoved { user } | Record::MachineRemoved { user, .. } => {
            touch(Touch::User(*user));
            touch(Touch::PostsOf(*user));
        }
        Record::MachineAdded { user, key, .. } => {
            touch(Touch::User(*user));
            touch(Touch::Key(*key));
        }
        // Users have mailboxes, and each other's word on who may write to them.
        Record::ReaderAdded { user, .. }
        | Record::MailboxCreated { user, .. }
        | Record::ReceiptsSet { user, .. } => touch(Touch::User(*user)),
        Record::ContactSet { user, other, .. } => {
            touch(Touch::User(*user));
            touch(Touch::User(*other));
        }
        Record::ChannelCreated { name, creator, .. } => {
            touch(Touch::User(*creator));
            looks(name.as_str()).for_each(|look| touch(Touch::ChannelName(look)));
        }
        Record::ChannelDeleted { channel } => {
            touch(Touch::Channel(*channel));
            touch(Touch::Posts(*channel));
        }
        Record::ChannelRenamed { channel, name } => {
            touch(Touch::Channel(*channel));
            looks(name.as_str()).for_each(|look| touch(Touch::ChannelName(look)));
            // What is posted to a name is delivered under that name.
            touch(Touch::Posts(*channel));
        }
        Record::VisibilitySet { channel, visibility } => {
            touch(Touch::Channel(*channel));
            if *visibility == Visibility::Private {
                touch(Touch::Posts(*channel));
            }
        }
        Record::MemberAdded { channel, user } | Record::Unbanned { channel, user } => {
            touch(Touch::Channel(*channel));
            touch(Touch::User(*user));
        }
        Record::MemberRemoved { channel, user } | Record::Banned { channel, user } => {
            touch(Touch::Channel(*channel));
            touch(Touch::User(*user));
            touch(Touch::PostsBy(*channel, *user));
        }
        Record::InviteCreated { channel, .. }
        | Record::InviteUsed { channel, .. }
        | Record::InviteRevoked { channel, .. } => touch(Touch::Channel(*channel)),
        Record::UserInviteCreated { invite, by, .. } => {
            touch(Touch::User(*by));
            touch(Touch::UserInvites);
            touch(Touch::UserInvite(*invite));
        }
        Record::UserInviteUsed { invite } | Record::UserInviteRevoked { invite } => {
            touch(Touch::UserInvite(*invite));
        }
        Record::GroupAdvanced { channel, .. } => {
            touch(Touch::Channel(*channel));
            touch(Touch::Posts(*channel));
        }
        Record::GroupLeft { channel, .. } => touch(Touch::Channel(*channel)),
        Record::GroupJoined { channel, user, .. } | Record::WelcomeKept { channel, user, .. } => {
            touch(Touch::Channel(*channel));
            touch(Touch::User(*user));
        }
        Record::KeyPackagePut { user, .. }
        | Record::KeyPackageTaken { user, .. }
        | Record::RosterExtended { user, .. } => touch(Touch::User(*user)),
        // A welcome is dropped by its machine's user, whom a commit that keeps another one touches.
        Record::WelcomeDropped { .. } | Record::GroupCreated { .. } => {}
        // Names are held back by the change that gives them up, and released by the one that takes them.
        Record::NameHeld { .. }
        | Record::NameReleased { .. }
        | Record::Posted { .. }
        | Record::CursorMoved { .. }
        | Record::Acknowledged { .. }
        | Record::MessageWaits { .. }
        | Record::Audited(_)
        | Record::Counted { .. } => {}
    }
}
