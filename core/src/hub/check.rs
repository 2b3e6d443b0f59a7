//! The hub's consistency, for tests and simulations.

use alloc::collections::BTreeMap;
use alloc::string::String;

use super::Hub;
use super::pager::Subscription;
use crate::directory::hold;
use crate::handshake::Format;
use crate::record::ChannelId;

impl Hub {
    /// Checks that the directory is consistent and that sessions, paths, users and subscriptions agree.
    ///
    /// # Errors
    /// Says what does not.
    pub fn check(&self) -> Result<(), String> {
        self.directory.check()?;
        let (sessions, paths) = (self.sessions.len(), self.paths.len());
        hold!(sessions == paths, "{sessions} sessions have {paths} paths");
        for (conn, session) in &self.sessions {
            let path = &session.path;
            hold!(self.paths.get(path) == Some(conn), "{path} does not lead to {conn:?}");
            let user = self.directory.user(session.user);
            let enrolled = user.is_some_and(|user| {
                user.name == path.user && user.machines.iter().any(|one| one.id == session.machine)
            });
            hold!(enrolled, "{path} lives without an enrolled machine");
            let found = self.users.get(&session.user).is_some_and(|live| live.conns.contains(conn));
            hold!(found, "{path} is not found by its user");
            hold!(self.liveness.contains(&(session.next_check, *conn)), "{path} has no time to be checked");
            for (channel, subscription) in &session.subscriptions {
                let live = matches!(subscription, Subscription::Live { .. });
                let found = self.subscribers.get(channel).is_some_and(|subscribers| {
                    subscribers.live.contains(*conn) == live && subscribers.behind.contains(conn) != live
                });
                hold!(found, "{path} is not found among the subscribers of {channel:?}");
            }
            for mailbox in session.own_messages.keys() {
                let found = self.receipts.watchers_of(*mailbox).contains(conn);
                hold!(found && self.directory.mailbox(*mailbox).is_some(), "{path} watches no mailbox");
            }
            hold!(
                session.terms.keep == session.reader.is_some(),
                "{path} has not the reader that it should have"
            );
        }
        for (channel, conn) in self.watched.watchers() {
            let watches = self.is_subscribed(conn, channel) && self.directory.channel(channel).is_some();
            hold!(watches, "{conn:?} watches who joins {channel:?}, and is not there");
        }
        let conns = self.users.values().map(|live| live.conns.len()).sum::<usize>();
        hold!(conns == sessions, "users hold connections that are no sessions");
        for (user, live) in &self.users {
            let mut channels: BTreeMap<ChannelId, u32> = BTreeMap::new();
            let sessions = live.conns.iter().filter_map(|conn| self.sessions.get(conn));
            for channel in sessions.flat_map(|session| session.subscriptions.keys()) {
                *channels.entry(*channel).or_default() += 1;
            }
            hold!(channels == live.channels, "{user:?} and its sessions know of different channels");
        }
        let mut coming: BTreeMap<ChannelId, (usize, usize)> = BTreeMap::new();
        for post in self.posts_to_mailboxes() {
            let (count, bytes) = coming.entry(post.channel).or_default();
            (*count, *bytes) = (*count + 1, *bytes + post.payload.size());
        }
        hold!(coming == self.coming, "what is on its way to mailboxes is miscounted");
        hold!(self.liveness.len() == sessions, "liveness is kept of what does not live");
        for (channel, list) in &self.subscribers {
            let (known, mailbox) = (self.directory.channel(*channel), self.directory.mailbox(*channel));
            hold!(known.is_some() || mailbox.is_some(), "{channel:?} has subscribers and does not exist");
            let ordered = Format::ALL.iter().all(|format| list.live.of(*format).is_sorted_by(|a, b| a < b));
            hold!(ordered && !list.is_empty(), "the subscribers of {channel:?} are not in order");
            for conn in list.iter() {
                let Some(session) = self.sessions.get(&conn) else {
                    return Err(alloc::format!("{conn:?} is subscribed to {channel:?} and does not live"));
                };
                let path = &session.path;
                let knows = session.subscriptions.contains_key(channel);
                hold!(knows, "{path} does not know of its subscription to {channel:?}");
                let reads = mailbox.is_none_or(|it| {
                    it.user == session.user && (it.reader.is_none() || it.reader == session.reader)
                });
                hold!(reads, "{path} reads the mailbox {channel:?}, which is not its own");
                // Who became an admin of the server after a ban sees everything again, and may have ceased to be one.
                let banned = known.is_some_and(|known| known.banned.contains(&session.user));
                hold!(
                    !banned || self.config.admins.contains_key(&path.user),
                    "{path} is banned from {channel:?} and subscribed"
                );
            }
        }
        Ok(())
    }
}
