//! What a shell has to bring to be tested: a server, a client, or both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use conclave_core::key::SecretKey;
use conclave_core::link::{Action, JoinFrom};
use conclave_core::protocol::Command;
use conclave_core::{admission::AdmissionLimits, hub};
use conclave_shell::{clock::Clock, connection::Bounds};
use conclave_store::journal;

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Admins and what bounds the hub.
    pub hub: hub::Config,
    /// What bounds connections before authentication.
    pub admission: AdmissionLimits,
    /// What bounds a connection.
    pub bounds: Bounds,
    /// How long messages are kept.
    pub retention: Option<Duration>,
    /// Proxies whose word on a client's address is taken.
    pub trusted_proxies: Vec<std::net::IpAddr>,
    /// What the server tells the time by.
    pub clock: Clock,
    /// How the journal is kept.
    pub journal: journal::Options,
    /// Certificate and key for TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// A shell's server.
pub trait ServerShell {
    /// Starts a server on the data directory `dir` and on a port of the system's choice.
    ///
    /// # Errors
    /// What it says if it cannot start.
    fn start(dir: &Path, options: Options) -> Result<Box<dyn RunningServer>, String>;
}

/// A server that runs. Dropping it does as [`RunningServer::stop`] does.
pub trait RunningServer: Send + Sync {
    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// Starts the drain.
    fn begin_stop(&self);

    /// Waits until the drain is over and the data directory is given up.
    fn stop(&mut self);

    /// Reads the certificate anew.
    fn reload_tls(&self);
}

/// A shell's client: one that keeps a link.
pub trait ClientShell {
    /// Starts a link to `ws://address`.
    fn open(address: SocketAddr, key: SecretKey, handle: &str) -> Box<dyn RunningLink>;
}

/// A link that runs until it is dropped.
pub trait RunningLink {
    /// Follows a channel.
    fn join(&self, channel: &str, from: JoinFrom);

    /// Follows it no more.
    fn leave(&self, channel: &str);

    /// Asks; the answer comes as [`Action::Replied`] with this number.
    fn ask(&self, id: u64, command: Command);

    /// What the link tells next: never `Dial`, `Send` or `Hangup`.
    fn next(&self) -> Action;
}
