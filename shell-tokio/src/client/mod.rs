//! The client's side: dialing a server, short sessions, and links over the sockets so made.

mod dial;
mod error;
mod link;
mod proxy;
mod session;
mod stream;
mod tls;

pub use conclave_store::proxy::Proxy;
pub use dial::{DialOptions, Dialed, Route, dial};
pub use error::{CertificateFault, DialError, Stage};
pub use link::LinkDriver;
pub use session::{Arrival, Identity, Session, SessionError};
pub use stream::Stream;
