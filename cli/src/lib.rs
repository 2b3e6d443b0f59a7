//! The command line of conclave: what is typed ([`args`]), what it does ([`verbs`]), what is shown
//! (`output`).

pub mod args;
pub mod bench;
mod chat;
mod confirm;
mod connect;
mod context;
mod error;
mod explain;
mod output;
pub mod serve;
pub mod verbs;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

pub use context::Context;
pub use error::Failure;
pub use output::Output;

/// Runs what was typed. Exit 0: done; 1: refused or failed; 2: not understood.
pub fn main(typed: impl IntoIterator<Item = OsString>) -> ExitCode {
    let typed: Vec<OsString> = typed.into_iter().collect();
    let command = without_empty_variables(args::Cli::command());
    let parsed = command.try_get_matches_from(&typed).and_then(|matches| {
        let mut cli =
            args::Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut args::Cli::command()))?;
        if let (args::Verb::Serve(serve), Some((_, matches))) = (&mut cli.verb, matches.subcommand()) {
            serve.settle(matches)?;
        }
        Ok(cli)
    });
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            let json = flags(&typed).any(|word| word == "--json");
            let output = Output::new(json, args::Color::Auto, false);
            if is_run_as_hook(&typed) {
                output.note(error);
                return ExitCode::SUCCESS;
            }
            return match args::another_word(&error) {
                Some(failure) => output.failure(&failure),
                None if json => output.failure(&misused(&error)),
                None => {
                    // Nobody is left to be told when this cannot be printed.
                    let _ = error.print();
                    ExitCode::from(2)
                }
            };
        }
        Err(error) => {
            // Nobody is left to be told when this cannot be printed.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
    };
    let output = Output::new(cli.global.json, cli.global.color, cli.global.verbose);
    let context = Context::new(cli.global, output);
    let mistyped = if typed.iter().any(|word| word == "--") { None } else { cli.verb.mistyped_flag() };
    let done = match mistyped {
        Some(failure) => Err(failure),
        None => verbs::run(cli.verb, &context),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => context.output.failure(&failure),
    }
}

/// Whether an agent's client runs this as a hook. To clients exit 2 means that what they are about to do is forbidden,
/// so settings that another version wrote must not lead to it.
fn is_run_as_hook(typed: &[OsString]) -> bool {
    let takes_value = |word: &OsString| ["--config-dir", "--color"].iter().any(|flag| word == flag);
    let is_verb = |pair: &[OsString]| !takes_value(&pair[0]) && !pair[1].as_encoded_bytes().starts_with(b"-");
    let Some(verb) = typed.windows(2).position(is_verb) else { return false };
    let changes = typed.get(verb + 2).is_some_and(|word| word == "install" || word == "uninstall");
    typed[verb + 1] == "hook" && !changes && !std::io::stdin().is_terminal()
}

/// What may be a flag: behind `--` nothing is.
fn flags(typed: &[OsString]) -> impl Iterator<Item = &OsString> {
    typed.iter().take_while(|word| *word != "--")
}

/// What the parser says, in two sentences instead of a page.
fn misused(error: &clap::Error) -> Failure {
    let page = error.render().to_string();
    let what: Vec<_> = page.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let what = what.join(" ");
    let next = page.lines().map(str::trim).find_map(|line| {
        line.strip_prefix("tip: ")
            .map(str::to_owned)
            .or_else(|| Some(format!("type it like this: {}", line.strip_prefix("Usage: ")?)))
    });
    let next = next.unwrap_or_else(|| "see conclave --help".to_owned());
    Failure::usage(what.strip_prefix("error: ").unwrap_or(&what), next)
}

/// A variable that is set to nothing counts as not set.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| if arg.get_env().is_some_and(is_empty) { arg.env(None::<&str>) } else { arg })
        .mut_subcommands(without_empty_variables)
}
