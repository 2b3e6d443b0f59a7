//! The bridge between an agent's MCP client and the channels, on smol: small, and without a second runtime.

pub mod mcp;
