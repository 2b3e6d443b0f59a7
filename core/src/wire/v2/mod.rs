//! Version 2 of the wire: protobuf frames or their JSON mapping, replies matched by number, streams with positions.
//!
//! [`schema`] is the format, generated from `proto/conclave/v2/conclave.proto`.

#[rustfmt::skip]
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, reason = "generated")]
pub mod schema;
