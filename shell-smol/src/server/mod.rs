//! The server on smol: its listener, its sockets, its tasks.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use conclave_core::hub::Input;
use conclave_shell::server::guest::Guest;
use conclave_shell::server::runtime::{Runtime, within};
use conclave_shell::server::{ACCEPT_AGAIN, LAST_WORDS, Parts, Shared, session};
use futures_rustls::TlsAcceptor;
use smol::net::TcpListener;
use smol::{Executor, Task, Timer};
use tracing::{info, warn};

mod socket;

pub use conclave_shell::server::browser::{Host, Origin};
pub use conclave_shell::server::tls::{Tls, TlsError};
pub use conclave_shell::server::{Options, Server, Stop, listen};

use socket::Stream;

/// smol's timer.
#[derive(Debug)]
pub struct Smol;

impl Runtime for Smol {
    async fn sleep_until(at: Instant) {
        Timer::at(at).await;
    }
}

/// Serves until `stop` on as many threads as there are processors, then drains: no new connections, every accepted
/// post answered, every session told. Blocks until then.
///
/// # Errors
/// The system's, if a listener cannot be taken.
pub fn run(server: Server, stop: &Stop) -> io::Result<()> {
    let executor = Arc::new(Executor::new());
    let ended = Stop::new();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| smol::block_on(executor.run(ended.stopped())));
        }
        let served = smol::block_on(serve(server, &executor, stop));
        ended.stop();
        served
    })
}

async fn serve(server: Server, executor: &Arc<Executor<'static>>, stop: &Stop) -> io::Result<()> {
    let Parts { listener, tls, metrics, hub, shared } = server.into_parts();
    let listener = TcpListener::try_from(listener)?;
    let metrics = metrics.map(TcpListener::try_from).transpose()?;
    let hub = executor.spawn(hub.run::<Smol>());
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
    Ok(())
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
        let Ok(guest) = Guest::admit(shared, peer.ip()) else { continue };
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
