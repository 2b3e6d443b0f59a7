//! One connection from accept to its end, on any runtime: HTTP, the upgrade, the handshake, the session.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conclave_core::admission::NotAdmitted;
use conclave_core::protocol::CloseReason;
use conclave_core::wire::edge::HANDSHAKE_TIMEOUT;
use tracing::{Instrument as _, Level, span};

use crate::connection::{Connection, Progress, Socket};
use crate::http::{self, Upgraded};
use crate::runtime::{Runtime, until, within};
use crate::server::Shared;

/// How long a connection that ends may take to read its last word.
const LAST_WORD: Duration = Duration::from_secs(2);

/// A connection that was let in. Dropping it gives its place back.
pub struct Guest {
    pub(crate) shared: Arc<Shared>,
    /// Under which address it was admitted; none yet if a trusted proxy is to name it.
    address: Option<IpAddr>,
    state: &'static str,
    failed: bool,
}

impl Guest {
    /// Lets a connection from `peer` in.
    ///
    /// # Errors
    /// The bound that it met: drop it.
    pub fn admit(shared: &Arc<Shared>, peer: IpAddr) -> Result<Self, NotAdmitted> {
        let address = (!shared.trusts(peer)).then_some(peer);
        if let Some(address) = address {
            shared.enter(address)?;
        }
        shared.engine.metrics().connection("upgrading", 1);
        Ok(Self { shared: shared.clone(), address, state: "upgrading", failed: false })
    }

    /// Takes the address that a trusted proxy named.
    pub(crate) fn named(&mut self, address: impl FnOnce() -> IpAddr) -> Result<(), NotAdmitted> {
        if self.address.is_none() {
            let address = address();
            self.shared.enter(address)?;
            self.address = Some(address);
        }
        Ok(())
    }

    fn enter(&mut self, state: &'static str) {
        self.shared.engine.metrics().connection(self.state, -1);
        self.shared.engine.metrics().connection(state, 1);
        self.state = state;
    }

    fn leave(&mut self) {
        if let Some(address) = self.address.take() {
            self.shared.leave(address, self.failed);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.leave();
        self.shared.engine.metrics().connection(self.state, -1);
    }
}

/// Serves a connection to its end. `accepted` gives its socket once TLS, if any, is agreed on.
pub async fn serve<R: Runtime, S: Socket + Unpin + Send + 'static>(
    accepted: impl Future<Output = Option<S>> + Send,
    guest: Guest,
) {
    let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
    // What a connection needs only until it is a session is boxed, so that thousands of quiet sessions do not
    // carry it along.
    let opening = span!(target: "conclave::trace", Level::INFO, "open connection");
    let upgrade =
        Box::pin(async move { http::upgrade(accepted.await?, guest).await }.instrument(opening.clone()));
    let Some(Some(Upgraded { socket, read, mut guest })) = until::<R, _>(deadline, upgrade).await else {
        return;
    };
    guest.enter("authenticating");
    let engine = guest.shared.engine.clone();
    let mut connection = Box::new(Connection::new(socket, read, engine, guest.shared.bounds));
    let handshake = Box::pin(until::<R, _>(deadline, drive(&mut connection)).instrument(opening));
    let mut progress = handshake.await.unwrap_or_else(|| {
        connection.end(CloseReason::HandshakeTimeout);
        Progress::Parting
    });
    guest.failed = progress != Progress::Established;
    guest.leave();
    if progress == Progress::Established {
        guest.enter("session");
        progress = drive(&mut connection).await;
    }
    if progress == Progress::Parting {
        let ended = async { while drive(&mut connection).await != Progress::Ended {} };
        let _ = Box::pin(within::<R, _>(LAST_WORD, ended)).await;
    }
}

/// Serves the metrics, and nothing else, to a connection from the operator's own listener.
pub async fn serve_metrics<R: Runtime, S: Socket + Unpin + Send + 'static>(socket: S, shared: Arc<Shared>) {
    if let Some(scrape) = shared.scrape() {
        let _ = within::<R, _>(HANDSHAKE_TIMEOUT, http::metrics(socket, &scrape.0)).await;
    }
}

/// Drives a connection until something about it changes.
async fn drive<S: Socket>(connection: &mut Connection<S>) -> Progress {
    poll_fn(|cx| connection.poll(cx)).await
}
