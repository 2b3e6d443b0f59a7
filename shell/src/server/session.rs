//! One connection from accept to its end, on any runtime: HTTP, the upgrade, the handshake, the session.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::{Duration, Instant};

use conclave_core::handshake::HANDSHAKE_TIMEOUT;

use tracing::{Instrument as _, Level, span};

use super::Shared;
use super::connection::{Connection, Progress, Socket};
use super::guest::Guest;
use super::http::{self, Upgraded};
use super::runtime::{Runtime, until, within};

/// How long a connection that ends may take to read its last word.
const LAST_WORD: Duration = Duration::from_secs(2);

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
    let Some(Some(Upgraded { socketed, mut guest })) = until::<R, _>(deadline, upgrade).await else {
        return;
    };
    guest.enter("authenticating");
    let engine = guest.shared.engine.clone();
    let mut connection = Box::new(Connection::new(
        socketed,
        engine,
        &guest.shared.identity,
        guest.shared.bounds,
        guest.registrar(),
    ));
    let handshake = Box::pin(until::<R, _>(deadline, drive(&mut connection)).instrument(opening));
    let mut progress = handshake.await.unwrap_or_else(|| {
        connection.time_out();
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
