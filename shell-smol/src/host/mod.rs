//! `conclave host`: runs agents that do not run, when a message for them comes. The decisions are `conclave_core::host`'s.

mod child;
mod client;
mod config;
mod control;
mod follower;
mod supervisor;
mod tools;
mod webhook;
mod work;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use conclave_core::key::SecretKey;
use conclave_core::link;
use conclave_core::name::Handle;
use conclave_shell::client::{DialError, TlsConfig, trust};
use conclave_shell::clock::Clock;
use conclave_store::config::{Config, ConfigError, ConfigFile, ServerUrl};
use conclave_store::keystore::{self, KeyError};
use conclave_store::state::{State, StateError};
use smol::LocalExecutor;
use smol::channel::{Receiver, Sender, bounded, unbounded};

use crate::bridge::{Kept, newest};
use crate::dial::Dialer;
use crate::link::{LinkDriver, Smol};

pub use client::Format;
pub use config::{Declared, DeclaredAgent, FILE_NAME, Way, Webhook};
pub use control::{Request, ask};

/// What a host is started with.
#[derive(Clone, Debug, Default)]
pub struct HostOptions {
    /// The directory of `agents.toml`, `key`, `config.toml` and `state.db`.
    pub dir: PathBuf,
    /// A file of certificates (PEM) that servers may have theirs from, beside the usual ones.
    pub ca: Option<PathBuf>,
}

/// Why a host cannot start, or ended. `Display` says what is wrong, [`HostError::advice`] what to do.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// No agents are declared.
    #[error("there is no {}", path.display())]
    NoAgents {
        /// Where the file would be.
        path: PathBuf,
    },
    /// Others may change which programs are run.
    #[error("{} can be changed by others (mode {mode:04o})", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The declaration makes no sense.
    #[error("{}, line {line}: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where in it, from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A secret is open to others, or too short.
    #[error("the secret in {} {what}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Another host uses the directory.
    #[error("another host runs with {}", dir.display())]
    Running {
        /// The configuration directory.
        dir: PathBuf,
    },
    /// The configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no key to use.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The file of certificates cannot be used.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// What must be kept cannot be kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// The system refused.
    #[error("the system refused what a host needs: {0}")]
    Io(#[from] io::Error),
}

impl HostError {
    /// What to type or do next.
    pub fn advice(&self) -> String {
        match self {
            Self::NoAgents { .. } => "declare an agent in it: docs/host.md shows how".into(),
            Self::Exposed { path, .. } => format!("check what it runs, then `chmod 600 {}`", path.display()),
            Self::Malformed { line, .. } => format!("correct line {line}; docs/host.md has all keys"),
            Self::Read { path, .. } => format!("look at `ls -l {}`", path.display()),
            Self::Secret { path, .. } => {
                format!("make one: (umask 077; openssl rand -hex 32 > {})", path.display())
            }
            Self::Running { .. } => "conclave host status shows it; end it first".into(),
            Self::Config(error) => error.advice(),
            Self::Key(error) => error.advice(),
            Self::Dial(error) => error.advice(),
            Self::State(error) => error.advice(),
            Self::Io(_) => "look at `ulimit -a`".into(),
        }
    }
}

/// Ends a host, from any thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop(Sender<()>, Receiver<()>);

impl Default for Stop {
    fn default() -> Self {
        let (say, heard) = bounded(1);
        Self(say, heard)
    }
}

impl Stop {
    /// Ends it: what runs is killed, and begins again with the next host.
    pub fn stop(&self) {
        // It was said before.
        let _ = self.0.try_send(());
    }
}

/// Runs the host until it is stopped. `ready` is called once it listens to [`ask`].
///
/// # Errors
/// [`HostError`] if it cannot start, or cannot keep what it must.
pub fn run(options: &HostOptions, stop: &Stop, ready: impl FnOnce(&Declared)) -> Result<(), HostError> {
    let _lock = lock(options)?;
    let file = ConfigFile::in_dir(&options.dir);
    let config = file.load()?;
    let declared = Declared::load(&options.dir, &config)?;
    let key = keystore::load(&options.dir)?;
    let state = Rc::new(State::open(&options.dir)?);
    let executor = Rc::new(LocalExecutor::new());
    let dialing = Dialing { options, config: &config, key, state, trusted: BTreeMap::new() };
    let supervisor = supervisor::Supervisor::start(dialing, &declared, executor.clone())?;
    ready(&declared);
    smol::block_on(executor.run(supervisor.run(file, &stop.1)))
}

/// One host at a time: two would take their sessions' connections from each other.
fn lock(options: &HostOptions) -> Result<File, HostError> {
    let path = options.dir.join("host.lock");
    let mut open = OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
    let file = open.create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| HostError::Read { path, source })?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(HostError::Running { dir: options.dir.clone() }),
        Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Unsupported => Err(error.into()),
        _ => Ok(file),
    }
}

/// What every session of the host is made of.
struct Dialing<'a> {
    options: &'a HostOptions,
    config: &'a Config,
    key: SecretKey,
    state: Rc<State>,
    /// Most servers have their certificates from the same place.
    trusted: BTreeMap<Option<PathBuf>, std::sync::Arc<TlsConfig>>,
}

impl Dialing<'_> {
    /// A link for a session of that name, and what it keeps.
    /// `keep`: the server and this machine keep how far it read.
    fn link(&mut self, name: &Handle, url: &ServerUrl, keep: bool) -> Result<(LinkDriver, Kept), HostError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        let pin = self.config.pin(url);
        let config = link::Config {
            handle: name.clone(),
            defaulted: false,
            key: self.key.clone(),
            seed,
            newest: Some(link::Newest { keep, ..newest(pin) }),
        };
        let ca = self.options.ca.clone().or_else(|| self.config.ca(url).map(Into::into));
        let tls = match self.trusted.get(&ca) {
            _ if !url.is_secure() => None,
            Some(tls) => Some(tls.clone()),
            None => Some(self.trusted.entry(ca.clone()).or_insert(trust(ca.as_deref())?).clone()),
        };
        let smol = Smol(Dialer { url: url.clone(), tls });
        let driver = LinkDriver::new(smol, config, Clock::default());
        let kept = Kept::new(keep.then(|| self.state.clone()), name.clone(), pin.map(|pin| pin.server_key));
        Ok((driver, kept))
    }

    /// The key that a session signs with, once the server's is known.
    fn signing(&self, url: &ServerUrl) -> Signing {
        Signing { machine: self.key.clone(), derived: self.config.pin(url).is_some_and(|pin| pin.derived) }
    }
}

/// The machine's key, and whether the server knows the one that is derived for it.
#[derive(Clone)]
struct Signing {
    machine: SecretKey,
    derived: bool,
}

/// Starts a session's task; what it is to do goes into the sender.
fn follow<'a>(
    executor: &LocalExecutor<'a>,
    follower: follower::Follower,
    driver: LinkDriver,
) -> Sender<follower::Word> {
    let (words, to_do) = unbounded();
    executor.spawn(follower.run(driver, to_do)).detach();
    words
}
