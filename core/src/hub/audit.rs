//! The audit trail: what is noted of a change, and who may read it.

use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::decide::Asker;
use super::{Action, AuditRead, Hub, reply};
use crate::audit::{Act, Deed, Entry};
use crate::name::{ChannelName, SessionPath};
use crate::protocol::{KickTarget, Refusal, Reply};
use crate::record::{ChannelId, MachineId, Record, UserId};
use crate::time::{Now, UnixMillis};

/// Kicks that wait to be noted: past so many, a kick is refused until the store has taken some.
const NOTES: usize = 1024;

/// Who does something.
pub(super) type By = (UserId, Arc<SessionPath>);

impl Hub {
    /// The records of a change with those that tell who made it.
    pub(super) fn noted(&self, wall: UnixMillis, by: By, mut records: Vec<Record>) -> Vec<Record> {
        let deeds: Vec<_> = records.iter().filter_map(|record| self.deed(record, &records)).collect();
        let (user, path) = by;
        records.extend(deeds.into_iter().map(|(act, channel, subject)| {
            Record::Audited(Arc::new(Deed { at: wall, by: path.clone(), user, act, channel, subject }))
        }));
        records
    }

    /// What a record of a change is noted as. What only goes with another record of the change is not noted by itself.
    #[allow(clippy::type_complexity, reason = "the parts of a deed that a record tells")]
    fn deed(
        &self,
        record: &Record,
        change: &[Record],
    ) -> Option<(Act, Option<(ChannelId, ChannelName)>, Option<String>)> {
        let with = |other: fn(&Record) -> bool| change.iter().any(other);
        let named = |channel: &ChannelId| {
            Some((*channel, self.directory.channel(*channel).map(|found| found.name.clone())?))
        };
        let user = |user: &UserId| self.directory.user(*user).map(|found| found.name.to_string());
        Some(match record {
            Record::NameReleased { name } => {
                let goes_with = with(|other| !matches!(other, Record::NameReleased { .. }));
                (!goes_with).then(|| (Act::NameReleased, None, Some(String::from(name.as_str()))))?
            }
            Record::UserAdded { .. } => (Act::Registered, None, None),
            Record::UserRemoved { user: whom } => (Act::UserRemoved, None, user(whom)),
            Record::UserInviteCreated { invite, .. } => (Act::UserInvited, None, Some(invite.id())),
            Record::UserInviteUsed { invite } => (Act::UserInviteUsed, None, Some(invite.id())),
            Record::UserInviteRevoked { invite } => {
                // Those that had ended go when another is made.
                let tidies = with(|other| matches!(other, Record::UserInviteCreated { .. }));
                (!tidies).then(|| (Act::UserInviteRevoked, None, Some(invite.id())))?
            }
            Record::MachineAdded { name, .. } => {
                let registers = with(|other| matches!(other, Record::UserAdded { .. }));
                (!registers).then(|| (Act::MachineAdded, None, Some(name.to_string())))?
            }
            Record::MachineRemoved { user, machine } => {
                (Act::MachineRemoved, None, self.machine_name(*user, *machine))
            }
            Record::ChannelCreated { channel, name, visibility, .. } => {
                (Act::ChannelCreated, Some((*channel, name.clone())), Some(visibility.to_string()))
            }
            Record::ChannelDeleted { channel } => (Act::ChannelDeleted, named(channel), None),
            Record::ChannelRenamed { channel, name } => {
                (Act::ChannelRenamed, named(channel), Some(name.to_string()))
            }
            Record::VisibilitySet { channel, visibility } => {
                (Act::VisibilitySet, named(channel), Some(visibility.to_string()))
            }
            Record::MemberAdded { channel, user: whom } => {
                let follows = |other: &Record| {
                    matches!(other, Record::ChannelCreated { .. } | Record::InviteUsed { .. })
                };
                (!with(follows)).then(|| (Act::MemberAdded, named(channel), user(whom)))?
            }
            Record::MemberRemoved { channel, user: whom } => {
                let banned = with(|other| matches!(other, Record::Banned { .. }));
                (!banned).then(|| (Act::MemberRemoved, named(channel), user(whom)))?
            }
            Record::Banned { channel, user: whom } => (Act::Banned, named(channel), user(whom)),
            Record::Unbanned { channel, user: whom } => (Act::Unbanned, named(channel), user(whom)),
            Record::InviteCreated { channel, .. } => (Act::InviteCreated, named(channel), None),
            Record::InviteUsed { channel, .. } => (Act::InviteUsed, named(channel), None),
            Record::InviteRevoked { channel, .. } => {
                let tidies = with(|other| matches!(other, Record::InviteCreated { .. }));
                (!tidies).then(|| (Act::InviteRevoked, named(channel), None))?
            }
            _ => return None,
        })
    }

    fn machine_name(&self, user: UserId, machine: MachineId) -> Option<String> {
        let machines = &self.directory.user(user)?.machines;
        machines.iter().find(|one| one.id == machine).map(|one| one.name.to_string())
    }

    /// Whether there is room to note a kick.
    pub(super) fn may_note(&self) -> Result<(), Refusal> {
        let wait = Duration::from_secs(1);
        if self.receipts.notes() < NOTES { Ok(()) } else { Err(Refusal::TooFast { wait }) }
    }

    /// Notes a kick, which changes nothing else that is kept: with the next commit.
    pub(super) fn note_kick(&mut self, now: Now, asker: &Asker, channel: ChannelId, target: &KickTarget) {
        let name = self.directory.channel(channel).map(|found| found.name.clone());
        let (at, by, user) = (now.wall, asker.path.clone(), asker.user);
        let (channel, subject) = (name.map(|name| (channel, name)), Some(target.to_string()));
        let deed = Deed { at, by, user, act: Act::Kicked, channel, subject };
        self.receipts.note(Record::Audited(Arc::new(deed)));
    }

    /// Has a page of the trail read for whoever may: all of it for admins of the server, that of a channel for its own.
    pub(super) fn read_trail(
        &mut self,
        asker: &Asker,
        channel: Option<&ChannelName>,
        before: Option<u64>,
        limit: usize,
        actions: &mut Vec<Action>,
    ) -> Result<Option<Reply>, Refusal> {
        let channel = match channel {
            Some(name) => Some(self.administered(asker, name)?.0),
            None if asker.admin => None,
            None => return Err(Refusal::NotServerAdmin),
        };
        let most = self.config.limits.page_rows.max(1);
        let limit = if limit == 0 { most } else { limit.min(most) };
        let read = AuditRead { conn: asker.conn, request: asker.request, channel, before, limit };
        self.queue_audit(asker.user, read, actions);
        Ok(None)
    }

    /// Hands a page of the trail to whoever asked, if that one still may read it.
    pub(super) fn trail_read(
        &mut self,
        now: Now,
        read: &AuditRead,
        page: Result<Vec<Entry>, String>,
        actions: &mut Vec<Action>,
    ) {
        self.read_answered(actions);
        let Some(session) = self.sessions.get(&read.conn) else { return };
        let admin = self.is_admin(&session.path.user);
        let own = read.channel.and_then(|channel| self.directory.channel(channel));
        let may = admin || own.is_some_and(|channel| channel.creator == session.user);
        let answer = match page {
            _ if !may => Refusal::NotServerAdmin.into(),
            Ok(mut entries) => {
                let more = entries.len() > read.limit;
                entries.truncate(read.limit);
                Reply::Audit { entries, more }
            }
            Err(why) => Refusal::HistoryUnreadable { why }.into(),
        };
        self.charge(now, read.conn, answer.size());
        reply(actions, read.conn, read.request, answer);
    }
}
