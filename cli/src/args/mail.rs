//! Verbs about mailboxes: whose they are, who may write to them, what is in one's own.

use std::fmt;
use std::str::FromStr;

use conclave_core::name::{SessionPath, UserName};
use conclave_core::stream::MailboxRef;

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

/// A message's number in its channel or mailbox.
pub(super) fn message_number(text: &str) -> Result<u64, Failure> {
    text.parse().map_err(|_| {
        Failure::usage(format!("'{text}' is not a message's number"), "`conclave send --json` prints them")
    })
}
