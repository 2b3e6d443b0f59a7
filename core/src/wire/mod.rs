//! The wire: how the domain's words travel. Each version is a folder of its own ([`v1`]); [`edge`] is the one place that
//! chooses between them.

pub mod edge;
pub mod v1;
pub mod v2;
pub mod websocket;

/// The largest message of the protocol, in bytes: 16 MiB.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;
