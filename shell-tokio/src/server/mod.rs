//! The server on tokio: its listener, its sockets, its tasks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use conclave_core::hub::Input;
use conclave_shell::runtime::{Runtime, within};
use conclave_shell::server::{ACCEPT_AGAIN, LAST_WORDS, Shared};
use conclave_shell::session::{self, Guest};
use conclave_store::journal::{Journal, OpenError};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

mod socket;

pub use conclave_shell::server::{Options, Stop};
pub use conclave_shell::tls::{Tls, TlsError};

use socket::Stream;

/// tokio's timer.
#[derive(Debug)]
pub struct Tokio;

impl Runtime for Tokio {
    async fn sleep_until(at: Instant) {
        tokio::time::sleep_until(at.into()).await;
    }
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

    /// Serves until `stop`, then drains: no new connections, every accepted post answered, every session told.
    pub async fn run(self, stop: Stop) {
        let Self { listener, tls, metrics, inner } = self;
        let shared = inner.shared().clone();
        let hub = tokio::spawn(inner.hub::<Tokio>());
        let mut connections = JoinSet::new();
        tokio::select! {
            () = stop.stopped() => {}
            () = accept(&listener, tls, &shared, &mut connections) => {}
            () = tell_metrics(metrics, &shared) => {}
        }
        drop(listener);
        info!("draining: no new connections, finishing what was accepted");
        shared.engine().submit(Input::Shutdown);
        let driver = hub.await;
        let all_left = async { while connections.join_next().await.is_some() {} };
        if within::<Tokio, _>(LAST_WORDS, all_left).await.is_none() {
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

/// Serves the metrics at their own listener for ever; without one, waits for ever.
async fn tell_metrics(listener: Option<TcpListener>, shared: &Arc<Shared>) {
    let Some(listener) = listener else { return std::future::pending().await };
    let mut scrapes = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                scrapes.spawn(session::serve_metrics::<Tokio, _>(Stream::Plain(stream), shared.clone()));
            }
            Err(error) => {
                warn!(%error, "a connection for the metrics could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
        while scrapes.try_join_next().is_some() {}
    }
}

/// Accepts connections for ever.
async fn accept(
    listener: &TcpListener,
    tls: Option<Tls>,
    shared: &Arc<Shared>,
    connections: &mut JoinSet<()>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
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
        connections.spawn(session::serve::<Tokio, _>(accepted, guest));
    }
}
