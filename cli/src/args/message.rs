//! Verbs about messages and who hears them.

use clap::Args;
use conclave_core::bridge::CardId;
use conclave_core::name::{ChannelName, Handle, SessionPath};
use conclave_core::time::Since;

use super::{Net, OfChannel};

/// Post a message to a channel
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave send --channel ops 'the build is green'
  git log -1 | conclave send --channel ops
  conclave send --channel ops - < report.txt

Exit 0 means that the server has the message on disk.")]
pub struct Send {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub of: OfChannel,
    /// The text; `-`, or none with piped input, reads standard input
    pub text: Option<String>,
}

/// Show a channel's messages as they come, until Ctrl-C
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave tail --channel ops
  conclave tail --channel ops --since 2h
  conclave tail --channel ops --since 1d --no-follow --json | jq -r .text

Network drops and server restarts are bridged: each message comes once, in order.")]
pub struct Tail {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub of: OfChannel,
    /// The session's handle; what was posted under it from this machine is not shown again [default: one of its own
    /// for each process]
    #[arg(long = "as", value_name = "SESSION")]
    pub handle: Option<Handle>,
    /// First show what came since then: a span as in 2h, 45m or 1d, or a time as in 2026-11-20T09:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
    /// End after the history
    #[arg(long)]
    pub no_follow: bool,
}

/// Send a message to one live session
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave whisper carol/laptop/site 'can you look at ops?'
  conclave who                                   lists who can be whispered to")]
pub struct Whisper {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// The session, as user/machine/session
    pub target: SessionPath,
    /// The text; `-`, or none with piped input, reads standard input
    pub text: Option<String>,
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
