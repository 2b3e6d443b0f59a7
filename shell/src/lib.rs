#![doc = include_str!("../README.md")]

pub mod clock;
pub mod connection;
pub mod engine;
pub mod mailbox;
pub mod metrics;
