//! What a run met, so that one that meets nothing is seen.

use std::collections::BTreeMap;
use std::fmt;

use conclave_core::protocol::{Command, Reply};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident: $shown:literal,)*) => {
        /// Counts of what happened.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Coverage {
            $($(#[$doc])* pub $name: u64,)*
            /// Requests that were done, by kind.
            pub done: BTreeMap<&'static str, u64>,
            /// Requests that were refused, by kind.
            pub refused: BTreeMap<&'static str, u64>,
            /// Sessions that the server ended, by reason.
            pub closed: BTreeMap<&'static str, u64>,
        }

        impl Coverage {
            /// Adds what another run met.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
                for (mine, theirs) in [
                    (&mut self.done, &other.done),
                    (&mut self.refused, &other.refused),
                    (&mut self.closed, &other.closed),
                ] {
                    for (kind, count) in theirs {
                        *mine.entry(*kind).or_default() += count;
                    }
                }
            }
        }

        impl fmt::Display for Coverage {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(writeln!(f, "{:>14}  {}", self.$name, $shown)?;)*
                for (title, counts) in
                    [("done", &self.done), ("refused", &self.refused), ("ended by the server", &self.closed)]
                {
                    let counts: Vec<_> = counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
                    writeln!(f, "{title}: {}", counts.join(", "))?;
                }
                Ok(())
            }
        }
    };
}

counters! {
    /// Seeds that were run.
    runs: "runs",
    /// Inputs that hubs took.
    hub_inputs: "hub inputs",
    /// Seconds of virtual time.
    seconds: "seconds of virtual time",
    /// Batches that became durable.
    commits: "commits",
    /// Batches that failed.
    failed_commits: "failed commits",
    /// Server processes that died.
    crashes: "crashes of the server",
    /// Batches in flight at a crash that became durable.
    survived: "commits that a crash left durable and unacknowledged",
    /// Server processes that were shut down.
    drains: "shutdowns of the server",
    /// Dials that failed.
    failed_dials: "failed dials",
    /// Connections that were reset.
    resets: "connections reset",
    /// Connections that were cut silently.
    cuts: "connections half open",
    /// Clients that stopped reading.
    stalls: "stalled readers",
    /// Client processes that died.
    client_crashes: "crashes of clients",
    /// Wall clocks that jumped.
    clock_jumps: "clock jumps",
    /// Sessions that links established.
    ups: "sessions of links",
    /// Sessions that links lost.
    downs: "sessions lost by links",
    /// Messages that were posted by clients.
    posts: "posts asked for",
    /// Posts that were acknowledged to clients.
    acknowledged: "posts acknowledged",
    /// Posts refused to clients, or never sent.
    not_posted: "posts that did not happen",
    /// Posts of which clients do not know.
    unknown_posts: "posts that may have happened",
    /// Recipients of deliveries.
    deliveries: "deliveries by the hub",
    /// Messages that links handed on as they came.
    handed_on_live: "messages handed on live",
    /// Messages that links handed on from the history.
    handed_on_read: "messages handed on from history",
    /// Subscriptions that links followed.
    follows: "channels followed",
    /// Subscriptions whose completeness was shown at the end.
    complete: "channels shown to be followed without a gap",
    /// Subscriptions that a rename or deletion made incomparable.
    incomparable: "channels not compared after a rename or deletion",
    /// Whispers that were handed on.
    whispers: "whispers handed on",
    /// Handles that links gave up.
    renames: "handles changed after a collision",
    /// Questions of the outsider that were asked twice.
    probes: "outsider's questions about hidden things",
    /// Messages that were no frames, or not in their place.
    garbage: "frames of vandals",
    /// Registrations that made a user.
    registered: "users registered",
    /// Mailboxes that overflowed.
    overflows: "mailboxes overflowed",
    /// Pieces of frames that were written in part.
    partial_writes: "partial writes",
}

impl Coverage {
    /// Counts an answer of the hub.
    pub fn answer(&mut self, command: &Command, reply: &Reply) {
        let counts = if let Reply::Refused(_) = reply { &mut self.refused } else { &mut self.done };
        *counts.entry(kind(command)).or_default() += 1;
    }
}

/// A word for a kind of request.
fn kind(command: &Command) -> &'static str {
    match command {
        Command::Join { token: Some(_), .. } => "join --token",
        other => other.kind(),
    }
}
