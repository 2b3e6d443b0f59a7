//! The hub's consistency, for tests and simulations.

use alloc::string::String;

use super::Hub;
use super::pager::Subscription;
use crate::directory::hold;
use crate::handshake::Format;

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
                let live = *subscription == Subscription::Live;
                let found = self.subscribers.get(channel).is_some_and(|subscribers| {
                    subscribers.live.contains(*conn) == live && subscribers.behind.contains(conn) != live
                });
                hold!(found, "{path} is not found among the subscribers of {channel:?}");
            }
            hold!(
                session.terms.keep == session.reader.is_some(),
                "{path} has not the reader that it should have"
            );
        }
        let conns = self.users.values().map(|live| live.conns.len()).sum::<usize>();
        hold!(conns == sessions, "users hold connections that are no sessions");
        hold!(self.liveness.len() == sessions, "liveness is kept of what does not live");
        for (channel, list) in &self.subscribers {
            let known = self.directory.channel(*channel);
            hold!(known.is_some(), "{channel:?} has subscribers and does not exist");
            let ordered = Format::ALL.iter().all(|format| list.live.of(*format).is_sorted_by(|a, b| a < b));
            hold!(ordered && !list.is_empty(), "the subscribers of {channel:?} are not in order");
            for conn in list.iter() {
                let Some(session) = self.sessions.get(&conn) else {
                    return Err(alloc::format!("{conn:?} is subscribed to {channel:?} and does not live"));
                };
                let path = &session.path;
                let knows = session.subscriptions.contains_key(channel);
                hold!(knows, "{path} does not know of its subscription to {channel:?}");
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
