#![doc = include_str!("../README.md")]

pub mod clock;
pub mod connection;
pub mod engine;
mod gate;
mod http;
mod log;
pub mod mailbox;
pub mod metrics;
pub mod runtime;
pub mod server;
pub mod session;
pub mod tls;
