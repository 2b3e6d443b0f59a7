//! Rates as what is left: so many nanoseconds' worth of tokens, refilled as time passes.

use std::time::Duration;

use conclave_core::hub::{Rate, Rates};
use conclave_core::payload::Payload;
use conclave_core::protocol::{Command, Refusal};

use super::Model;

#[derive(Clone, Debug, Default)]
struct Level {
    /// What was left at the time; nothing taken yet means full.
    left: Option<(i128, u64)>,
}

impl Level {
    /// What is left after `tokens`, or the nanoseconds until as many are there.
    fn without(&self, rate: Rate, now: u64, tokens: u32) -> Result<Self, i128> {
        if rate.per_second == 0 {
            return Ok(self.clone());
        }
        let cost = i128::from(1_000_000_000 / u64::from(rate.per_second));
        let full = cost * i128::from(rate.burst);
        let left = match self.left {
            None => full,
            Some((left, at)) => full.min(left + i128::from(now - at) * 1_000_000),
        };
        let price = cost * i128::from(tokens);
        // A request that costs more than a full bucket holds needs a full one.
        let missing = price.min(full) - left;
        if missing > 0 { Err(missing) } else { Ok(Self { left: Some((left - price, now)) }) }
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
    /// What is left after a command, or the nanoseconds until there is enough of everything that it costs.
    fn without(&self, rates: &Rates, now: u64, command: &Command) -> Result<Self, i128> {
        let size = |payload: &Payload| payload.size() as u32;
        let mut rest = self.clone();
        match command {
            Command::Ping => {}
            Command::Post { payload, .. } => {
                let posts = self.posts.without(rates.posts, now, 1);
                let bytes = self.bytes.without(rates.bytes, now, size(payload));
                (rest.posts, rest.bytes) = all(posts, bytes)?;
            }
            Command::Whisper { payload, .. } => {
                let whispers = self.whispers.without(rates.whispers, now, 1);
                let bytes = self.bytes.without(rates.bytes, now, size(payload));
                (rest.whispers, rest.bytes) = all(whispers, bytes)?;
            }
            _ => rest.control = self.control.without(rates.control, now, 1)?,
        }
        Ok(rest)
    }
}

/// Both, or the longer time until both are there.
fn all<T, U>(one: Result<T, i128>, other: Result<U, i128>) -> Result<(T, U), i128> {
    match (one, other) {
        (Ok(one), Ok(other)) => Ok((one, other)),
        (one, other) => Err(one.err().max(other.err()).unwrap()),
    }
}

impl Model {
    /// Takes what a command costs its session and its user, from both or from none.
    pub(super) fn afford(&mut self, conn: u64, command: &Command) -> Result<(), Refusal> {
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
        let both = self.levels[shared].1.without(&limits.user, now, command);
        let (one, shared_level) = all(one, both).map_err(|missing| Refusal::TooFast {
            wait: Duration::from_nanos(u64::try_from(missing).unwrap()),
        })?;
        self.sessions[session].levels = one;
        self.levels[shared].1 = shared_level;
        Ok(())
    }
}
