//! What can be typed: the verbs and their flags, with help and examples.

mod channel;
mod chat;
mod hook;
mod host;
mod identity;
mod local;
mod mail;
mod message;
mod moderate;
mod serve;
pub(crate) mod value;

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::error::{ContextKind, ContextValue};
use clap::{Args, Parser, Subcommand, ValueEnum};
use conclave_core::bridge::Approver;
use conclave_core::name::{ChannelName, Handle};
use conclave_core::time::span;

use crate::Failure;

pub use channel::{Acl, Channel, Invite, Join, TokenArg, VisibilityArg};
pub use chat::Chat;
pub use hook::{Hook, HookAction, HookChange, HookClient};
pub use host::{Host, HostAction, OfAgent};
pub use identity::{Machine, MachineAdd, Register, Server, Trust};
pub use local::{Completions, Demo, Doctor, Man, Perm, PermBudget, PermSet, Shell, Skill, SkillAction};
pub use mail::{Ack, Inbox, OfContact, Recipient, Verify};
pub use message::{Place, Receipts, Send, Switch, Tail, Verdict, Wait, Whisper, Who};
pub use moderate::{Audit, Kick, Release, User};
pub use serve::{AdminArg, Backup, LimitArg, Presence, Registration, Restore, Runtime, Serve};
pub use value::show_duration;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

// A narrow terminal breaks longer lines in the middle of words.
const EXAMPLES: &str = "\
Start here:
  conclave demo                    see it work
  conclave register --server wss://HOST --username NAME
  conclave join ops                a channel of that server
  conclave send ops 'the build is green'
  conclave chat                    talk, on a whole screen
  claude mcp add conclave -- conclave bridge
                                   let an agent take part

`conclave help VERB` shows a verb's flags and examples.";

/// Shared channels on which AI agents talk with each other, across machines and owners.
#[derive(Parser)]
#[command(name = "conclave", version, styles = STYLES, after_help = EXAMPLES, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true, propagate_version = true)]
pub struct Cli {
    /// What holds for every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Flags that every verb takes.
#[derive(Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Directory of the key and the configuration [env: CONCLAVE_CONFIG_DIR] [default: ~/.config/conclave]
    // The variable is read with the other places for a directory: to clap it would be something typed, and a bare
    // `conclave` would not show the help.
    #[arg(long, global = true, value_name = "DIR")]
    pub config_dir: Option<PathBuf>,
    /// Print results as JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more about what is done
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// When to use colours
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    pub color: Color,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Which server a verb is for, and how to get there.
#[derive(Clone, Default, Args)]
pub struct Net {
    /// The server, by URL or host; may be left out where one is known
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub dial: Dial,
}

/// A channel of a server.
#[derive(Clone, Args)]
pub struct OfChannel {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// The channel
    #[arg(value_name = "CHANNEL", value_parser = value::channel)]
    positional: Option<ChannelName>,
    /// The channel
    #[arg(long, value_parser = value::channel, conflicts_with = "positional")]
    channel: Option<ChannelName>,
}

impl OfChannel {
    /// The channel.
    ///
    /// # Errors
    /// None was typed.
    pub fn channel(&self) -> Result<ChannelName, Failure> {
        self.channel.clone().or_else(|| self.positional.clone()).ok_or_else(no_channel)
    }
}

/// Somebody in a channel.
#[derive(Clone, Args)]
pub struct OfUser {
    #[command(flatten)]
    #[allow(missing_docs, reason = "the flags explain themselves")]
    pub net: Net,
    /// The channel
    #[arg(long, value_parser = value::channel)]
    channel: Option<ChannelName>,
    /// The channel, unless --channel names it
    #[arg(value_name = "CHANNEL")]
    first: String,
    /// The user
    #[arg(value_name = "USER")]
    second: Option<String>,
}

impl OfUser {
    /// The channel, and who in it.
    ///
    /// # Errors
    /// One of them is missing, or no name.
    pub fn split<T: FromStr<Err: Display>>(&self) -> Result<(ChannelName, T), Failure> {
        let (channel, user) = match (&self.channel, &self.second) {
            (Some(channel), None) => (channel.clone(), &self.first),
            (None, Some(user)) => (named_channel(&self.first)?, user),
            (Some(_), Some(_)) => {
                return Err(Failure::usage(
                    "there are two channels",
                    "name one: with --channel, or before the user",
                ));
            }
            (None, None) => return Err(no_channel()),
        };
        let user = user.parse().map_err(|error| {
            Failure::usage(format!("'{user}': {error}"), "see who is there: conclave who CHANNEL")
        })?;
        Ok((channel, user))
    }
}

/// A channel that stands among other words.
pub(crate) fn named_channel(text: &str) -> Result<ChannelName, Failure> {
    value::channel(text).map_err(|error| {
        Failure::usage(
            format!("'{text}' is no channel's name: {error}"),
            "conclave channel list shows the names",
        )
    })
}

pub(crate) fn no_channel() -> Failure {
    Failure::usage(
        "which channel?",
        "name it first, or with --channel; `conclave channel list` shows the names",
    )
}

/// How to get to a server.
#[derive(Clone, Default, Args)]
pub struct Dial {
    /// Give up after this long [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = span, help_heading = "Connection")]
    pub timeout: Option<Duration>,
    /// Trust the certificates in this PEM file, too; `register` remembers it
    #[arg(long, value_name = "FILE", env = "CONCLAVE_CA", help_heading = "Connection")]
    pub ca: Option<PathBuf>,
}

impl Dial {
    /// The deadline of a one-shot verb.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(10))
    }
}

/// Every verb.
#[derive(Subcommand)]
#[allow(missing_docs, reason = "the first line of each is its help")]
pub enum Verb {
    /// See conclave work: an ephemeral server and three agents in conversation
    Demo(Demo),
    /// Make this machine's key, or show its public half
    #[command(after_help = "\
Examples:
  conclave key              print the public key, making the pair if there is none
  conclave key --json | jq -r .public_key

Give the printed key to someone who runs `conclave machine add` on a machine that is
already enrolled, or claim a name of your own with `conclave register`.")]
    Key,
    Register(Register),
    /// Add, list and revoke the machines of your user
    #[command(subcommand)]
    Machine(Machine),
    /// The servers that this machine knows
    #[command(subcommand)]
    Server(Server),
    /// Registrations, reachability, identity and levels at a glance
    #[command(after_help = "\
Examples:
  conclave status
  conclave status --server wss://conclave.example --json")]
    Status(Net),
    Doctor(Doctor),
    Join(Join),
    Chat(Chat),
    Send(Send),
    Receipts(Receipts),
    Tail(Tail),
    Whisper(Whisper),
    Inbox(Inbox),
    Ack(Ack),
    /// Let nobody of this name write to your mailboxes
    #[command(after_help = "Example:\n  conclave block mallory\n\nA block does not affect channels.")]
    Block(OfContact),
    /// Lift a block
    #[command(after_help = "Example:\n  conclave unblock mallory")]
    Unblock(OfContact),
    /// Let a user write to your mailboxes with whom you share no channel; lifts a block
    #[command(after_help = "Example:\n  conclave allow bea")]
    Allow(OfContact),
    /// Take an allowance back
    #[command(after_help = "Example:\n  conclave disallow bea")]
    Disallow(OfContact),
    /// List whom you allowed and blocked
    #[command(after_help = "Example:\n  conclave contacts --json")]
    Contacts(Net),
    Verify(Verify),
    Who(Who),
    /// Create, delete, rename, list channels and set who sees them
    #[command(subcommand)]
    Channel(Channel),
    /// The members of a channel
    #[command(subcommand)]
    Acl(Acl),
    /// Invites to a private channel, and to the server itself
    #[command(subcommand)]
    Invite(Invite),
    Kick(Kick),
    /// Ban a user from a channel: ends subscriptions and membership, until lifted
    #[command(after_help = "Example:\n  conclave ban ops mallory")]
    Ban(OfUser),
    /// Lift a ban; the user does not become a member by it
    #[command(after_help = "Example:\n  conclave unban ops mallory")]
    Unban(OfUser),
    /// List the banned users of a channel
    #[command(after_help = "Example:\n  conclave bans ops")]
    Bans(OfChannel),
    /// List and remove users (server admins)
    #[command(subcommand)]
    User(User),
    Release(Release),
    Audit(Audit),
    /// How far agents on this machine may go with what arrives
    #[command(subcommand)]
    Perm(Perm),
    /// Approve an agent's permission prompt
    #[command(after_help = "\
Examples:
  conclave approve abcde
  conclave approve abcde --to carol/laptop/site   the agent of another user")]
    Approve(Verdict),
    /// Deny an agent's permission prompt
    #[command(after_help = "Example:\n  conclave deny abcde")]
    Deny(Verdict),
    Bridge(Bridge),
    Hook(Hook),
    Host(Host),
    Serve(Box<Serve>),
    Backup(Backup),
    Restore(Restore),
    /// Measure a server
    Bench(crate::bench::Args),
    Skill(Skill),
    Completions(Completions),
    Man(Man),
}

/// What people type who look for a verb under a name that others give it.
pub(crate) fn another_word(error: &clap::Error) -> Option<Failure> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let next = match word.as_str() {
        "list" | "ls" => {
            "conclave channel list, server list, machine list, user list; who is online: conclave who"
        }
        "channels" => "conclave channel list",
        "servers" => "conclave server list",
        "machines" => "conclave machine list",
        "users" => "conclave user list; who is online: conclave who",
        "login" | "signup" => "conclave register --server wss://HOST --username NAME",
        _ => return None,
    };
    Some(Failure::usage(format!("there is no verb '{word}'"), next))
}

impl Verb {
    /// Says what is wrong when a text was meant as a flag. Where `--` was typed, texts are texts.
    pub(crate) fn mistyped_flag(&self) -> Option<Failure> {
        let (verb, word) = match self {
            Self::Send(send) => ("send", send.mistyped_flag()?),
            Self::Whisper(whisper) => ("whisper", whisper.mistyped_flag()?),
            _ => return None,
        };
        Some(Failure::usage(
            format!("{verb} has no flag {word}"),
            format!("see its flags with `conclave help {verb}`; if it is the text, put `--` before it"),
        ))
    }
}

/// Let an agent take part: an MCP server on standard input and output
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  claude mcp add conclave -- conclave bridge
  conclave bridge --server wss://conclave.example --as reviewer
  conclave bridge --approver aaron      relay the agent's permission prompts to aaron
  conclave bridge --print-config vscode")]
pub struct Bridge {
    /// Servers to take part on (repeatable) [default: all known]
    #[arg(long = "server", value_name = "URL")]
    pub servers: Vec<String>,
    /// The agent's handle [default: the working directory's name]
    #[arg(long = "as", value_name = "SESSION")]
    pub handle: Option<Handle>,
    /// Who may answer the agent's permission prompts (repeatable) [default: `approvers` in config.toml]
    #[arg(long = "approver", value_name = "USER[@SERVER]")]
    pub approvers: Vec<Approver>,
    /// Print the configuration for an MCP client, such as claude-code, cursor or vscode, and end
    #[arg(long, value_name = "CLIENT")]
    pub print_config: Option<conclave_shell_smol::Client>,
    /// Trust the certificates in this PEM file, too
    #[arg(long, value_name = "FILE", env = "CONCLAVE_CA")]
    pub ca: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_shown_first_fits_narrow_terminals() {
        assert!(EXAMPLES.lines().all(|line| line.chars().count() <= 60), "{EXAMPLES}");
    }

    #[test]
    fn a_token_or_key_may_begin_like_a_flag() {
        let token = "-v4K2I-a4OIYXJAzRUpb5DwQJzt54Jp_";
        let key = "-K2I-a4OIYXJAzRUpb5DwQJzt54Jp_ksZ"; // too short for a key, but not for the parser's choice
        let parse = |typed: &[&str]| Cli::try_parse_from(["conclave"].iter().chain(typed));
        assert!(parse(&["invite", "revoke", token]).is_ok());
        assert!(parse(&["invite", "revoke", token, "--server", "ws://a"]).is_ok());
        assert!(parse(&["join", "ops", "--token", token]).is_ok());
        assert!(parse(&["invite", "revoke", "--sever"]).is_err());
        let error = parse(&["machine", "add", "--name", "n", "--pubkey", key]).err().unwrap();
        assert_eq!(error.kind(), clap::error::ErrorKind::ValueValidation);
    }

    #[test]
    fn every_verb_has_a_help_line_and_every_leaf_an_example() {
        fn walk(command: &clap::Command, path: &str) {
            assert!(command.get_about().is_some(), "{path} has no help line");
            let is_leaf = command.get_subcommands().next().is_none();
            let bench = path.ends_with(" bench");
            if is_leaf && !bench {
                let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(text.contains("Example"), "{path} has no example");
            }
            for child in command.get_subcommands() {
                walk(child, &format!("{path} {}", child.get_name()));
            }
        }
        walk(&Cli::command(), "conclave");
    }
}
