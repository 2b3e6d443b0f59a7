//! The server on smol: its listener, its sockets, its tasks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use conclave_core::hub::Input;
use conclave_shell::runtime::{Runtime, within};
use conclave_shell::server::{ACCEPT_AGAIN, LAST_WORDS, Shared};
use conclave_shell::session::{self, Door, Guest};
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
    monitoring: Option<TcpListener>,
    tls: Option<Tls>,
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
        let inner = conclave_shell::server::Server::new(journal, options)?;
        Ok(Self { listener, monitoring: None, tls, inner })
    }

    /// Answers whoever monitors there, in plain text.
    #[must_use]
    pub fn monitored_at(self, listener: TcpListener) -> Self {
        Self { monitoring: Some(listener), ..self }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The listener's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
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
        let Self { listener, monitoring, tls, inner } = self;
        let shared = inner.shared().clone();
        let hub = executor.spawn(inner.hub::<Smol>());
        let accepting = accept(&listener, monitoring.as_ref(), tls, &shared, executor);
        smol::future::or(stop.stopped(), accepting).await;
        drop((listener, monitoring));
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

/// Accepts connections for ever.
async fn accept(
    listener: &TcpListener,
    monitoring: Option<&TcpListener>,
    tls: Option<Tls>,
    shared: &Arc<Shared>,
    executor: &Arc<Executor<'static>>,
) {
    loop {
        let everyone = async { (listener.accept().await, Door::Public) };
        let monitors = async {
            match monitoring {
                Some(listener) => (listener.accept().await, Door::Monitoring),
                None => std::future::pending().await,
            }
        };
        let (accepted, door) = smol::future::or(everyone, monitors).await;
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                Timer::after(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let guest = match Guest::admit(shared, peer.ip(), door) {
            Ok(guest) => guest,
            Err(why) => {
                debug!(peer = %peer.ip(), %why, "a connection was not admitted");
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let acceptor =
            tls.as_ref().filter(|_| door == Door::Public).map(|tls| TlsAcceptor::from(tls.current()));
        let accepted = async move {
            match acceptor {
                None => Some(Stream::Plain(stream)),
                Some(acceptor) => Some(Stream::Tls(Box::new(acceptor.accept(stream).await.ok()?))),
            }
        };
        Task::detach(executor.spawn(session::serve::<Smol, _>(accepted, guest)));
    }
}
