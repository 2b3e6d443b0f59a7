//! `conclave serve`.

use crate::{Context, Failure, args};

/// Runs the server until it is told to stop.
///
/// # Errors
/// Why it could not start or had to stop.
pub fn run(_serve: args::Serve, _context: &Context) -> Result<(), Failure> {
    Err(Failure::new("this build has no server yet", ""))
}
