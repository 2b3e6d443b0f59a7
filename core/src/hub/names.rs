//! Which new names are taken: none that deceives a reader, looks like one in use, or was somebody else's until lately.
//! Names that exist are not judged.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use super::Hub;
use super::decide::Asker;
use crate::directory::{FreedName, Heir, Held, looks};
use crate::handshake::Claim;
use crate::key::PublicKey;
use crate::name::{ChannelName, Name, UserName, fit};
use crate::protocol::Refusal;
use crate::record::{ChannelId, Record, UserId};
use crate::time::UnixMillis;

/// Names that are held back, of users and channels alike; another one pushes the oldest out.
const HELD: usize = 10_000;
/// Those of one heir.
const SHARE: usize = 100;

impl Hub {
    /// Whether a new name may be shown to everyone.
    pub(super) fn fits(&self, name: &str) -> Result<(), Refusal> {
        Ok(fit(name, self.config.limits.name_bytes)?)
    }

    /// Whether a user may be called so. Gives the records that stop holding the name back.
    pub(super) fn user_name_free(
        &self,
        wall: UnixMillis,
        claim: &Claim,
        key: &PublicKey,
    ) -> Result<Vec<Record>, Refusal> {
        let name = &claim.user;
        if self.directory.user_named(name.as_str()).is_some() {
            return Err(Refusal::NameTaken(name.clone().into()));
        }
        // What the operator names is meant as it is.
        let named = self.config.admins.contains_key(name);
        if !named {
            self.fits(name.as_str())?;
            self.fits(claim.machine.as_str())?;
        }
        let confusing = !self.directory.users_like(name.as_str()).is_empty() || self.is_like_admin(name);
        let heir = |held: &Held| matches!(&held.heir, Heir::Keys(keys) if keys.contains(key));
        self.take(wall, &FreedName::User(name.clone()), !named && confusing, |held| named || heir(held))
    }

    /// Whether a name looks like that of an admin who may not have registered yet.
    fn is_like_admin(&self, name: &UserName) -> bool {
        let mut admins = self.config.admins.keys().flat_map(|admin| looks(admin.as_str()));
        let own: Vec<_> = looks(name.as_str()).collect();
        admins.any(|look| own.contains(&look))
    }

    /// Whether a channel may be called so; `renamed` is the one that is called otherwise now.
    ///
    /// A name in use is refused even if the asker may not see what uses it: names are unique on the server, so this
    /// alone cannot be kept silent. Whether such a name is in use or was lately is not told.
    pub(super) fn channel_name_free(
        &self,
        wall: UnixMillis,
        asker: &Asker,
        name: &ChannelName,
        renamed: Option<ChannelId>,
    ) -> Result<Vec<Record>, Refusal> {
        if self.directory.channel_named(name.as_str()).is_some() {
            return Err(Refusal::NameTaken(name.clone().into()));
        }
        self.fits(name.as_str())?;
        let like = self.directory.channels_like(name.as_str());
        let confusing = like.iter().any(|other| Some(**other) != renamed);
        let heir = |held: &Held| asker.admin || held.heir == Heir::User(asker.user);
        self.take(wall, &FreedName::Channel(name.clone()), confusing, heir)
    }

    fn take(
        &self,
        wall: UnixMillis,
        name: &FreedName,
        confusing: bool,
        heir: impl Fn(&Held) -> bool,
    ) -> Result<Vec<Record>, Refusal> {
        let kind = core::mem::discriminant(name);
        let held = self.directory.held_like(name.as_str());
        let held: Vec<_> = held.into_iter().filter(|(it, _)| core::mem::discriminant(*it) == kind).collect();
        if confusing || held.iter().any(|(_, held)| wall < held.until && !heir(held)) {
            let name = match name {
                FreedName::User(name) => Name::from(name.clone()),
                FreedName::Channel(name) => Name::from(name.clone()),
            };
            return Err(Refusal::NameUnavailable(name));
        }
        Ok(held.into_iter().map(|(name, _)| Record::NameReleased { name: name.clone() }).collect())
    }

    /// The name of a user who is to be removed, and for whom it is held back.
    pub(super) fn freed_user(&self, id: UserId) -> Option<(FreedName, Heir)> {
        let user = self.directory.user(id)?;
        let keys = user.machines.iter().map(|machine| machine.key).collect();
        Some((FreedName::User(user.name.clone()), Heir::Keys(keys)))
    }

    /// The name that a channel gives up, and for whom it is held back.
    pub(super) fn freed_channel(&self, id: ChannelId) -> Option<(FreedName, Heir)> {
        let channel = self.directory.channel(id)?;
        Some((FreedName::Channel(channel.name.clone()), Heir::User(channel.creator)))
    }

    /// What holds names back: the latest of each heir, and the latest of all.
    pub(super) fn hold_back(&self, wall: UnixMillis, freed: Vec<(FreedName, Heir)>) -> Vec<Record> {
        let time = i64::try_from(self.config.hold_names.as_millis()).unwrap_or(i64::MAX);
        if time == 0 || freed.is_empty() {
            return Vec::new();
        }
        let until = UnixMillis(wall.0.saturating_add(time).min(UnixMillis::MAX.0));
        let (kept, mut released): (Vec<_>, Vec<_>) =
            self.directory.held_names().partition(|(_, held)| wall < held.until);
        let mut kept: VecDeque<_> = kept.into();
        kept.make_contiguous().sort_by_key(|(_, held)| held.until);
        let share = SHARE.saturating_sub(freed.len());
        for heir in freed.iter().map(|(_, heir)| heir).collect::<BTreeSet<_>>() {
            let mut over = kept.iter().filter(|(_, held)| held.heir == *heir).count().saturating_sub(share);
            kept.retain(|one| {
                let goes = over > 0 && one.1.heir == *heir;
                over -= usize::from(goes);
                released.extend(goes.then_some(*one));
                !goes
            });
        }
        let over = (kept.len() + freed.len()).saturating_sub(HELD);
        released.extend(kept.into_iter().take(over));
        let released = released.into_iter().map(|(name, _)| Record::NameReleased { name: name.clone() });
        let skipped = freed.len().saturating_sub(SHARE);
        let held = freed.into_iter().skip(skipped);
        released
            .chain(held.map(|(name, heir)| Record::NameHeld { name, held: Held { heir, until } }))
            .collect()
    }

    /// What lets everyone have the held names that look like this one.
    pub(super) fn release_name(&self, asker: &Asker, name: &Name) -> Result<Vec<Record>, Refusal> {
        if !asker.admin {
            return Err(Refusal::NotServerAdmin);
        }
        let held = self.directory.held_like(name.as_str()).into_iter();
        Ok(held.map(|(name, _)| Record::NameReleased { name: name.clone() }).collect())
    }
}
