//! What each verb does.

mod local;
mod perm;
mod skill;

use crate::args::Verb;
use crate::{Context, Failure};

/// Carries out a verb.
///
/// # Errors
/// Why it was not carried out.
pub fn run(verb: Verb, context: &Context) -> Result<(), Failure> {
    match verb {
        Verb::Key => local::key(context),
        Verb::Server(action) => local::server(action, context),
        Verb::Perm(action) => perm::run(action, context),
        Verb::Skill(skill) => skill::run(&skill, context),
        Verb::Completions(shell) => local::completions(shell.shell),
        Verb::Man(man) => local::man(&man, context),
        Verb::Serve(serve) => crate::serve::run(*serve, context),
        Verb::Backup(backup) => crate::serve::backup(backup, context),
        Verb::Restore(restore) => crate::serve::restore(restore, context),
        Verb::Bench(bench) => crate::bench::run(bench, context),
        _ => Err(Failure::new("this build cannot do that yet", "")),
    }
}
