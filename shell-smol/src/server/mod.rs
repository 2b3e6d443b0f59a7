//! The server on smol: its listener, its sockets, its tasks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use conclave_core::hub::Input;
use conclave_shell::runtime::{Runtime, within};
use conclave_shell::server::{ACCEPT_AGAIN, LAST_WORDS, Shared};
use conclave_shell::session::{self, Guest};
use conclave_store::journal::{Journal, OpenError};
use futures_rustls::TlsAcceptor;
use smol::net::TcpListener;
use smol::{Executor, Task, Timer};
use tracing::{debug, info, warn};

mod socket;

pub use conclave_shell::server::{Options, Stop};
pub use conclave_shell::tls::{Tls, TlsError};

use socket::Stream;

/// smol's timer.
#[derive(Debug)]
pub struct Smol;

impl Runtime for Smol {
    async fn sleep_until(at: Instant) {
        Timer::at(at).await;
    }
}

/// A listener that a server can take.
///
/// # Errors
/// The system's.
pub fn listener(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    TcpListener::try_from(listener)
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    tls: Option<Tls>,
    metrics: Option<TcpListener>,
    inner: conclave_shell::server::Server,
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
        Ok(Self {
            listener,
            tls,
            metrics: None,
            inner: conclave_shell::server::Server::new(journal, options)?,
        })
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
        self.inner.shared().set_metrics_apart();
        self.metrics = Some(listener);
    }

    /// Where the metrics are served, if that is elsewhere.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }

    /// Serves until `stop` on as many threads as there are processors, then drains: no new connections, every
    /// accepted post answered, every session told. Blocks until then.
    pub fn run(self, stop: &Stop) {
        let executor = Arc::new(Executor::new());
        let ended = Stop::new();
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(|| smol::block_on(executor.run(ended.stopped())));
            }
            smol::block_on(self.serve(&executor, stop));
            ended.stop();
        });
    }

    async fn serve(self, executor: &Arc<Executor<'static>>, stop: &Stop) {
        let Self { listener, tls, metrics, inner } = self;
        let shared = inner.shared().clone();
        let hub = executor.spawn(inner.hub::<Smol>());
        let telling = executor.spawn(tell_metrics(metrics, shared.clone(), executor.clone()));
        smol::future::or(stop.stopped(), accept(&listener, tls, &shared, executor)).await;
        telling.cancel().await;
        drop(listener);
        info!("draining: no new connections, finishing what was accepted");
        shared.engine().submit(Input::Shutdown);
        let driver = hub.await;
        if within::<Smol, _>(LAST_WORDS, shared.engine().all_left()).await.is_none() {
            warn!("some connections did not read their last word in time");
        }
        // The last commit may wait for the disk.
        smol::unblock(|| driver.stop()).await;
        info!("drained");
    }
}

/// Serves the metrics at their own listener, if there is one, until it is cancelled.
async fn tell_metrics(listener: Option<TcpListener>, shared: Arc<Shared>, executor: Arc<Executor<'static>>) {
    let Some(listener) = listener else { return };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let scrape = session::serve_metrics::<Smol, _>(Stream::Plain(stream), shared.clone());
                Task::detach(executor.spawn(scrape));
            }
            Err(error) => {
                warn!(%error, "a connection for the metrics could not be accepted");
                Timer::after(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Accepts connections for ever.
async fn accept(
    listener: &TcpListener,
    tls: Option<Tls>,
    shared: &Arc<Shared>,
    executor: &Arc<Executor<'static>>,
) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                Timer::after(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let guest = match Guest::admit(shared, peer.ip()) {
            Ok(guest) => guest,
            Err(why) => {
                debug!(peer = %peer.ip(), %why, "a connection was not admitted");
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let acceptor = tls.as_ref().map(|tls| TlsAcceptor::from(tls.current()));
        let accepted = async move {
            match acceptor {
                None => Some(Stream::Plain(stream)),
                Some(acceptor) => Some(Stream::Tls(Box::new(acceptor.accept(stream).await.ok()?))),
            }
        };
        Task::detach(executor.spawn(session::serve::<Smol, _>(accepted, guest)));
    }
}
