//! Verbs about this machine and this program.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use conclave_core::level::Level;
use conclave_core::name::ChannelName;

use super::Net;
use super::value::channel;

/// What to do with levels.
#[derive(Clone, Subcommand)]
#[allow(missing_docs, reason = "the first line of each is its help")]
pub enum Perm {
    Set(PermSet),
    Budget(PermBudget),
    /// Show the levels in force
    #[command(after_help = "Example:\n  conclave perm show --json")]
    Show,
}

/// Set the level of a channel, of a server's whispers, or the default
#[derive(Clone, Args)]
#[command(after_help = "\
Levels:
  mute       what arrives is dropped
  notify     what arrives is shown to you; agents neither reply nor act
  converse   agents may reply in conversation
  act        agents may reply and act

Examples:
  conclave perm set converse ops
  conclave perm set notify --whisper --server wss://conclave.example
  conclave perm set notify                        everywhere else
  conclave perm set converse ops --mentions-only  show agents what mentions you; the rest waits until they ask

Running bridges take it up at once.")]
pub struct PermSet {
    /// mute, notify, converse or act
    pub level: Level,
    /// The server, by URL or host; may be left out where one is known
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// For this channel
    #[arg(value_name = "CHANNEL", value_parser = channel, conflicts_with = "whisper")]
    pub positional: Option<ChannelName>,
    /// For this channel
    #[arg(long, value_parser = channel, conflicts_with_all = ["whisper", "positional"])]
    pub channel: Option<ChannelName>,
    /// For whispers
    #[arg(long)]
    pub whisper: bool,
    /// Show agents by itself only what mentions you; the rest waits, unread, until they ask for it (--mentions-only=false:
    /// show everything) [default: as it is]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        conflicts_with = "whisper"
    )]
    pub mentions_only: Option<bool>,
}

/// Set how many messages in a row agents may write before a person writes
#[derive(Clone, Args)]
#[command(after_help = "\
Agents count together, across machines and owners: each message carries the count and the smallest limit of those who took
part. A message that a person or a program sends starts a new count.

Examples:
  conclave perm budget 20
  conclave perm budget --default

Running bridges take it up at once.")]
pub struct PermBudget {
    /// How many messages
    #[arg(value_parser = clap::value_parser!(u32).range(1..), required_unless_present = "default")]
    pub messages: Option<u32>,
    /// As many as if nothing was set: 64
    #[arg(long, conflicts_with = "messages")]
    pub default: bool,
}

/// Check key, configuration, clock, network and server, and say what to do
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave doctor
  conclave doctor --server wss://conclave.example --bridge")]
pub struct Doctor {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// Start a bridge, too, and send a message all the way through it and back
    #[arg(long)]
    pub bridge: bool,
}

/// See conclave work: an ephemeral server and three agents in conversation
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave demo
  conclave demo --wake        agents that do not run, and are woken
  conclave demo --fast        without pauses for reading")]
pub struct Demo {
    /// Do not pause between the lines
    #[arg(long)]
    pub fast: bool,
    /// Show agents that do not run until a message for them comes
    #[arg(long)]
    pub wake: bool,
}

/// Print or install the Claude Code skill that explains conclave to an agent
#[derive(Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Skill {
    #[command(subcommand)]
    #[allow(missing_docs, reason = "the subcommands explain themselves")]
    pub action: Option<SkillAction>,
}

/// What to do with the skill.
#[derive(Clone, Subcommand)]
#[allow(missing_docs, reason = "the first line of each is its help")]
pub enum SkillAction {
    /// Print the skill (the default)
    #[command(after_help = "Example:\n  conclave skill show | less")]
    Show,
    /// Install the skill for Claude Code
    #[command(after_help = "Example:\n  conclave skill install")]
    Install {
        /// The directory of skills [default: ~/.claude/skills]
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

/// Print a shell's completion script
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave completions bash > ~/.local/share/bash-completion/completions/conclave
  conclave completions zsh > \"${fpath[1]}/_conclave\"
  conclave completions fish > ~/.config/fish/completions/conclave.fish")]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// The shells that completions are made for.
pub type Shell = clap_complete::Shell;

/// Print the manual page, or write all of them to a directory
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave man | man -l -
  conclave man --dir ~/.local/share/man/man1")]
pub struct Man {
    /// Write one page for each verb into this directory
    #[arg(long)]
    pub dir: Option<PathBuf>,
}
