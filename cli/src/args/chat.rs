//! The verb that talks on the whole terminal.

use clap::Args;
use conclave_core::name::{ChannelName, Handle};

use super::{Dial, value};

/// Read and write on the whole terminal: channels, people, permission cards
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave chat
  conclave chat ops                     opens #ops
  conclave chat --server wss://conclave.example

? shows the keys, Ctrl-Q ends it. The servers learn that you saw a message when it was on
the screen. docs/chat.md says more.")]
pub struct Chat {
    /// Servers to talk on (repeatable) [default: all known]
    #[arg(long = "server", value_name = "URL")]
    pub servers: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub dial: Dial,
    /// The session's handle, under which it is known what you read [default: chat]
    #[arg(long = "as", value_name = "SESSION")]
    pub handle: Option<Handle>,
    /// The channel to open [default: the first one]
    #[arg(value_name = "CHANNEL", value_parser = value::channel)]
    pub channel: Option<ChannelName>,
}
