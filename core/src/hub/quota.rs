//! What users and channels may store, and what is done before the disk is full.
//!
//! What a user or a channel stored comes back evenly over the time for which messages are kept ([`Limits::stored_for`]
//! (super::Limits)). So in any such time at most twice the quota is stored, whatever was purged when, and nothing of it
//! has to be counted on the disk. It is kept in memory: a restart gives everyone the whole quota.

use alloc::collections::BTreeMap;
use core::time::Duration;

use super::{Hub, line};
use crate::protocol::{Admin, Command, Refusal};
use crate::record::{ChannelId, UserId};
use crate::time::{Monotonic, Now};

/// While space is short, a post costs so many times its bytes.
pub(super) const SHORT: u32 = 16;

/// What was stored of late, and how much space there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Quotas {
    users: BTreeMap<UserId, Level>,
    channels: BTreeMap<ChannelId, Level>,
    pub(super) space: Space,
}

/// How much space is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Space {
    #[default]
    Enough,
    /// Whoever writes much is slowed.
    Short,
    /// Nothing is stored but what frees space.
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Level {
    used: u64,
    at: Monotonic,
}

impl Level {
    /// What is used now, of a quota that comes back over a time.
    fn at(self, now: Monotonic, quota: u64, over: Duration) -> Self {
        let passed = now.0.saturating_sub(self.at.0);
        if passed == 0 {
            return self;
        }
        let over = u64::try_from(over.as_millis()).unwrap_or(u64::MAX).max(1);
        let back = match quota.checked_mul(passed) {
            Some(product) => product / over,
            None => {
                let back = u128::from(quota) * u128::from(passed) / u128::from(over);
                u64::try_from(back).unwrap_or(u64::MAX)
            }
        };
        // Too little time for a byte is not lost.
        if back == 0 { self } else { Self { used: self.used.saturating_sub(back), at: now } }
    }

    /// How long it takes until `bytes` fit. They always fit if nothing is used.
    fn wait(self, bytes: u64, quota: u64, over: Duration) -> Option<Duration> {
        let missing = self.used.saturating_add(bytes).saturating_sub(quota).min(self.used);
        if missing == 0 {
            return None;
        }
        let millis = u128::from(missing) * over.as_millis() / u128::from(quota.max(1)) + 1;
        Some(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
    }
}

impl Hub {
    /// Takes the bytes of a post from the quotas of its user and its channel, from both or from none.
    pub(super) fn take_space(
        &mut self,
        now: Now,
        user: UserId,
        channel: Option<ChannelId>,
        bytes: usize,
    ) -> Result<(), Refusal> {
        let limits = &self.config.limits;
        let (over, bytes) = (limits.stored_for, bytes as u64);
        let fresh = Level { used: 0, at: now.mono };
        let users = self.quotas.users.entry(user).or_insert(fresh);
        let mut nowhere = fresh;
        let channels = match channel {
            Some(channel) => self.quotas.channels.entry(channel).or_insert(fresh),
            None => &mut nowhere,
        };
        *users = users.at(now.mono, limits.stored_per_user, over);
        *channels = channels.at(now.mono, limits.stored_per_channel, over);
        let waits = [
            users.wait(bytes, limits.stored_per_user, over),
            channels.wait(bytes, limits.stored_per_channel, over),
        ];
        if let Some(wait) = waits.into_iter().flatten().max() {
            return Err(Refusal::TooFast { wait });
        }
        users.used += bytes;
        channels.used += bytes;
        if self.quotas.users.len() > 2 * self.directory.user_count() + 64 {
            self.quotas.users.retain(|user, _| self.directory.user(*user).is_some());
        }
        if self.quotas.channels.len() > 2 * self.directory.channel_count() + 64 {
            self.quotas.channels.retain(|channel, _| self.directory.channel(*channel).is_some());
        }
        Ok(())
    }

    /// Learns how many bytes are stored, and how many are free.
    pub(super) fn measured(&mut self, stored: u64, free: u64) {
        let limits = &self.config.limits;
        self.quotas.space = if free < limits.disk_free || stored >= limits.stored {
            Space::None
        } else if free / 4 < limits.disk_free || stored >= limits.stored / 10 * 9 {
            Space::Short
        } else {
            Space::Enough
        };
    }

    /// Refuses what would store more while there is no space.
    pub(super) fn has_space_for(&self, command: &Command) -> Result<(), Refusal> {
        let frees = |admin: &Admin| {
            matches!(
                admin,
                Admin::DeleteChannel { .. }
                    | Admin::AclRemove { .. }
                    | Admin::Ban { .. }
                    | Admin::SetVisibility { .. }
                    | Admin::InviteRevoke { .. }
                    | Admin::UserRemove { .. }
                    | Admin::MachineRemove { .. }
            )
        };
        let harmless = match command {
            Command::Admin(admin) => frees(admin),
            _ => false,
        };
        if self.quotas.space < Space::None || harmless || !line::may_need_record(command) {
            return Ok(());
        }
        Err(no_space())
    }
}

pub(super) fn no_space() -> Refusal {
    Refusal::NotStored { why: "the disk is nearly full: the operator has to free some space".into() }
}
