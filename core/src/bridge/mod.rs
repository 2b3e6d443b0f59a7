//! The bridge between an agent's client and the channels: all of its decisions, none of its input and output.
//!
//! [`Bridge::handle`] takes an [`Input`] of the client, the links or the human's configuration and appends the resulting
//! [`Action`]s. [`Bridge::next_deadline`] says when to hand in [`Input::Tick`]. `machine` holds the state and the rules; the
//! other modules are the words it uses and import only each other.

mod api;
mod bindings;
mod bridged_link;
mod card;
mod failure;
mod frame;
mod guard;
mod guide;
mod inbox;
mod levels;
mod line;
mod machine;
mod render;
mod server;
#[cfg(test)]
mod tests;
mod tool_call;
mod tools;

pub use api::{Action, Config, Input, LinkEvent, Moment, Push, QuestionId, Settings};
pub use bindings::Bound;
pub use bridged_link::{BridgedLink, Step};
pub(crate) use card::card_id;
pub use card::{Approver, CARD_LIFETIME, CardId, Decision, InvalidCardId, PermissionRequest, verdict};
pub use failure::{Failure, MAX_TEXT};
pub use frame::{About, Framed, Place, beginning, body, escape, preamble};
pub use guard::{Budget, HOPS, Row};
pub use guide::{INSTRUCTIONS, guide, tool_reference};
pub use inbox::{Dropped, Entry, Inbox, Message, Notice, Page, Source, Unread};
pub use levels::{InvalidLevel, Level, Levels, Permissions, Scope, advice};
pub use line::{Line, LineReader, MAX_LINE};
pub use machine::Bridge;
pub use server::Server;
pub use tool_call::{
    CallId, Filter, JoinedChannel, LinkStatus, Outcome, Status, Stored, ToolCall, Waiting, WhisperTarget,
};
pub use tools::{Effect, Kind, Offered, Param, TOOLS, Tool, find};
