//! The built server as its operator runs it: killed, told to stop, out of space, copied, and met by other clients.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod crash;
mod disk;
mod idle;
mod interop;
mod operation;
mod process;
