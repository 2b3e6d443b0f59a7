//! A server on any runtime: its options, what its connections share, the hub's loop.
//!
//! A shell takes a [`Server`] apart ([`Server::into_parts`]), accepts connections for it ([`guest`], [`session`]), runs
//! its [`HubTask`], and drains it when it is told to stop.

pub mod browser;
mod budget;
pub mod connection;
pub mod engine;
mod gate;
pub mod guest;
mod http;
mod log;
pub mod mailbox;
pub mod metrics;
pub mod runtime;
pub mod session;
pub mod tls;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use conclave_core::admission::{Admission, AdmissionLimits, NotAdmitted};
use conclave_core::directory::Directory;
use conclave_core::hub::Config;
use conclave_core::time::UnixMillis;
use conclave_core::wire::v2::handshake::ServerIdentity;
use conclave_store::backend::{Backend, EventSink};
use conclave_store::journal::{Journal, OpenError};
use event_listener::Event;
use futures_lite::future::or;
use socket2::{Domain, Socket, Type};
use tracing::debug;

use self::browser::{Browsers, Host, Origin};
use self::connection::Bounds;
use self::engine::{Driver, EngineHandle, Round};
use self::metrics::Metrics;
use self::runtime::Runtime;
use self::tls::Tls;
use crate::clock::Clock;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// How often the disk's space is looked at: it must not fill up meanwhile.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// How often old messages are looked for.
const PURGE_EVERY: Duration = Duration::from_secs(60);
/// How long a drain waits for connections to read their last word.
pub const LAST_WORDS: Duration = Duration::from_secs(3);
/// How long a listener rests after it failed: out of file descriptors, it must not spin.
pub const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Connections at once where only metrics are served.
const SCRAPES: usize = 32;

/// What an operator decides about a server.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Admins and what bounds the hub.
    pub hub: Config,
    /// What bounds connections before authentication.
    pub admission: AdmissionLimits,
    /// What bounds a connection.
    pub bounds: Bounds,
    /// How long messages are kept; `None`: for ever.
    pub retention: Option<Duration>,
    /// Proxies whose word on a client's address is taken.
    pub trusted_proxies: Vec<IpAddr>,
    /// Web pages that may connect, beside the server's own.
    pub origins: Vec<Origin>,
    /// The names under which the server is reached; none: see [`browser`].
    pub hosts: Vec<Host>,
    /// Which clocks the server goes by.
    pub clock: Clock,
}

/// A listener as a server wants it: non-blocking, and with room for a crowd that comes at once.
///
/// # Errors
/// The system's: the address is in use, or not this machine's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Elsewhere this would let another process take the address over.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A server that listens, before a runtime carries it.
pub struct Server {
    listener: TcpListener,
    tls: Option<Tls>,
    metrics: Option<TcpListener>,
    hub: HubTask,
}

/// What a shell carries of a server.
pub struct Parts {
    /// Where everyone connects.
    pub listener: TcpListener,
    /// What connections there are encrypted with.
    pub tls: Option<Tls>,
    /// Where metrics are served, if that is elsewhere.
    pub metrics: Option<TcpListener>,
    /// The hub's loop.
    pub hub: HubTask,
    /// What connections share.
    pub shared: Arc<Shared>,
}

impl Server {
    /// Takes a listener (see [`listen`]) and the journal, and reads what is stored.
    ///
    /// # Errors
    /// [`OpenError`] if the journal cannot be read.
    pub fn new(
        listener: TcpListener,
        tls: Option<Tls>,
        journal: Journal,
        options: Options,
    ) -> Result<Self, OpenError> {
        let metrics = Arc::new(Metrics::default());
        let mut directory = Directory::default();
        journal.load(&mut |record| directory.apply(&record))?;
        let server_id = journal.server_id().to_owned();
        let rates = &options.hub.limits.session;
        let kept = options.retention.map_or(0, |kept| i64::try_from(kept.as_millis()).unwrap_or(i64::MAX));
        let identity = Arc::new(ServerIdentity {
            key: journal.server_key(),
            name: concat!("conclave/", env!("CARGO_PKG_VERSION")),
            frame_bytes: u32::try_from(options.bounds.frame).unwrap_or(u32::MAX),
            posts_per_second: rates.posts.per_second,
            post_bytes_per_second: rates.bytes.per_second,
            retention_ms: kept,
        });
        let start = |sink: EventSink| -> Result<Box<dyn Backend>, OpenError> {
            Ok(Box::new(journal.start(move |event| sink(event))?))
        };
        let hub = Config { retention: options.retention, ..options.hub };
        let driver = Driver::start(hub, directory, metrics, options.clock, start)?;
        let proxied = !options.trusted_proxies.is_empty();
        let bound = listener.local_addr().ok();
        let shared = Arc::new(Shared {
            engine: driver.handle().clone(),
            clock: options.clock,
            admission: Mutex::new(Admission::new(options.admission)),
            bounds: options.bounds,
            server_id,
            identity,
            trusted_proxies: options.trusted_proxies,
            browsers: Browsers::new(options.origins, options.hosts, bound, proxied),
            metrics_apart: AtomicBool::new(false),
            scrapes: AtomicUsize::new(0),
        });
        let hub = HubTask { driver, shared, retention: options.retention };
        Ok(Self { listener, tls, metrics: None, hub })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The listener's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves the metrics at a listener of their own, without TLS, and no longer where everyone connects.
    pub fn serve_metrics_at(&mut self, listener: TcpListener) {
        self.hub.shared.metrics_apart.store(true, Ordering::SeqCst);
        self.metrics = Some(listener);
    }

    /// Where the metrics are served, if that is elsewhere.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }

    /// Takes it apart for a shell.
    pub fn into_parts(self) -> Parts {
        let Self { listener, tls, metrics, hub } = self;
        let shared = hub.shared.clone();
        Parts { listener, tls, metrics, hub, shared }
    }
}

/// The hub's loop, to be run as a task.
pub struct HubTask {
    driver: Driver,
    shared: Arc<Shared>,
    retention: Option<Duration>,
}

impl HubTask {
    /// Runs until the hub is drained, and gives the engine back to be stopped.
    pub async fn run<R: Runtime>(self) -> Driver {
        let Self { mut driver, shared, retention } = self;
        let (mut next_purge, mut next_measure) = (Instant::now(), Instant::now());
        loop {
            let Round::Until(mut wake) = driver.round() else { return driver };
            if Instant::now() >= next_measure {
                next_measure = Instant::now() + MEASURE_EVERY;
                driver.measure();
            }
            wake = Some(wake.map_or(next_measure, |wake| wake.min(next_measure)));
            if let Some(retention) = retention {
                if Instant::now() >= next_purge {
                    next_purge = Instant::now() + PURGE_EVERY;
                    let kept = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
                    driver.purge_older_than(UnixMillis(shared.clock.now().wall.0.saturating_sub(kept)));
                }
                wake = Some(wake.map_or(next_purge, |wake| wake.min(next_purge)));
            }
            match wake {
                Some(wake) => or(driver.arrived(), R::sleep_until(wake)).await,
                None => driver.arrived().await,
            }
            // A round that always finds something never waits: let others have their turn.
            futures_lite::future::yield_now().await;
        }
    }
}

/// What every connection of a server shares.
pub struct Shared {
    pub(crate) engine: EngineHandle,
    clock: Clock,
    admission: Mutex<Admission>,
    pub(crate) bounds: Bounds,
    pub(crate) server_id: String,
    pub(crate) identity: Arc<ServerIdentity>,
    trusted_proxies: Vec<IpAddr>,
    pub(crate) browsers: Browsers,
    metrics_apart: AtomicBool,
    scrapes: AtomicUsize,
}

impl Shared {
    /// The engine.
    pub fn engine(&self) -> &EngineHandle {
        &self.engine
    }

    /// Whether an address is that of a trusted proxy.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.contains(&peer.to_canonical())
    }

    pub(crate) fn has_metrics_apart(&self) -> bool {
        self.metrics_apart.load(Ordering::SeqCst)
    }

    /// A place among those who read metrics; `None` if there is none left.
    pub(crate) fn scrape(self: Arc<Self>) -> Option<Scrape> {
        let taken = self.scrapes.fetch_add(1, Ordering::SeqCst);
        let place = Scrape(self);
        (taken < SCRAPES).then_some(place)
    }

    pub(crate) fn arrive(&self, peer: IpAddr) -> Result<(), NotAdmitted> {
        let admitted = self.admission().arrive();
        self.noted(peer, admitted)
    }

    pub(crate) fn named(&self) {
        self.admission().named();
    }

    pub(crate) fn enter(&self, address: IpAddr) -> Result<(), NotAdmitted> {
        let admitted = self.admission().enter(self.clock.now(), address);
        self.noted(address, admitted)
    }

    pub(crate) fn register(&self, address: IpAddr) -> Result<(), NotAdmitted> {
        let admitted = self.admission().register(self.clock.now(), address);
        self.noted(address, admitted)
    }

    pub(crate) fn leave(&self, address: IpAddr, failed: bool) {
        self.admission().leave(self.clock.now(), address, failed);
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noted(&self, peer: IpAddr, admitted: Result<(), NotAdmitted>) -> Result<(), NotAdmitted> {
        admitted.inspect_err(|why| {
            self.engine.metrics().not_admitted(*why);
            debug!(%peer, %why, "a connection was not admitted");
        })
    }
}

/// A connection that reads metrics; its place is free again when this is dropped.
pub(crate) struct Scrape(pub(crate) Arc<Shared>);

impl Drop for Scrape {
    fn drop(&mut self) {
        self.0.scrapes.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Stops a server from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<(AtomicBool, Event)>);

impl Stop {
    /// A handle for a server that is to be run with it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts the drain.
    pub fn stop(&self) {
        self.0.0.store(true, Ordering::SeqCst);
        self.0.1.notify(usize::MAX);
    }

    /// Ready when the drain has been started.
    pub async fn stopped(&self) {
        loop {
            let listener = self.0.1.listen();
            if self.0.0.load(Ordering::SeqCst) {
                return;
            }
            listener.await;
        }
    }
}
