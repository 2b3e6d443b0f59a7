//! Administration: what changes channels, members, users and machines.
//!
//! Every operation on a channel first asks whether the asker may see it: callers without access
//! get the same error as for a missing channel.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::commit::{Change, FollowUp};
use super::decide::{Asker, done};
use super::{Action, Hub};
use crate::directory::Channel;
use crate::name::{ChannelName, UserName};
use crate::protocol::{Admin, InviteInfo, KickTarget, Limit, Refusal, Reply, Token, Visibility};
use crate::record::{ChannelId, Record, Stamp, UserId};
use crate::sealed::NewGroup;
use crate::stream::EndReason;
use crate::time::{Now, UnixMillis};

impl Hub {
    /// Decides an operation: an answer, or none if it comes with the change that it led to.
    pub(super) fn administrate(
        &mut self,
        now: Now,
        asker: &Asker,
        admin: Admin,
        fresh: Option<Token>,
        actions: &mut Vec<Action>,
    ) -> Result<Option<Reply>, Refusal> {
        let (records, answer) = match admin {
            Admin::CreateChannel { name, visibility } => {
                self.create_channel(now, asker, name, visibility, None)?
            }
            Admin::CreateSealedChannel { name, visibility, group } => {
                self.create_channel(now, asker, name, visibility, Some(group))?
            }
            Admin::DeleteChannel { name } => {
                let (channel, _) = self.administered(asker, &name)?;
                let mut records = alloc::vec![Record::ChannelDeleted { channel }];
                records.extend(self.hold_back(now.wall, self.freed_channel(channel).into_iter().collect()));
                (records, done(name))
            }
            Admin::RenameChannel { name, new_name } => {
                let (channel, _) = self.administered(asker, &name)?;
                let answer = done(&new_name);
                if name == new_name {
                    return Ok(Some(answer));
                }
                let mut records = self.channel_name_free(now.wall, asker, &new_name, Some(channel))?;
                records.insert(0, Record::ChannelRenamed { channel, name: new_name });
                records.extend(self.hold_back(now.wall, self.freed_channel(channel).into_iter().collect()));
                (records, answer)
            }
            Admin::SetVisibility { name, visibility } => {
                let (channel, found) = self.administered(asker, &name)?;
                if found.visibility == visibility {
                    return Ok(Some(done(name)));
                }
                (alloc::vec![Record::VisibilitySet { channel, visibility }], done(name))
            }
            Admin::AclAdd { channel: name, user } => {
                let (channel, found) = self.administered(asker, &name)?;
                let id = self.user_id(&user)?;
                let mut records = Vec::new();
                if found.banned.contains(&id) {
                    records.push(Record::Unbanned { channel, user: id });
                }
                if !found.members.contains(&id) {
                    let most = self.config.limits.members_per_channel;
                    if found.members.len() >= most {
                        return Err(Refusal::Full { limit: Limit::ChannelMembers, most });
                    }
                    records.push(Record::MemberAdded { channel, user: id });
                }
                (records, done(user))
            }
            Admin::AclRemove { channel: name, user } => {
                let (channel, found) = match self.leaves_group(asker, &name, &user) {
                    Some(left) => left,
                    None => self.administered(asker, &name)?,
                };
                let id = self.user_id(&user)?;
                if id == found.creator {
                    return Err(Refusal::CreatorStays);
                }
                if !found.members.contains(&id) {
                    self.unsubscribe_user(id, channel, EndReason::Removed, actions);
                    return Ok(Some(done(user)));
                }
                (alloc::vec![Record::MemberRemoved { channel, user: id }], done(user))
            }
            Admin::Ban { channel: name, user } => {
                let (channel, found) = self.administered(asker, &name)?;
                let id = self.user_id(&user)?;
                if id == found.creator || self.is_admin(&user) {
                    return Err(Refusal::AdminBan);
                }
                if found.banned.contains(&id) {
                    return Ok(Some(done(user)));
                }
                let most = self.config.limits.bans_per_channel;
                if found.banned.len() >= most {
                    return Err(Refusal::Full { limit: Limit::ChannelBans, most });
                }
                let mut records = Vec::new();
                if found.members.contains(&id) {
                    records.push(Record::MemberRemoved { channel, user: id });
                }
                records.push(Record::Banned { channel, user: id });
                (records, done(user))
            }
            Admin::Unban { channel: name, user } => {
                let (channel, found) = self.administered(asker, &name)?;
                let id = self.user_id(&user)?;
                if !found.banned.contains(&id) {
                    return Ok(Some(done(user)));
                }
                (alloc::vec![Record::Unbanned { channel, user: id }], done(user))
            }
            Admin::Kick { channel: name, target } => {
                return self.kick(now, asker, &name, &target, actions).map(Some);
            }
            Admin::AclList { channel } => {
                let (_, found) = self.administered(asker, &channel)?;
                return Ok(Some(Reply::Users(self.names(found.members.iter()))));
            }
            Admin::BanList { channel } => {
                let (_, found) = self.administered(asker, &channel)?;
                return Ok(Some(Reply::Users(self.names(found.banned.iter()))));
            }
            Admin::InviteList { channel } => {
                let (_, found) = self.administered(asker, &channel)?;
                return Ok(Some(Reply::Invites(valid_invites(found, now.wall))));
            }
            Admin::InviteCreate { channel: name, uses, lifetime } => {
                let (channel, found) = self.administered(asker, &name)?;
                if uses == Some(0) {
                    return Err(Refusal::InviteWithoutUses);
                }
                let expires = lifetime.map(|lifetime| expiry(now.wall, lifetime)).transpose()?;
                let mut records: Vec<Record> = found
                    .invites
                    .iter()
                    .filter(|(_, invite)| !invite.is_valid(now.wall))
                    .map(|(token, _)| Record::InviteRevoked { channel, token: token.clone() })
                    .collect();
                let most = self.config.limits.invites_per_channel;
                if found.invites.len() - records.len() >= most {
                    return Err(Refusal::Full { limit: Limit::ChannelInvites, most });
                }
                // Nobody has more than are left, so that some are left for everybody.
                let (own, all) = (self.directory.invites_by(found.creator), self.directory.invite_count());
                let left = self.config.limits.invites.saturating_sub(all);
                if own >= left {
                    return Err(Refusal::Full { limit: Limit::ChannelInvites, most: left });
                }
                let Some(token) = fresh.filter(|token| self.directory.invite(token).is_none()) else {
                    return Err(Refusal::NoFreshToken);
                };
                let answer = Reply::Invite(token.clone());
                records.push(Record::InviteCreated { channel, token, uses, expires, at: now.wall });
                (records, answer)
            }
            Admin::InviteRevoke { token } => {
                let answer = done(token.expose());
                let administered =
                    |id| self.directory.channel(id).is_some_and(|channel| asker.administers(channel));
                let of_server = self.user_invite_named(asker, &token);
                // Whoever may not revoke it is told what is told of a token that does not exist.
                match (self.directory.invite(&token), of_server) {
                    (Some((channel, _)), _) if administered(channel) => {
                        (alloc::vec![Record::InviteRevoked { channel, token }], answer)
                    }
                    (_, Some(invite)) => (alloc::vec![Record::UserInviteRevoked { invite }], answer),
                    _ => return Ok(Some(answer)),
                }
            }
            Admin::UserInvite { uses, lifetime } => self.invite_user(now, asker, uses, lifetime, fresh)?,
            Admin::Audit { channel, before, limit } => {
                return self.read_trail(asker, channel.as_ref(), before, limit, actions);
            }
            Admin::UserInviteList => return self.list_user_invites(now, asker).map(Some),
            Admin::UserRemove { user } => {
                if !asker.admin {
                    return Err(Refusal::NotServerAdmin);
                }
                let id = self.user_id(&user)?;
                let created = self.directory.user(id).into_iter().flat_map(|user| &user.channels).copied();
                let mut records: Vec<Record> = created
                    .filter(|channel| self.directory.channel(*channel).is_some_and(|it| it.creator == id))
                    .map(|channel| Record::ChannelDeleted { channel })
                    .collect();
                let channels = records.iter().filter_map(|record| match record {
                    Record::ChannelDeleted { channel } => self.freed_channel(*channel),
                    _ => None,
                });
                let freed = channels.chain(self.freed_user(id)).collect();
                records.push(Record::UserRemoved { user: id });
                records.extend(self.hold_back(now.wall, freed));
                (records, done(user))
            }
            Admin::NameRelease { name } => (self.release_name(asker, &name)?, done(name)),
            Admin::MachineAdd { name, key } => {
                self.fits(name.as_str())?;
                if self.directory.machine_with(&key).is_some() {
                    return Err(Refusal::KeyTaken);
                }
                let most = self.config.limits.machines_per_user;
                let machines =
                    self.directory.user(asker.user).map(|user| &*user.machines).unwrap_or_default();
                if machines.iter().any(|machine| machine.name == name) {
                    return Err(Refusal::NameTaken(name.into()));
                }
                if machines.len() >= most {
                    return Err(Refusal::Full { limit: Limit::UserMachines, most });
                }
                let (machine, user, at) = (self.next_machine(), asker.user, now.wall);
                let answer = done(&name);
                (alloc::vec![Record::MachineAdded { machine, user, name, key, at }], answer)
            }
            Admin::MachineRemove { name } => {
                let machines =
                    self.directory.user(asker.user).map(|user| &*user.machines).unwrap_or_default();
                let Some(machine) = machines.iter().find(|machine| machine.name == name) else {
                    return Err(Refusal::NoMachine(name));
                };
                if machines.len() == 1 {
                    return Err(Refusal::LastMachine);
                }
                let (user, machine) = (asker.user, machine.id);
                (alloc::vec![Record::MachineRemoved { user, machine }], done(name))
            }
        };
        if records.is_empty() {
            return Ok(Some(answer));
        }
        let follow_up = FollowUp::Reply { conn: asker.conn, request: asker.request, reply: answer };
        self.propose(Change { records, follow_up });
        Ok(None)
    }

    fn create_channel(
        &self,
        now: Now,
        asker: &Asker,
        name: ChannelName,
        visibility: Visibility,
        group: Option<NewGroup>,
    ) -> Result<(Vec<Record>, Reply), Refusal> {
        let released = self.channel_name_free(now.wall, asker, &name, None)?;
        let most = self.config.limits.channels_per_user;
        let created = self.directory.user(asker.user).map_or(0, |user| user.created as usize);
        if created >= most {
            return Err(Refusal::Full { limit: Limit::UserChannels, most });
        }
        let (channel, creator, at) = (self.next_channel(), asker.user, now.wall);
        let last = Stamp::default();
        let answer = done(&name);
        let mut records = alloc::vec![
            Record::ChannelCreated { channel, name, visibility, creator, at, last },
            Record::MemberAdded { channel, user: creator },
        ];
        if let Some(group) = group {
            records.extend(self.new_group(asker, channel, group)?);
        }
        records.extend(released);
        Ok((records, answer))
    }

    /// The sealed channel that the asker leaves for good: whoever is in a group may leave it.
    fn leaves_group(
        &self,
        asker: &Asker,
        name: &ChannelName,
        user: &UserName,
    ) -> Option<(ChannelId, &Channel)> {
        let (id, channel) = self.visible(asker, name).ok()?;
        let own = *user == asker.path.user && channel.members.contains(&asker.user);
        (own && self.directory.group(id).is_some()).then_some((id, channel))
    }

    fn kick(
        &mut self,
        now: Now,
        asker: &Asker,
        name: &ChannelName,
        target: &KickTarget,
        actions: &mut Vec<Action>,
    ) -> Result<Reply, Refusal> {
        let (channel, _) = self.administered(asker, name)?;
        self.may_note()?;
        let ended = match target {
            KickTarget::User(user) => match self.directory.user_named(user.as_str()) {
                Some((id, _)) => self.unsubscribe_user(id, channel, EndReason::Kicked, actions),
                None => 0,
            },
            KickTarget::Session(path) => match self.paths.get(path).copied() {
                Some(conn) => usize::from(self.end_subscription(conn, channel, EndReason::Kicked, actions)),
                None => 0,
            },
        };
        if ended == 0 {
            let target = Box::new(target.clone());
            return Err(Refusal::NotInChannel { target, channel: name.clone() });
        }
        self.note_kick(now, asker, channel, target);
        Ok(done(target))
    }

    /// The channel of this name, if the asker administers it.
    pub(super) fn administered(
        &self,
        asker: &Asker,
        name: &ChannelName,
    ) -> Result<(ChannelId, &Channel), Refusal> {
        let (id, channel) = self.visible(asker, name)?;
        if asker.administers(channel) {
            Ok((id, channel))
        } else {
            Err(Refusal::NotChannelAdmin(name.clone()))
        }
    }

    fn user_id(&self, name: &UserName) -> Result<UserId, Refusal> {
        self.directory
            .user_named(name.as_str())
            .map(|(id, _)| id)
            .ok_or_else(|| Refusal::NoUser(name.clone()))
    }

    fn names<'a>(&self, users: impl Iterator<Item = &'a UserId>) -> Vec<UserName> {
        let mut names: Vec<UserName> =
            users.filter_map(|user| Some(self.directory.user(*user)?.name.clone())).collect();
        names.sort_unstable();
        names
    }
}

fn valid_invites(channel: &Channel, wall: UnixMillis) -> Vec<InviteInfo> {
    let mut invites: Vec<_> = channel.invites.iter().filter(|(_, invite)| invite.is_valid(wall)).collect();
    invites.sort_by_key(|(_, invite)| invite.created);
    invites
        .into_iter()
        .map(|(token, invite)| InviteInfo {
            token: token.clone(),
            uses: invite.uses,
            expires: invite.expires,
        })
        .collect()
}

pub(super) fn expiry(wall: UnixMillis, lifetime: core::time::Duration) -> Result<UnixMillis, Refusal> {
    i64::try_from(lifetime.as_millis())
        .ok()
        .and_then(|lifetime| wall.0.checked_add(lifetime))
        .map(UnixMillis)
        .filter(|at| *at <= UnixMillis::MAX)
        .ok_or(Refusal::InviteLifetime)
}
