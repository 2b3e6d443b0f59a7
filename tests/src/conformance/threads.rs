//! The link on plain threads, as the suite starts it: what the shells' links are compared with.

use std::net::SocketAddr;

use conclave_core::key::SecretKey;
use conclave_core::link::{Action, JoinFrom};
use conclave_core::protocol::Command;

use super::shell::{ClientShell, RunningLink};
use crate::client::ThreadLink;

/// Threads and blocking sockets.
pub struct Threads;

impl ClientShell for Threads {
    fn open(address: SocketAddr, key: SecretKey, handle: &str) -> Box<dyn RunningLink> {
        Box::new(ThreadLink::open(address, key, handle, false))
    }
}

impl RunningLink for ThreadLink {
    fn join(&self, channel: &str, from: JoinFrom) {
        Self::join(self, channel, from);
    }

    fn leave(&self, channel: &str) {
        Self::leave(self, channel);
    }

    fn ask(&self, id: u64, command: Command) {
        Self::ask(self, id, command);
    }

    fn next(&self) -> Action {
        Self::next(self)
    }
}
