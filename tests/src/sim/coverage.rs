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
    /// Sessions of version 2.
    spoken: "sessions of version 2",
    /// Subscriptions of version 2.
    subscribed: "subscriptions from a position",
    /// Messages that sessions of version 2 were delivered.
    delivered: "messages delivered to version 2",
    /// Times that a session of version 2 fell behind.
    lagged: "times that a live session fell behind",
    /// Pages that sessions of version 2 asked for.
    pages: "pages read by number",
    /// Gaps that were named.
    gaps: "gaps that a purge explains",
    /// Times that old messages were taken.
    purges: "purges",
    /// Posts of version 2 that were sent.
    drafts: "posts under ids",
    /// How often one was sent again.
    retries: "posts sent again under their ids",
    /// Posts that were in the store before.
    already_stored: "posts found in the store under their ids",
    /// First positions that a crash lost before they were written.
    positions_lost: "first positions lost by a crash",
    /// Reports and acknowledgements.
    reports: "positions reported and messages acknowledged",
    /// Readers in lists of receipts.
    receipts: "receipts told",
    /// Events about readers.
    moves: "positions told to who watches",
    /// Subscriptions whose end was told.
    ends: "ends of subscriptions told",
    /// Messages that a link of version 2 handed on.
    resumed: "messages that links of version 2 handed on",
    /// Messages of mailboxes that a link of version 2 handed on.
    mail: "messages of mailboxes handed on",
    /// Signed messages whose signature a link checked.
    verified: "signatures verified by links",
    /// Messages whose signature a link found to be wrong.
    forged: "forged signatures found by links",
    /// Subscriptions of version 2 that are whole at the end.
    whole: "subscriptions from a position that are whole at the end",
    /// Answers that agents wrote by themselves.
    answers: "answers of agents whose session ran",
    /// Messages that the loop guard left without an answer.
    held_back: "messages that the loop guard left unanswered",
    /// Runs of agents that a message woke.
    wakes: "agents woken by a message",
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
