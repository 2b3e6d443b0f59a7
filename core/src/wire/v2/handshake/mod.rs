//! Version 2's handshake: both sides prove a key over everything that was sent so far.
//!
//! ```text
//! client                                server
//!   Hello      nonce                 →
//!                                    ←  Challenge   server key, nonce, limits
//!                                    ←  Proof       the server's signature
//!   Identity   machine key, handle   →
//!   Proof      the machine's signature →
//!                                    ←  Welcome
//! ```
//!
//! A signature covers a context, which differs for each side, and the transcript: both nonces, both keys, the handle
//! and the claim. So one that was made for another connection, for another server or by the other side proves nothing.
//! The server proves itself first: the client names itself, and signs, only to a server whose key it has accepted.

mod client;
mod server;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

pub use client::{ClientHandshake, Identified, Identity, ServerLimits, ServerProven, SignedIdentity};
pub use server::{Handshake, ServerIdentity, Step};

/// What the server signs: this and the transcript.
const SERVER: &[u8] = b"conclave v2 server handshake\0";
/// What the client signs: this and the transcript.
const CLIENT: &[u8] = b"conclave v2 client handshake\0";

/// The feature level of this program.
pub const FEATURES: u32 = 1;

/// Who sent a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client = 0,
    Server = 1,
}

/// The hash of all frames that were exchanged, as they went over the wire: for each, a byte that names its side (0 for the
/// client, 1 for the server), its length as 32 bits in big-endian order, and its bytes. SHA-256.
#[derive(Clone, Debug, Default)]
struct Transcript(Sha256);

impl Transcript {
    fn add(&mut self, side: Side, frame: &[u8]) {
        // No frame of a handshake is longer than 4 KiB.
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        self.0.update([side as u8]);
        self.0.update(len.to_be_bytes());
        self.0.update(frame);
    }

    /// What a side signs now.
    fn to_sign(&self, context: &[u8]) -> Vec<u8> {
        let hash = self.0.clone().finalize();
        [context, hash.as_slice()].concat()
    }
}
