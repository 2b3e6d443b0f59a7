//! One connection from accept to its end: TLS, HTTP, the upgrade, the handshake, the session.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use conclave_core::protocol::CloseReason;
use conclave_core::wire::edge::HANDSHAKE_TIMEOUT;
use conclave_shell::connection::{Connection, Progress, drive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::Context;
use super::http::{self, Upgraded};
use super::socket::Stream;

/// How long a connection that ends may take to read its last word.
const LAST_WORD: Duration = Duration::from_secs(2);

/// A connection that is not a session yet. Dropping it gives its place back.
pub(super) struct Guest {
    pub(super) context: Arc<Context>,
    /// Under which address it was admitted; none yet if a trusted proxy is to name it.
    address: Option<IpAddr>,
    state: &'static str,
    failed: bool,
}

impl Guest {
    pub(super) fn new(context: Arc<Context>, address: Option<IpAddr>) -> Self {
        context.metrics().connection("upgrading", 1);
        Self { context, address, state: "upgrading", failed: false }
    }

    /// Takes the address that a trusted proxy named.
    pub(super) fn admit(&mut self, address: IpAddr) -> Result<(), conclave_core::admission::NotAdmitted> {
        if self.address.is_none() {
            self.context.enter(address)?;
            self.address = Some(address);
        }
        Ok(())
    }

    fn enter(&mut self, state: &'static str) {
        self.context.metrics().connection(self.state, -1);
        self.context.metrics().connection(state, 1);
        self.state = state;
    }

    fn leave(&mut self) {
        if let Some(address) = self.address.take() {
            self.context.leave(address, self.failed);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.leave();
        self.context.metrics().connection(self.state, -1);
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(stream: TcpStream, acceptor: Option<TlsAcceptor>, guest: Guest) {
    let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
    // What a connection needs only until it is a session is boxed, so that thousands of quiet sessions do not
    // carry it along.
    let upgrade = Box::pin(async move {
        let stream = match acceptor {
            None => Stream::Plain(stream),
            Some(acceptor) => Stream::Tls(Box::new(acceptor.accept(stream).await.ok()?)),
        };
        http::upgrade(stream, guest).await
    });
    let Ok(Some(Upgraded { stream, read, mut guest })) = timeout_at(deadline, upgrade).await else { return };
    guest.enter("authenticating");
    let engine = guest.context.engine.clone();
    let mut connection = Box::new(Connection::new(stream, read, engine, guest.context.bounds));
    let mut progress = timeout_at(deadline, drive(&mut connection)).await.unwrap_or_else(|_| {
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
        let _ = timeout(LAST_WORD, ended).await;
    }
}
