//! The client's side: dialing a server, short sessions, and links over the sockets so made.

mod dial;
mod error;
mod link;
mod proxy;
mod session;
mod stream;
mod tls;

pub use dial::{DialOptions, Dialed, Route, dial};
pub use error::{CertificateFault, DialError, Stage};
pub use link::LinkDriver;
pub use proxy::Proxy;
pub use session::{Arrival, Identity, Session, SessionError};
pub use stream::Stream;
