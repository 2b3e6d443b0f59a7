//! The verb that runs agents when messages for them come.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Run agents when messages for them come, as agents.toml declares them
#[derive(Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  conclave host                    in the foreground; CONCLAVE_LOG_FORMAT=json logs JSON
  conclave host status
  conclave host pause reviewer
  systemctl --user enable --now conclave-host     with the packaged unit

agents.toml stands beside config.toml: docs/host.md has its keys.")]
pub struct Host {
    #[command(subcommand)]
    #[allow(missing_docs, reason = "the first line of each is its help")]
    pub action: Option<HostAction>,
    /// Trust the certificates in this PEM file, too
    #[arg(long, value_name = "FILE", env = "CONCLAVE_CA")]
    pub ca: Option<PathBuf>,
}

/// What to ask of a host that runs.
#[derive(Clone, Subcommand)]
#[allow(missing_docs, reason = "the first line of each is its help")]
pub enum HostAction {
    /// Show how the agents stand
    #[command(after_help = "Example:\n  conclave host status --json")]
    Status(OfAgent),
    /// Show what happened lately, with the end of what failed runs wrote to standard error
    #[command(after_help = "Example:\n  conclave host logs reviewer")]
    Logs(OfAgent),
    /// Start no further runs: messages wait
    #[command(after_help = "Example:\n  conclave host pause reviewer")]
    Pause(OfAgent),
    /// Go on after a pause
    #[command(after_help = "Example:\n  conclave host resume reviewer")]
    Resume(OfAgent),
    /// Print an agents.toml to begin with
    #[command(after_help = "\
Example:
  (umask 077; conclave host example > ~/.config/conclave/agents.toml)")]
    Example,
    /// Print a systemd user unit that runs the host
    #[command(after_help = "\
Example:
  conclave host unit > ~/.config/systemd/user/conclave-host.service")]
    Unit,
}

/// One agent, or all.
#[derive(Clone, Args)]
pub struct OfAgent {
    /// The agent [default: all]
    #[arg(value_name = "AGENT")]
    pub agent: Option<String>,
}
