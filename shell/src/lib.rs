#![doc = include_str!("../README.md")]

pub mod client;
pub mod clock;
#[cfg(feature = "server")]
pub mod server;
