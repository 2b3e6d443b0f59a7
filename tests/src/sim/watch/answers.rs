//! Which answer a request may have.

use conclave_core::hub::ConnId;
use conclave_core::name::{ChannelName, UserName};
use conclave_core::protocol::{Admin, ChannelInfo, Code, Command, KickTarget, Refusal, Reply, Visibility};
use conclave_core::record::{ChannelId, Record, UserId};
use conclave_core::stream::{EndReason, StreamCommand};
use conclave_core::time::UnixMillis;

use super::model::Channel;
use super::{Asked, Verdict, Watch};

/// Whether a refusal says nothing about what was asked for.
pub(super) fn is_passing(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::TooFast { .. } | Refusal::ShuttingDown | Refusal::SubscriptionEnded)
}

impl Watch {
    /// Checks an answer to anything but a post.
    pub(super) fn answered(&mut self, conn: ConnId, asked: &Asked, reply: &Reply) -> Verdict {
        if let Some(channel) = named(&asked.command) {
            self.silent(conn, &asked.command, &channel, reply)?;
        }
        if let Reply::Refused(refusal) = reply {
            return self.refused(conn, asked, refusal);
        }
        match (&asked.command, reply) {
            (Command::Join { channel, .. }, Reply::Joined(joined)) => {
                let (id, _) = self.entered(conn, channel)?;
                demand!(joined == channel, "{channel} was asked for and {joined} joined");
                self.subscribe(conn, id, &channel.clone());
                Ok(())
            }
            (Command::Leave { channel }, Reply::Done(_)) => {
                if let Some((id, _)) = self.model.channel_named(channel)
                    && let Some(session) = self.sessions.get_mut(&conn)
                {
                    session.subscriptions.remove(&id);
                }
                Ok(())
            }
            (Command::Who { channel }, Reply::Presence { sessions, .. }) => {
                let id = match channel {
                    Some(channel) => self.model.channel_named(channel).map(|(id, _)| id),
                    None => None,
                };
                let mut there: Vec<_> = self
                    .sessions
                    .values()
                    .filter(|session| {
                        channel.is_none() || id.is_some_and(|id| session.subscriptions.contains(&id))
                    })
                    .map(|session| session.path.clone())
                    .collect();
                there.sort_unstable();
                demand!(there == *sessions, "{sessions:?} are told to be in {channel:?}, and {there:?} are");
                Ok(())
            }
            (Command::Whisper { target, .. }, Reply::Sent) => {
                let handed = self.whispered.iter().any(|(_, to)| to == target);
                demand!(handed, "a whisper to {target} was acknowledged and not handed over");
                Ok(())
            }
            (Command::ListChannels, Reply::Channels(list)) => {
                let expected = self.listed(conn);
                demand!(*list == expected, "{list:?} was listed instead of {expected:?}");
                Ok(())
            }
            (Command::ListMachines, Reply::Machines(list)) => {
                let user = self.sessions.get(&conn).and_then(|session| self.model.users.get(&session.user));
                let known = user.map_or(0, |user| user.machines.len());
                demand!(list.len() == known, "{} machines were listed of {known}", list.len());
                Ok(())
            }
            (Command::ListUsers, Reply::Users(list)) => {
                demand!(self.is_server_admin(conn), "users were listed to somebody");
                demand!(list.len() == self.model.users.len(), "not all users were listed");
                Ok(())
            }
            (Command::ReadSince { channel, since }, Reply::History { channel: told, messages }) => {
                // It may have been renamed meanwhile.
                demand!(told == channel, "history of {channel} was asked for and of {told} was told");
                let Some((id, newest)) = asked.read else {
                    return Err(format!("history was read of {channel}, which is none"));
                };
                demand!(self.is_subscribed(conn, id), "history of {told} was read by who is not in it");
                let sorted = messages.is_sorted_by(|a, b| a.ts < b.ts);
                demand!(sorted && messages.iter().all(|one| one.ts > *since), "a page is out of order");
                let gone = self
                    .in_flight
                    .iter()
                    .flat_map(|batch| &batch.records)
                    .any(|record| matches!(record, Record::ChannelDeleted { channel } if *channel == id));
                demand!(
                    gone || !messages.is_empty() || newest <= *since || self.is_purged(id, newest),
                    "an empty page ends a history that goes on to {newest:?}"
                );
                Ok(())
            }
            (Command::Ping, Reply::Pong) => Ok(()),
            (Command::Admin(admin), reply) => {
                match admin {
                    Admin::Kick { channel, target } => self.kicked(channel, target, EndReason::Kicked),
                    // Who is no member may be subscribed all the same.
                    Admin::AclRemove { channel, user } => {
                        self.kicked(channel, &KickTarget::User(user.clone()), EndReason::Removed)
                    }
                    _ => {}
                }
                self.administrated(conn, admin, reply)
            }
            (command, reply) => Err(format!("{command:?} was answered {reply:?}")),
        }
    }

    /// Whoever may not see a channel is told what is told of one that does not exist.
    pub(super) fn silent(
        &mut self,
        conn: ConnId,
        command: &Command,
        channel: &ChannelName,
        reply: &Reply,
    ) -> Verdict {
        if let Command::Leave { .. } = command {
            return Ok(());
        }
        let invited = match command {
            Command::Join { token: Some(token), .. }
            | Command::Stream(StreamCommand::Subscribe { invite: Some(token), .. }) => {
                self.model.invite(token)
            }
            _ => None,
        };
        let visible = self.model.channel_named(channel).is_some_and(|(id, known)| {
            let banned = self.sessions.get(&conn).is_some_and(|session| known.banned.contains(&session.user));
            (invited == Some(id) && !banned) || self.sees(conn, id, known)
        });
        let refusal = match reply {
            Reply::Refused(refusal) => refusal,
            // What was deleted or left is not visible to who did it; successes are checked by themselves.
            _ => return Ok(()),
        };
        if is_passing(refusal) || refusal.code() == Code::Internal {
            return Ok(());
        }
        let text = refusal.to_string();
        let shape = format!("{refusal:?}").replace(&format!("{channel:?}"), "?");
        if self.model.channel_named(channel).is_none() {
            let absent = self.absent.get_or_insert_with(|| shape.clone());
            demand!(*absent == shape, "of the absent channel {channel} was said: {text}");
        } else if !visible {
            let absent = self.absent.get_or_insert_with(|| shape.clone());
            demand!(*absent == shape, "of {channel}, which it may not see, {conn:?} was told: {text}");
        } else if self.absent.as_ref() == Some(&shape) && !joins_by_invite(self, conn, command, channel) {
            return Err(format!("{conn:?} may see {channel} and was told that there is none"));
        }
        Ok(())
    }

    fn refused(&self, conn: ConnId, asked: &Asked, refusal: &Refusal) -> Verdict {
        match &asked.command {
            Command::Whisper { target, .. } if matches!(refusal, Refusal::Offline(_)) => {
                demand!(!self.paths.contains_key(target), "{target} is online and was told not to be");
            }
            Command::Ping | Command::Leave { .. } | Command::ListChannels | Command::ListMachines => {
                demand!(is_passing(refusal), "{:?} was refused: {refusal}", asked.command);
            }
            Command::ReadSince { channel, .. } if matches!(refusal, Refusal::NotSubscribed(_)) => {
                let inside =
                    self.model.channel_named(channel).is_some_and(|(id, _)| self.is_subscribed(conn, id));
                demand!(!inside, "{conn:?} is in {channel} and may not read it");
            }
            _ => {}
        }
        Ok(())
    }

    fn administrated(&self, conn: ConnId, admin: &Admin, reply: &Reply) -> Verdict {
        let administers = |name: &ChannelName| match self.model.channel_named(name) {
            Some((_, channel)) => self.administers(conn, channel.creator),
            None => self.model.gone.get(name).is_some_and(|creator| self.administers(conn, *creator)),
        };
        let user = |name: &UserName| self.model.user_named(name);
        let channel = |name: &ChannelName| self.model.channel_named(name).map(|(_, channel)| channel);
        let own = self.sessions.get(&conn).and_then(|session| self.model.users.get(&session.user));
        let done = match admin {
            Admin::CreateChannel { name, visibility } => {
                channel(name).is_some_and(|channel| channel.visibility == *visibility)
            }
            Admin::DeleteChannel { name } => administers(name) && channel(name).is_none(),
            Admin::RenameChannel { new_name, .. } => administers(new_name) && channel(new_name).is_some(),
            Admin::SetVisibility { name, visibility } => {
                administers(name) && channel(name).is_some_and(|channel| channel.visibility == *visibility)
            }
            Admin::AclAdd { channel: name, user: whom } => {
                administers(name)
                    && channel(name)
                        .zip(user(whom))
                        .is_some_and(|(it, user)| it.members.contains(&user) && !it.banned.contains(&user))
            }
            Admin::AclRemove { channel: name, user: whom } => {
                administers(name)
                    && channel(name).zip(user(whom)).is_some_and(|(it, user)| !it.members.contains(&user))
            }
            Admin::Ban { channel: name, user: whom } => {
                administers(name)
                    && channel(name)
                        .zip(user(whom))
                        .is_some_and(|(it, user)| !it.members.contains(&user) && it.banned.contains(&user))
            }
            Admin::Unban { channel: name, user: whom } => {
                administers(name)
                    && channel(name).zip(user(whom)).is_some_and(|(it, user)| !it.banned.contains(&user))
            }
            Admin::Kick { channel: name, .. } => administers(name),
            Admin::AclList { channel: name } => {
                administers(name)
                    && matches!(reply, Reply::Users(list)
                        if channel(name).is_some_and(|channel| channel.members.len() == list.len()))
            }
            Admin::BanList { channel: name } => {
                administers(name)
                    && matches!(reply, Reply::Users(list)
                        if channel(name).is_some_and(|channel| channel.banned.len() == list.len()))
            }
            Admin::InviteList { channel: name } => administers(name),
            Admin::InviteCreate { channel: name, .. } => {
                administers(name)
                    && matches!(reply, Reply::Invite(token)
                        if channel(name).is_some_and(|channel| channel.invites.contains_key(token)))
            }
            Admin::InviteRevoke { token } => match self.model.invite(token) {
                Some(id) => self
                    .model
                    .channels
                    .get(&id)
                    .is_some_and(|channel| !self.administers(conn, channel.creator)),
                None => true,
            },
            // Registration takes no invites here.
            Admin::CreateSealedChannel { .. } | Admin::UserInvite { .. } => false,
            Admin::UserInviteList | Admin::Audit { .. } => self.is_server_admin(conn),
            // Names are not held back here.
            Admin::NameRelease { .. } => self.is_server_admin(conn),
            Admin::UserRemove { user: whom } => self.is_server_admin(conn) && user(whom).is_none(),
            Admin::MachineAdd { name, key } => {
                own.is_some_and(|own| own.machines.values().any(|one| one.0 == *name && one.1 == *key))
            }
            Admin::MachineRemove { name } => {
                own.is_some_and(|own| own.machines.values().all(|(other, _)| other != name))
            }
        };
        demand!(done, "{conn:?} was told that {admin:?} was done, and it is not, or may not be");
        // Whom a removal ends has ended by now, unless it removed itself and could not be told later.
        // (Another change of the same batch may have its effect later.)
        let user = self.sessions.get(&conn).map(|session| session.user);
        let ends = |session: &super::Session| match admin {
            Admin::UserRemove { user: whom } => session.path.user == *whom,
            Admin::MachineRemove { name } => Some(session.user) == user && session.path.machine == *name,
            _ => false,
        };
        let mut doomed = self.doomed.keys().filter_map(|other| self.sessions.get(other));
        let told_first = self.doomed.contains_key(&conn) || !doomed.any(ends);
        demand!(told_first, "{admin:?} was acknowledged before it had effect");
        Ok(())
    }

    /// The channel that a session has entered, rightly.
    pub(super) fn entered(&self, conn: ConnId, name: &ChannelName) -> Result<(ChannelId, &Channel), String> {
        let Some((id, channel)) = self.model.channel_named(name) else {
            return Err(format!("{name} was joined and is none"));
        };
        let Some(session) = self.sessions.get(&conn) else { return Err("nobody joined".into()) };
        let may = self.sees(conn, id, channel)
            && (channel.visibility != Visibility::Private
                || channel.members.contains(&session.user)
                || self.is_subscribed(conn, id)
                || self.administers(conn, channel.creator));
        if may { Ok((id, channel)) } else { Err(format!("{} joined {name} and may not", session.path)) }
    }

    pub(super) fn sees(&self, conn: ConnId, id: ChannelId, channel: &Channel) -> bool {
        let Some(session) = self.sessions.get(&conn) else { return false };
        self.administers(conn, channel.creator)
            || channel.members.contains(&session.user)
            || session.subscriptions.contains(&id)
            || (channel.visibility != Visibility::Private && !channel.banned.contains(&session.user))
    }

    fn administers(&self, conn: ConnId, creator: UserId) -> bool {
        self.sessions.get(&conn).is_some_and(|session| session.admin || session.user == creator)
    }

    fn is_server_admin(&self, conn: ConnId) -> bool {
        self.sessions.get(&conn).is_some_and(|session| session.admin)
    }

    fn listed(&self, conn: ConnId) -> Vec<ChannelInfo> {
        let Some(session) = self.sessions.get(&conn) else { return Vec::new() };
        let mut list: Vec<ChannelInfo> = self
            .model
            .channels
            .values()
            .filter(|channel| {
                self.administers(conn, channel.creator)
                    || channel.members.contains(&session.user)
                    || (channel.visibility == Visibility::Public && !channel.banned.contains(&session.user))
            })
            .map(|channel| ChannelInfo {
                name: channel.name.clone(),
                visibility: channel.visibility,
                member: channel.members.contains(&session.user),
                sealed: false,
            })
            .collect();
        list.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// Whether the retention took a channel's messages up to a stamp.
    fn is_purged(&self, channel: ChannelId, ts: UnixMillis) -> bool {
        self.purged.get(&channel).is_some_and(|purged| purged.ts >= ts)
    }

    /// A kick ends subscriptions as it is answered.
    fn kicked(&mut self, name: &ChannelName, target: &KickTarget, reason: EndReason) {
        let Some((id, _)) = self.model.channel_named(name) else { return };
        match target {
            KickTarget::User(user) => {
                if let Some(user) = self.model.user_named(user) {
                    self.unsubscribe(id, reason, |session| session.user == user);
                }
            }
            KickTarget::Session(path) => self.unsubscribe(id, reason, |session| *session.path == *path),
        }
    }
}

/// With an invite, who may not enter is told the same as who may not see: a token may be worth nothing.
fn joins_by_invite(watch: &Watch, conn: ConnId, command: &Command, channel: &ChannelName) -> bool {
    matches!(command, Command::Join { .. } | Command::Stream(StreamCommand::Subscribe { .. }))
        && watch.model.channel_named(channel).is_some_and(|(_, known)| {
            known.visibility == Visibility::Private
                && watch.sessions.get(&conn).is_none_or(|session| !known.members.contains(&session.user))
        })
}

/// The channel that a command names first.
fn named(command: &Command) -> Option<ChannelName> {
    match command {
        Command::Join { channel, .. }
        | Command::Leave { channel }
        | Command::Who { channel: Some(channel) }
        | Command::Post { channel, .. }
        | Command::ReadSince { channel, .. } => Some(channel.clone()),
        Command::Admin(admin) => match admin {
            Admin::DeleteChannel { name }
            | Admin::RenameChannel { name, .. }
            | Admin::SetVisibility { name, .. } => Some(name.clone()),
            Admin::AclAdd { channel, .. }
            | Admin::AclRemove { channel, .. }
            | Admin::AclList { channel }
            | Admin::InviteCreate { channel, .. }
            | Admin::InviteList { channel }
            | Admin::Kick { channel, .. }
            | Admin::Ban { channel, .. }
            | Admin::Unban { channel, .. }
            | Admin::BanList { channel } => Some(channel.clone()),
            _ => None,
        },
        _ => None,
    }
}
