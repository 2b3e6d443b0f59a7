//! Version 2 of the wire: protobuf frames or their JSON mapping, replies matched by number, streams with positions.
//!
//! [`schema`] is the format, generated from `proto/conclave/v2/conclave.proto`; [`json`] translates its JSON mapping.

mod audit;
pub mod client;
pub(crate) mod convert;
pub mod deliver;
pub mod edge;
pub mod encoding;
pub mod handshake;
pub mod json;
pub mod kept;
mod sealed;
pub mod signature;
#[rustfmt::skip]
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, reason = "generated")]
pub mod schema;
#[rustfmt::skip]
mod table;
