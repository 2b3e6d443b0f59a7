//! What becomes durable, and what it changes then.

use conclave_core::protocol::{Admin, Command, Limit, Refusal, Visibility};

use super::{Answer, Asker, Channel, FULL, Invite, Model, Pending, Posted, Seen, User};

impl Model {
    /// Sends off the posts that have gathered, as many as go together, and with the last of those that were accepted
    /// before them the changes.
    pub(super) fn seal(&mut self) {
        if self.flight.is_some() || (self.gathered.is_empty() && !self.noted) {
            return;
        }
        self.noted = false;
        let is_post = |one: &Pending| matches!(one, Pending::Post { .. });
        let (mut flight, mut posts, mut bytes) = (Vec::new(), 0, 0);
        while let Some(at) = self.gathered.iter().position(is_post) {
            let Pending::Post { text, .. } = &self.gathered[at] else { unreachable!() };
            bytes += text.len();
            let limits = &self.config.limits;
            if posts > 0 && (posts == limits.batch_posts || bytes > limits.batch_bytes) {
                break;
            }
            posts += 1;
            flight.push(self.gathered.remove(at));
        }
        let last = self.gathered.iter().rposition(|one| !is_post(one));
        if last.is_some_and(|last| !self.gathered[..last].iter().any(is_post)) {
            let (later, changes): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.gathered).into_iter().partition(is_post);
            self.gathered = later;
            flight.extend(changes);
        }
        // Each is stamped with the clock, or just behind the one before it in its channel.
        for nth in 0..flight.len() {
            let Pending::Post { channel: of, .. } = flight[nth] else { continue };
            let in_flight = flight[..nth].iter().filter_map(|one| match one {
                Pending::Post { channel, ts, .. } if *channel == of => Some(*ts),
                _ => None,
            });
            let stored =
                self.channels.iter().find(|one| one.id == of).unwrap().posts.last().map(|post| post.ts);
            let last = in_flight.chain(stored).max().unwrap_or(0);
            if let Pending::Post { ts, .. } = &mut flight[nth] {
                *ts = self.now.wall.0.max(last + 1);
            }
        }
        self.flight = Some(flight);
    }

    pub(super) fn persisted(&mut self) {
        let flight = self.flight.take().unwrap();
        let changes = flight.iter().any(|one| !matches!(one, Pending::Post { .. }));
        for pending in flight {
            match pending {
                Pending::Post { asker, channel: id, text, ts } => {
                    let from = asker.path.to_string();
                    let channel = self.channels.iter_mut().find(|one| one.id == id).unwrap();
                    channel.posts.push(Posted { from: from.clone(), ts, text: text.clone() });
                    let channel = channel.name.clone();
                    self.answer(&asker, Answer::Sent);
                    let others = self.sessions.iter().filter(|one| one.channels.contains(&id));
                    for conn in
                        others.map(|one| one.conn).filter(|conn| *conn != asker.conn).collect::<Vec<_>>()
                    {
                        let (channel, from, text) = (channel.clone(), from.clone(), text.clone());
                        self.tell(conn, Seen::Post { channel, from, text });
                    }
                }
                Pending::Register { conn, user, machine, handle, key } => {
                    let id = self.id();
                    self.users.push(User { id, name: user, machines: vec![(machine.clone(), key)] });
                    if let Some(conn) = conn {
                        self.establish(conn, id, &machine, &handle);
                    }
                }
                Pending::Change { asker, command, token, wall } => self.change(&asker, command, token, wall),
            }
        }
        if changes {
            self.advance();
        }
    }

    pub(super) fn failed(&mut self) {
        let flight = self.flight.take().unwrap();
        let changes = flight.iter().any(|one| !matches!(one, Pending::Post { .. }));
        for pending in flight {
            match pending {
                Pending::Post { asker, .. } | Pending::Change { asker, .. } => {
                    self.answer(&asker, Answer::Refused(Refusal::NotStored { why: FULL.into() }));
                }
                Pending::Register { conn: Some(conn), .. } => {
                    self.refuse(conn, Refusal::NotStored { why: FULL.into() });
                }
                Pending::Register { conn: None, .. } => {}
            }
        }
        if changes {
            self.advance();
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn named(&mut self, name: &impl ToString) -> &mut Channel {
        let name = name.to_string();
        self.channels.iter_mut().find(|one| one.name == name).unwrap()
    }

    fn change(&mut self, asker: &Asker, command: Command, token: String, wall: i64) {
        let admin = match command {
            Command::Admin(admin) => admin,
            Command::Join { channel, token } => return self.enter(asker, &channel, token.unwrap().expose()),
            other => unreachable!("{other:?} changes nothing"),
        };
        let mut ended = Vec::new();
        let done = match admin {
            Admin::CreateChannel { name, visibility } => {
                let id = self.id();
                self.channels.push(Channel {
                    id,
                    name: name.to_string(),
                    visibility,
                    creator: asker.user,
                    members: vec![asker.user],
                    banned: Vec::new(),
                    invites: Vec::new(),
                    posts: Vec::new(),
                });
                name.to_string()
            }
            Admin::DeleteChannel { name } => {
                let id = self.named(&name).id;
                self.delete(id);
                name.to_string()
            }
            Admin::RenameChannel { name, new_name } => {
                self.named(&name).name = new_name.to_string();
                new_name.to_string()
            }
            Admin::SetVisibility { name, visibility } => {
                self.named(&name).visibility = visibility;
                if visibility == Visibility::Private {
                    let channel = self.named(&name).clone();
                    let outsiders = self.sessions.iter().filter(|one| {
                        channel.creator != one.user
                            && !channel.members.contains(&one.user)
                            && !self.is_admin(one.path.user.as_str())
                    });
                    for conn in outsiders.map(|one| one.conn).collect::<Vec<_>>() {
                        self.leave(conn, channel.id);
                    }
                }
                name.to_string()
            }
            Admin::AclAdd { channel, user } => {
                let id = self.user(&user).unwrap();
                let channel = self.named(&channel);
                channel.banned.retain(|other| *other != id);
                channel.members.push(id);
                user.to_string()
            }
            Admin::AclRemove { channel, user } => {
                let id = self.user(&user).unwrap();
                let channel = self.named(&channel);
                channel.members.retain(|other| *other != id);
                let channel = channel.id;
                self.remove_from(id, channel);
                user.to_string()
            }
            Admin::Ban { channel, user } => {
                let id = self.user(&user).unwrap();
                let channel = self.named(&channel);
                channel.members.retain(|other| *other != id);
                channel.banned.push(id);
                let channel = channel.id;
                self.remove_from(id, channel);
                user.to_string()
            }
            Admin::Unban { channel, user } => {
                let id = self.user(&user).unwrap();
                self.named(&channel).banned.retain(|other| *other != id);
                user.to_string()
            }
            Admin::InviteCreate { channel, uses, lifetime } => {
                let expires = lifetime.map(|lifetime| wall + lifetime.as_millis() as i64);
                let channel = self.named(&channel);
                channel.invites.retain(|one| one.is_valid(wall));
                channel.invites.push(Invite { token: token.clone(), uses, expires, created: wall });
                return self.answer(asker, Answer::Invite(token));
            }
            Admin::InviteRevoke { token } => {
                for channel in &mut self.channels {
                    channel.invites.retain(|one| one.token != token.expose());
                }
                token.expose().to_owned()
            }
            Admin::UserRemove { user } => {
                let id = self.user(&user).unwrap();
                let created: Vec<_> =
                    self.channels.iter().filter(|one| one.creator == id).map(|one| one.id).collect();
                for channel in created {
                    self.delete(channel);
                }
                for channel in &mut self.channels {
                    channel.members.retain(|other| *other != id);
                    channel.banned.retain(|other| *other != id);
                }
                self.users.retain(|other| other.id != id);
                ended.extend(
                    self.sessions.iter().filter(|one| one.user == id).map(|one| (one.conn, "user_removed")),
                );
                user.to_string()
            }
            Admin::MachineAdd { name, key } => {
                let user = self.users.iter_mut().find(|user| user.id == asker.user).unwrap();
                user.machines.push((name.to_string(), key));
                name.to_string()
            }
            Admin::MachineRemove { name } => {
                let user = self.users.iter_mut().find(|user| user.id == asker.user).unwrap();
                user.machines.retain(|(other, _)| other != name.as_str());
                let of = |one: &&super::Session| one.user == asker.user && one.path.machine == name;
                ended.extend(self.sessions.iter().filter(of).map(|one| (one.conn, "key_revoked")));
                name.to_string()
            }
            Admin::CreateSealedChannel { .. }
            | Admin::UserInvite { .. }
            | Admin::UserInviteList
            | Admin::Audit { .. }
            | Admin::NameRelease { .. } => {
                unreachable!("these sessions speak version 1")
            }
            Admin::AclList { .. } | Admin::BanList { .. } | Admin::InviteList { .. } | Admin::Kick { .. } => {
                unreachable!("it changes nothing durable")
            }
        };
        // Who ends itself hears the answer first.
        self.answer(asker, Answer::Done(done));
        for (conn, why) in ended {
            self.end(conn, why);
        }
    }

    /// An invite makes a member; the session comes in if it is still there and has room.
    fn enter(&mut self, asker: &Asker, name: &impl ToString, token: &str) {
        let channel = self.named(name);
        let id = channel.id;
        channel.members.push(asker.user);
        for invite in channel.invites.iter_mut().filter(|one| one.token == token) {
            invite.uses = invite.uses.map(|uses| uses - 1);
        }
        channel.invites.retain(|one| one.uses != Some(0));
        let name = channel.name.clone();
        let most = self.config.limits.subscriptions_per_session;
        let Some(session) = self.sessions.iter().find(|one| one.conn == asker.conn) else { return };
        if session.channels.len() >= most && !session.channels.contains(&id) {
            return self
                .answer(asker, Answer::Refused(Refusal::Full { limit: Limit::SessionChannels, most }));
        }
        if !session.channels.contains(&id) {
            self.subscribe(asker.conn, id);
        }
        self.answer(asker, Answer::Joined(name));
    }

    fn delete(&mut self, channel: u64) {
        self.channels.retain(|one| one.id != channel);
        for session in &mut self.sessions {
            session.channels.retain(|other| *other != channel);
        }
    }
}
