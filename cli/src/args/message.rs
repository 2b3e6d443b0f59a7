//! Verbs about messages and who hears them.

use clap::{Args, ValueEnum};
use conclave_core::bridge::CardId;
use conclave_core::name::{ChannelName, Handle, SessionPath, UserName};
use conclave_core::stream::ReceiptState;
use conclave_core::time::Since;

use super::mail::{Recipient, message_number};
use super::value::channel;
use super::{Net, OfChannel, named_channel, no_channel};
use crate::Failure;

/// Post a message to a channel
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave send ops 'the build is green'
  conclave send --channel ops '- a list item'
  git log -1 | conclave send ops
  conclave send ops - < report.txt
  conclave send ops --stdin --json < report.txt
  conclave send ops 'please look' --wait seen --timeout 1m
  conclave send ops 'is it done?' --mention bea

Exit 0 means that the server has the message on disk, and with --wait that those whom it is for have come so far.
A sender never posts twice: whoever reads the message sees it once.")]
pub struct Send {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// The channel
    #[arg(long, value_parser = channel)]
    channel: Option<ChannelName>,
    // Two arguments and no list: within a list, clap takes every flag for a text that begins with a hyphen.
    /// Wait until every agent that the text addresses as @NAME, or else every reader of the channel, has the message in this
    /// state; --timeout says how long [default: 30s]
    #[arg(long, value_enum, value_name = "STATE")]
    pub wait: Option<Wait>,
    /// Read the text from standard input, as `-` does: for programs
    #[arg(long, conflicts_with = "second")]
    pub stdin: bool,
    /// Mention a user (repeatable): whoever follows only mentions is told; @NAME in the text does the same
    #[arg(long = "mention", value_name = "USER", value_parser = mentioned)]
    pub mentions: Vec<UserName>,
    /// The channel, unless --channel names it
    #[arg(value_name = "CHANNEL", allow_hyphen_values = true)]
    first: Option<String>,
    /// The text; `-`, or none with piped input, reads standard input
    #[arg(value_name = "TEXT", allow_hyphen_values = true)]
    second: Option<String>,
}

/// A user's name, given as it is or as it is mentioned.
fn mentioned(text: &str) -> Result<UserName, String> {
    UserName::new(text.strip_prefix('@').unwrap_or(text)).map_err(|error| error.to_string())
}

/// How far a message has come to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wait {
    /// The reader's program has it
    Delivered,
    /// It was put before the reader
    Seen,
    /// The reader confirmed it
    Acknowledged,
}

impl Wait {
    /// The state's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Seen => "seen",
            Self::Acknowledged => "acknowledged",
        }
    }
}

impl From<Wait> for ReceiptState {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::Delivered => Self::Delivered,
            Wait::Seen => Self::Seen,
            Wait::Acknowledged => Self::Acknowledged,
        }
    }
}

/// Show who has a message
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave receipts ops 42
  conclave receipts ops 42 --watch
  conclave receipts --to bea 7                  of a message that you whispered
  conclave receipts --mine off                  do not tell others how far you read

`conclave send --json` prints a message's number.")]
pub struct Receipts {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// The channel
    #[arg(long, value_parser = channel)]
    channel: Option<ChannelName>,
    /// The message was whispered to this user or session
    #[arg(long, value_name = "TARGET", conflicts_with = "channel")]
    pub to: Option<Recipient>,
    /// Go on, and show each change
    #[arg(long)]
    pub watch: bool,
    /// Set whether others learn how far your sessions have read, on this server; what you acknowledge is told in any case
    #[arg(long, value_name = "on|off", conflicts_with_all = ["channel", "to", "watch", "words"])]
    pub mine: Option<Switch>,
    /// The channel, unless --channel names it, and the message's number
    #[arg(value_name = "CHANNEL] [SEQ", required_unless_present = "mine", num_args = 1..=2)]
    words: Vec<String>,
}

impl Receipts {
    /// Where the message is, and its number.
    ///
    /// # Errors
    /// One of them is missing, or no number.
    pub fn split(&self) -> Result<(Place, u64), Failure> {
        let (place, seq) = match (&self.to, &self.channel, &self.words[..]) {
            (Some(to), None, [seq]) => (Place::Mailbox(to.clone()), seq),
            (None, Some(channel), [seq]) => (Place::Channel(channel.clone()), seq),
            (None, None, [channel, seq]) => (Place::Channel(named_channel(channel)?), seq),
            _ => {
                let next = "conclave receipts CHANNEL SEQ, or conclave receipts --to TARGET SEQ";
                return Err(Failure::usage("which message?", next));
            }
        };
        Ok((place, message_number(seq)?))
    }
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[allow(missing_docs, reason = "they explain themselves")]
pub enum Switch {
    On,
    Off,
}

/// Where a message goes, or is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a channel.
    Channel(ChannelName),
    /// In somebody's mailbox.
    Mailbox(Recipient),
}

impl Send {
    /// The channel, and the text if there is one.
    ///
    /// # Errors
    /// There is no channel, or more than a text.
    pub fn split(&self) -> Result<(ChannelName, Option<String>), Failure> {
        match (&self.channel, &self.first, &self.second) {
            (Some(channel), text, None) => Ok((channel.clone(), text.clone())),
            (None, Some(channel), text) => Ok((named_channel(channel)?, text.clone())),
            (None, None, _) => Err(no_channel()),
            (Some(_), _, Some(_)) => Err(Failure::usage(
                "there is more than one text",
                "put it in quotes: conclave send --channel CHANNEL 'two words'",
            )),
        }
    }

    /// The word that is no flag but looks like one: it was meant as one, unless `--` stood before it.
    pub(crate) fn mistyped_flag(&self) -> Option<&str> {
        [&self.first, &self.second]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .find(|word| looks_like_a_flag(word))
    }
}

/// One word behind two hyphens, or one letter behind one.
fn looks_like_a_flag(word: &str) -> bool {
    let rest = word.strip_prefix("--").or_else(|| word.strip_prefix('-').filter(|rest| rest.len() == 1));
    rest.is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_alphabetic()) && !rest.contains(char::is_whitespace)
    })
}

/// Show a channel's messages as they come, until Ctrl-C
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave tail ops
  conclave tail ops --since 2h
  conclave tail ops --as desk                     goes on where it ended
  conclave tail ops --since 1d --no-follow --json | jq -r .text

Network drops and server restarts are bridged: each message comes once, in order.")]
pub struct Tail {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub of: OfChannel,
    /// The session's handle: a session with a name goes on where it ended, shows what is written to its mailbox, and
    /// does not show its own messages [default: one of its own for each process, which remembers nothing]
    #[arg(long = "as", value_name = "SESSION")]
    pub handle: Option<Handle>,
    /// First show what came since then: a span as in 2h, 45m or 1d, or a time as in 2026-11-20T09:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
    /// End after the history
    #[arg(long)]
    pub no_follow: bool,
}

/// Send a message to one session, or to a user
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave whisper bea 'can you look at ops?'           to the mailbox of a user
  conclave whisper carol/laptop/site 'and you?'         to one session
  conclave whisper bea 'deploy?' --wait acknowledged --timeout 5m

Who is away finds the message in the mailbox later (`conclave inbox`). You can write to
whoever shares a channel with you, or allowed you (`conclave allow`).")]
pub struct Whisper {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// Wait until the reader has the message in this state; --timeout says how long [default: 30s]
    #[arg(long, value_enum, value_name = "STATE")]
    pub wait: Option<Wait>,
    /// Mention a user (repeatable); @NAME in the text does the same
    #[arg(long = "mention", value_name = "USER", value_parser = mentioned)]
    pub mentions: Vec<UserName>,
    /// A user, or a session as user/machine/session
    pub target: Recipient,
    /// The text; `-`, or none with piped input, reads standard input
    #[arg(allow_hyphen_values = true)]
    pub text: Option<String>,
}

impl Whisper {
    /// As [`Send::mistyped_flag`].
    pub(crate) fn mistyped_flag(&self) -> Option<&str> {
        self.text.as_deref().filter(|word| looks_like_a_flag(word))
    }
}

/// List who is online, on the server or in a channel
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave who
  conclave who ops --json")]
pub struct Who {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// Only who is subscribed to this channel
    #[arg(value_parser = channel)]
    pub channel: Option<ChannelName>,
}

/// The answer to a permission prompt.
#[derive(Clone, Args)]
pub struct Verdict {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// The prompt's id: five letters
    pub id: CardId,
    /// The session that asks, as user/machine/session [default: every live session of your user]
    #[arg(long, value_name = "SESSION")]
    pub to: Option<SessionPath>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_may_begin_with_a_hyphen_and_a_mistyped_flag_is_none() {
        for text in
            ["- a list item", "-5 degrees", "-", "--", "---", "-- done", "--sign off please", "-1", "-ab"]
        {
            assert!(!looks_like_a_flag(text), "{text}");
        }
        for flag in ["--sever", "--chanel=ops", "-x"] {
            assert!(looks_like_a_flag(flag), "{flag}");
        }
    }
}
