//! The wire: how the domain's words travel. Each version is a folder of its own ([`v1`]); [`edge`] (the
//! server's side) and [`client`] choose between them.

pub mod client;
pub mod edge;
mod reply_kind;
pub mod v1;
pub mod v2;
pub mod websocket;

/// The most of a server's error text that is kept, in bytes.
pub const MAX_ERROR_TEXT: usize = 1024;

/// The largest message of the protocol, in bytes: 16 MiB.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;
