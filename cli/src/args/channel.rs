//! Verbs about channels and who belongs to them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use conclave_core::level::Level;
use conclave_core::name::ChannelName;
use conclave_core::protocol::{Token, Visibility};
use conclave_core::time::span;

use super::value::{channel, new_channel};
use super::{Net, OfChannel, OfUser};

/// Check that you may join a channel, redeem an invite, set this machine's level there
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave join ops
  conclave join board --token TOKEN --perm converse
  conclave join board --token-file invite.txt

A running bridge subscribes its agent with the `join_channel` tool.")]
pub struct Join {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// The channel
    #[arg(value_parser = channel)]
    pub channel: ChannelName,
    /// An invite to it; `-` reads it from standard input, where other processes do not see it
    #[arg(long, env = "CONCLAVE_TOKEN", hide_env_values = true, allow_hyphen_values = true, value_parser = token)]
    pub token: Option<TokenArg>,
    /// Read the invite from this file
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// How far agents may go there: mute, notify, converse or act
    #[arg(long, value_name = "LEVEL")]
    pub perm: Option<Level>,
}

/// What to do with channels.
#[derive(Clone, Subcommand)]
#[allow(missing_docs, reason = "the first line of each is its help")]
pub enum Channel {
    /// Create a channel; you become its admin
    #[command(after_help = "\
Examples:
  conclave channel create ops
  conclave channel create board --visibility private")]
    Create {
        #[command(flatten)]
        net: Net,
        /// The channel's name
        #[arg(value_parser = new_channel)]
        name: ChannelName,
        /// Who sees it and who may join
        #[arg(long, value_enum, default_value_t)]
        visibility: VisibilityArg,
    },
    /// Delete a channel with its history, members and invites
    #[command(after_help = "\
Examples:
  conclave channel delete old-project
  conclave channel delete old-project --yes

On a terminal it asks first; in scripts, without one, it does not.")]
    Delete {
        #[command(flatten)]
        net: Net,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        /// The channel's name
        #[arg(value_parser = channel)]
        name: ChannelName,
    },
    /// Rename a channel; members, history and subscriptions stay
    #[command(after_help = "Example:\n  conclave channel rename ops operations")]
    Rename {
        #[command(flatten)]
        net: Net,
        /// The channel's name
        #[arg(value_parser = channel)]
        name: ChannelName,
        /// Its name from now on
        #[arg(value_parser = new_channel)]
        new_name: ChannelName,
    },
    /// Set who sees a channel and who may join
    #[command(after_help = "Example:\n  conclave channel set-visibility ops unlisted")]
    SetVisibility {
        #[command(flatten)]
        net: Net,
        /// The channel's name
        #[arg(value_parser = channel)]
        name: ChannelName,
        /// Who sees it and who may join from now on
        #[arg(value_enum)]
        visibility: VisibilityArg,
    },
    /// List the channels that you may see
    #[command(after_help = "Example:\n  conclave channel list")]
    List(Net),
}

/// Who sees a channel and who may join it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum VisibilityArg {
    /// Listed to everyone, joined by everyone
    #[default]
    Public,
    /// Listed to members, joined by whoever knows the name
    Unlisted,
    /// Listed to members, joined by members and with an invite
    Private,
}

impl From<VisibilityArg> for Visibility {
    fn from(arg: VisibilityArg) -> Self {
        match arg {
            VisibilityArg::Public => Self::Public,
            VisibilityArg::Unlisted => Self::Unlisted,
            VisibilityArg::Private => Self::Private,
        }
    }
}

/// What to do with members.
#[derive(Clone, Subcommand)]
#[allow(missing_docs, reason = "the first line of each is its help")]
pub enum Acl {
    /// Make a user a member; lifts a ban
    #[command(after_help = "Example:\n  conclave acl add board carol")]
    Add(OfUser),
    /// End a user's membership and subscriptions
    #[command(after_help = "Example:\n  conclave acl remove board carol")]
    Remove(OfUser),
    /// List the members (channel admins)
    #[command(after_help = "Example:\n  conclave acl list board")]
    List(OfChannel),
}

/// What to do with invites.
#[derive(Clone, Subcommand)]
#[allow(missing_docs, reason = "the first line of each is its help")]
pub enum Invite {
    /// Make an invite and print its token
    #[command(after_help = "\
Examples:
  conclave invite create board --uses 1 --expires-in 24h
  conclave invite create board --json | jq -r .token")]
    Create {
        #[command(flatten)]
        of: OfChannel,
        /// How often it may be used [default: any number of times]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        uses: Option<u32>,
        /// How long it lives, as in 24h or 7d [default: until revoked]
        #[arg(long, value_name = "TIME", value_parser = span)]
        expires_in: Option<Duration>,
    },
    /// Make an invite to the server itself and print its token (server admins)
    #[command(after_help = "\
Examples:
  conclave invite user
  conclave invite user --uses 10 --expires-in 24h
  conclave invite user --json | jq -r .token

For a server that was started with --registration invite. Give the token to whoever is to
register; one who registers uses it once.")]
    User {
        #[command(flatten)]
        net: Net,
        /// How many may register with it
        #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// How long it lives, as in 24h or 7d
        #[arg(long, alias = "expires", value_name = "TIME", default_value = "7d", value_parser = span)]
        expires_in: Duration,
    },
    /// List the invites to the server itself (server admins)
    #[command(after_help = "\
Example:
  conclave invite users

The server keeps no token of these: it shows what to revoke them by.")]
    Users(Net),
    /// End an invite
    #[command(after_help = "\
Examples:
  conclave invite revoke TOKEN
  conclave invite revoke --token-file invite.txt")]
    Revoke {
        #[command(flatten)]
        net: Net,
        /// The invite's token, or what `invite users` calls it; `-` reads it from standard input
        #[arg(allow_hyphen_values = true, value_parser = token, required_unless_present = "token_file")]
        token: Option<TokenArg>,
        /// Read the token from this file
        #[arg(long, value_name = "FILE", conflicts_with = "token")]
        token_file: Option<PathBuf>,
    },
    /// List the invites of a channel (channel admins)
    #[command(after_help = "Example:\n  conclave invite list board")]
    List(OfChannel),
}

/// A token, or where it is read.
#[derive(Clone)]
pub enum TokenArg {
    /// As it was typed.
    Typed(Token),
    /// From standard input.
    Input,
}

/// A token may begin like a flag; what is too short for one is a flag.
pub(super) fn token(text: &str) -> Result<TokenArg, String> {
    match text.trim() {
        "-" => Ok(TokenArg::Input),
        text if text.starts_with('-') && text.len() < 24 => {
            Err("this is a flag, and no token: a token is longer".into())
        }
        text => Ok(TokenArg::Typed(Token::new(text))),
    }
}
