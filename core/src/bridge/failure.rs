//! Why a tool call fails, in sentences for the agent.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::frame::escape;
use super::levels::{Level, Scope};
use super::server::Server;
use crate::name::{ChannelName, SessionPath, UserName};
use crate::protocol::Refusal;
use crate::text::{one_line, quoted};

/// The longest text that is sent, in bytes: a server takes frames of 1 MiB.
pub const MAX_TEXT: usize = 1_000_000;

/// Why a tool call failed. `Display` is a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The scope's level does not allow it.
    #[error(
        "{scope} on {server} is at level {level}, which does not allow this. Tell your user; they can type: {command}"
    )]
    Level {
        /// On which server.
        server: Server,
        /// Of what.
        scope: Scope,
        /// Its level.
        level: Level,
        /// What the human can type.
        command: String,
    },
    /// A level is raised by the human only.
    #[error("Only your user raises a level, and this client cannot ask them. They can type: {command}")]
    NeedsHuman {
        /// What the human can type.
        command: String,
    },
    /// The human said no.
    #[error(
        "Your user did not agree to raise the level; it stays as it was. Do not ask again unless they bring it up: then \
         they can type: {command}"
    )]
    Declined {
        /// What the human can type.
        command: String,
    },
    /// The human is being asked already.
    #[error("Your user is being asked already. Wait for their answer.")]
    Asking,
    /// The loop guard's budget is used up.
    #[error(
        "Not sent: {sent} messages {how}. This looks like agents answering each other: stop, and tell your user. It is allowed again {renewed}or when your user types: {command}"
    )]
    Loop {
        /// How many were sent.
        sent: u32,
        /// In what way.
        how: &'static str,
        /// By whom it is allowed again.
        renewed: &'static str,
        /// What the human can type.
        command: String,
    },
    /// Several servers, and none was named.
    #[error("Say which server: {}", .0.iter().map(Server::as_str).collect::<Vec<_>>().join(", "))]
    WhichServer(Vec<Server>),
    /// No such server.
    #[error("This bridge is not linked with that server. It knows: {}", .0.iter().map(Server::as_str).collect::<Vec<_>>().join(", "))]
    UnknownServer(Vec<Server>),
    /// There are no servers at all.
    #[error(
        "No server is configured. Your user can type: conclave register --server URL --username NAME, and start the bridge anew"
    )]
    NoServer,
    /// The link is down.
    #[error(
        "The link to {server} is down ({}). Nothing was done; try again once a notice says that it is back",
        escape(why)
    )]
    Down {
        /// Which server.
        server: Server,
        /// What is the matter.
        why: String,
    },
    /// The link broke before the answer.
    #[error(
        "The link broke before the server answered: it may have happened or not. Check before you do it again"
    )]
    Uncertain,
    /// The server did not answer in time.
    #[error("The server did not answer in time: it may have happened or not. Check before you do it again")]
    TimedOut,
    /// The server refused.
    #[error("The server refused: {}", shown(.0))]
    Refused(Refusal),
    /// The server answered with something else.
    #[error("The server answered something that is no answer to this. It may be at fault; tell your user")]
    Confused,
    /// The channel is not joined.
    #[error("This session is not on #{}. Use join_channel first", quoted(.0.as_str()))]
    NotJoined(ChannelName),
    /// Nothing was seen in the channel yet, so there is nothing to go on from.
    #[error(
        "This session has not seen anything on #{} yet: say since when, for example since=1d",
        quoted(.0.as_str())
    )]
    SinceWhen(ChannelName),
    /// The server does not tell who has a message.
    #[error("{0} does not tell who has read what: it speaks version 1. Leave `wait_for` out")]
    NoReceipts(Server),
    /// The server knows no mentions.
    #[error("{0} takes no mentions: it speaks version 1. Leave `mentions` out")]
    NoMentions(Server),
    /// A user who is to be mentioned is none that the server would tell of.
    #[error(
        "Not sent: there is no user {} to mention there, or you share no channel with them. `who` lists who is there",
        escape(&quoted(.0.as_str()))
    )]
    NobodyMentioned(UserName),
    /// The user is no admin there.
    #[error("Your user is no admin of {0}; this takes one")]
    NotAdmin(Server),
    /// The client cannot ask its human for a verdict.
    #[error("Only your user decides this, and this client cannot ask them. They can type: {command}")]
    HumanDecides {
        /// What the human can type.
        command: String,
    },
    /// The human did not confirm a verdict.
    #[error("Your user did not confirm that; no answer was sent")]
    NotConfirmed,
    /// No such prompt is open.
    #[error("No permission request of that name is open. It may have expired or been answered")]
    NoPrompt,
    /// Several sessions have a prompt of that name open.
    #[error("Several sessions asked under that name; say from which: {}", paths(.0))]
    WhichPrompt(Vec<SessionPath>),
    /// A verdict written as a whisper.
    #[error("That is a verdict on a permission request. If your user decided so, use submit_permission")]
    Verdict,
    /// The text is empty.
    #[error("There is no text to send: `text` is empty")]
    NoText,
    /// The text is too long.
    #[error(
        "The text has {0} bytes, and at most {MAX_TEXT} can be sent. Send it in several messages, or name a file that holds it"
    )]
    Text(usize),
    /// The target is this session.
    #[error("That is this session itself")]
    Oneself,
    /// Too many of that at once.
    #[error("Too much of this at once; wait for the earlier calls to end")]
    Busy,
}

fn shown(refusal: &Refusal) -> String {
    String::from(escape(&one_line(&refusal.to_string(), 500)))
}

fn paths(paths: &[SessionPath]) -> String {
    let escaped: Vec<_> = paths.iter().map(|path| String::from(escape(&quoted(&path.to_string())))).collect();
    escaped.join(", ")
}
