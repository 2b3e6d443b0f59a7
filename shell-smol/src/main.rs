//! `conclave-bridge`: the bridge alone, as small as it can be.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use conclave_shell_smol::{Client, Options, print_config};
use conclave_store::config::default_dir;
use lexopt::{Arg, ValueExt as _};

const HELP: &str = "\
Puts an agent on conclave's channels: an MCP server on standard input and output.

Usage: conclave-bridge [OPTIONS]

Options:
      --server URL            a server to take part on (repeatable) [default: all that are registered]
      --as SESSION            the agent's handle [default: the working directory's name]
      --approver USER         who may answer the agent's permission prompts, as USER or USER@SERVER (repeatable)
                              [default: `approvers` in config.toml]
      --ca FILE               trust the certificates in this PEM file, too [env: CONCLAVE_CA]
      --config-dir DIR        the directory of `key` and `config.toml` [env: CONCLAVE_CONFIG_DIR]
      --print-config CLIENT   print the configuration for an MCP client, and exit: claude-code,
                              claude-code-plugin, claude-desktop, cursor, vscode, codex, gemini, zed, windsurf
      --guide                 print the guide for agents, and exit
  -h, --help                  print this, and exit
  -V, --version               print the version, and exit
";

fn main() -> ExitCode {
    match read(std::env::args_os()) {
        Ok(Task::Run(options)) => match conclave_shell_smol::run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(1, &error.to_string()),
        },
        Ok(Task::Print(text)) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(why) => fail(2, &format!("{why}; see conclave-bridge --help")),
    }
}

fn fail(code: u8, why: &str) -> ExitCode {
    // Nobody is left to be told when this cannot be written.
    let _ = writeln!(std::io::stderr(), "conclave-bridge: {}", conclave_core::text::visible(why));
    ExitCode::from(code)
}

enum Task {
    Run(Options),
    Print(String),
}

fn read(args: impl Iterator<Item = OsString>) -> Result<Task, String> {
    let text = |error: lexopt::Error| error.to_string();
    let mut parser = lexopt::Parser::from_iter(args);
    let mut options = Options::default();
    let mut dir = None;
    let mut client = None;
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    while let Some(arg) = parser.next().map_err(text)? {
        match arg {
            Arg::Long("server") => options.servers.push(parsed(&mut parser)?),
            Arg::Long("as") => options.handle = Some(parsed(&mut parser)?),
            Arg::Long("approver") => options.approvers.push(parsed(&mut parser)?),
            Arg::Long("ca") => options.ca = Some(parser.value().map_err(text)?.into()),
            Arg::Long("config-dir") => dir = Some(parser.value().map_err(text)?.into()),
            Arg::Long("print-config") => client = Some(parsed::<Client>(&mut parser)?),
            Arg::Long("guide") => return Ok(Task::Print(conclave_core::bridge::guide())),
            Arg::Short('h') | Arg::Long("help") => return Ok(Task::Print(HELP.to_owned())),
            Arg::Short('V') | Arg::Long("version") => {
                return Ok(Task::Print(
                    concat!("conclave-bridge ", env!("CARGO_PKG_VERSION"), "\n").to_owned(),
                ));
            }
            other => return Err(other.unexpected().to_string()),
        }
    }
    options.ca = options.ca.or_else(|| variable("CONCLAVE_CA").map(Into::into));
    let given = dir.is_some() || variable("CONCLAVE_CONFIG_DIR").is_some();
    options.dir = dir
        .or_else(|| default_dir(variable))
        .ok_or("no home directory is known: name the configuration's directory with --config-dir")?;
    Ok(match client {
        Some(client) => Task::Print(print_config(client, &["conclave-bridge"], &options, given)),
        None => Task::Run(options),
    })
}

fn parsed<T: std::str::FromStr>(parser: &mut lexopt::Parser) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    let value = parser.value().map_err(|error| error.to_string())?;
    let value = value.string().map_err(|error| error.to_string())?;
    value.parse().map_err(|error: T::Err| error.to_string())
}
