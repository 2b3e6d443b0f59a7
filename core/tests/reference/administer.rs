//! What an administrator's request leads to, by the rules.

use conclave_core::name::{ChannelName, Name, UserName};
use conclave_core::protocol::{Admin, KickTarget, Limit, Refusal};
use conclave_core::time::UnixMillis;

use super::decide::{Judged, Verdict};
use super::{Answer, Asker, Channel, Model};

impl Model {
    pub(super) fn administer(&mut self, asker: &Asker, admin: &Admin) -> Judged {
        let limits = self.config.limits.clone();
        let wall = self.now.wall.0;
        let done = |what: &dyn ToString| Ok(Verdict::Answer(Answer::Done(what.to_string())));
        let full = |limit, most| Err(Refusal::Full { limit, most });
        let taken = |name: Name| Err(Refusal::NameTaken(name));
        match admin {
            Admin::CreateChannel { name, .. } => {
                let created = self.channels.iter().filter(|one| one.creator == asker.user).count();
                if self.taken(name) {
                    return taken(name.clone().into());
                }
                if created >= limits.channels_per_user {
                    return full(Limit::UserChannels, limits.channels_per_user);
                }
            }
            Admin::DeleteChannel { name } => {
                self.administered(asker, name)?;
            }
            Admin::RenameChannel { name, new_name } => {
                self.administered(asker, name)?;
                if name == new_name {
                    return done(new_name);
                }
                if self.taken(new_name) {
                    return taken(new_name.clone().into());
                }
            }
            Admin::SetVisibility { name, visibility } => {
                if self.administered(asker, name)?.visibility == *visibility {
                    return done(name);
                }
            }
            Admin::AclAdd { channel, user } => {
                let found = self.administered(asker, channel)?;
                if found.members.contains(&self.user(user)?) {
                    return done(user);
                }
                if found.members.len() >= limits.members_per_channel {
                    return full(Limit::ChannelMembers, limits.members_per_channel);
                }
            }
            Admin::AclRemove { channel, user } => {
                let found = self.administered(asker, channel)?;
                let (id, channel) = (self.user(user)?, found.id);
                if found.creator == id {
                    return Err(Refusal::CreatorStays);
                }
                if !found.members.contains(&id) {
                    self.remove_from(id, channel);
                    return done(user);
                }
            }
            Admin::Ban { channel, user } => {
                let found = self.administered(asker, channel)?;
                let id = self.user(user)?;
                if found.creator == id || self.is_admin(user.as_str()) {
                    return Err(Refusal::AdminBan);
                }
                if found.banned.contains(&id) {
                    return done(user);
                }
                if found.banned.len() >= limits.bans_per_channel {
                    return full(Limit::ChannelBans, limits.bans_per_channel);
                }
            }
            Admin::Unban { channel, user } => {
                let found = self.administered(asker, channel)?;
                if !found.banned.contains(&self.user(user)?) {
                    return done(user);
                }
            }
            Admin::Kick { channel, target } => {
                let id = self.administered(asker, channel)?.id;
                let meant = |path: &conclave_core::name::SessionPath| match target {
                    KickTarget::User(user) => path.user == *user,
                    KickTarget::Session(target) => path == target,
                };
                let there = |one: &&mut super::Session| meant(&one.path) && one.channels.contains(&id);
                let mut kicked = 0;
                for session in self.sessions.iter_mut().filter(there) {
                    session.channels.retain(|other| *other != id);
                    kicked += 1;
                }
                if kicked == 0 {
                    let target = Box::new(target.clone());
                    return Err(Refusal::NotInChannel { target, channel: channel.clone() });
                }
                self.noted = true;
                return done(target);
            }
            Admin::AclList { channel } => {
                let found = self.administered(asker, channel)?;
                return Ok(Verdict::Answer(Answer::Users(self.names(&found.members))));
            }
            Admin::BanList { channel } => {
                let found = self.administered(asker, channel)?;
                return Ok(Verdict::Answer(Answer::Users(self.names(&found.banned))));
            }
            Admin::InviteList { channel } => {
                let found = self.administered(asker, channel)?;
                let mut invites: Vec<_> = found.invites.iter().filter(|one| one.is_valid(wall)).collect();
                invites.sort_by_key(|one| (one.created, &one.token));
                let list =
                    invites.into_iter().map(|one| (one.token.clone(), one.uses, one.expires)).collect();
                return Ok(Verdict::Answer(Answer::Invites(list)));
            }
            Admin::InviteCreate { channel, uses, lifetime } => {
                let found = self.administered(asker, channel)?;
                let most = i128::from(UnixMillis::MAX.0);
                let endless =
                    lifetime.is_some_and(|lifetime| i128::from(wall) + lifetime.as_millis() as i128 > most);
                if *uses == Some(0) {
                    return Err(Refusal::InviteWithoutUses);
                }
                if endless {
                    return Err(Refusal::InviteLifetime);
                }
                if found.invites.iter().filter(|one| one.is_valid(wall)).count() >= limits.invites_per_channel
                {
                    return full(Limit::ChannelInvites, limits.invites_per_channel);
                }
            }
            Admin::InviteRevoke { token } => {
                let of =
                    self.channels.iter().find(|one| one.invites.iter().any(|it| it.token == token.expose()));
                if !of.is_some_and(|channel| self.administers(asker, channel)) {
                    return done(&token.expose());
                }
            }
            Admin::CreateSealedChannel { .. }
            | Admin::UserInvite { .. }
            | Admin::UserInviteList
            | Admin::Audit { .. }
            | Admin::NameRelease { .. } => {
                unreachable!("these sessions speak version 1")
            }
            Admin::UserRemove { user } => {
                if !self.is_admin(&asker.name) {
                    return Err(Refusal::NotServerAdmin);
                }
                self.user(user)?;
            }
            Admin::MachineAdd { name, key } => {
                let enrolled =
                    self.users.iter().any(|user| user.machines.iter().any(|(_, other)| other == key));
                let own = &self.users.iter().find(|user| user.id == asker.user).unwrap().machines;
                let named = own.iter().any(|(other, _)| other == name.as_str());
                if enrolled {
                    return Err(Refusal::KeyTaken);
                }
                if named {
                    return taken(name.clone().into());
                }
                if own.len() >= limits.machines_per_user {
                    return full(Limit::UserMachines, limits.machines_per_user);
                }
            }
            Admin::MachineRemove { name } => {
                let own = &self.users.iter().find(|user| user.id == asker.user).unwrap().machines;
                if !own.iter().any(|(other, _)| other == name.as_str()) {
                    return Err(Refusal::NoMachine(name.clone()));
                }
                if own.len() == 1 {
                    return Err(Refusal::LastMachine);
                }
            }
        }
        Ok(Verdict::Change)
    }

    /// Ends a user's subscriptions to a channel.
    pub(super) fn remove_from(&mut self, user: u64, channel: u64) {
        for session in self.sessions.iter_mut().filter(|one| one.user == user) {
            session.channels.retain(|other| *other != channel);
        }
    }

    fn taken(&self, name: &ChannelName) -> bool {
        self.channels.iter().any(|one| one.name == name.as_str())
    }

    fn administers(&self, asker: &Asker, channel: &Channel) -> bool {
        self.is_admin(&asker.name) || channel.creator == asker.user
    }

    fn administered(&self, asker: &Asker, name: &ChannelName) -> Result<&Channel, Refusal> {
        let found = self.visible(asker, name)?;
        if self.administers(asker, found) { Ok(found) } else { Err(Refusal::NotChannelAdmin(name.clone())) }
    }

    pub(super) fn user(&self, name: &UserName) -> Result<u64, Refusal> {
        let found = self.users.iter().find(|user| user.name == name.as_str());
        found.map(|user| user.id).ok_or_else(|| Refusal::NoUser(name.clone()))
    }

    fn names(&self, ids: &[u64]) -> Vec<String> {
        let mut names: Vec<_> = ids.iter().map(|id| self.name_of(*id)).collect();
        names.sort();
        names
    }
}
