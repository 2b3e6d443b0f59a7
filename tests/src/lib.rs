//! What tests the whole: the deterministic simulation.

pub mod sim;
