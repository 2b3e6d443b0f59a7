//! What happens to the bridge.

use conclave_core::bridge::{CallId, Line, LinkEvent, Moment, Server, Settings};
use conclave_core::opaque::Opaque;
use smol::channel::Sender;

/// One of the things that the bridge waits for.
pub(crate) enum Event {
    /// The client wrote a line.
    Line(Line),
    /// A link tells something.
    Link(Server, LinkEvent),
    /// The configuration was written; the last is whether it says what it said before.
    Settings(Settings, bool),
    /// A hook asks what is to be put before the model, in at most so many bytes.
    Hook(Moment, usize, Sender<(CallId, Option<Opaque<String>>)>),
    /// The client did not get what that hook was answered.
    HookFailed(CallId),
    /// The client is gone.
    Ended,
}
