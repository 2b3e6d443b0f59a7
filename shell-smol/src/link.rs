//! Links on smol.

use std::path::Path;
use std::pin::Pin;
use std::time::Instant;

use conclave_core::link::{Config, Version};
use conclave_shell::client::{self, DialError, Greeting, Runtime, subprotocol, trust};
use conclave_shell::clock::Clock;
use conclave_store::config::ServerUrl;
use futures_util::future::{FutureExt, Map};
use smol::Timer;

use crate::dial::{Dialer, Socket};

/// A link on smol.
pub type LinkDriver = client::LinkDriver<Smol>;

/// A link to the server at `url`. `ca` is a file of certificates (PEM) to trust beside the usual ones.
///
/// # Errors
/// [`DialError::Roots`] if that file cannot be used.
pub fn link(url: ServerUrl, ca: Option<&Path>, config: Config) -> Result<LinkDriver, DialError> {
    let tls = if url.is_secure() { Some(trust(ca)?) } else { None };
    let smol = Smol(Dialer { url, tls });
    Ok(LinkDriver::new(smol, config, Clock::default()))
}

/// What a link needs of smol.
pub struct Smol(pub(crate) Dialer);

impl Runtime for Smol {
    type Socket = Socket;
    type Dial = Pin<Box<dyn Future<Output = Result<(Socket, Greeting), DialError>>>>;
    type Sleep = Map<Timer, fn(Instant)>;

    fn dial(&self, version: Version) -> Self::Dial {
        Box::pin(self.0.clone().dial(subprotocol(version)))
    }

    fn sleep_until(&self, deadline: Instant) -> Self::Sleep {
        Timer::at(deadline).map(drop::<Instant> as fn(Instant))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(task).detach();
    }
}
