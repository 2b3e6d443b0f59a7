#![doc = include_str!("../README.md")]

pub mod backend;
pub mod config;
mod durable;
#[cfg(feature = "journal")]
pub mod journal;
pub mod keystore;
