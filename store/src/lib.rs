//! What conclave keeps on disk. Runtime-free: plain blocking calls, shared by every shell.

pub mod config;
mod durable;
pub mod keystore;
