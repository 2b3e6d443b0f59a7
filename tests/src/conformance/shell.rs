//! What a shell has to bring to be tested: a server, a client, or both.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use conclave_core::key::SecretKey;
use conclave_core::link::{Action, Config, Input, JoinFrom, Newest, RequestId};
use conclave_core::name::{ChannelName, Handle};
use conclave_core::protocol::Command;
use conclave_core::record::ChannelId;
use conclave_core::time::Now;
use conclave_core::wire::client::KeyUse;
use conclave_core::{admission::AdmissionLimits, hub};
use conclave_shell::clock::Clock;
use conclave_shell::server::connection::Bounds;
use conclave_shell::server::tls::Tls;
use conclave_shell::server::{self, Server, Stop, listen};
use conclave_store::config::ServerUrl;
use conclave_store::journal::{self, Journal};
use smol::channel::{Receiver, Sender, unbounded};

use crate::client::PATIENCE;

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
    /// Serves until `stop`, and until the drain is over.
    fn serve(server: Server, stop: Stop);
}

/// A server that runs, on threads of its own. Dropping it does as [`RunningServer::stop`] does.
pub struct RunningServer {
    address: SocketAddr,
    stop: Stop,
    tls: Option<Tls>,
    thread: Option<JoinHandle<()>>,
}

impl RunningServer {
    /// Starts a shell's server on the data directory `dir` and on a port of the system's choice.
    ///
    /// # Errors
    /// What it says if it cannot start.
    pub fn start<S: ServerShell>(dir: &Path, options: Options) -> Result<Self, String> {
        let Options { hub, admission, bounds, retention, trusted_proxies, clock, journal, tls } = options;
        let options = server::Options {
            hub,
            admission,
            bounds,
            retention,
            trusted_proxies,
            clock,
            ..server::Options::default()
        };
        let journal = Journal::open(dir, journal).map_err(|why| why.to_string())?;
        let tls = tls.map(|(certificate, key)| Tls::load(&certificate, &key)).transpose();
        let tls = tls.map_err(|why| why.to_string())?;
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let server = Server::new(listener, tls.clone(), journal, options).map_err(|why| why.to_string())?;
        let (address, stop) = (server.address().unwrap(), Stop::new());
        let stopping = stop.clone();
        let thread = Some(thread::spawn(move || S::serve(server, stopping)));
        Ok(Self { address, stop, tls, thread })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts the drain.
    pub fn begin_stop(&self) {
        self.stop.stop();
    }

    /// Waits until the drain is over and the data directory is given up.
    pub fn stop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// Reads the certificate anew.
    pub fn reload_tls(&self) {
        self.tls.as_ref().unwrap().reload().unwrap();
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            // A panic of the server's thread is told by itself; two at once would abort the test.
            let _ = thread.join();
        }
    }
}

/// A shell's client: one that keeps a link.
pub trait ClientShell {
    /// Drives a link: hands it what the words say and tells what it tells, until nobody has a word for it any more.
    fn drive(url: ServerUrl, config: Config, words: Receiver<Word>, tell: mpsc::Sender<Action>);

    /// How its links speak version 2, if they do.
    fn newest() -> Option<Newest> {
        None
    }

    /// Starts a link to `ws://address`, on a thread of its own.
    fn open(address: SocketAddr, key: SecretKey, handle: &str) -> RunningLink {
        let ((words, heard), (tell, told)) = (unbounded(), mpsc::channel());
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let config = Config {
            handle: Handle::new(handle).unwrap(),
            defaulted: false,
            key,
            seed,
            newest: Self::newest(),
        };
        let url = format!("ws://{address}").parse().unwrap();
        thread::spawn(move || Self::drive(url, config, heard, tell));
        RunningLink { words, told }
    }
}

/// A shell's client that speaks version 2.
pub struct Version2<C>(PhantomData<C>);

impl<C: ClientShell> ClientShell for Version2<C> {
    fn drive(url: ServerUrl, config: Config, words: Receiver<Word>, tell: mpsc::Sender<Action>) {
        C::drive(url, config, words, tell);
    }

    fn newest() -> Option<Newest> {
        // The tests' users are registered by version 1.
        Some(Newest { pinned: None, key: KeyUse::Shared, keep: true })
    }
}

/// What a link is told to do.
pub enum Word {
    /// Follow a channel.
    Join(ChannelName, JoinFrom),
    /// Follow it no more.
    Leave(ChannelName),
    /// Ask.
    Ask(u64, Command),
    /// The reader has come so far: delivered, seen.
    Report(ChannelId, u64, u64),
}

impl Word {
    /// The link's input.
    pub fn input(self, now: Now) -> Input<'static> {
        match self {
            Self::Join(channel, from) => Input::Join { channel, token: None, from },
            Self::Leave(channel) => Input::Leave { channel },
            Self::Report(stream, delivered, seen) => Input::Report { stream, delivered, seen },
            Self::Ask(id, command) => {
                Input::Request { id: RequestId(id), command, deadline: Some(now.mono + PATIENCE) }
            }
        }
    }
}

/// A link that runs until this is dropped.
pub struct RunningLink {
    words: Sender<Word>,
    told: mpsc::Receiver<Action>,
}

impl RunningLink {
    /// Follows a channel.
    pub fn join(&self, channel: &str, from: JoinFrom) {
        let _ = self.words.try_send(Word::Join(ChannelName::new(channel).unwrap(), from));
    }

    /// Follows it no more.
    pub fn leave(&self, channel: &str) {
        let _ = self.words.try_send(Word::Leave(ChannelName::new(channel).unwrap()));
    }

    /// Asks; the answer comes as [`Action::Replied`] with this number.
    pub fn ask(&self, id: u64, command: Command) {
        let _ = self.words.try_send(Word::Ask(id, command));
    }

    /// The reader has come so far.
    pub fn report(&self, stream: ChannelId, delivered: u64, seen: u64) {
        let _ = self.words.try_send(Word::Report(stream, delivered, seen));
    }

    /// What the link tells next: never `Dial`, `Send` or `Hangup`.
    #[track_caller]
    pub fn next(&self) -> Action {
        self.told.recv_timeout(PATIENCE).expect("the link tells something in time")
    }
}
