//! How far an agent may go with what arrives, and where: its owner's word, kept on the owner's machine.

use core::fmt;
use core::str::FromStr;

use crate::name::ChannelName;
use crate::text::quoted;

/// An autonomy level, of one [`Scope`] of a server. Ordered: a later one allows more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// What arrives is dropped.
    Mute,
    /// What arrives is shown to the human; the agent neither replies nor acts.
    #[default]
    Notify,
    /// The agent may reply in conversation, without side effects.
    Converse,
    /// The agent may reply and act.
    Act,
}

/// A text that names no level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a level is mute, notify, converse or act")]
pub struct InvalidLevel;

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Self; 4] = [Self::Mute, Self::Notify, Self::Converse, Self::Act];

    /// The level's word, as it is typed and stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mute => "mute",
            Self::Notify => "notify",
            Self::Converse => "converse",
            Self::Act => "act",
        }
    }

    /// Whether the agent may send anything there.
    pub fn may_emit(self) -> bool {
        self >= Self::Converse
    }
}

impl FromStr for Level {
    type Err = InvalidLevel;

    fn from_str(text: &str) -> Result<Self, InvalidLevel> {
        Self::ALL.into_iter().find(|level| level.as_str() == text).ok_or(InvalidLevel)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What has a level of its own on a server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// A channel.
    Channel(ChannelName),
    /// All whispers.
    Whispers,
}

impl Scope {
    /// The channel, if it is one.
    pub fn channel(&self) -> Option<&ChannelName> {
        match self {
            Self::Channel(channel) => Some(channel),
            Self::Whispers => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(channel) => write!(f, "#{}", quoted(channel.as_str())),
            Self::Whispers => f.write_str("whispers"),
        }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_reads_back_and_only_the_upper_two_emit() {
        for level in Level::ALL {
            assert_eq!(level.as_str().parse(), Ok(level));
        }
        assert_eq!("Act".parse::<Level>(), Err(InvalidLevel));
        assert_eq!(Level::ALL.map(Level::may_emit), [false, false, true, true]);
    }
}
