//! The bridge between an agent's client and the channels: everything that decides, and nothing that speaks.

mod level;
mod line;

pub use level::{Level, Levels, Permissions, Scope, Server, UnknownLevel};
pub use line::{Line, LineReader, MAX_LINE};
