//! `conclave bench`.

use crate::{Context, Failure};

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Measures.
///
/// # Errors
/// Why it could not.
pub fn run(_bench: Args, _context: &Context) -> Result<(), Failure> {
    Err(Failure::new("this build has no benchmark yet", ""))
}
