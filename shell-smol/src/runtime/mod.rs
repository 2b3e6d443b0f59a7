//! The runtime socket: how programs of the same human on this machine talk with a bridge that runs, without a connection
//! to a server of their own.
//!
//! A bridge listens on a Unix socket in the runtime directory, `$XDG_RUNTIME_DIR/conclave`, or `run` in the
//! configuration's directory. The directory has mode 0700, the socket 0600, and on Linux the peer must have the same user.
//! Both sides send lines of JSON of bounded length. A request names the protocol's version, [`VERSION`]; an answer is
//! `{"error": …}` if the bridge does not know that version or request.
//!
//! A hook asks `{"version": 1, "hook": "prompt", "human": true, "most": 9000}` and is answered with `{"text": …}`, or `{}`
//! for nothing. Once it has written the text it says `{"version": 1, "shown": true}`. If the connection ends without that,
//! or it does not come in time, the messages are unread again.

#[cfg(unix)]
mod client;
#[cfg(unix)]
mod server;
#[cfg(unix)]
pub mod socket;

#[cfg(unix)]
pub use client::{Client, find};
pub use conclave_core::bridge::Moment;
#[cfg(unix)]
pub(crate) use server::serve;

/// The version of the protocol.
pub const VERSION: u32 = 1;

#[cfg(unix)]
const MAX_REQUEST: usize = 4 * 1024;
#[cfg(unix)]
const MAX_ANSWER: usize = 256 * 1024;

/// No bridge listens here.
#[cfg(not(unix))]
pub(crate) async fn serve(_: std::path::PathBuf, _: smol::channel::Sender<crate::event::Event>) {}

/// A bridge that runs. There is none where there are no Unix sockets.
#[cfg(not(unix))]
#[derive(Debug)]
pub enum Client {}

/// Finds the bridge of a session: there is none where there are no Unix sockets.
#[cfg(not(unix))]
pub fn find(_: &std::path::Path, _: &std::path::Path) -> Option<Client> {
    None
}

#[cfg(not(unix))]
impl Client {
    /// What is unread.
    ///
    /// # Errors
    /// None.
    pub fn unread(&mut self, _: Moment, _: usize) -> std::io::Result<Option<String>> {
        match *self {}
    }

    /// What was unread was shown.
    ///
    /// # Errors
    /// None.
    pub fn shown(self) -> std::io::Result<()> {
        match self {}
    }
}

#[cfg(unix)]
fn moment(name: &str, human: bool) -> Option<Moment> {
    Some(match name {
        "start" => Moment::Start,
        "prompt" => Moment::Prompt { human },
        "tool" => Moment::Tool,
        "stop" => Moment::Stop,
        _ => return None,
    })
}

#[cfg(unix)]
fn name(moment: Moment) -> &'static str {
    match moment {
        Moment::Start => "start",
        Moment::Prompt { .. } => "prompt",
        Moment::Tool => "tool",
        Moment::Stop => "stop",
    }
}

#[cfg(all(test, unix))]
mod tests;
