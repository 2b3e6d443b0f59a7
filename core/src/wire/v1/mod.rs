//! Version 1 of the wire: bincode frames, replies in the order of the requests. It is closed: no frame is added.
//!
//! [`Frame`] is the format, [`edge`] the server's side of a connection, [`client`] the client's, [`handshake`] both
//! halves of the opening; `refusal` turns typed reasons into texts and back.

pub mod client;
mod codec;
mod convert;
pub mod edge;
mod frame;
pub mod handshake;
mod refusal;

pub use codec::Malformed;
pub use frame::*;
