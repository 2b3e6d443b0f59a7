//! Verbs for the hooks of agents' clients.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use conclave_core::time::span;

/// Put unread messages before an agent at its client's hooks, or set that up
#[derive(Clone, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  conclave hook install claude-code     write the client's settings, after showing the change
  conclave hook uninstall claude-code
  conclave hook Stop --client codex < event.json
                                        what a client runs; you need not

As a hook it reads the client's JSON on standard input, asks the bridge of that session, and
prints what is unread in the client's format. It prints nothing and exits 0 when there is
nothing to say or anything fails: a hook never stops a session. --verbose says why."
)]
pub struct Hook {
    #[command(subcommand)]
    #[allow(missing_docs, reason = "the subcommands explain themselves")]
    pub action: Option<HookAction>,
    /// The client's name for the event, such as Stop
    #[arg(required = true)]
    pub event: Option<String>,
    /// The client
    #[arg(long, value_enum, default_value_t = HookClient::ClaudeCode)]
    pub client: HookClient,
    /// Give up after this long
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "50ms")]
    pub timeout: Duration,
}

/// What to do with a client's settings.
#[derive(Clone, Subcommand)]
#[allow(missing_docs, reason = "the first line of each is its help")]
pub enum HookAction {
    /// Add the hooks to a client's settings
    #[command(after_help = "\
Examples:
  conclave hook install claude-code --dry-run
  conclave hook install cursor --project    for this directory instead of all")]
    Install(HookChange),
    /// Take the hooks out of a client's settings
    #[command(after_help = "Example:\n  conclave hook uninstall claude-code")]
    Uninstall(HookChange),
}

/// Which settings to change.
#[derive(Clone, Args)]
pub struct HookChange {
    /// The client
    #[arg(value_enum)]
    pub client: HookClient,
    /// Change the settings of this directory instead of your own
    #[arg(long)]
    pub project: bool,
    /// Show the change and make none
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// A client with hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum HookClient {
    /// Claude Code
    ClaudeCode,
    /// Codex CLI
    Codex,
    /// Gemini CLI
    Gemini,
    /// Cursor
    Cursor,
    /// OpenCode
    Opencode,
}
