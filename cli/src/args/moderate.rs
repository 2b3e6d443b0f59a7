//! Verbs about who may stay.

use clap::{Args, Subcommand};
use conclave_core::name::{ChannelName, SessionPath, UserName};
use conclave_core::protocol::KickTarget;

use super::Net;

/// A channel of a server.
#[derive(Clone, Debug, Args)]
pub struct OfChannel {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// The channel
    #[arg(long)]
    pub channel: ChannelName,
}

/// A user in a channel.
#[derive(Clone, Debug, Args)]
pub struct OfUser {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub of: OfChannel,
    /// The user
    pub user: UserName,
}

/// End a user's or one session's subscriptions to a channel; they may come back
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  conclave kick --channel ops mallory                   all sessions of a user
  conclave kick --channel ops mallory/laptop/agent      one session, as `conclave who` shows it")]
pub struct Kick {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub of: OfChannel,
    /// The user, or one session as user/machine/session
    #[arg(value_parser = kick_target)]
    pub target: KickTarget,
}

fn kick_target(text: &str) -> Result<KickTarget, String> {
    let target = if text.contains('/') {
        text.parse::<SessionPath>().map(KickTarget::Session)
    } else {
        text.parse().map(KickTarget::User)
    };
    target.map_err(|error| error.to_string())
}

/// What to do with users.
#[derive(Clone, Debug, Subcommand)]
#[allow(missing_docs, reason = "the first line of each is its help")]
pub enum User {
    /// List the users of a server (server admins)
    #[command(after_help = "Example:\n  conclave user list")]
    List(Net),
    /// Remove a user with machines, memberships and the channels that they created
    #[command(after_help = "Example:\n  conclave user remove mallory")]
    Remove {
        #[command(flatten)]
        net: Net,
        /// The user
        username: UserName,
    },
}
