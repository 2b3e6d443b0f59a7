//! The client's side: dialing a server, and links over the sockets so made.

mod dial;
mod error;
mod proxy;
mod stream;
mod tls;

pub use dial::{DialOptions, Dialed, Route, dial};
pub use error::{CertificateFault, DialError, Stage};
pub use proxy::Proxy;
pub use stream::Stream;
