//! What a session's request leads to, by the rules.

use conclave_core::name::ChannelName;
use conclave_core::payload::Payload;
use conclave_core::protocol::{Admin, Command, Limit, Refusal, Visibility};

use super::{Answer, Asker, Channel, Conn, Model, Pending, Read, Seen, State, UNREADABLE};

/// What is known of a request when it is decided.
pub(super) enum Verdict {
    Answer(Answer),
    /// It changes what is durable.
    Change,
    /// It is answered later: a post or a reading.
    Later,
}

pub(super) type Judged = Result<Verdict, Refusal>;

impl Model {
    pub(super) fn request(&mut self, conn: Conn, command: &Command) {
        let token = format!("t{:03}", self.next_token);
        if matches!(command, Command::Admin(Admin::InviteCreate { .. })) {
            self.next_token += 1;
        }
        let request = self.next_request;
        self.next_request += 1;
        let now = self.now.mono.0;
        let Some(session) = self.sessions.iter_mut().find(|one| one.conn == conn) else { return };
        session.heard = now;
        let (user, path) = (session.user, session.path.clone());
        let asker = Asker { conn, request, user, name: path.user.to_string(), path };
        if self.state != State::Running {
            return self.answer(&asker, Answer::Refused(Refusal::ShuttingDown));
        }
        if let Err(refusal) = self.afford(conn, command) {
            return self.answer(&asker, Answer::Refused(refusal));
        }
        self.decide_in_turn(asker, command.clone(), token);
    }

    pub(super) fn decide(&mut self, asker: &Asker, command: &Command, token: String) {
        if !self.sessions.iter().any(|one| one.conn == asker.conn) {
            return;
        }
        let judged = match command {
            Command::Admin(admin) => self.administer(asker, admin),
            other => self.judge(asker, other),
        };
        match judged {
            Err(refusal) => self.answer(asker, Answer::Refused(refusal)),
            Ok(Verdict::Answer(answer)) => self.answer(asker, answer),
            Ok(Verdict::Change) => {
                let (asker, command, wall) = (asker.clone(), command.clone(), self.now.wall.0);
                self.gathered.push(Pending::Change { asker, command, token, wall });
                self.decided_now = true;
            }
            Ok(Verdict::Later) => {}
        }
    }

    fn judge(&mut self, asker: &Asker, command: &Command) -> Judged {
        Ok(Verdict::Answer(match command {
            Command::Stream(_) => unreachable!("these sessions speak version 1"),
            Command::Join { channel, token } => {
                return self.join(asker, channel, token.as_ref().map(|token| token.expose()));
            }
            Command::Leave { channel } => {
                if let Some(channel) = self.channels.iter().find(|one| one.name == channel.as_str()) {
                    let id = channel.id;
                    self.leave(asker.conn, id);
                }
                Answer::Done(channel.to_string())
            }
            Command::Who { channel: None } => Answer::Presence(self.paths()),
            Command::Who { channel: Some(channel) } => {
                let id = self.visible(asker, channel)?.id;
                let mut paths: Vec<_> = self
                    .sessions
                    .iter()
                    .filter(|one| one.channels.contains(&id))
                    .map(|one| &one.path)
                    .collect();
                paths.sort();
                Answer::Presence(paths.into_iter().map(ToString::to_string).collect())
            }
            Command::Post { channel, payload } => {
                let channel = self.subscribed(asker, channel)?;
                let (asker, text) = (asker.clone(), text(payload));
                self.gathered.push(Pending::Post { asker, channel, text, ts: 0 });
                return Ok(Verdict::Later);
            }
            Command::Whisper { target, payload } => {
                let to = self.sessions.iter().find(|one| one.path == *target);
                let to = to.ok_or_else(|| Refusal::Offline(Box::new(target.clone())))?.conn;
                let (from, target) = (asker.path.to_string(), target.to_string());
                self.tell(to, Seen::Whisper { from, target, text: text(payload) });
                Answer::Sent
            }
            Command::ListChannels => {
                let mut list: Vec<_> = self
                    .channels
                    .iter()
                    .filter(|one| {
                        self.belongs(asker, one)
                            || (one.visibility == Visibility::Public && !one.banned.contains(&asker.user))
                    })
                    .map(|one| (one.name.clone(), one.visibility, one.members.contains(&asker.user)))
                    .collect();
                list.sort();
                Answer::Channels(list)
            }
            Command::ListMachines => {
                let user = self.users.iter().find(|user| user.id == asker.user).unwrap();
                let mut names: Vec<_> = user.machines.iter().map(|(name, _)| name.clone()).collect();
                names.sort();
                Answer::Machines(names)
            }
            Command::ListUsers => {
                if !self.is_admin(&asker.name) {
                    return Err(Refusal::NotServerAdmin);
                }
                let mut names: Vec<_> = self.users.iter().map(|user| user.name.clone()).collect();
                names.sort();
                Answer::Users(names)
            }
            Command::ReadSince { channel: name, since } => {
                let channel = self.subscribed(asker, name)?;
                let posts = &self.channels.iter().find(|one| one.id == channel).unwrap().posts;
                if posts.last().is_none_or(|post| post.ts <= since.0) {
                    Answer::History(name.to_string(), Vec::new())
                } else {
                    let (conn, request, name, since) = (asker.conn, asker.request, name.to_string(), since.0);
                    self.reads.push(Read { conn, request, channel, name, since });
                    return Ok(Verdict::Later);
                }
            }
            Command::Ping => Answer::Pong,
            Command::Admin(_) => unreachable!("administered elsewhere"),
        }))
    }

    fn join(&mut self, asker: &Asker, name: &ChannelName, token: Option<&str>) -> Judged {
        let wall = self.now.wall.0;
        let unseen = || Refusal::NoChannel(name.clone());
        let channel = self.channels.iter().find(|one| one.name == name.as_str()).ok_or_else(unseen)?;
        let invited =
            channel.invites.iter().any(|one| Some(one.token.as_str()) == token && one.is_valid(wall));
        let most = self.config.limits.subscriptions_per_session;
        let free = self.sessions.iter().find(|one| one.conn == asker.conn).unwrap().channels.len() < most;
        let busy = Refusal::Full { limit: Limit::SessionChannels, most };
        let id = channel.id;
        if self.sees(asker, channel) {
            if !self.is_in(asker.conn, id) {
                if !free {
                    return Err(busy);
                }
                self.subscribe(asker.conn, id);
            }
            return Ok(Verdict::Answer(Answer::Joined(name.to_string())));
        }
        if !invited || channel.banned.contains(&asker.user) {
            return Err(unseen());
        }
        let most = self.config.limits.members_per_channel;
        if channel.members.len() >= most {
            return Err(Refusal::Full { limit: Limit::ChannelMembers, most });
        }
        if free { Ok(Verdict::Change) } else { Err(busy) }
    }

    /// Answers with a page, if the session is still there and in the channel.
    pub(super) fn history(&mut self, read: Read, fails: bool) {
        let Read { conn, request, channel, name, since } = read;
        if !self.sessions.iter().any(|one| one.conn == conn) {
            return;
        }
        let found = self.channels.iter().find(|one| one.id == channel).filter(|_| self.is_in(conn, channel));
        let answer = match found {
            None => Answer::Refused(Refusal::SubscriptionEnded),
            Some(_) if fails => Answer::Refused(Refusal::HistoryUnreadable { why: UNREADABLE.into() }),
            Some(channel) => {
                let rows = channel.posts.iter().filter(|post| post.ts > since);
                let rows = rows.take(self.config.limits.page_rows);
                let rows = rows.map(|post| (post.from.clone(), post.ts, post.text.clone())).collect();
                Answer::History(name, rows)
            }
        };
        self.tell(conn, Seen::Reply(request, answer));
    }

    pub(super) fn subscribe(&mut self, conn: Conn, channel: u64) {
        if let Some(session) = self.sessions.iter_mut().find(|one| one.conn == conn) {
            session.channels.push(channel);
        }
    }

    pub(super) fn leave(&mut self, conn: Conn, channel: u64) {
        if let Some(session) = self.sessions.iter_mut().find(|one| one.conn == conn) {
            session.channels.retain(|other| *other != channel);
        }
    }

    pub(super) fn is_in(&self, conn: Conn, channel: u64) -> bool {
        self.sessions.iter().any(|one| one.conn == conn && one.channels.contains(&channel))
    }

    /// A member, the creator, or an admin of the server.
    fn belongs(&self, asker: &Asker, channel: &Channel) -> bool {
        self.is_admin(&asker.name) || channel.creator == asker.user || channel.members.contains(&asker.user)
    }

    pub(super) fn sees(&self, asker: &Asker, channel: &Channel) -> bool {
        self.belongs(asker, channel)
            || self.is_in(asker.conn, channel.id)
            || (channel.visibility != Visibility::Private && !channel.banned.contains(&asker.user))
    }

    pub(super) fn visible(&self, asker: &Asker, name: &ChannelName) -> Result<&Channel, Refusal> {
        let found = self.channels.iter().find(|one| one.name == name.as_str());
        found.filter(|one| self.sees(asker, one)).ok_or_else(|| Refusal::NoChannel(name.clone()))
    }

    fn subscribed(&self, asker: &Asker, name: &ChannelName) -> Result<u64, Refusal> {
        let id = self.visible(asker, name)?.id;
        if self.is_in(asker.conn, id) { Ok(id) } else { Err(Refusal::NotSubscribed(name.clone())) }
    }
}

impl super::Invite {
    pub(super) fn is_valid(&self, wall: i64) -> bool {
        self.uses != Some(0) && self.expires.is_none_or(|at| wall < at)
    }
}

fn text(payload: &Payload) -> String {
    match payload {
        Payload::Plain(text) => text.clone(),
        Payload::Encrypted(_) | Payload::Body(_) => unreachable!("only text is posted here"),
    }
}
