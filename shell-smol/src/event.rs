//! What happens to the bridge.

use conclave_core::bridge::{Line, LinkEvent, Server, Settings};

/// One of the things that the bridge waits for.
pub(crate) enum Event {
    /// The client wrote a line.
    Line(Line),
    /// A link tells something.
    Link(Server, LinkEvent),
    /// The configuration was written; the last is whether it says what it said before.
    Settings(Settings, bool),
    /// The client is gone.
    Ended,
}
