//! The directory's consistency, for tests and simulations.

use alloc::string::String;

use super::Directory;

/// Ends a check, saying what does not hold.
macro_rules! hold {
    ($what:expr, $($message:tt)+) => {
        if !$what {
            return Err(alloc::format!($($message)+));
        }
    };
}
pub(crate) use hold;

impl Directory {
    /// Checks that every index agrees with what it indexes.
    ///
    /// # Errors
    /// Says which does not.
    pub fn check(&self) -> Result<(), String> {
        hold!(self.users.len() == self.users_by_name.len(), "user names and users differ in number");
        let mut machines = 0;
        for (id, user) in &self.users {
            hold!(self.users_by_name.get(&user.name) == Some(id), "user {id:?} is not found by name");
            hold!(id.0 < self.next_user, "user {id:?} would be given again");
            machines += user.machines.len();
            for machine in &user.machines {
                hold!(self.owners.get(&machine.key) == Some(id), "{:?} is not found by key", machine.id);
                hold!(
                    self.machine_owners.get(&machine.id) == Some(id),
                    "{:?} does not lead to its user",
                    machine.id
                );
                hold!(machine.id.0 < self.next_machine, "machine {:?} would be given again", machine.id);
            }
            for channel in &user.channels {
                let concerns = self.channels.get(channel).is_some_and(|channel| channel.concerns(*id));
                hold!(concerns, "user {id:?} points at channel {channel:?} that does not know it");
            }
            let created = self.channels.values().filter(|channel| channel.creator == *id).count();
            hold!(
                created == user.created as usize,
                "user {id:?} created {created}, counted {}",
                user.created
            );
        }
        hold!(machines == self.owners.len(), "keys and machines differ in number");
        hold!(machines == self.machine_owners.len(), "machines and their users differ in number");
        hold!(
            self.channels.len() == self.channels_by_name.len(),
            "channel names and channels differ in number"
        );
        let mut invites = 0;
        for (id, channel) in &self.channels {
            hold!(
                self.channels_by_name.get(&channel.name) == Some(id),
                "channel {id:?} is not found by name"
            );
            hold!(id.0 < self.next_channel, "channel {id:?} would be given again");
            hold!(channel.members.is_disjoint(&channel.banned), "channel {id:?} has a banned member");
            hold!(self.users.contains_key(&channel.creator), "channel {id:?} has no creator");
            for user in channel.members.iter().chain(&channel.banned).chain([&channel.creator]) {
                let known = self.users.get(user).is_some_and(|user| user.channels.contains(id));
                hold!(known, "channel {id:?} points at user {user:?} that does not know it");
            }
            invites += channel.invites.len();
            for token in channel.invites.keys() {
                hold!(self.invites.get(token) == Some(id), "an invite of channel {id:?} is not found");
            }
        }
        hold!(invites == self.invites.len(), "tokens and invites differ in number");
        let users = self.users.iter().map(|(id, user)| (user.name.as_str(), *id));
        hold!(self.user_looks.is_of(users), "users and the looks of their names differ");
        let channels = self.channels.iter().map(|(id, channel)| (channel.name.as_str(), *id));
        hold!(self.channel_looks.is_of(channels), "channels and the looks of their names differ");
        self.check_freed()?;
        self.check_readers()?;
        self.check_mailboxes()?;
        self.check_user_invites()?;
        self.check_sealed()?;
        self.check_contacts()
    }
}
