//! Verbs about who may stay.

use clap::{Args, Subcommand};
use conclave_core::name::{ChannelName, InvalidName, Name, UserName};

use super::value::channel;
use super::{Net, OfUser};

/// End a user's or one session's subscriptions to a channel; they may come back
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave kick ops mallory                   all sessions of a user
  conclave kick ops mallory/laptop/agent      one session, as `conclave who` shows it")]
pub struct Kick {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub of: OfUser,
}

/// Let everyone have a name that is held back for whoever had it (server admins)
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave release bea        for a user who lost their only key, and registers anew
  conclave release ops        for a channel that somebody else may create now

The name of a removed user, and of a channel that was deleted or renamed, is held back
for whoever had it, for as long as the server's --hold-names says.")]
pub struct Release {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// The name; those that look like it are released as well
    #[arg(value_parser = name)]
    pub name: Name,
}

fn name(text: &str) -> Result<Name, InvalidName> {
    Name::new(text.strip_prefix('#').unwrap_or(text))
}

/// Show who did what to whom, and when (server admins; of a channel, its admins)
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave audit                       the newest 100 entries of the server
  conclave audit --channel ops --limit 20
  conclave audit --json | jq '.[] | select(.did == \"banned\")'

Entries are about channels, members, invites, users and machines, never about messages.")]
pub struct Audit {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// Only what was done in this channel
    #[arg(long, value_parser = channel)]
    pub channel: Option<ChannelName>,
    /// How many entries to show
    #[arg(long, value_name = "N", default_value = "100", value_parser = count)]
    pub limit: usize,
}

/// A number of things, at least one.
fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "a number, at least 1".into())
}

/// What to do with users.
#[derive(Clone, Subcommand)]
#[allow(missing_docs, reason = "the first line of each is its help")]
pub enum User {
    /// List the users of a server (server admins)
    #[command(after_help = "Example:\n  conclave user list")]
    List(Net),
    /// Remove a user with machines, memberships and the channels that they created
    #[command(after_help = "\
Examples:
  conclave user remove mallory
  conclave user remove mallory --yes

On a terminal it asks first; in scripts, without one, it does not.")]
    Remove {
        #[command(flatten)]
        net: Net,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        /// The user
        username: UserName,
    },
}
