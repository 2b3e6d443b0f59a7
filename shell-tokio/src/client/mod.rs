//! The client's side: dialing a server, short sessions, and links over the sockets so made.

mod dial;
mod link;
mod proxy;
mod session;
mod stream;

pub use conclave_core::wire::client::Credentials;
pub use conclave_shell::client::{CertificateFault, DialError, Greeting, Proxy, Stage};
pub use dial::{DialOptions, Dialed, Route, dial};
pub use link::{LinkDriver, Tokio, link};
pub use session::{Arrival, Session, SessionError};
pub use stream::Stream;
