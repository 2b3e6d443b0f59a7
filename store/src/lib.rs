#![doc = include_str!("../README.md")]

pub mod backend;
pub mod config;
pub mod durable;
#[cfg(feature = "journal")]
pub mod journal;
pub mod keystore;
#[cfg(feature = "seal")]
pub mod seal;
#[cfg(feature = "state")]
pub mod state;
#[cfg(any(feature = "journal", feature = "seal", feature = "state"))]
mod transaction;
