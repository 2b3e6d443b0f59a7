//! Verbs about mailboxes: whose they are, who may write to them, what is in one's own.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use conclave_core::name::{Handle, SessionPath, UserName};
use conclave_core::stream::MailboxRef;

use super::Net;
use crate::Failure;

/// Whose mailbox a message goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// A user's, which all of its sessions read.
    User(UserName),
    /// A session's.
    Session(Box<SessionPath>),
}

impl Recipient {
    /// Whose it is.
    pub fn user(&self) -> &UserName {
        match self {
            Self::User(user) => user,
            Self::Session(path) => &path.user,
        }
    }

    /// How the server is asked for the mailbox.
    pub fn mailbox(&self) -> MailboxRef {
        match self {
            Self::User(user) => MailboxRef::User(user.clone()),
            Self::Session(path) => MailboxRef::Session(path.clone()),
        }
    }
}

impl FromStr for Recipient {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            let path = text.parse::<SessionPath>().map_err(|error| error.to_string())?;
            return Ok(Self::Session(Box::new(path)));
        }
        UserName::new(text)
            .map(Self::User)
            .map_err(|error| format!("{error}; write a user, or a session as user/machine/session"))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => user.fmt(f),
            Self::Session(path) => path.fmt(f),
        }
    }
}

/// Show what was written to your mailbox, each message once
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave inbox
  conclave inbox --follow
  conclave inbox --count
  conclave inbox --as desk --json | jq -r .text

What was shown is remembered on this machine (state.db), and reported to the server as
delivered; on a terminal as seen, too.")]
pub struct Inbox {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// Read as this kept session, and what was written to it alone, too [default: inbox]
    #[arg(long = "as", value_name = "SESSION")]
    pub handle: Option<Handle>,
    /// Go on, and show each message as it comes
    #[arg(short, long)]
    pub follow: bool,
    /// Print how many messages were not shown yet, and show none
    #[arg(long, conflicts_with_all = ["handle", "follow"])]
    pub count: bool,
}

/// A message's number in its channel or mailbox.
pub(super) fn message_number(text: &str) -> Result<u64, Failure> {
    text.parse().map_err(|_| {
        Failure::usage(format!("'{text}' is not a message's number"), "`conclave send --json` prints them")
    })
}

/// Compare keys with another user: both see the same number
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave verify bea
  conclave verify bea --json | jq -r .number

Read the number to each other over the phone, or side by side: if it is the same on both
sides, the server gave both of you the true keys. It changes with each machine that one of
you adds or removes.")]
pub struct Verify {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// The user
    pub user: UserName,
}
