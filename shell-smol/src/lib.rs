#![doc = include_str!("../README.md")]

mod bridge;
mod dial;
mod event;
#[cfg(all(feature = "host", unix))]
pub mod host;
mod link;
pub mod mcp;
pub mod runtime;
#[cfg(feature = "server")]
pub mod server;
mod settings;
mod snippet;
mod stdio;

use std::io::{Read, Write};
use std::path::PathBuf;

use conclave_core::bridge::Approver;
use conclave_core::name::Handle;
use conclave_shell::client::DialError;
use conclave_store::config::{ConfigError, ServerUrl};
use conclave_store::keystore::KeyError;

pub use link::{LinkDriver, Smol, link};
pub use snippet::{Client, UnknownClient, print_config};

/// What a bridge is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The directory of `key`, `config.toml` and `state.db`.
    pub dir: PathBuf,
    /// The servers; none: all that are configured.
    pub servers: Vec<ServerUrl>,
    /// The session's handle; none: the working directory's, made of its name at first, and changed when it is in use.
    pub handle: Option<Handle>,
    /// Who may answer permission prompts; none: those configured.
    pub approvers: Vec<Approver>,
    /// A file of certificates (PEM) that servers may have theirs from, beside the usual ones.
    pub ca: Option<PathBuf>,
}

/// Why a bridge cannot start. `Display` says what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be read.
    #[error("{0}: {advice}", advice = .0.advice())]
    Config(#[from] ConfigError),
    /// There is no key to use.
    #[error("{0}: {advice}", advice = .0.advice())]
    Key(#[from] KeyError),
    /// No server can be reached: the file of certificates cannot be used.
    #[error("{0}: {advice}", advice = .0.advice())]
    Dial(#[from] DialError),
    /// The system refused.
    #[error("the system refused what a bridge needs: {0}")]
    Io(#[from] std::io::Error),
}

/// Runs a bridge on standard input and output until the input ends.
///
/// # Errors
/// [`Error`] if it cannot start.
pub fn run(options: &Options) -> Result<(), Error> {
    run_on(options, std::io::stdin(), std::io::stdout())
}

/// Runs a bridge on any input and output until the input ends. Both are read and written on threads of their own.
///
/// # Errors
/// [`Error`] if it cannot start.
pub fn run_on(
    options: &Options,
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
) -> Result<(), Error> {
    bridge::run(options, Box::new(input), Box::new(output))
}

/// One line to standard error, where logs go: nothing in it drives a terminal.
pub(crate) fn log(text: &str) {
    // Nobody is left to be told when this cannot be written.
    let _ = writeln!(std::io::stderr(), "conclave-bridge: {}", conclave_core::text::visible(text));
}
