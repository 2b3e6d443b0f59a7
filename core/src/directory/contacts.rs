//! Contacts: whom a user allowed to write to its mailboxes, and whom it blocked. Who has written shows its keys to whoever
//! allowed it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;

use super::{Directory, hold};
use crate::record::UserId;
use crate::stream::Standing;

/// The contacts of all users, and by whom each user is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Contacts {
    /// With whether the other has written.
    of: BTreeMap<UserId, BTreeMap<UserId, (Standing, bool)>>,
    named_by: BTreeMap<UserId, BTreeSet<UserId>>,
}

impl Contacts {
    pub(super) fn set(&mut self, user: UserId, other: UserId, standing: Option<(Standing, bool)>) {
        match standing {
            Some(standing) => {
                self.of.entry(user).or_default().insert(other, standing);
                self.named_by.entry(other).or_default().insert(user);
            }
            None => {
                take(&mut self.of, user, |contacts| contacts.remove(&other).is_some(), BTreeMap::is_empty);
                take(&mut self.named_by, other, |users| users.remove(&user), BTreeSet::is_empty);
            }
        }
    }

    pub(super) fn wrote(&mut self, sender: UserId, owner: UserId) {
        if let Some((_, wrote)) = self.of.get_mut(&owner).and_then(|contacts| contacts.get_mut(&sender)) {
            *wrote = true;
        }
    }

    /// Forgets a user's contacts, and the user among others' contacts.
    pub(super) fn forget(&mut self, gone: UserId) {
        for other in self.of.remove(&gone).unwrap_or_default().into_keys() {
            take(&mut self.named_by, other, |users| users.remove(&gone), BTreeSet::is_empty);
        }
        for user in self.named_by.remove(&gone).unwrap_or_default() {
            take(&mut self.of, user, |contacts| contacts.remove(&gone).is_some(), BTreeMap::is_empty);
        }
    }
}

/// Changes what `map` has at `key`, and removes it once it is empty.
fn take<T>(
    map: &mut BTreeMap<UserId, T>,
    key: UserId,
    change: impl FnOnce(&mut T) -> bool,
    empty: fn(&T) -> bool,
) {
    if let Some(value) = map.get_mut(&key) {
        change(value);
        if empty(value) {
            map.remove(&key);
        }
    }
}

impl Directory {
    /// How `other` stands to `user`'s mailboxes, if `user` said so.
    pub fn standing(&self, user: UserId, other: UserId) -> Option<Standing> {
        self.contacts.of.get(&user)?.get(&other).map(|(standing, _)| *standing)
    }

    /// Whether a user that `owner` allowed has written to it since.
    pub fn wrote(&self, sender: UserId, owner: UserId) -> bool {
        let contact = self.contacts.of.get(&owner).and_then(|contacts| contacts.get(&sender));
        contact == Some(&(Standing::Allowed, true))
    }

    /// Whom a user allowed and blocked, in the order of their numbers.
    pub fn contacts_of(&self, user: UserId) -> impl Iterator<Item = (UserId, Standing)> {
        self.contacts.of.get(&user).into_iter().flatten().map(|(other, (standing, _))| (*other, *standing))
    }

    /// How many contacts a user has.
    pub fn contact_count(&self, user: UserId) -> usize {
        self.contacts.of.get(&user).map_or(0, BTreeMap::len)
    }

    /// All contacts, as user, other user and standing.
    pub fn contacts(&self) -> impl Iterator<Item = (UserId, UserId, Standing)> {
        let all = self.contacts.of.iter();
        all.flat_map(|(user, others)| others.iter().map(|(other, (standing, _))| (*user, *other, *standing)))
    }

    pub(super) fn check_contacts(&self) -> Result<(), String> {
        let mut named = 0;
        for (user, other, _) in self.contacts() {
            let both = self.users.contains_key(&user) && self.users.contains_key(&other);
            hold!(both, "{user:?} has the contact {other:?}, and one of them is not");
            let found = self.contacts.named_by.get(&other).is_some_and(|users| users.contains(&user));
            hold!(found, "{other:?} does not know that {user:?} names it");
            named += 1;
        }
        let known: usize = self.contacts.named_by.values().map(BTreeSet::len).sum();
        hold!(known == named, "contacts and those who name them differ in number");
        let empty = self.contacts.of.values().any(BTreeMap::is_empty);
        hold!(!empty, "somebody has a list of no contacts");
        Ok(())
    }
}
