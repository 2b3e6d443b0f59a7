//! Verbs about who this machine is.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use conclave_core::key::PublicKey;
use conclave_core::name::{MachineName, UserName};

use super::Net;
use super::channel::{TokenArg, token};

/// Claim a user name on a server, with this machine as its first
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave register --server wss://conclave.example --username aaron
  conclave register --server ws://127.0.0.1:4390 --username aaron --machine workstation
  conclave register --server wss://conclave.example --username bea --invite TOKEN

A name that is yours already takes this machine by `conclave machine add`, typed on a
machine that is enrolled.")]
pub struct Register {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// The user name to claim, unique on the server
    #[arg(long, value_name = "NAME")]
    pub username: UserName,
    /// This machine's name [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub machine: Option<MachineName>,
    /// An invite to the server, where it wants one; `-` reads it from standard input, where other processes do not
    /// see it
    #[arg(long, value_name = "TOKEN", env = "CONCLAVE_INVITE", hide_env_values = true)]
    #[arg(allow_hyphen_values = true, value_parser = token)]
    pub invite: Option<TokenArg>,
    /// Read the invite from this file
    #[arg(long, value_name = "FILE", conflicts_with = "invite")]
    pub invite_file: Option<PathBuf>,
}

/// What to do with the user's machines.
#[derive(Clone, Subcommand)]
#[allow(missing_docs, reason = "the first line of each is its help")]
pub enum Machine {
    Add(MachineAdd),
    /// List your machines
    #[command(after_help = "Example:\n  conclave machine list")]
    List(Net),
    /// Revoke a machine; its live sessions end at once
    #[command(after_help = "Example:\n  conclave machine remove old-laptop")]
    Remove {
        #[command(flatten)]
        net: Net,
        /// The machine's name
        name: MachineName,
    },
}

/// Enrol another machine of yours by its public key
#[derive(Clone, Args)]
#[command(after_help = "\
Example:
  on the new machine:    conclave key
  on this one:           conclave machine add --name laptop --pubkey KEY
  on the new machine:    conclave status --server wss://conclave.example")]
pub struct MachineAdd {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// The machine's name, unique among yours
    #[arg(long, value_name = "NAME")]
    pub name: MachineName,
    /// Its public key, as `conclave key` prints it there
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub pubkey: PublicKey,
}

/// What to do with the known servers.
#[derive(Clone, Subcommand)]
#[allow(missing_docs, reason = "the first line of each is its help")]
pub enum Server {
    /// List the servers that this machine is registered on
    #[command(after_help = "Example:\n  conclave server list --json")]
    List,
    Trust(Trust),
    /// Forget a server and the levels set on it; nothing changes on the server itself
    #[command(after_help = "Example:\n  conclave server remove wss://conclave.example")]
    Remove {
        /// The server, by URL or host
        url: String,
    },
}

/// Show a server's key, and trust it in place of the one that was trusted
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave server trust
  conclave server trust wss://conclave.example
  conclave server trust wss://conclave.example --yes

Ask the server's operator for the fingerprint before you accept another key: typed on the
server's own machine, this shows it, too.")]
pub struct Trust {
    /// The server, by URL or host; may be left out where one is known
    #[arg(value_name = "URL")]
    positional: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// Accept the key without a question
    #[arg(short, long)]
    pub yes: bool,
}

impl Trust {
    /// The server that was named.
    pub fn server(&self) -> Option<&str> {
        self.positional.as_deref().or(self.net.server.as_deref())
    }
}
