//! `Debug` without what no log may show: frames carry bodies and tokens.

use core::fmt;

use super::{Action, Config, Input};

/// Bytes, shown as their number.
struct Bytes(usize);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("handle", &self.handle)
            .field("defaulted", &self.defaulted)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("Start"),
            Self::Tick => f.write_str("Tick"),
            Self::Dialed { server_id } => f.debug_struct("Dialed").field("server_id", server_id).finish(),
            Self::DialFailed(text) => f.debug_tuple("DialFailed").field(text).finish(),
            Self::Message(bytes) => f.debug_tuple("Message").field(&Bytes(bytes.len())).finish(),
            Self::Closed(text) => f.debug_tuple("Closed").field(text).finish(),
            Self::Request { id, command, deadline } => f
                .debug_struct("Request")
                .field("id", id)
                .field("command", command)
                .field("deadline", deadline)
                .finish(),
            Self::Join { channel, token, from } => f
                .debug_struct("Join")
                .field("channel", channel)
                .field("token", token)
                .field("from", from)
                .finish(),
            Self::Leave { channel } => f.debug_struct("Leave").field("channel", channel).finish(),
            Self::Disable(text) => f.debug_tuple("Disable").field(text).finish(),
            Self::Stop => f.write_str("Stop"),
        }
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial => f.write_str("Dial"),
            Self::Send(bytes) => f.debug_tuple("Send").field(&Bytes(bytes.len())).finish(),
            Self::Hangup => f.write_str("Hangup"),
            Self::Deliver { channel, from, payload, ts } => f
                .debug_struct("Deliver")
                .field("channel", channel)
                .field("from", from)
                .field("payload", payload)
                .field("ts", ts)
                .finish(),
            Self::Whispered { from, payload } => {
                f.debug_struct("Whispered").field("from", from).field("payload", payload).finish()
            }
            Self::Replied { id, result } => {
                f.debug_struct("Replied").field("id", id).field("result", result).finish()
            }
            Self::Up { path, admin, server_id } => f
                .debug_struct("Up")
                .field("path", path)
                .field("admin", admin)
                .field("server_id", server_id)
                .finish(),
            Self::Down(reason) => f.debug_tuple("Down").field(reason).finish(),
            Self::Role { admin } => f.debug_struct("Role").field("admin", admin).finish(),
            Self::Joined { channel } => f.debug_struct("Joined").field("channel", channel).finish(),
            Self::CaughtUp { channel } => f.debug_struct("CaughtUp").field("channel", channel).finish(),
            Self::Lost { channel, reason } => {
                f.debug_struct("Lost").field("channel", channel).field("reason", reason).finish()
            }
            Self::Stray { channel } => f.debug_struct("Stray").field("channel", channel).finish(),
            Self::Renamed { from, to } => {
                f.debug_struct("Renamed").field("from", from).field("to", to).finish()
            }
            Self::Collision { handle } => f.debug_struct("Collision").field("handle", handle).finish(),
            Self::Disabled(reason) => f.debug_tuple("Disabled").field(reason).finish(),
            Self::Fatal(fatal) => f.debug_tuple("Fatal").field(fatal).finish(),
        }
    }
}
