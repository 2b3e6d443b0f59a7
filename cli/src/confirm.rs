//! A question before something that cannot be undone.

use std::io::{self, BufRead as _, IsTerminal as _};

use crate::output::line;
use crate::{Context, Failure};

/// Asks on a terminal whether to go on, unless `yes` was said. Where nobody can be asked, in scripts and for agents, it
/// goes on: they said what they want.
pub(crate) fn confirm(context: &Context, yes: bool, what: &str) -> Result<(), Failure> {
    if yes || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(());
    }
    context.output.note(format_args!("{} This cannot be undone.", line(what)));
    consent(context, yes)
}

/// Asks on a terminal whether to make a change that was shown, as [`confirm`] does.
pub(crate) fn consent(context: &Context, yes: bool) -> Result<(), Failure> {
    if yes || !io::stdin().is_terminal() || !io::stderr().is_terminal() || agreed(context) {
        Ok(())
    } else {
        Err(Failure::new("nothing was changed", "answer yes, or add --yes"))
    }
}

/// Whether somebody on the terminal types yes. False where nobody can be asked.
pub(crate) fn agreed(context: &Context) -> bool {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return false;
    }
    context.output.note("Type yes to go on:");
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.is_ok() && ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
}
