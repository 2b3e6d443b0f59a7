//! Verbs about who may stay.

use clap::{Args, Subcommand};
use conclave_core::name::UserName;

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
