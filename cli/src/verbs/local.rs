//! Verbs that need this machine only.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use clap::CommandFactory as _;
use conclave_store::config::Change;
use conclave_store::keystore;
use serde_json::json;

use crate::args::{Cli, Man, Server, Shell};
use crate::{Context, Failure};

/// Makes the key, or shows its public half.
pub(super) fn key(context: &Context) -> Result<(), Failure> {
    let dir = context.dir()?;
    let (key, new) = keystore::load_or_create(dir)?;
    if new {
        context.output.note(format_args!("made a new key: {}", keystore::path(dir).display()));
    }
    let public = key.public().to_string();
    context.output.result(&public, json!({ "public_key": public, "new": new }))
}

/// Lists or forgets known servers.
pub(super) fn server(action: Server, context: &Context) -> Result<(), Failure> {
    let config = context.config()?;
    match action {
        Server::List => {
            let items: Vec<_> = config
                .servers
                .iter()
                .map(|it| json!({ "url": it.url.as_str(), "user": it.username.as_str(), "machine": it.machine.as_str() }))
                .collect();
            let none = "no server is known; `conclave register` claims a name on one";
            context.output.list(&items, ["URL", "USER", "MACHINE"], none, |it| {
                ["url", "user", "machine"].map(|key| it[key].as_str().unwrap_or_default().to_owned())
            })
        }
        Server::Trust(it) => super::trust::trust(it, context),
        Server::Remove { url } => {
            let url = context.server(Some(&url))?;
            if config.server(&url).is_none() && !config.overrides.iter().any(|said| said.server == url) {
                return Err(Failure::new(
                    format!("this machine does not know {url}"),
                    "`conclave server list` shows which it knows",
                ));
            }
            context.config_file()?.change(&[Change::RemoveServer(url.clone())])?;
            context.output.result(format_args!("forgot {url}"), json!({ "removed": url.as_str() }))
        }
    }
}

/// Prints a completion script.
pub(super) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "conclave", &mut script);
    let mut out = io::stdout().lock();
    out.write_all(&script)?;
    Ok(out.flush()?)
}

/// Prints the manual page or writes all pages.
pub(super) fn man(man: &Man, context: &Context) -> Result<(), Failure> {
    let mut command = Cli::command();
    command.build();
    let Some(dir) = &man.dir else {
        let mut out = io::stdout().lock();
        out.write_all(&page(&command)?)?;
        return Ok(out.flush()?);
    };
    let failed = |error: io::Error| {
        Failure::new(
            format!("the pages cannot be written to {}: {error}", dir.display()),
            "name a directory that you may write to: --dir DIR",
        )
    };
    fs::create_dir_all(dir).map_err(failed)?;
    let written = pages(&command, dir).map_err(failed)?;
    context.output.result(
        format_args!("wrote {written} pages to {}", dir.display()),
        json!({ "pages": written, "dir": dir.display().to_string() }),
    )
}

fn pages(command: &clap::Command, dir: &Path) -> io::Result<usize> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    fs::write(dir.join(format!("{name}.1")), page(command)?)?;
    let mut written = 1;
    for child in command.get_subcommands().filter(|child| child.get_name() != "help") {
        written += pages(child, dir)?;
    }
    Ok(written)
}

fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}
