//! Tests that stand above the crates: the conformance suite for every shell, and the deterministic simulation.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by it")]
#![allow(unreachable_pub, reason = "modules of tests are not an interface")]

mod chance;
pub mod client;
pub mod conformance;
pub mod sim;
