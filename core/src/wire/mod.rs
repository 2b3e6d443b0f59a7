//! The wire: how the domain's words travel. Each version is a translation of its own ([`v1`]) over the codec.

pub mod client;
mod codec;
mod convert;
pub mod edge;
pub mod v1;
pub mod websocket;

pub use codec::{MAX_FRAME, Malformed};
