//! Sealed channels: what the server cannot read. End-to-end encryption with MLS (RFC 9420) as a deterministic machine.
//!
//! [`Channel`] is this machine in one sealed channel: it takes an [`Input`] and gives [`Output`]s; its state is one record
//! that the caller keeps. [`Roster`] is a user's machines as a chain of signed changes. There are no sockets, files or clocks
//! here.
//!
//! **Architecture invariant:** only `mls.rs` knows the MLS library.
//! **Architecture invariant:** nothing is sent before the step that made it is on disk.
#![no_std]
extern crate alloc;

mod api;
mod channel;
mod content;
mod error;
mod member;
mod mls;
mod roster;
mod state;

pub use api::{Addition, Alarm, Answer, Entry, Input, Kind, Output, PostCommit};
pub use channel::{Channel, MAX_CONTENT, MAX_HANDSHAKE, MAX_OUTBOX};
pub use content::{Content, MAX_HEADS, PADDING_STEP};
pub use error::Error;
pub use member::{MAX_NAME, Member};
pub use mls::{KEY_PACKAGE_LIFETIME, KeyPackage, SUITE, key_package};
pub use roster::{MAX_CHANGES, Roster, RosterChange, RosterError, RosterHead, SignedChange};
