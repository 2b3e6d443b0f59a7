//! Names that were given up and are held back, so that nobody takes the place of whoever had them.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::looks::Looks;
use super::{Directory, hold};
use crate::key::PublicKey;
use crate::name::{ChannelName, UserName};
use crate::record::UserId;
use crate::time::UnixMillis;

/// A name that was given up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FreedName {
    /// A user's.
    User(UserName),
    /// A channel's.
    Channel(ChannelName),
}

impl FreedName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::User(name) => name.as_str(),
            Self::Channel(name) => name.as_str(),
        }
    }
}

/// Who may have a freed name again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Heir {
    /// Whoever has one of these keys, which were the user's.
    Keys(Box<[PublicKey]>),
    /// The user who had created the channel.
    User(UserId),
}

/// For whom a freed name is held back, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// Who may have it.
    pub heir: Heir,
    /// From when on everyone may.
    pub until: UnixMillis,
}

/// The names that are held back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Freed {
    all: BTreeMap<FreedName, Held>,
    looks: Looks<FreedName>,
}

impl Freed {
    pub(super) fn hold(&mut self, name: &FreedName, held: &Held) {
        self.looks.add(name.as_str(), name);
        self.all.insert(name.clone(), held.clone());
    }

    pub(super) fn release(&mut self, name: &FreedName) {
        if self.all.remove(name).is_some() {
            self.looks.remove(name.as_str(), name);
        }
    }
}

impl Directory {
    /// The names that are held back.
    pub fn held_names(&self) -> impl ExactSizeIterator<Item = (&FreedName, &Held)> {
        self.freed.all.iter()
    }

    /// Those of them that look like this one.
    pub fn held_like(&self, name: &str) -> Vec<(&FreedName, &Held)> {
        let like = self.freed.looks.like(name).into_iter();
        like.filter_map(|name| self.freed.all.get_key_value(name)).collect()
    }

    pub(super) fn check_freed(&self) -> Result<(), String> {
        let names = self.freed.all.keys().map(|name| (name.as_str(), name.clone()));
        hold!(self.freed.looks.is_of(names), "held names and their looks differ");
        Ok(())
    }
}
