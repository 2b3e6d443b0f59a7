//! What an administrator's request leads to, by the rules.

use conclave_core::name::{ChannelName, UserName};
use conclave_core::protocol::{Admin, KickTarget};
use conclave_core::time::UnixMillis;

use super::decide::{Judged, Verdict};
use super::{Answer, Asker, Channel, Kind, Model};

impl Model {
    pub(super) fn administer(&mut self, asker: &Asker, admin: &Admin) -> Judged {
        let limits = self.config.limits.clone();
        let wall = self.now.wall.0;
        let done = |what: &dyn ToString| Ok(Verdict::Answer(Answer::Done(what.to_string())));
        let no = Err(Kind::Unauthorized);
        match admin {
            Admin::CreateChannel { name, .. } => {
                let created = self.channels.iter().filter(|one| one.creator == asker.user).count();
                if self.taken(name) || created >= limits.channels_per_user {
                    return no;
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
                    return no;
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
                    return no;
                }
            }
            Admin::AclRemove { channel, user } => {
                let found = self.administered(asker, channel)?;
                let (id, channel) = (self.user(user)?, found.id);
                if found.creator == id {
                    return no;
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
                    return no;
                }
                if found.banned.contains(&id) {
                    return done(user);
                }
                if found.banned.len() >= limits.bans_per_channel {
                    return no;
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
                    return Err(Kind::NotFound);
                }
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
                if *uses == Some(0) || endless {
                    return Err(Kind::Malformed);
                }
                if found.invites.iter().filter(|one| one.is_valid(wall)).count() >= limits.invites_per_channel
                {
                    return no;
                }
            }
            Admin::InviteRevoke { token } => {
                let of =
                    self.channels.iter().find(|one| one.invites.iter().any(|it| it.token == token.expose()));
                if !of.is_some_and(|channel| self.administers(asker, channel)) {
                    return done(&token.expose());
                }
            }
            Admin::UserRemove { user } => {
                if !self.is_admin(&asker.name) {
                    return no;
                }
                self.user(user)?;
            }
            Admin::MachineAdd { name, key } => {
                let enrolled =
                    self.users.iter().any(|user| user.machines.iter().any(|(_, other)| other == key));
                let own = &self.users.iter().find(|user| user.id == asker.user).unwrap().machines;
                let named = own.iter().any(|(other, _)| other == name.as_str());
                if enrolled || named || own.len() >= limits.machines_per_user {
                    return no;
                }
            }
            Admin::MachineRemove { name } => {
                let own = &self.users.iter().find(|user| user.id == asker.user).unwrap().machines;
                if !own.iter().any(|(other, _)| other == name.as_str()) {
                    return Err(Kind::NotFound);
                }
                if own.len() == 1 {
                    return no;
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

    fn administered(&self, asker: &Asker, name: &ChannelName) -> Result<&Channel, Kind> {
        let found = self.visible(asker, name)?;
        if self.administers(asker, found) { Ok(found) } else { Err(Kind::Unauthorized) }
    }

    pub(super) fn user(&self, name: &UserName) -> Result<u64, Kind> {
        self.users.iter().find(|user| user.name == name.as_str()).map(|user| user.id).ok_or(Kind::NotFound)
    }

    fn names(&self, ids: &[u64]) -> Vec<String> {
        let mut names: Vec<_> = ids.iter().map(|id| self.name_of(*id)).collect();
        names.sort();
        names
    }
}
