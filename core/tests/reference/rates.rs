//! Rates as what is left: so many nanoseconds' worth of tokens, refilled as time passes.

use conclave_core::hub::{Rate, Rates};
use conclave_core::payload::Payload;
use conclave_core::protocol::Command;

use super::Model;

#[derive(Clone, Debug, Default)]
struct Level {
    /// What was left at the time; nothing taken yet means full.
    left: Option<(i128, u64)>,
}

impl Level {
    /// What is left after `tokens`, if as many are there.
    fn without(&self, rate: Rate, now: u64, tokens: u32) -> Option<Self> {
        if rate.per_second == 0 {
            return Some(self.clone());
        }
        let cost = i128::from(1_000_000_000 / u64::from(rate.per_second));
        let full = cost * i128::from(rate.burst);
        let left = match self.left {
            None => full,
            Some((left, at)) => full.min(left + i128::from(now - at) * 1_000_000),
        };
        // What is more than a full bucket is given to a full one.
        let enough = if tokens > rate.burst { left == full } else { left >= cost * i128::from(tokens) };
        enough.then(|| Self { left: Some((left - cost * i128::from(tokens), now)) })
    }
}

#[derive(Clone, Debug, Default)]
pub struct Levels {
    posts: Level,
    whispers: Level,
    bytes: Level,
    control: Level,
}

impl Levels {
    fn without(&self, rates: &Rates, now: u64, command: &Command) -> Option<Self> {
        let size = |payload: &Payload| payload.size() as u32;
        let mut rest = self.clone();
        match command {
            Command::Ping => {}
            Command::Post { payload, .. } => {
                rest.posts = self.posts.without(rates.posts, now, 1)?;
                rest.bytes = self.bytes.without(rates.bytes, now, size(payload))?;
            }
            Command::Whisper { payload, .. } => {
                rest.whispers = self.whispers.without(rates.whispers, now, 1)?;
                rest.bytes = self.bytes.without(rates.bytes, now, size(payload))?;
            }
            _ => rest.control = self.control.without(rates.control, now, 1)?,
        }
        Some(rest)
    }
}

impl Model {
    /// Takes what a command costs its session and its user, from both or from none.
    pub(super) fn afford(&mut self, conn: u64, command: &Command) -> bool {
        let now = self.now.mono.0;
        let session = self.sessions.iter().position(|one| one.conn == conn).unwrap();
        let user = self.sessions[session].user;
        let shared = match self.levels.iter().position(|(id, _)| *id == user) {
            Some(at) => at,
            None => {
                self.levels.push((user, Levels::default()));
                self.levels.len() - 1
            }
        };
        let limits = &self.config.limits;
        let one = self.sessions[session].levels.without(&limits.session, now, command);
        let all = self.levels[shared].1.without(&limits.user, now, command);
        let (Some(one), Some(all)) = (one, all) else { return false };
        self.sessions[session].levels = one;
        self.levels[shared].1 = all;
        true
    }
}
