#![doc = include_str!("../README.md")]

#[cfg(feature = "journal")]
pub mod journal;
