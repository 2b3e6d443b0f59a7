//! Version 1's handshake. The server's half is [`Handshake`], the client's [`ClientHandshake`]; each consumes itself with
//! every frame, so that an error leaves nothing half open behind.

mod client;
mod server;

pub use client::{ClientHandshake, ClientStep};
pub use server::{Handshake, Step};
