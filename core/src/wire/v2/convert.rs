//! Version 2's messages and the domain's words, one into the other.
//!
//! Our identities count from 0, and 0 means "none" on the wire: numbers there are one higher.

use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::schema::{self as pb, read, reply, request, stream_name, subscribe};
use super::{audit, sealed};
use crate::key::PublicKey;
use crate::name::{ChannelName, MachineName, Name, SessionPath, UserName};
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{
    Admin, ChannelInfo, CloseReason, Code, Command, End, InviteInfo, MachineInfo, Refusal, Reply, Stamped,
    Token, UserInviteInfo, Visibility,
};
use crate::record::{ChannelId, MachineId, UserId};
use crate::sealed::{MACHINES_NAMED, NewGroup};
use crate::stream::{
    Contact, ContactChange, EndReason, MachineKey, MailboxRef, MessageId, Notice, PageFrom, Position,
    Receipt, ReceiptState, Signed, Standing, Start, StreamCommand, StreamRef, StreamReply,
};

/// The largest message, so that its delivery and its page of history fit a frame, in JSON, too.
pub(super) const MAX_BODY: usize = crate::wire::MAX_FRAME / 2 - 4096;

/// A number of ours as it stands on the wire.
pub(super) fn number(id: u64) -> u64 {
    id.saturating_add(1)
}

fn id(number: u64) -> Option<u64> {
    number.checked_sub(1)
}

/// A client's request in the hub's words.
pub(super) fn command(request: pb::Request) -> Result<Command, Refusal> {
    use request::What;
    let what = request.what.ok_or(Refusal::InvalidField("a request says what is asked"))?;
    Ok(match what {
        What::Ping(_) => Command::Ping,
        What::Subscribe(it) => Command::Stream(StreamCommand::Subscribe {
            stream: stream(it.stream)?,
            from: match it.from {
                Some(subscribe::From::Latest(_)) => Start::Latest,
                Some(subscribe::From::After(seq)) => Start::After(seq),
                Some(subscribe::From::MyCursor(_)) => Start::Cursor,
                None => return Err(Refusal::InvalidField("subscribe: say from where")),
            },
            invite: Some(it.invite).filter(|token| !token.is_empty()).map(|token| Token::new(&token)),
        }),
        What::Unsubscribe(it) => Command::Stream(StreamCommand::Unsubscribe { stream: stream(it.stream)? }),
        What::Read(it) => Command::Stream(StreamCommand::Read {
            stream: stream(it.stream)?,
            from: match it.from {
                Some(read::From::After(seq)) => PageFrom::After(seq),
                Some(read::From::Before(seq)) => PageFrom::Before(seq),
                None => return Err(Refusal::InvalidField("read: say after or before which message")),
            },
            limit: it.limit as usize,
        }),
        What::Post(it) => post(it)?,
        What::Report(it) => Command::Stream(StreamCommand::Report {
            stream: stream(it.stream)?,
            delivered: it.delivered,
            seen: it.seen,
        }),
        What::Acknowledge(it) => Command::Stream(StreamCommand::Acknowledge {
            stream: stream(it.stream)?,
            seq: it.seq,
            word: Opaque(it.word),
        }),
        What::Receipts(it) => {
            Command::Stream(StreamCommand::Receipts { stream: stream(it.stream)?, seq: it.seq })
        }
        What::WatchReceipts(it) => {
            Command::Stream(StreamCommand::WatchReceipts { stream: stream(it.stream)?, on: it.on })
        }
        What::WatchPresence(it) => {
            Command::Stream(StreamCommand::WatchPresence { stream: stream(it.stream)?, on: it.on })
        }
        What::Keys(it) => Command::Stream(StreamCommand::Keys { user: UserName::new(&it.user)? }),
        What::Allow(it) => contact(&it.user, ContactChange::Allow)?,
        What::Disallow(it) => contact(&it.user, ContactChange::Disallow)?,
        What::Block(it) => contact(&it.user, ContactChange::Block)?,
        What::Unblock(it) => contact(&it.user, ContactChange::Unblock)?,
        What::Locate(it) => Command::Stream(StreamCommand::Locate { stream: stream(it.stream)? }),
        What::ListContacts(_) => Command::Stream(StreamCommand::ListContacts),
        What::SetReceipts(it) => Command::Stream(StreamCommand::SetReceipts { on: it.on }),
        What::Presence(it) => {
            let name = Some(it.channel).filter(|name| !name.is_empty());
            Command::Who { channel: name.map(|name| ChannelName::new(&name)).transpose()? }
        }
        What::ListChannels(_) => Command::ListChannels,
        What::ListUsers(_) => Command::ListUsers,
        What::ListMachines(_) => Command::ListMachines,
        other => match sealed::command(other) {
            Ok(command) => Command::Stream(StreamCommand::Sealed(command?)),
            Err(other) => Command::Admin(admin(*other)?),
        },
    })
}

fn admin(what: request::What) -> Result<Admin, Refusal> {
    use request::What;
    let channel = |name: String| ChannelName::new(&name);
    let user = |name: String| UserName::new(&name);
    Ok(match what {
        What::CreateChannel(it) => {
            let (name, visibility) = (channel(it.name)?, visibility(it.visibility)?);
            match it.sealed {
                None => Admin::CreateChannel { name, visibility },
                Some(group) => {
                    let group = NewGroup::new(group.suite, group.group_id)?;
                    Admin::CreateSealedChannel { name, visibility, group }
                }
            }
        }
        What::DeleteChannel(it) => Admin::DeleteChannel { name: channel(it.name)? },
        What::RenameChannel(it) => {
            Admin::RenameChannel { name: channel(it.name)?, new_name: channel(it.new_name)? }
        }
        What::SetVisibility(it) => {
            Admin::SetVisibility { name: channel(it.name)?, visibility: visibility(it.visibility)? }
        }
        What::AddMember(it) => Admin::AclAdd { channel: channel(it.channel)?, user: user(it.user)? },
        What::RemoveMember(it) => Admin::AclRemove { channel: channel(it.channel)?, user: user(it.user)? },
        What::ListMembers(it) => Admin::AclList { channel: channel(it.channel)? },
        What::CreateInvite(it) => Admin::InviteCreate {
            channel: channel(it.channel)?,
            uses: Some(it.uses).filter(|uses| *uses > 0),
            lifetime: Some(it.lifetime_seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs),
        },
        What::RevokeInvite(it) => Admin::InviteRevoke { token: Token::new(&it.token) },
        What::ListInvites(it) => Admin::InviteList { channel: channel(it.channel)? },
        What::InviteUser(it) => Admin::UserInvite {
            uses: Some(it.uses).filter(|uses| *uses > 0),
            lifetime: Some(it.lifetime_seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs),
        },
        What::ListAudit(it) => Admin::Audit {
            channel: Some(it.channel).filter(|name| !name.is_empty()).map(channel).transpose()?,
            before: Some(it.before).filter(|number| *number > 0),
            limit: it.limit as usize,
        },
        What::ListUserInvites(_) => Admin::UserInviteList,
        What::Kick(it) => Admin::Kick { channel: channel(it.channel)?, target: it.target.parse()? },
        What::Ban(it) => Admin::Ban { channel: channel(it.channel)?, user: user(it.user)? },
        What::Unban(it) => Admin::Unban { channel: channel(it.channel)?, user: user(it.user)? },
        What::ListBans(it) => Admin::BanList { channel: channel(it.channel)? },
        What::RemoveUser(it) => Admin::UserRemove { user: user(it.user)? },
        What::ReleaseName(it) => Admin::NameRelease { name: Name::new(&it.name)? },
        What::AddMachine(it) => {
            Admin::MachineAdd { name: MachineName::new(&it.name)?, key: PublicKey::new(&it.key)? }
        }
        What::RemoveMachine(it) => Admin::MachineRemove { name: MachineName::new(&it.name)? },
        _ => return Err(Refusal::InvalidField("a request that this server does not know")),
    })
}

fn contact(user: &str, change: ContactChange) -> Result<Command, Refusal> {
    Ok(Command::Stream(StreamCommand::SetContact { user: UserName::new(user)?, change }))
}

fn post(it: pb::Post) -> Result<Command, Refusal> {
    let id = <[u8; 16]>::try_from(&it.message_id[..])
        .map_err(|_| Refusal::InvalidField("post: a message id has 16 bytes"))?;
    let signature = <[u8; 64]>::try_from(&it.signature[..])
        .map_err(|_| Refusal::InvalidField("post: a signature has 64 bytes"))?;
    if it.body.len() > MAX_BODY {
        return Err(Refusal::MessageTooLarge { most: MAX_BODY });
    }
    // All of it must be readable: a session that speaks JSON is sent it in JSON.
    let body = pb::Body::decode(it.body.clone()).ok().and_then(|body| body.kind);
    match body {
        Some(pb::body::Kind::Content(_) | pb::body::Kind::Sealed(_)) => {}
        Some(pb::body::Kind::Commit(_)) => {
            return Err(Refusal::InvalidField("post: a commit is posted with post_commit"));
        }
        None => return Err(Refusal::InvalidField("post: the body is neither content nor sealed")),
    }
    Ok(Command::Stream(StreamCommand::Post {
        stream: stream(it.stream)?,
        payload: Payload::Body(it.body),
        signed: Arc::new(Signed {
            id: MessageId(id),
            signature: Opaque(signature),
            acknowledge: it.acknowledge,
        }),
        lifetime: Some(it.lifetime_ms).filter(|millis| *millis > 0).map(Duration::from_millis),
    }))
}

pub(super) fn stream(name: Option<pb::StreamName>) -> Result<StreamRef, Refusal> {
    match name.and_then(|name| name.which) {
        Some(stream_name::Which::Number(number)) => {
            id(number).map(|id| StreamRef::Number(ChannelId(id))).ok_or(Refusal::NoStream)
        }
        Some(stream_name::Which::Channel(name)) => Ok(StreamRef::Channel(ChannelName::new(&name)?)),
        Some(stream_name::Which::Mailbox(name)) => mailbox(&name).map(StreamRef::Mailbox),
        Some(stream_name::Which::Mine(which)) => match pb::OwnMailbox::try_from(which) {
            Ok(pb::OwnMailbox::User) => Ok(StreamRef::Mailbox(MailboxRef::Mine)),
            Ok(pb::OwnMailbox::Session) => Ok(StreamRef::Mailbox(MailboxRef::MySession)),
            Ok(pb::OwnMailbox::Unspecified) | Err(_) => {
                Err(Refusal::InvalidField("a mailbox of one's own is the user's or the session's"))
            }
        },
        None => Err(Refusal::InvalidField("name the stream")),
    }
}

/// How a request names a stream.
pub(super) fn stream_name(stream: &StreamRef) -> pb::StreamName {
    let which = match stream {
        StreamRef::Number(id) => stream_name::Which::Number(number(id.0)),
        StreamRef::Channel(name) => stream_name::Which::Channel(name.as_str().into()),
        StreamRef::Mailbox(MailboxRef::Mine) => stream_name::Which::Mine(pb::OwnMailbox::User as i32),
        StreamRef::Mailbox(MailboxRef::MySession) => stream_name::Which::Mine(pb::OwnMailbox::Session as i32),
        StreamRef::Mailbox(MailboxRef::User(user)) => {
            stream_name::Which::Mailbox(pb::MailboxName { user: user.as_str().into(), ..Default::default() })
        }
        StreamRef::Mailbox(MailboxRef::Session(path)) => stream_name::Which::Mailbox(pb::MailboxName {
            user: path.user.as_str().into(),
            machine: path.machine.as_str().into(),
            handle: path.session.as_str().into(),
        }),
    };
    pb::StreamName { which: Some(which) }
}

fn mailbox(name: &pb::MailboxName) -> Result<MailboxRef, Refusal> {
    match (name.machine.is_empty(), name.handle.is_empty()) {
        (true, true) => Ok(MailboxRef::User(UserName::new(&name.user)?)),
        (false, false) => {
            let path = SessionPath::new(&name.user, &name.machine, &name.handle)?;
            Ok(MailboxRef::Session(Box::new(path)))
        }
        _ => Err(Refusal::InvalidField("a session's mailbox has both a machine and a handle")),
    }
}

fn visibility(value: i32) -> Result<Visibility, Refusal> {
    match pb::Visibility::try_from(value) {
        Ok(pb::Visibility::Public) => Ok(Visibility::Public),
        Ok(pb::Visibility::Unlisted) => Ok(Visibility::Unlisted),
        Ok(pb::Visibility::Private) => Ok(Visibility::Private),
        Ok(pb::Visibility::Unspecified) | Err(_) => {
            Err(Refusal::InvalidField("a visibility is public, unlisted or private"))
        }
    }
}

/// The hub's answer as it goes to the client.
pub(crate) fn reply(reply: Reply) -> reply::What {
    use reply::What;
    match reply {
        Reply::Sent | Reply::Joined(_) | Reply::Done(_) | Reply::Pong => What::Done(pb::Done {}),
        Reply::Presence { sessions, .. } => What::Sessions(pb::Sessions {
            sessions: sessions.iter().map(|path| participant(path, None)).collect(),
        }),
        Reply::Channels(channels) => {
            What::Channels(pb::ChannelList { channels: channels.into_iter().map(channel).collect() })
        }
        Reply::Machines(machines) => What::Machines(pb::MachineList {
            machines: machines.into_iter().map(machine).collect(),
            user_id: 0,
        }),
        Reply::Users(users) => {
            What::Users(pb::UserList { users: users.iter().map(|user| user.as_str().into()).collect() })
        }
        Reply::Invites(invites) => {
            What::Invites(pb::InviteList { invites: invites.into_iter().map(invite).collect() })
        }
        Reply::UserInvites(invites) => {
            What::UserInvites(pb::UserInviteList { invites: invites.into_iter().map(user_invite).collect() })
        }
        Reply::Audit { entries, more } => {
            What::Audit(pb::AuditPage { entries: entries.iter().map(audit::entry).collect(), more })
        }
        Reply::Invite(token) => {
            What::Invite(pb::Invite { token: token.expose().into(), uses: 0, expires_ms: 0 })
        }
        Reply::History { messages, .. } => {
            What::Page(pb::Page { stream: 0, messages: messages.iter().map(delivery).collect(), more: false })
        }
        Reply::Refused(refusal) => What::Error(error(&refusal)),
        Reply::Stream(reply) => stream_reply(reply),
    }
}

fn stream_reply(reply: StreamReply) -> reply::What {
    use reply::What;
    match reply {
        StreamReply::Done => What::Done(pb::Done {}),
        StreamReply::Subscribed { stream, after, last } => {
            What::Subscribed(pb::Subscribed { stream: number(stream.0), after, last })
        }
        StreamReply::Page { stream, messages, more } => What::Page(pb::Page {
            stream: number(stream.0),
            messages: messages.iter().map(delivery).collect(),
            more,
        }),
        StreamReply::Stored { stream, stamp, present } => What::Stored(pb::Stored {
            stream: number(stream.0),
            seq: stamp.seq,
            stamp_ms: stamp.ts.0,
            present,
            epoch: 0,
        }),
        StreamReply::Located { stream, present } => {
            What::Located(pb::Located { stream: number(stream.0), present })
        }
        StreamReply::Contacts(contacts) => {
            What::Contacts(pb::ContactList { contacts: contacts.into_iter().map(listed).collect() })
        }
        StreamReply::Receipts { stream, seq, readers } => What::Receipts(pb::ReceiptList {
            stream: number(stream.0),
            seq,
            receipts: readers.into_iter().map(receipt).collect(),
        }),
        StreamReply::Keys { user, machines } => What::Machines(pb::MachineList {
            machines: machines.into_iter().map(machine_key).collect(),
            user_id: number(user.0),
        }),
        StreamReply::Sealed(reply) => sealed::reply(*reply),
    }
}

fn listed(contact: Contact) -> pb::Contact {
    let standing = match contact.standing {
        Standing::Allowed => pb::Standing::Allowed,
        Standing::Blocked => pb::Standing::Blocked,
    };
    pb::Contact {
        user: contact.name.as_str().into(),
        user_id: number(contact.user.0),
        standing: standing as i32,
    }
}

fn channel(info: ChannelInfo) -> pb::Channel {
    let visibility = match info.visibility {
        Visibility::Public => pb::Visibility::Public,
        Visibility::Unlisted => pb::Visibility::Unlisted,
        Visibility::Private => pb::Visibility::Private,
    };
    pb::Channel {
        name: info.name.as_str().into(),
        visibility: visibility as i32,
        member: info.member,
        sealed: info.sealed,
    }
}

fn machine(info: MachineInfo) -> pb::Machine {
    pb::Machine {
        name: info.name.as_str().into(),
        key: info.key.as_bytes().to_vec().into(),
        id: 0,
        added_ms: info.added.0,
    }
}

fn machine_key(one: MachineKey) -> pb::Machine {
    pb::Machine {
        name: one.name.as_str().into(),
        key: one.key.as_bytes().to_vec().into(),
        id: number(one.id.0),
        added_ms: one.added.0,
    }
}

fn invite(info: InviteInfo) -> pb::Invite {
    pb::Invite {
        token: info.token.expose().into(),
        uses: info.uses.unwrap_or(0),
        expires_ms: info.expires.map_or(0, |at| at.0),
    }
}

fn user_invite(info: UserInviteInfo) -> pb::UserInvite {
    pb::UserInvite {
        id: info.id,
        by: info.by.as_str().into(),
        uses: info.uses.unwrap_or(0),
        expires_ms: info.expires.map_or(0, |at| at.0),
    }
}

fn receipt(receipt: Receipt) -> pb::Receipt {
    let state = match receipt.state {
        ReceiptState::Stored => pb::ReceiptState::Stored,
        ReceiptState::Delivered => pb::ReceiptState::Delivered,
        ReceiptState::Seen => pb::ReceiptState::Seen,
        ReceiptState::Acknowledged => pb::ReceiptState::Acknowledged,
    };
    pb::Receipt {
        reader: Some(participant(&receipt.reader, None)),
        state: state as i32,
        at_ms: receipt.at.map_or(0, |at| at.0),
        word: receipt.word.map_or(String::new(), |word| word.0),
        off: receipt.off,
    }
}

/// Who somebody is, with their numbers where they are known.
pub(super) fn participant(path: &SessionPath, ids: Option<(UserId, MachineId)>) -> pb::Participant {
    pb::Participant {
        user: path.user.as_str().into(),
        machine: path.machine.as_str().into(),
        handle: path.session.as_str().into(),
        user_id: ids.map_or(0, |(user, _)| number(user.0)),
        machine_id: ids.map_or(0, |(_, machine)| number(machine.0)),
    }
}

/// A stored message.
pub(super) fn delivery(message: &Stamped) -> pb::Delivery {
    let signed = message.origin.signed.as_deref();
    pb::Delivery {
        seq: message.seq,
        stamp_ms: message.ts.0,
        from: Some(participant(&message.from, message.origin.sender)),
        message_id: signed.map_or(Bytes::new(), |signed| signed.id.0.to_vec().into()),
        body: message.payload.to_body(),
        signature: signed.map_or(Bytes::new(), |signed| signed.signature.to_vec().into()),
        acknowledge: signed.is_some_and(|signed| signed.acknowledge),
        expires_ms: message.origin.expires.map_or(0, |at| at.0),
    }
}

/// A notice as it goes to the client.
pub(super) fn notice(notice: Notice) -> pb::server_frame::Kind {
    use pb::event::What;
    use pb::server_frame::Kind;
    let what = match notice {
        Notice::Deliveries { stream, messages } => {
            let messages = messages.iter().map(delivery).collect();
            return Kind::Deliveries(pb::Deliveries { stream: number(stream.0), messages });
        }
        Notice::Live { stream, seq } => return Kind::Live(pb::Live { stream: number(stream.0), seq }),
        Notice::Gap { stream, from, to } => return Kind::Gap(pb::Gap { stream: number(stream.0), from, to }),
        Notice::Ended { stream, reason } => {
            let reason = match reason {
                EndReason::Kicked => pb::EndReason::Kicked,
                EndReason::Banned => pb::EndReason::Banned,
                EndReason::Removed => pb::EndReason::Removed,
                EndReason::Deleted => pb::EndReason::Deleted,
                EndReason::Unavailable => pb::EndReason::Unavailable,
            };
            What::SubscriptionEnded(pb::SubscriptionEnded { stream: number(stream.0), reason: reason as i32 })
        }
        Notice::Renamed { stream, name } => {
            What::ChannelRenamed(pb::ChannelRenamed { stream: number(stream.0), name: name.as_str().into() })
        }
        Notice::ReceiptsMoved { stream, readers } => What::ReceiptsMoved(pb::ReceiptsMoved {
            stream: number(stream.0),
            readers: readers.iter().map(position).collect(),
        }),
        Notice::PresenceChanged { stream, comings } => What::PresenceChanged(pb::PresenceChanged {
            stream: number(stream.0),
            joined: comings.joined.iter().map(|path| participant(path, None)).collect(),
            left: comings.left.iter().map(|path| participant(path, None)).collect(),
            many: comings.many,
        }),
        Notice::MachineAdded(added) => {
            What::MachineAdded(pb::MachineAdded { machine: Some(machine_key(added)) })
        }
        Notice::Draining => What::Draining(pb::Draining {}),
        Notice::Sealed(notice) => sealed::notice(notice),
    };
    Kind::Event(pb::Event { what: Some(what) })
}

fn position(position: &Position) -> pb::ReaderPosition {
    let (acknowledged, word) =
        position.acknowledged.clone().map_or((0, String::new()), |(seq, word)| (seq, word.0));
    pb::ReaderPosition {
        reader: Some(participant(&position.reader, None)),
        since: position.since,
        delivered: position.delivered,
        seen: position.seen,
        acknowledged,
        word,
    }
}

/// A refusal as it goes to the client.
pub(super) fn error(refusal: &Refusal) -> pb::Error {
    pb::Error {
        code: code(refusal.code()) as i32,
        message: refusal.to_string(),
        retry_after_ms: refusal.retry_after().map_or(0, millis),
        epoch: if let Refusal::WrongEpoch { current } = refusal { *current } else { 0 },
        machines: match refusal {
            Refusal::RemovalsDue(machines) => sealed::numbers(machines),
            _ => Vec::new(),
        },
    }
}

fn code(code: Code) -> pb::ErrorCode {
    match code {
        Code::InvalidArgument => pb::ErrorCode::InvalidArgument,
        Code::NotFound => pb::ErrorCode::NotFound,
        Code::PermissionDenied => pb::ErrorCode::PermissionDenied,
        Code::AlreadyExists => pb::ErrorCode::AlreadyExists,
        Code::RateLimited => pb::ErrorCode::RateLimited,
        Code::QuotaExceeded => pb::ErrorCode::QuotaExceeded,
        Code::FailedPrecondition => pb::ErrorCode::FailedPrecondition,
        Code::Unauthenticated => pb::ErrorCode::Unauthenticated,
        Code::Unavailable => pb::ErrorCode::Unavailable,
        Code::Internal => pb::ErrorCode::Internal,
        Code::WrongEpoch => pb::ErrorCode::WrongEpoch,
        Code::RemovalsDue => pb::ErrorCode::RemovalsDue,
    }
}

/// Rounded up: who waits that long has waited enough.
fn millis(wait: Duration) -> u32 {
    u32::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

/// Why a connection ends, as it goes to the client.
pub(super) fn goodbye(reason: &CloseReason) -> pb::Goodbye {
    use pb::GoodbyeReason as G;
    let (kind, refusal) = match reason {
        CloseReason::Superseded => (G::Superseded, None),
        CloseReason::KeyRevoked { .. } => (G::KeyRevoked, None),
        CloseReason::UserRemoved { .. } => (G::UserRemoved, None),
        CloseReason::Idle { .. } => (G::Idle, None),
        CloseReason::SlowConsumer => (G::Slow, None),
        CloseReason::Shutdown => (G::Shutdown, None),
        CloseReason::HandshakeTimeout => (G::HandshakeTimeout, None),
        CloseReason::Refused(refusal) => (G::Refused, Some(refusal)),
        CloseReason::Version { .. } | CloseReason::Malformed(_) => (G::Malformed, None),
    };
    pb::Goodbye {
        reason: kind as i32,
        message: reason.to_string(),
        code: refusal.map_or(pb::ErrorCode::Unspecified, |refusal| code(refusal.code())) as i32,
        retry_after_ms: refusal.and_then(Refusal::retry_after).map_or(0, millis),
    }
}

/// A server's refusal as the client knows it. The text is the server's.
pub(super) fn refusal(error: &pb::Error) -> Refusal {
    let code = match pb::ErrorCode::try_from(error.code) {
        Ok(pb::ErrorCode::InvalidArgument) => Code::InvalidArgument,
        Ok(pb::ErrorCode::NotFound) => Code::NotFound,
        Ok(pb::ErrorCode::PermissionDenied) => Code::PermissionDenied,
        Ok(pb::ErrorCode::AlreadyExists) => Code::AlreadyExists,
        Ok(pb::ErrorCode::RateLimited) => {
            return Refusal::TooFast { wait: Duration::from_millis(u64::from(error.retry_after_ms)) };
        }
        Ok(pb::ErrorCode::WrongEpoch) => return Refusal::WrongEpoch { current: error.epoch },
        Ok(pb::ErrorCode::RemovalsDue) => {
            let named = &error.machines[..error.machines.len().min(MACHINES_NAMED)];
            return Refusal::RemovalsDue(sealed::machines(named).into());
        }
        Ok(pb::ErrorCode::QuotaExceeded) => Code::QuotaExceeded,
        Ok(pb::ErrorCode::FailedPrecondition) => Code::FailedPrecondition,
        Ok(pb::ErrorCode::Unauthenticated) => Code::Unauthenticated,
        Ok(pb::ErrorCode::Unavailable) => Code::Unavailable,
        Ok(pb::ErrorCode::Internal | pb::ErrorCode::Unspecified) | Err(_) => Code::Internal,
    };
    let text = &error.message;
    Refusal::Other { code, text: text[..text.floor_char_boundary(crate::wire::MAX_ERROR_TEXT)].into() }
}

/// The refusal behind a server's goodbye, for a handshake that it ended.
pub(super) fn refusal_of_goodbye(goodbye: &pb::Goodbye) -> Refusal {
    let code = match goodbye.code {
        0 => pb::ErrorCode::Unavailable as i32,
        code => code,
    };
    let (message, retry_after_ms) = (goodbye.message.clone(), goodbye.retry_after_ms);
    refusal(&pb::Error { code, message, retry_after_ms, ..pb::Error::default() })
}

/// Why the server ends the session, if this program knows the reason.
pub(super) fn end(reason: i32) -> Option<End> {
    match pb::GoodbyeReason::try_from(reason).ok()? {
        pb::GoodbyeReason::Superseded => Some(End::Superseded),
        pb::GoodbyeReason::KeyRevoked => Some(End::KeyRevoked),
        pb::GoodbyeReason::UserRemoved => Some(End::UserRemoved),
        pb::GoodbyeReason::Idle => Some(End::Idle),
        pb::GoodbyeReason::Slow => Some(End::SlowConsumer),
        pb::GoodbyeReason::Shutdown => Some(End::Shutdown),
        pb::GoodbyeReason::HandshakeTimeout => Some(End::HandshakeTimeout),
        pb::GoodbyeReason::Unspecified | pb::GoodbyeReason::Refused | pb::GoodbyeReason::Malformed => None,
    }
}
