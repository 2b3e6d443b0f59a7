//! Commands as a client of version 2 sends them.

use alloc::string::ToString as _;
use core::time::Duration;

use crate::name::ChannelName;
use crate::protocol::{Admin, Command, Token, Visibility};
use crate::stream::{ContactChange, PageFrom, Start, StreamCommand};
use crate::wire::v2::schema::request::What;
use crate::wire::v2::schema::{self as pb, read, subscribe};
use crate::wire::v2::{convert, sealed};

/// The request of a command; `None` for one that only version 1 has.
pub(super) fn what(command: &Command) -> Option<What> {
    Some(match command {
        Command::Join { .. }
        | Command::Leave { .. }
        | Command::Post { .. }
        | Command::Whisper { .. }
        | Command::ReadSince { .. } => return None,
        Command::Who { channel } => {
            let channel = channel.as_ref().map_or("", ChannelName::as_str).into();
            What::Presence(pb::Presence { channel })
        }
        Command::ListChannels => What::ListChannels(pb::ListChannels {}),
        Command::ListMachines => What::ListMachines(pb::ListMachines {}),
        Command::ListUsers => What::ListUsers(pb::ListUsers {}),
        Command::Ping => What::Ping(pb::Ping {}),
        Command::Admin(admin) => administer(admin),
        Command::Stream(command) => stream_command(command),
    })
}

fn stream_command(command: &StreamCommand) -> What {
    match command {
        StreamCommand::Subscribe { stream, from, invite } => What::Subscribe(pb::Subscribe {
            stream: Some(convert::stream_name(stream)),
            from: Some(match from {
                Start::Latest => subscribe::From::Latest(pb::Latest {}),
                Start::After(seq) => subscribe::From::After(*seq),
                Start::Cursor => subscribe::From::MyCursor(pb::MyCursor {}),
            }),
            invite: invite.as_ref().map_or("", Token::expose).into(),
        }),
        StreamCommand::Unsubscribe { stream } => {
            What::Unsubscribe(pb::Unsubscribe { stream: Some(convert::stream_name(stream)) })
        }
        StreamCommand::Read { stream, from, limit } => What::Read(pb::Read {
            stream: Some(convert::stream_name(stream)),
            from: Some(match from {
                PageFrom::After(seq) => read::From::After(*seq),
                PageFrom::Before(seq) => read::From::Before(*seq),
            }),
            limit: u32::try_from(*limit).unwrap_or(u32::MAX),
        }),
        StreamCommand::Post { stream, payload, signed, lifetime } => What::Post(pb::Post {
            stream: Some(convert::stream_name(stream)),
            message_id: signed.id.0.to_vec().into(),
            body: payload.to_body(),
            signature: signed.signature.to_vec().into(),
            acknowledge: signed.acknowledge,
            lifetime_ms: lifetime.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX).max(1)),
        }),
        StreamCommand::Report { stream, delivered, seen } => What::Report(pb::Report {
            stream: Some(convert::stream_name(stream)),
            delivered: *delivered,
            seen: *seen,
        }),
        StreamCommand::Acknowledge { stream, seq, word } => What::Acknowledge(pb::Acknowledge {
            stream: Some(convert::stream_name(stream)),
            seq: *seq,
            word: word.0.clone(),
        }),
        StreamCommand::Receipts { stream, seq } => {
            What::Receipts(pb::Receipts { stream: Some(convert::stream_name(stream)), seq: *seq })
        }
        StreamCommand::WatchReceipts { stream, on } => {
            What::WatchReceipts(pb::WatchReceipts { stream: Some(convert::stream_name(stream)), on: *on })
        }
        StreamCommand::WatchPresence { stream, on } => {
            What::WatchPresence(pb::WatchPresence { stream: Some(convert::stream_name(stream)), on: *on })
        }
        StreamCommand::Keys { user } => What::Keys(pb::Keys { user: user.as_str().into() }),
        StreamCommand::SetContact { user, change } => {
            let user = user.as_str().into();
            match change {
                ContactChange::Allow => What::Allow(pb::Allow { user }),
                ContactChange::Disallow => What::Disallow(pb::Disallow { user }),
                ContactChange::Block => What::Block(pb::Block { user }),
                ContactChange::Unblock => What::Unblock(pb::Unblock { user }),
            }
        }
        StreamCommand::Locate { stream } => {
            What::Locate(pb::Locate { stream: Some(convert::stream_name(stream)) })
        }
        StreamCommand::SetReceipts { on } => What::SetReceipts(pb::SetReceipts { on: *on }),
        StreamCommand::ListContacts => What::ListContacts(pb::ListContacts {}),
        StreamCommand::Sealed(command) => sealed::what(command),
    }
}

fn visibility(visibility: Visibility) -> i32 {
    let visibility = match visibility {
        Visibility::Public => pb::Visibility::Public,
        Visibility::Unlisted => pb::Visibility::Unlisted,
        Visibility::Private => pb::Visibility::Private,
    };
    visibility as i32
}

/// A part of a second counts as one: an invite does not end before it was meant to.
fn whole_seconds(lifetime: Duration) -> u64 {
    lifetime.as_secs().saturating_add(u64::from(lifetime.subsec_nanos() > 0))
}

fn administer(admin: &Admin) -> What {
    let text = |name: &dyn AsRef<str>| name.as_ref().into();
    match admin {
        Admin::CreateChannel { name, visibility: wanted } => {
            let visibility = visibility(*wanted);
            What::CreateChannel(pb::CreateChannel { name: text(name), visibility, sealed: None })
        }
        Admin::CreateSealedChannel { name, visibility: wanted, group } => {
            let sealed = Some(pb::SealedGroup { suite: group.suite, group_id: group.id().clone() });
            let visibility = visibility(*wanted);
            What::CreateChannel(pb::CreateChannel { name: text(name), visibility, sealed })
        }
        Admin::DeleteChannel { name } => What::DeleteChannel(pb::DeleteChannel { name: text(name) }),
        Admin::RenameChannel { name, new_name } => {
            What::RenameChannel(pb::RenameChannel { name: text(name), new_name: text(new_name) })
        }
        Admin::SetVisibility { name, visibility: wanted } => {
            What::SetVisibility(pb::SetVisibility { name: text(name), visibility: visibility(*wanted) })
        }
        Admin::AclAdd { channel, user } => {
            What::AddMember(pb::AddMember { channel: text(channel), user: text(user) })
        }
        Admin::AclRemove { channel, user } => {
            What::RemoveMember(pb::RemoveMember { channel: text(channel), user: text(user) })
        }
        Admin::AclList { channel } => What::ListMembers(pb::ListMembers { channel: text(channel) }),
        Admin::InviteCreate { channel, uses, lifetime } => What::CreateInvite(pb::CreateInvite {
            channel: text(channel),
            uses: uses.unwrap_or(0),
            lifetime_seconds: lifetime.map_or(0, whole_seconds),
        }),
        Admin::UserInvite { uses, lifetime } => What::InviteUser(pb::InviteUser {
            uses: uses.unwrap_or(0),
            lifetime_seconds: lifetime.map_or(0, whole_seconds),
        }),
        Admin::Audit { channel, before, limit } => What::ListAudit(pb::ListAudit {
            channel: channel.as_ref().map_or("", ChannelName::as_str).into(),
            before: before.unwrap_or(0),
            limit: u32::try_from(*limit).unwrap_or(u32::MAX),
        }),
        Admin::UserInviteList => What::ListUserInvites(pb::ListUserInvites {}),
        Admin::InviteRevoke { token } => {
            What::RevokeInvite(pb::RevokeInvite { token: token.expose().into() })
        }
        Admin::InviteList { channel } => What::ListInvites(pb::ListInvites { channel: text(channel) }),
        Admin::Kick { channel, target } => {
            What::Kick(pb::Kick { channel: text(channel), target: target.to_string() })
        }
        Admin::Ban { channel, user } => What::Ban(pb::Ban { channel: text(channel), user: text(user) }),
        Admin::Unban { channel, user } => What::Unban(pb::Unban { channel: text(channel), user: text(user) }),
        Admin::BanList { channel } => What::ListBans(pb::ListBans { channel: text(channel) }),
        Admin::UserRemove { user } => What::RemoveUser(pb::RemoveUser { user: text(user) }),
        Admin::NameRelease { name } => What::ReleaseName(pb::ReleaseName { name: text(name) }),
        Admin::MachineAdd { name, key } => {
            What::AddMachine(pb::AddMachine { name: text(name), key: key.as_bytes().to_vec().into() })
        }
        Admin::MachineRemove { name } => What::RemoveMachine(pb::RemoveMachine { name: text(name) }),
    }
}
