//! What version 2 says about sealed channels, and the domain's words, one into the other.

use alloc::boxed::Box;
use alloc::string::ToString as _;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use prost::Message as _;

use super::convert::{self, number};
use super::schema::{self as pb, event, reply, request};
use crate::body;
use crate::name::UserName;
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::Refusal;
use crate::record::{ChannelId, MachineId, Stamp, UserId};
use crate::sealed::{
    Blob, GroupState, GroupWelcome, KeyPackage, RosterEntry, SealedCommand, SealedNotice, SealedReply,
    WaitingWelcome,
};
use crate::stream::{MessageId, Signed};
use crate::time::UnixMillis;

/// Welcomes of one commit, whatever they are for.
const MAX_WELCOMES: usize = body::MAX_CHANGED;

/// A client's request in the hub's words; the request back if it is about something else.
pub(super) fn command(what: request::What) -> Result<Result<SealedCommand, Refusal>, Box<request::What>> {
    use request::What;
    Ok(match what {
        What::PostCommit(it) => commit(it),
        What::PutKeyPackages(it) => Ok(SealedCommand::PutKeyPackages {
            packages: it.packages.into_iter().map(Opaque).collect(),
            last_resort: some(it.last_resort),
        }),
        What::TakeKeyPackages(it) => {
            convert::stream(it.stream).map(|stream| SealedCommand::TakeKeyPackages {
                stream,
                users: it.users.iter().filter_map(|number| number.checked_sub(1)).map(UserId).collect(),
                machines: machines(&it.machines),
            })
        }
        What::GetGroup(it) => convert::stream(it.stream).map(|stream| SealedCommand::Group { stream }),
        What::ListWelcomes(_) => Ok(SealedCommand::Welcomes),
        What::DropWelcome(it) => {
            convert::stream(it.stream).map(|stream| SealedCommand::DropWelcome { stream, epoch: it.epoch })
        }
        What::PutRosterEntry(it) => roster_entry(it),
        What::GetRoster(it) => UserName::new(&it.user)
            .map(|user| SealedCommand::Roster { user, after: it.after as usize })
            .map_err(Refusal::from),
        other => return Err(Box::new(other)),
    })
}

fn commit(it: pb::PostCommit) -> Result<SealedCommand, Refusal> {
    let id = <[u8; 16]>::try_from(&it.message_id[..])
        .map_err(|_| Refusal::InvalidField("post_commit: a message id has 16 bytes"))?;
    let signature = <[u8; 64]>::try_from(&it.signature[..])
        .map_err(|_| Refusal::InvalidField("post_commit: a signature has 64 bytes"))?;
    if it.body.len() > convert::MAX_BODY {
        return Err(Refusal::MessageTooLarge { most: convert::MAX_BODY });
    }
    // All of it must be readable: a session that speaks JSON is sent it in JSON.
    let readable = pb::Body::decode(it.body.clone()).is_ok();
    if !readable || !body::commit(&it.body).is_ok_and(|commit| !commit.commit.is_empty()) {
        return Err(Refusal::InvalidField("post_commit: the body is no commit"));
    }
    if it.welcomes.iter().map(|one| one.machines.len()).sum::<usize>() > MAX_WELCOMES {
        return Err(Refusal::InvalidField("post_commit: too many welcomes"));
    }
    let welcomes = it
        .welcomes
        .into_iter()
        .map(|one| GroupWelcome { machines: machines(&one.machines), welcome: Opaque(one.welcome) });
    Ok(SealedCommand::Commit {
        stream: convert::stream(it.stream)?,
        body: Payload::Body(it.body),
        signed: Arc::new(Signed { id: MessageId(id), signature: Opaque(signature), acknowledge: false }),
        group_info: Opaque(it.group_info),
        welcomes: welcomes.collect(),
    })
}

fn roster_entry(it: pb::PutRosterEntry) -> Result<SealedCommand, Refusal> {
    let signature = <[u8; 64]>::try_from(&it.signature[..])
        .map_err(|_| Refusal::InvalidField("put_roster_entry: a signature has 64 bytes"))?;
    let previous = match &it.previous[..] {
        [] => None,
        hash => Some(
            <[u8; 32]>::try_from(hash)
                .map_err(|_| Refusal::InvalidField("put_roster_entry: the hash of an entry has 32 bytes"))?,
        ),
    };
    let entry = RosterEntry { entry: Opaque(it.entry), signature: Opaque(signature) };
    Ok(SealedCommand::PutRosterEntry { previous, entry })
}

/// The hub's answer as it goes to the client.
pub(super) fn reply(reply: SealedReply) -> reply::What {
    use reply::What;
    match reply {
        SealedReply::Committed { stream, stamp, epoch } => What::Stored(pb::Stored {
            stream: number(stream.0),
            seq: stamp.seq,
            stamp_ms: stamp.ts.0,
            present: false,
            epoch,
        }),
        SealedReply::Stock { left, last_resort } => {
            What::KeyPackageStock(pb::KeyPackageStock { left: count(left), last_resort })
        }
        SealedReply::KeyPackages(packages) => What::KeyPackages(pb::KeyPackageList {
            packages: packages
                .into_iter()
                .map(|one| pb::KeyPackage {
                    machine_id: number(one.machine.0),
                    user_id: number(one.user.0),
                    package: one.package.unwrap_or_default().0,
                    last_resort: one.last_resort,
                })
                .collect(),
        }),
        SealedReply::Group(group) => What::Group(pb::Group {
            stream: number(group.stream.0),
            suite: group.suite,
            group_id: group.id.0,
            epoch: group.epoch,
            group_info: group.info.0,
            machines: numbers(&group.machines),
            removals_due: numbers(&group.removals),
            additions_due: numbers(&group.additions),
        }),
        SealedReply::Welcomes { welcomes, more } => What::Welcomes(pb::WelcomeList {
            welcomes: welcomes
                .into_iter()
                .map(|one| pb::WaitingWelcome {
                    stream: number(one.stream.0),
                    epoch: one.epoch,
                    welcome: one.welcome.0,
                })
                .collect(),
            more,
        }),
        SealedReply::Roster { user, entries, more } => What::Roster(pb::Roster {
            user_id: number(user.0),
            entries: entries
                .into_iter()
                .map(|one| pb::RosterEntry { entry: one.entry.0, signature: one.signature.to_vec().into() })
                .collect(),
            more,
        }),
    }
}

/// A notice as it goes to the client.
pub(super) fn notice(notice: SealedNotice) -> event::What {
    use event::What;
    match notice {
        SealedNotice::Due { stream } => What::GroupDue(pb::GroupDue { stream: number(stream.0) }),
        SealedNotice::WelcomeWaits { stream } => {
            What::WelcomeWaits(pb::WelcomeWaits { stream: number(stream.0) })
        }
        SealedNotice::KeyPackagesLow { left } => {
            What::KeyPackagesLow(pb::KeyPackagesLow { left: count(left) })
        }
    }
}

/// The request of a command.
pub(super) fn what(command: &SealedCommand) -> request::What {
    use request::What;
    match command {
        SealedCommand::Commit { stream, body, signed, group_info, welcomes } => {
            What::PostCommit(pb::PostCommit {
                stream: Some(convert::stream_name(stream)),
                message_id: signed.id.0.to_vec().into(),
                body: body.to_body(),
                signature: signed.signature.to_vec().into(),
                group_info: group_info.0.clone(),
                welcomes: welcomes
                    .iter()
                    .map(|one| pb::GroupWelcome {
                        machines: numbers(&one.machines),
                        welcome: one.welcome.0.clone(),
                    })
                    .collect(),
            })
        }
        SealedCommand::PutKeyPackages { packages, last_resort } => What::PutKeyPackages(pb::PutKeyPackages {
            packages: packages.iter().map(|package| package.0.clone()).collect(),
            last_resort: last_resort.clone().unwrap_or_default().0,
        }),
        SealedCommand::TakeKeyPackages { stream, users, machines } => {
            What::TakeKeyPackages(pb::TakeKeyPackages {
                stream: Some(convert::stream_name(stream)),
                users: users.iter().map(|user| number(user.0)).collect(),
                machines: numbers(machines),
            })
        }
        SealedCommand::Group { stream } => {
            What::GetGroup(pb::GetGroup { stream: Some(convert::stream_name(stream)) })
        }
        SealedCommand::Welcomes => What::ListWelcomes(pb::ListWelcomes {}),
        SealedCommand::DropWelcome { stream, epoch } => {
            let stream = Some(convert::stream_name(stream));
            What::DropWelcome(pb::DropWelcome { stream, epoch: *epoch })
        }
        SealedCommand::PutRosterEntry { previous, entry } => What::PutRosterEntry(pb::PutRosterEntry {
            previous: previous.map_or(Bytes::new(), |hash| hash.to_vec().into()),
            entry: entry.entry.0.clone(),
            signature: entry.signature.to_vec().into(),
        }),
        SealedCommand::Roster { user, after } => {
            What::GetRoster(pb::GetRoster { user: user.to_string(), after: count(*after) })
        }
    }
}

/// A server's answer about sealed channels; `None` if it is about something else, or cannot be read.
pub(super) fn understood(what: reply::What) -> Option<SealedReply> {
    use reply::What;
    Some(match what {
        What::Stored(it) => SealedReply::Committed {
            stream: ChannelId(it.stream.checked_sub(1)?),
            stamp: Stamp { seq: it.seq, ts: UnixMillis(it.stamp_ms) },
            epoch: it.epoch,
        },
        What::KeyPackageStock(it) => {
            SealedReply::Stock { left: it.left as usize, last_resort: it.last_resort }
        }
        What::KeyPackages(it) => SealedReply::KeyPackages(
            it.packages
                .into_iter()
                .map(|one| {
                    Some(KeyPackage {
                        user: UserId(one.user_id.checked_sub(1)?),
                        machine: MachineId(one.machine_id.checked_sub(1)?),
                        package: some(one.package),
                        last_resort: one.last_resort,
                    })
                })
                .collect::<Option<_>>()?,
        ),
        What::Group(it) => SealedReply::Group(GroupState {
            stream: ChannelId(it.stream.checked_sub(1)?),
            suite: it.suite,
            id: Opaque(it.group_id),
            epoch: it.epoch,
            info: Opaque(it.group_info),
            machines: machines(&it.machines),
            removals: machines(&it.removals_due),
            additions: machines(&it.additions_due),
        }),
        What::Welcomes(it) => SealedReply::Welcomes {
            welcomes: it
                .welcomes
                .into_iter()
                .map(|one| {
                    let (stream, welcome) = (ChannelId(one.stream.checked_sub(1)?), Opaque(one.welcome));
                    Some(WaitingWelcome { stream, epoch: one.epoch, welcome })
                })
                .collect::<Option<_>>()?,
            more: it.more,
        },
        What::Roster(it) => SealedReply::Roster {
            user: UserId(it.user_id.checked_sub(1)?),
            entries: it
                .entries
                .into_iter()
                .map(|one| {
                    let signature = Opaque(one.signature[..].try_into().ok()?);
                    Some(RosterEntry { entry: Opaque(one.entry), signature })
                })
                .collect::<Option<_>>()?,
            more: it.more,
        },
        _ => return None,
    })
}

fn some(bytes: Bytes) -> Option<Blob> {
    Some(bytes).filter(|bytes| !bytes.is_empty()).map(Opaque)
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(super) fn numbers(machines: &[MachineId]) -> Vec<u64> {
    machines.iter().map(|machine| number(machine.0)).collect()
}

pub(super) fn machines(numbers: &[u64]) -> Vec<MachineId> {
    numbers.iter().filter_map(|number| number.checked_sub(1)).map(MachineId).collect()
}
