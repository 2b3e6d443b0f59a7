//! Verbs about mailboxes: whose they are, who may write to them, what is in one's own.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use conclave_core::name::{ChannelName, Handle, SessionPath, UserName};
use conclave_core::stream::MailboxRef;

use super::value::channel;
use super::{Net, named_channel};
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

/// Show what was written to your mailbox, or what is new in a channel, each message once
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave inbox
  conclave inbox --follow
  conclave inbox --count
  conclave inbox --channel ops --mentions         look: it moves nothing, and all of it comes again
  conclave inbox --channel ops --mark-read
  conclave inbox --as desk --json | jq -r .text

What was shown is remembered on this machine (state.db), and reported to the server as
delivered; on a terminal as seen, too. What is marked as read without being shown is never
reported.")]
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
    /// What is new in this channel, instead of your mailbox
    #[arg(long, value_parser = channel)]
    pub channel: Option<ChannelName>,
    /// Show only what this user or session wrote, without moving on: all of it comes again
    #[arg(long, value_name = "USER")]
    pub from: Option<Recipient>,
    /// Show only what mentions you, without moving on: all of it comes again
    #[arg(long)]
    pub mentions: bool,
    /// Show nothing, and go on behind it all the next time
    #[arg(long, conflicts_with_all = ["follow", "count", "from", "mentions"])]
    pub mark_read: bool,
    /// Print how many messages were not shown yet, and show none
    #[arg(long, conflicts_with_all = ["handle", "follow", "from", "mentions"])]
    pub count: bool,
}

/// Confirm a message to its sender, perhaps with a word
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave ack ops 42
  conclave ack ops 42 'on it'
  conclave ack --inbox 7 yes

A kept session confirms: in a channel the one that follows it under --as, in the inbox the
one that reads it. A session of that name that is connected is interrupted for a moment.
`conclave tail --json` and `conclave inbox --json` print a message's number.")]
pub struct Ack {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// The session that confirms [default: the only one of this machine that follows the channel; with --inbox: inbox]
    #[arg(long = "as", value_name = "SESSION")]
    pub handle: Option<Handle>,
    /// A message of your own mailbox
    #[arg(long, conflicts_with = "channel")]
    inbox: bool,
    /// The channel
    #[arg(long, value_parser = channel)]
    channel: Option<ChannelName>,
    /// The channel, unless --channel or --inbox names where it is, the message's number, and a word to its sender
    #[arg(value_name = "CHANNEL] [SEQ] [WORD", required = true, num_args = 1..=3)]
    words: Vec<String>,
}

impl Ack {
    /// The channel, or none for the inbox; the message; the word.
    ///
    /// # Errors
    /// One of them is missing, or no number.
    pub fn split(&self) -> Result<(Option<ChannelName>, u64, String), Failure> {
        let (channel, rest) = match (&self.channel, &self.words[..]) {
            _ if self.inbox => (None, &self.words[..]),
            (Some(channel), rest) => (Some(channel.clone()), rest),
            (None, [channel, rest @ ..]) => (Some(named_channel(channel)?), rest),
            (None, []) => (None, &[][..]),
        };
        let (seq, word) = match rest {
            [seq] => (seq, String::new()),
            [seq, word] => (seq, word.clone()),
            [] => return Err(Failure::usage("which message?", "conclave ack CHANNEL SEQ [WORD]")),
            _ => return Err(Failure::usage("there is more than one word", "put it in quotes")),
        };
        Ok((channel, message_number(seq)?, word))
    }
}

/// A message's number in its channel or mailbox.
pub(super) fn message_number(text: &str) -> Result<u64, Failure> {
    text.parse().map_err(|_| {
        Failure::usage(format!("'{text}' is not a message's number"), "`conclave send --json` prints them")
    })
}

/// Somebody whom you let write to you, or not
#[derive(Clone, Args)]
pub struct OfContact {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// The user
    pub user: UserName,
}

/// Compare keys with another user: both see the same number
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave verify bea
  conclave verify bea --json | jq -r .number
  conclave verify bea --accept      the name is another user's now, and shall approve

Read the number to each other over the phone, or side by side: if it is the same on both
sides, the server gave both of you the true keys. It changes with each machine that one of
you adds or removes.")]
pub struct Verify {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// Let whoever has the name now answer permission prompts, in place of whom it meant when it was first used
    #[arg(long)]
    pub accept: bool,
    /// The user
    pub user: UserName,
}
