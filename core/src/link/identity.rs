//! Who a link is: its handle, what happens when another session fights for it, and which server it is on.

use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use crate::key::PublicKey;
use crate::name::{Handle, MAX_NAME_LEN};
use crate::time::Monotonic;

/// A session superseded sooner than this after it came up was in a fight for its path; a later one was taken
/// over once, by the session that starts a fight if we come back.
const FIGHT: Duration = Duration::from_secs(30);
/// Lost so often in a row, a fight is a collision. A numbered name is nobody's by right: the first is enough.
const LOST_FIGHTS: u32 = 2;
/// So many names are tried one right after the other: as many sessions may start in one directory at once.
const AT_ONCE: u32 = 16;

/// What to do after being superseded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Superseded {
    /// Reconnect as usual: it may be our own older session's echo, or a single take-over.
    Reconnect,
    /// The default handle belongs to another session: go on under the next one.
    Rename {
        /// The handle until now.
        from: Handle,
        /// Without the wait of those who fail again and again.
        at_once: bool,
    },
    /// The handle was chosen by a human: come back slowly.
    Yield {
        /// For the first time in a row: the human is to be notified.
        first: bool,
    },
}

/// A handle and the fights for it.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    base: Handle,
    handle: Handle,
    defaulted: bool,
    number: u32,
    lost: u32,
}

impl Identity {
    /// A handle; `defaulted` if no human chose it.
    pub(super) fn new(handle: Handle, defaulted: bool) -> Self {
        Self { base: handle.clone(), handle, defaulted, number: 1, lost: 0 }
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The session that came up at `up` was superseded.
    pub(super) fn superseded(&mut self, up: Monotonic, now: Monotonic) -> Superseded {
        self.lost = if now.since(up) < FIGHT { self.lost.saturating_add(1) } else { 0 };
        if self.lost < if self.number > 1 { 1 } else { LOST_FIGHTS } {
            return Superseded::Reconnect;
        }
        if !self.defaulted {
            return Superseded::Yield { first: self.lost == LOST_FIGHTS };
        }
        self.lost = 0;
        self.number = self.number.saturating_add(1);
        let suffix = format!("-{}", self.number);
        let base = self.base.as_str();
        let base = &base[..base.floor_char_boundary(MAX_NAME_LEN - suffix.len())];
        let from = self.handle.clone();
        if let Ok(handle) = Handle::new(&format!("{base}{suffix}")) {
            self.handle = handle;
        }
        Superseded::Rename { from, at_once: self.number <= AT_ONCE }
    }

    /// The session ended otherwise, and had come up at `up`.
    pub(super) fn ended(&mut self, up: Monotonic, now: Monotonic) {
        if now.since(up) >= FIGHT {
            self.lost = 0;
        }
    }
}

/// Which link reached which server first: the same one under two URLs is spoken to once. A server is the key that it
/// proved. What a server only says of itself claims nothing, or it could switch the link to another server off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerRegistry(Vec<(PublicKey, usize)>);

impl ServerRegistry {
    /// `link` is up on the server that has proved this key.
    ///
    /// # Errors
    /// The link that was there first: `link` is then to be disabled ([`super::Input::Disable`]).
    pub fn claim(&mut self, link: usize, key: PublicKey) -> Result<(), usize> {
        match self.0.iter().find(|(known, _)| *known == key) {
            Some((_, first)) if *first != link => Err(*first),
            Some(_) => Ok(()),
            None => {
                // The URL may lead to another server than before.
                self.0.retain(|(_, holder)| *holder != link);
                self.0.push((key, link));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1000)
    }

    fn identity(defaulted: bool) -> Identity {
        Identity::new(Handle::new("dir").unwrap(), defaulted)
    }

    #[test]
    fn a_default_handle_that_loses_two_fights_takes_the_next_number() {
        let mut identity = identity(true);
        assert_eq!(identity.superseded(at(0), at(1)), Superseded::Reconnect);
        assert!(matches!(identity.superseded(at(2), at(3)), Superseded::Rename { .. }));
        assert_eq!(identity.handle().as_str(), "dir-2");
        assert!(matches!(identity.superseded(at(4), at(5)), Superseded::Rename { at_once: true, .. }));
        assert_eq!(identity.handle().as_str(), "dir-3");
        assert_eq!(identity.superseded(at(6), at(60)), Superseded::Reconnect, "it was there first");
        for _ in 0..20 {
            identity.superseded(at(61), at(62));
        }
        assert!(matches!(identity.superseded(at(63), at(64)), Superseded::Rename { at_once: false, .. }));
    }

    #[test]
    fn the_session_that_was_there_first_keeps_its_name() {
        // The old session is taken over once after an hour, and wins the fight that follows in its second round.
        let (mut old, mut new) = (identity(true), identity(true));
        assert_eq!(old.superseded(at(0), at(3600)), Superseded::Reconnect);
        assert_eq!(new.superseded(at(3600), at(3601)), Superseded::Reconnect);
        assert_eq!(old.superseded(at(3601), at(3602)), Superseded::Reconnect);
        assert!(matches!(new.superseded(at(3602), at(3603)), Superseded::Rename { .. }));
        assert_eq!(old.handle().as_str(), "dir");
    }

    #[test]
    fn a_chosen_handle_never_changes() {
        let mut identity = identity(false);
        identity.superseded(at(0), at(1));
        for fight in 0..5 {
            assert_eq!(identity.superseded(at(2), at(3)), Superseded::Yield { first: fight == 0 });
        }
        assert_eq!(identity.handle().as_str(), "dir");
    }

    #[test]
    fn take_overs_far_apart_are_no_fight() {
        let mut identity = identity(true);
        for hour in 1..10 {
            assert_eq!(identity.superseded(at(hour * 3600 - 100), at(hour * 3600)), Superseded::Reconnect);
        }
    }

    #[test]
    fn a_long_default_handle_is_cut_for_its_number() {
        let mut identity = Identity::new(Handle::new(&"é".repeat(64)).unwrap(), true);
        identity.superseded(at(0), at(1));
        assert!(matches!(identity.superseded(at(0), at(1)), Superseded::Rename { .. }));
        assert!(identity.handle().as_str().ends_with("é-2"));
    }

    #[test]
    fn the_second_link_to_a_server_learns_of_the_first() {
        let [a, b] = [1, 2].map(|seed| SecretKey::from_seed(&[seed; 32]).public());
        let mut registry = ServerRegistry::default();
        assert_eq!(registry.claim(0, a), Ok(()));
        assert_eq!(registry.claim(1, a), Err(0));
        assert_eq!(registry.claim(0, a), Ok(()), "a reconnect");
        assert_eq!(registry.claim(0, b), Ok(()), "another server behind the same URL");
        assert_eq!(registry.claim(1, a), Ok(()));
    }
}
