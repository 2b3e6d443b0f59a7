//! The server on tokio: sockets, timers and signals around the engine.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use conclave_core::admission::{Admission, AdmissionLimits, NotAdmitted};
use conclave_core::hub::{Config, Input};
use conclave_core::time::UnixMillis;
use conclave_shell::clock::Clock;
use conclave_shell::connection::Bounds;
use conclave_shell::engine::{Driver, Engine, Round};
use conclave_shell::metrics::Metrics;
use conclave_store::journal::{Journal, OpenError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

mod http;
mod session;
mod socket;
pub mod tls;

pub use tls::{Tls, TlsError};

/// How often old messages are looked for.
const PURGE_EVERY: Duration = Duration::from_secs(60);
/// How long a drain waits for connections to read their last word.
const LAST_WORDS: Duration = Duration::from_secs(3);

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
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    tls: Option<Tls>,
    driver: Driver,
    context: Arc<Context>,
    retention: Option<Duration>,
}

/// What every connection of a server shares.
struct Context {
    engine: Engine,
    clock: Clock,
    admission: Mutex<Admission>,
    bounds: Bounds,
    server_id: String,
    trusted_proxies: Vec<IpAddr>,
}

impl Context {
    fn enter(&self, address: IpAddr) -> Result<(), NotAdmitted> {
        let mut admission = self.admission.lock().unwrap_or_else(PoisonError::into_inner);
        admission.enter(self.clock.now(), address)
    }

    fn leave(&self, address: IpAddr, failed: bool) {
        let mut admission = self.admission.lock().unwrap_or_else(PoisonError::into_inner);
        admission.leave(self.clock.now(), address, failed);
    }

    fn metrics(&self) -> &Metrics {
        self.engine.metrics()
    }
}

/// Stops a server from elsewhere.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    /// A handle for a server that is to be run with it.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Starts the drain.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    async fn stopped(&self) {
        let mut changes = self.0.subscribe();
        // The sender is held here: it does not go away first.
        let _ = changes.wait_for(|stopped| *stopped).await;
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// Takes the listener and the journal, and reads what is stored.
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
        let driver = Driver::start(options.hub, journal, metrics)?;
        let context = Arc::new(Context {
            engine: driver.engine().clone(),
            clock: Clock::start(),
            admission: Mutex::new(Admission::new(options.admission)),
            bounds: options.bounds,
            server_id: driver.server_id().to_owned(),
            trusted_proxies: options.trusted_proxies,
        });
        Ok(Self { listener, tls, driver, context, retention: options.retention })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The listener's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then drains: no new connections, every accepted post answered, every session told.
    pub async fn run(self, stop: Stop) {
        let Self { listener, tls, driver, context, retention } = self;
        let engine = context.engine.clone();
        let hub = tokio::spawn(hub(driver, retention));
        let mut connections = accept(listener, tls, context, &stop).await;
        info!("draining: no new connections, finishing what was accepted");
        engine.submit(Input::Shutdown);
        let driver = hub.await;
        let all_left = async { while connections.join_next().await.is_some() {} };
        if timeout(LAST_WORDS, all_left).await.is_err() {
            warn!("some connections did not read their last word in time");
            connections.shutdown().await;
        }
        match driver {
            // The last commit may wait for the disk.
            Ok(driver) => drop(tokio::task::spawn_blocking(|| driver.stop()).await),
            Err(error) => warn!(%error, "the hub's task ended badly"),
        }
        info!("drained");
    }
}

/// The hub's loop.
async fn hub(mut driver: Driver, retention: Option<Duration>) -> Driver {
    let clock = Clock::start();
    let mut next_purge = Instant::now();
    loop {
        let Round::Until(deadline) = driver.round() else { return driver };
        let mut wake = deadline.map(Instant::from_std);
        if let Some(retention) = retention {
            if Instant::now() >= next_purge {
                next_purge = Instant::now() + PURGE_EVERY;
                let kept = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
                driver.purge_older_than(UnixMillis(clock.now().wall.0.saturating_sub(kept)));
            }
            wake = Some(wake.map_or(next_purge, |wake| wake.min(next_purge)));
        }
        match wake {
            Some(wake) => tokio::select! {
                biased;
                () = driver.arrived() => {}
                () = sleep_until(wake) => {}
            },
            None => driver.arrived().await,
        }
        // The engine never waits long enough for the runtime to notice: let others have their turn.
        tokio::task::yield_now().await;
    }
}

/// Accepts connections until `stop`, and gives back those that are left.
async fn accept(listener: TcpListener, tls: Option<Tls>, context: Arc<Context>, stop: &Stop) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    let stopped = stop.stopped();
    tokio::pin!(stopped);
    loop {
        let accepted = tokio::select! {
            () = &mut stopped => return connections,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or the peer is gone already: neither is a reason to spin or to end.
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let proxied = context.trusted_proxies.contains(&peer.ip().to_canonical());
        if !proxied && let Err(why) = context.enter(peer.ip()) {
            debug!(peer = %peer.ip(), %why, "a connection was not admitted");
            continue;
        }
        let _ = stream.set_nodelay(true);
        let acceptor = tls.as_ref().map(|tls| TlsAcceptor::from(tls.current()));
        let guest = session::Guest::new(context.clone(), (!proxied).then(|| peer.ip()));
        connections.spawn(session::serve(stream, acceptor, guest));
    }
}
