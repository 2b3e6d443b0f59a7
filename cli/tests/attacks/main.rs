//! Attacks on the built program, by who carries them out. Each must cost whoever attacks, and nobody else.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod account;
mod agent;
#[path = "../bridge/agent.rs"]
#[allow(dead_code, reason = "each suite uses a part of it")]
mod mcp;
mod member;
#[path = "../server/process.rs"]
#[allow(dead_code, unused_macros, unused_imports, reason = "each suite uses a part of it")]
mod process;
#[path = "../bridge/scene.rs"]
#[allow(dead_code, reason = "each suite uses a part of it")]
mod scene;
mod server;
#[path = "../common/session.rs"]
#[allow(dead_code, unreachable_pub, reason = "each suite uses a part of it")]
mod session;
mod stranger;
