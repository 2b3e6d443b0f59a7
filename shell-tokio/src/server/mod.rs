//! The server on tokio: its listener, its sockets, its tasks.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use conclave_core::hub::Input;
use conclave_shell::server::guest::Guest;
use conclave_shell::server::runtime::{Runtime, within};
use conclave_shell::server::{ACCEPT_AGAIN, LAST_WORDS, Parts, Shared, session};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

mod socket;

pub use conclave_shell::server::browser::{Host, Origin};
pub use conclave_shell::server::tls::{Tls, TlsError};
pub use conclave_shell::server::{Options, Server, Stop, listen};

use socket::Stream;

/// tokio's timer.
#[derive(Debug)]
pub struct Tokio;

impl Runtime for Tokio {
    async fn sleep_until(at: Instant) {
        tokio::time::sleep_until(at.into()).await;
    }
}

/// Serves until `stop`, then drains: no new connections, every accepted post answered, every session told.
///
/// # Errors
/// The system's, if a listener cannot be taken.
pub async fn run(server: Server, stop: Stop) -> io::Result<()> {
    let Parts { listener, tls, metrics, hub, shared } = server.into_parts();
    let listener = TcpListener::from_std(listener)?;
    let metrics = metrics.map(TcpListener::from_std).transpose()?;
    let hub = tokio::spawn(hub.run::<Tokio>());
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
    if within::<Tokio, _>(LAST_WORDS, shared.engine().all_left()).await.is_none() {
        warn!("some connections did not read their last word in time");
    }
    // What is left asks for pages, or for nothing.
    connections.shutdown().await;
    match driver {
        // The last commit may wait for the disk.
        Ok(driver) => drop(tokio::task::spawn_blocking(|| driver.stop()).await),
        Err(error) => warn!(%error, "the hub's task ended badly"),
    }
    info!("drained");
    Ok(())
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
        let Ok(guest) = Guest::admit(shared, peer.ip()) else { continue };
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
