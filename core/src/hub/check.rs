//! The hub's consistency, for tests and simulations.

use alloc::format;
use alloc::string::String;

use super::Hub;

impl Hub {
    /// Checks that the directory is consistent and that sessions, paths, users and subscriptions agree.
    ///
    /// # Errors
    /// Says what does not.
    pub fn check(&self) -> Result<(), String> {
        self.directory.check()?;
        if self.sessions.len() != self.paths.len() {
            return Err(format!("{} sessions have {} paths", self.sessions.len(), self.paths.len()));
        }
        for (conn, session) in &self.sessions {
            if self.paths.get(&session.path) != Some(conn) {
                return Err(format!("{} does not lead to {conn:?}", session.path));
            }
            let user = self.directory.user(session.user);
            let enrolled = user.is_some_and(|user| {
                user.name == session.path.user && user.machines.iter().any(|one| one.id == session.machine)
            });
            if !enrolled {
                return Err(format!("{} lives without an enrolled machine", session.path));
            }
            if !self.users.get(&session.user).is_some_and(|live| live.conns.contains(conn)) {
                return Err(format!("{} is not found by its user", session.path));
            }
            if !self.liveness.contains(&(session.look, *conn)) {
                return Err(format!("{} has no time to be looked at", session.path));
            }
            for channel in &session.subscriptions {
                if !self.subscribers.get(channel).is_some_and(|list| list.contains(conn)) {
                    return Err(format!(
                        "{} is not found among the subscribers of {channel:?}",
                        session.path
                    ));
                }
            }
        }
        if self.users.values().map(|live| live.conns.len()).sum::<usize>() != self.sessions.len() {
            return Err(String::from("users hold connections that are no sessions"));
        }
        if self.liveness.len() != self.sessions.len() {
            return Err(String::from("liveness is kept of what does not live"));
        }
        for (channel, list) in &self.subscribers {
            let Some(known) = self.directory.channel(*channel) else {
                return Err(format!("{channel:?} has subscribers and does not exist"));
            };
            if list.is_empty() || !list.is_sorted_by(|a, b| a < b) {
                return Err(format!("the subscribers of {channel:?} are not in order"));
            }
            for conn in list.iter() {
                let Some(session) = self.sessions.get(conn) else {
                    return Err(format!("{conn:?} is subscribed to {channel:?} and does not live"));
                };
                if !session.subscriptions.contains(channel) {
                    return Err(format!("{} does not know of its subscription to {channel:?}", session.path));
                }
                // Who became an admin of the server after a ban sees everything again.
                if known.banned.contains(&session.user) && !self.is_admin(&session.path.user) {
                    return Err(format!("{} is banned from {channel:?} and subscribed", session.path));
                }
            }
        }
        Ok(())
    }
}
