//! The refusals, each worded once. Whoever may not see a channel gets [`no_channel`], which is the same for one
//! that does not exist.

use alloc::format;
use alloc::string::{String, ToString as _};
use core::fmt::Display;
use core::time::Duration;

use crate::protocol::Refusal;

pub(super) fn no_channel(name: impl Display) -> Refusal {
    Refusal::NotFound(format!("no channel '{name}' that you may see: check its name, or ask for an invite"))
}

pub(super) fn no_user(name: impl Display) -> Refusal {
    Refusal::NotFound(format!("no user '{name}'"))
}

pub(super) fn not_subscribed(name: impl Display) -> Refusal {
    Refusal::Unauthorized(format!("this session is not in '{name}': join it first"))
}

pub(super) fn not_channel_admin(name: impl Display) -> Refusal {
    Refusal::Unauthorized(format!("only an admin of '{name}' may do that"))
}

pub(super) fn not_server_admin() -> Refusal {
    unauthorized("only an admin of this server may do that")
}

pub(super) fn offline(path: impl Display) -> Refusal {
    Refusal::NotFound(format!("'{path}' is not online"))
}

pub(super) fn name_taken(name: impl Display) -> Refusal {
    Refusal::Unauthorized(format!("the name '{name}' is in use: choose another"))
}

pub(super) fn full(what: &str, most: usize) -> Refusal {
    Refusal::Unauthorized(format!("at most {most} {what}: remove one first"))
}

pub(super) fn too_fast(wait: Duration) -> Refusal {
    // Rounded up: who waits as long as it was told has waited enough.
    let wait = wait.as_nanos().div_ceil(1_000_000);
    Refusal::Unauthorized(format!("rate limit: try again in {wait} ms"))
}

pub(super) fn not_stored(why: &str) -> Refusal {
    Refusal::Internal(format!("the server could not store it, nothing was changed or sent: {why}"))
}

pub(super) fn unauthorized(why: &str) -> Refusal {
    Refusal::Unauthorized(why.to_string())
}

pub(super) fn malformed(why: &str) -> Refusal {
    Refusal::Malformed(String::from(why))
}
