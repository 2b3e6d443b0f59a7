#![no_std]
#![doc = include_str!("../README.md")]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod admission;
pub mod audit;
pub mod body;
pub mod bridge;
pub mod desk;
pub mod directory;
pub mod engine;
pub mod fanout;
pub mod handshake;
pub mod host;
pub mod hub;
pub mod key;
pub mod level;
pub mod link;
pub mod mailbox;
pub mod memory;
pub mod mention;
pub mod name;
pub mod opaque;
pub mod payload;
pub mod protocol;
pub mod pump;
pub mod record;
pub mod sealed;
pub mod stream;
pub mod text;
pub mod time;
pub mod wire;
pub mod write_queue;
