#![doc = include_str!("../README.md")]

pub mod backend;
pub mod config;
pub mod durable;
#[cfg(feature = "journal")]
pub mod journal;
pub mod keystore;
#[cfg(feature = "state")]
pub mod state;
#[cfg(any(feature = "journal", feature = "state"))]
mod transaction;
