//! Who waits, and whose turn it is.

use std::collections::BTreeMap;

use conclave_core::key::PublicKey;
use conclave_core::protocol::{Admin, Command, Visibility};

use super::{Asker, Conn, Model, Pending};

/// Everything that waits.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    /// What the changes concern that are not durable.
    concerned: Vec<String>,
    pub(super) strangers: Vec<Stranger>,
    users: BTreeMap<u64, Vec<Waiting>>,
    /// Posts that one of those changes decides about.
    posts: Vec<Waiting>,
    /// The users behind this one come first.
    behind: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Stranger {
    pub(super) conn: Conn,
    pub(super) user: String,
    pub(super) machine: String,
    pub(super) handle: String,
    pub(super) key: PublicKey,
}

#[derive(Clone, Debug)]
struct Waiting {
    asker: Asker,
    command: Command,
    token: String,
}

impl Line {
    /// A connection has ended.
    pub(super) fn forget(&mut self, conn: Conn) {
        self.strangers.retain(|one| one.conn != conn);
        self.posts.retain(|one| one.asker.conn != conn);
        for waiting in self.users.values_mut() {
            waiting.retain(|one| one.asker.conn != conn);
        }
        self.users.retain(|_, waiting| !waiting.is_empty());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.strangers.is_empty() && self.users.is_empty() && self.posts.is_empty()
    }
}

fn is_change(pending: &Pending) -> bool {
    !matches!(pending, Pending::Post { .. })
}

impl Model {
    fn changes(&self) -> impl Iterator<Item = &Pending> {
        self.gathered.iter().chain(self.flight.iter().flatten()).filter(|one| is_change(one))
    }

    /// Whether a change may be stored together with those that are not durable; notes what it concerns if so.
    pub(super) fn joins(&mut self, change: &Pending) -> bool {
        let concerns = self.concerns(change);
        let in_flight = self.flight.iter().flatten().any(is_change);
        let gathered = self.gathered.iter().filter(|one| is_change(one)).count();
        let free = !concerns.iter().any(|what| self.line.concerned.contains(what));
        let joins = free && !in_flight && gathered < self.config.limits.batch_changes;
        if joins {
            self.joined += usize::from(gathered > 0);
            self.line.concerned.extend(concerns);
        }
        joins
    }

    fn concerns(&self, change: &Pending) -> Vec<String> {
        let (asker, command) = match change {
            Pending::Register { user, key, .. } => return vec![format!("name {user}"), format!("key {key}")],
            Pending::Change { asker, command, .. } => (asker, command),
            Pending::Post { .. } => unreachable!("a post is no change"),
        };
        let number = |name: &dyn ToString| {
            self.channels.iter().find(|one| one.name == name.to_string()).map_or(0, |one| one.id)
        };
        let channel = |name: &dyn ToString| format!("channel {}", number(name));
        let posts = |name: &dyn ToString| format!("posts {}", number(name));
        let user = |id: u64| format!("user {id}");
        let mut all = vec![user(asker.user)];
        match command {
            Command::Join { channel: name, .. } => all.push(channel(name)),
            Command::Admin(admin) => match admin {
                Admin::CreateChannel { name, .. } => all.push(format!("channel name {name}")),
                Admin::DeleteChannel { name } => all.extend([channel(name), posts(name)]),
                Admin::RenameChannel { name, new_name } => {
                    all.extend([channel(name), posts(name), format!("channel name {new_name}")]);
                }
                Admin::SetVisibility { name, visibility } => {
                    all.push(channel(name));
                    all.extend((*visibility == Visibility::Private).then(|| posts(name)));
                }
                Admin::AclAdd { channel: name, user: who } | Admin::Unban { channel: name, user: who } => {
                    all.extend([channel(name), user(self.user(who).unwrap())]);
                }
                Admin::AclRemove { channel: name, user: who } | Admin::Ban { channel: name, user: who } => {
                    let id = self.user(who).unwrap();
                    all.extend([channel(name), user(id), format!("{} of {id}", posts(name))]);
                }
                Admin::InviteCreate { channel: name, .. } => all.push(channel(name)),
                Admin::InviteRevoke { token } => {
                    let with =
                        |one: &&super::Channel| one.invites.iter().any(|it| it.token == token.expose());
                    all.extend(self.channels.iter().find(with).map(|one| channel(&one.name)));
                }
                Admin::UserRemove { user: who } => {
                    let id = self.user(who).unwrap();
                    all.extend([user(id), format!("posts of {id}")]);
                    for one in self.channels.iter().filter(|one| one.creator == id) {
                        all.extend([channel(&one.name), posts(&one.name)]);
                    }
                }
                Admin::MachineAdd { key, .. } => all.push(format!("key {key}")),
                Admin::MachineRemove { .. } => all.push(format!("posts of {}", asker.user)),
                Admin::CreateSealedChannel { .. }
                | Admin::UserInvite { .. }
                | Admin::UserInviteList
                | Admin::Audit { .. }
                | Admin::NameRelease { .. } => {
                    unreachable!("these sessions speak version 1")
                }
                Admin::AclList { .. }
                | Admin::BanList { .. }
                | Admin::InviteList { .. }
                | Admin::Kick { .. } => {
                    unreachable!("it changes nothing durable")
                }
            },
            other => unreachable!("{other:?} changes nothing"),
        }
        all
    }

    pub(super) fn decide_in_turn(&mut self, asker: Asker, command: Command, token: String) {
        let concerns_storage = matches!(
            &command,
            Command::Post { .. } | Command::Join { token: Some(_), .. } | Command::Admin(_)
        );
        let lists = matches!(
            &command,
            Command::Admin(
                Admin::AclList { .. } | Admin::BanList { .. } | Admin::InviteList { .. } | Admin::Kick { .. }
            )
        );
        if !concerns_storage || lists {
            return self.decide(&asker, &command, token);
        }
        let is_post = matches!(command, Command::Post { .. });
        let of_this = |one: &Waiting| one.asker.conn == asker.conn;
        let own = self.line.users.values().flatten().any(of_this) || self.changes_something(asker.conn);
        let behind_post = is_post && self.line.posts.iter().any(of_this);
        let ahead = self.line.users.contains_key(&asker.user);
        let waiting = Waiting { asker, command, token };
        let waiting = if own || behind_post || (ahead && !is_post) {
            waiting
        } else {
            let Some(waiting) = self.attempt(waiting) else { return };
            waiting
        };
        self.waited += 1;
        if is_post && !own {
            self.line.posts.push(waiting);
        } else {
            self.line.users.entry(waiting.asker.user).or_default().push(waiting);
        }
    }

    /// Whether a connection has asked for a change that is not durable.
    fn changes_something(&self, conn: Conn) -> bool {
        self.changes().any(|one| matches!(one, Pending::Change { asker, .. } if asker.conn == conn))
    }

    /// Decides a request, or gives it back if it has to wait.
    fn attempt(&mut self, waiting: Waiting) -> Option<Waiting> {
        let concerned = |model: &Self, what: &str| model.line.concerned.iter().any(|other| other == what);
        let user = waiting.asker.user;
        if let Command::Post { channel, .. } = &waiting.command {
            let of_this = |one: &Waiting| one.asker.conn == waiting.asker.conn;
            if self.line.posts.iter().any(of_this) || self.changes_something(waiting.asker.conn) {
                return Some(waiting);
            }
            let found = self.channels.iter().find(|one| one.name == channel.as_str()).map(|one| one.id);
            if let Some(id) = found.filter(|id| self.is_in(waiting.asker.conn, *id)) {
                let reasons =
                    [format!("posts {id}"), format!("posts of {user}"), format!("posts {id} of {user}")];
                if reasons.iter().any(|what| concerned(self, what)) {
                    return Some(waiting);
                }
            }
            self.decide(&waiting.asker, &waiting.command, waiting.token);
            return None;
        }
        if concerned(self, &format!("user {user}")) {
            return Some(waiting);
        }
        self.decide(&waiting.asker, &waiting.command, waiting.token.clone());
        let change = self.gathered.pop_if(|one| is_change(one) && self.decided_now)?;
        self.decided_now = false;
        if self.joins(&change) {
            self.gathered.push(change);
            return None;
        }
        Some(waiting)
    }

    /// Whoever waited for the changes that were just decided has a turn.
    pub(super) fn advance(&mut self) {
        self.line.concerned.clear();
        for Waiting { asker, command, token } in std::mem::take(&mut self.line.posts) {
            self.decide(&asker, &command, token);
        }
        for _ in 0..self.line.strangers.len() {
            if self.gathered.iter().filter(|one| is_change(one)).count()
                >= self.config.limits.batch_changes.div_ceil(2)
            {
                break;
            }
            let Stranger { conn, user, machine, handle, key } = self.line.strangers.remove(0);
            self.connect(conn, &user, &machine, &handle, key, true);
        }
        let (later, earlier): (Vec<u64>, Vec<u64>) =
            self.line.users.keys().partition(|user| **user > self.line.behind);
        let mut first = None;
        for user in later.into_iter().chain(earlier) {
            if self.changes().count() >= self.config.limits.batch_changes {
                break;
            }
            let before = self.changes().count();
            let mut waiting = self.line.users.remove(&user).unwrap();
            while !waiting.is_empty() {
                if let Some(again) = self.attempt(waiting.remove(0)) {
                    waiting.insert(0, again);
                    break;
                }
            }
            if !waiting.is_empty() {
                self.line.users.insert(user, waiting);
            }
            if self.changes().count() > before {
                first.get_or_insert(user);
            }
        }
        self.line.behind = first.unwrap_or(self.line.behind);
    }
}
