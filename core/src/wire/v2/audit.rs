//! The audit trail on version 2's wire.

use alloc::string::String;
use alloc::sync::Arc;

use super::client::decode;
use super::convert;
use super::schema as pb;
use crate::audit::{Act, Deed, Entry};
use crate::name::{ChannelName, foreign};
use crate::record::{ChannelId, UserId};
use crate::time::UnixMillis;

/// Each act in both tongues.
const ACTS: [(Act, pb::AuditAct); 20] = [
    (Act::Registered, pb::AuditAct::Registered),
    (Act::UserRemoved, pb::AuditAct::UserRemoved),
    (Act::UserInvited, pb::AuditAct::UserInvited),
    (Act::UserInviteUsed, pb::AuditAct::UserInviteUsed),
    (Act::UserInviteRevoked, pb::AuditAct::UserInviteRevoked),
    (Act::MachineAdded, pb::AuditAct::MachineAdded),
    (Act::MachineRemoved, pb::AuditAct::MachineRemoved),
    (Act::ChannelCreated, pb::AuditAct::ChannelCreated),
    (Act::ChannelDeleted, pb::AuditAct::ChannelDeleted),
    (Act::ChannelRenamed, pb::AuditAct::ChannelRenamed),
    (Act::VisibilitySet, pb::AuditAct::VisibilitySet),
    (Act::MemberAdded, pb::AuditAct::MemberAdded),
    (Act::MemberRemoved, pb::AuditAct::MemberRemoved),
    (Act::Banned, pb::AuditAct::Banned),
    (Act::Unbanned, pb::AuditAct::Unbanned),
    (Act::Kicked, pb::AuditAct::Kicked),
    (Act::InviteCreated, pb::AuditAct::InviteCreated),
    (Act::InviteUsed, pb::AuditAct::InviteUsed),
    (Act::InviteRevoked, pb::AuditAct::InviteRevoked),
    (Act::NameReleased, pb::AuditAct::NameReleased),
];

/// An entry as it goes to the client.
pub(super) fn entry(entry: &Entry) -> pb::AuditEntry {
    let Entry { number, deed } = entry;
    let act =
        ACTS.iter().find(|(act, _)| *act == deed.act).map_or(pb::AuditAct::Unspecified, |(_, act)| *act);
    let channel = deed.channel.as_ref();
    pb::AuditEntry {
        number: *number,
        at_ms: deed.at.0,
        by: Some(pb::Participant {
            user_id: convert::number(deed.user.0),
            ..convert::participant(&deed.by, None)
        }),
        act: act as i32,
        channel: channel.map_or(String::new(), |(_, name)| name.as_str().into()),
        stream: channel.map_or(0, |(channel, _)| convert::number(channel.0)),
        subject: deed.subject.clone().unwrap_or_default(),
    }
}

/// An entry as the client understands it; `None` for an act that this program does not know.
pub(super) fn understood(entry: pb::AuditEntry) -> Option<Entry> {
    let by = entry.by?;
    let (act, _) = ACTS.iter().find(|(_, act)| *act as i32 == entry.act)?;
    let stream = entry.stream.checked_sub(1).map(ChannelId);
    let most = entry.subject.floor_char_boundary(crate::wire::MAX_ERROR_TEXT);
    let deed = Deed {
        at: UnixMillis(entry.at_ms),
        by: Arc::new(decode::path(&by)),
        user: UserId(by.user_id.checked_sub(1)?),
        act: *act,
        channel: stream.map(|stream| (stream, foreign(&entry.channel, ChannelName::new))),
        subject: Some(entry.subject[..most].into()).filter(|subject: &String| !subject.is_empty()),
    };
    Some(Entry { number: entry.number, deed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::SessionPath;

    #[test]
    fn every_act_is_told_and_understood() {
        for act in Act::ALL {
            assert_eq!(Act::named(act.as_str()), Some(*act));
            let deed = Deed {
                at: UnixMillis(7),
                by: Arc::new(SessionPath::new("ann", "m", "s").unwrap()),
                user: UserId(3),
                act: *act,
                channel: Some((ChannelId(0), ChannelName::new("ops").unwrap())),
                subject: Some("bea".into()),
            };
            let told = Entry { number: 5, deed };
            assert_eq!(understood(entry(&told)), Some(told));
        }
    }
}
