//! The built server as its operator runs it: killed, told to stop, out of space, copied, and met by other clients.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod copies;
mod crash;
mod disk;
mod hostile;
mod idle;
mod interop;
mod logs;
mod operation;
mod process;
mod settings;
