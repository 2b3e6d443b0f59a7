//! The supervisor of agents that do not run: which message wakes which agent, when, and what becomes of it. All decisions, no
//! input or output.
//!
//! [`Host::handle`] takes an [`Input`] and appends [`Action`]s; [`Host::next_deadline`] says when to hand in [`Input::Tick`].
//! Whoever drives it keeps each job on disk before it goes on, so that a crash at any step wakes an agent again with the same
//! message, and never answers twice: see [`reply_id`].

mod address;
mod api;
mod machine;
mod prompt;
#[cfg(test)]
mod tests;

pub use address::is_addressed;
pub use api::{
    Action, Agent, AgentId, Budget, Chain, Given, Hold, Input, Job, Kept, Message, Outcome, Overview, Phase,
    Wake,
};
pub use machine::Host;
pub use prompt::{Prompt, failure_notice, hold_notice, reply_id};
