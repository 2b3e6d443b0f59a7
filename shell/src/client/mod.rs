//! The client, short of the sockets: proxies, trusted certificates, the WebSocket's opening, connection error messages,
//! and the driver of links.

mod driver;
mod error;
mod opening;
mod proxy;
mod trust;

use std::time::Duration;

pub use driver::{LinkDriver, Runtime, subprotocol};
pub use error::{CertificateFault, DialError, Stage};
pub use opening::{Greeting, refused, request, websocket};
pub use proxy::{Proxy, authority};
pub use trust::{TlsConfig, describe, server_name, trust};

/// How long the way to a server may take in all, unless somebody says otherwise.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the next of so many addresses may take of the time that is left: one that swallows everything leaves time
/// for those behind it.
pub fn share(left: Duration, addresses: usize) -> Duration {
    left / u32::try_from(addresses.max(1)).unwrap_or(u32::MAX)
}
