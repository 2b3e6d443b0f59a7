//! `conclave hook install` and `uninstall`: a client's settings, and what is shown and asked before they change.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use conclave_core::text::shell_word;
use conclave_store::durable;
use serde_json::json;

use super::settings::{self, Entry, Unfit};
use crate::args::{HookChange, HookClient};
use crate::confirm::consent;
use crate::output::line;
use crate::{Context, Failure};

/// No client's settings are larger.
const MAX_SETTINGS: u64 = 4 * 1024 * 1024;

/// The plugin for OpenCode, whose hooks are functions. `COMMAND` stands for the program and its arguments.
const PLUGIN: &str = include_str!("opencode.js");

/// A settings file: what is in it, and what it is to be. `None` is no file.
struct Change {
    path: PathBuf,
    /// Directories above it may be made, and removed when empty.
    base: PathBuf,
    before: Option<String>,
    after: Option<String>,
    lines: Vec<String>,
}

pub(super) fn install(change: &HookChange, context: &Context) -> Result<(), Failure> {
    let (path, base) = place(change)?;
    let before = read(&path)?;
    let command = command(context)?;
    let client = change.client;
    let lines = client.installed().map(|event| format!("+ {event:<18} {}", hook(client, &command, event)));
    let after = if client == HookClient::Opencode {
        let plugin = plugin(&command);
        if before.as_ref().is_some_and(|text| !is_plugin(text)) {
            return Err(Failure::new(
                format!("{} is not conclave's", path.display()),
                "move it away, then type this again",
            ));
        }
        plugin
    } else {
        let entries = entries(client, &words(&command));
        match &before {
            None => settings::new_file(&entries, beside(client)),
            Some(text) => settings::install(text, &entries, &|it| is_ours(client, it))
                .map_err(|error| unfit(&path, &error))?,
        }
    };
    let lines = lines.collect();
    let plan = Change { path, base, before, after: Some(after), lines };
    if plan.apply(change, context)? {
        context.output.note(format_args!("next: {}", client.next_step()));
    }
    Ok(())
}

pub(super) fn uninstall(change: &HookChange, context: &Context) -> Result<(), Failure> {
    let (path, base) = place(change)?;
    let before = read(&path)?;
    let client = change.client;
    let (mut after, mut lines) = (before.clone(), Vec::new());
    if let Some(text) = &before {
        if client == HookClient::Opencode {
            if is_plugin(text) {
                (after, lines) = (None, vec!["- the whole file".to_owned()]);
            }
        } else {
            let unfit = |error: Unfit| unfit(&path, &error);
            let ours: Vec<_> = settings::commands(text)
                .map_err(unfit)?
                .into_iter()
                .filter(|it| is_ours(client, it))
                .collect();
            after = if is_new_file(client, text, &ours) {
                None
            } else {
                Some(settings::uninstall(text, &|it| is_ours(client, it)).map_err(unfit)?)
            };
            lines = ours.iter().map(|command| format!("- {command}")).collect();
        }
    }
    Change { path, base, before, after, lines }.apply(change, context).map(drop)
}

impl Change {
    /// Shows it, asks, and makes it. Says whether something was changed.
    fn apply(self, change: &HookChange, context: &Context) -> Result<bool, Failure> {
        let shown = self.path.display().to_string();
        let changes = self.before != self.after;
        if !changes {
            let text = format!("{shown}: nothing to change");
            context.output.result(line(&text), json!({ "file": shown, "changed": false, "lines": [] }))?;
            return Ok(false);
        }
        let lines: Vec<_> = self.lines.iter().map(|it| line(it).into_owned()).collect();
        let result = |changed: bool| json!({ "file": shown, "changed": changed, "lines": lines });
        let what = match (&self.before, &self.after) {
            (None, _) => " (new)",
            (_, None) => " (removed)",
            _ => "",
        };
        let text = format!("{}{what}\n{}", line(&shown), lines.join("\n"));
        if change.dry_run {
            context.output.result(text, result(false))?;
            return Ok(false);
        }
        context.output.note(&text);
        consent(context, change.yes)?;
        self.write().map_err(|error| {
            Failure::new(
                format!("{shown} cannot be written: {error}"),
                "see whether it is yours, and writable",
            )
        })?;
        let done = if self.after.is_some() { "wrote" } else { "removed" };
        context.output.result(format_args!("{done} {}", line(&shown)), result(true))?;
        Ok(true)
    }

    fn write(&self) -> io::Result<()> {
        let Some(after) = &self.after else {
            let target = fs::canonicalize(&self.path)?;
            fs::remove_file(&target)?;
            // Those that were made for it; whatever has something in it stays.
            for dir in self.path.ancestors().skip(1).take_while(|dir| *dir != self.base) {
                if fs::remove_dir(dir).is_err() {
                    break;
                }
            }
            return Ok(());
        };
        if self.before.is_none()
            && let Some(dir) = self.path.parent()
        {
            fs::create_dir_all(dir)?;
        }
        durable::replace(&self.path, after.as_bytes())
    }
}

/// The settings file, and the directory that it is in for sure.
fn place(change: &HookChange) -> Result<(PathBuf, PathBuf), Failure> {
    let client = change.client;
    if change.project {
        let here = env::current_dir()
            .map_err(|error| Failure::new(format!("this directory is gone: {error}"), "go to another one"))?;
        return Ok((here.join(client.file(true)), here));
    }
    if let Some((dir, file)) = client.moved(|name| env::var_os(name).map(PathBuf::from)) {
        return Ok((dir.join(file), dir));
    }
    let home =
        env::var_os("HOME").or_else(|| env::var_os("USERPROFILE")).map(PathBuf::from).ok_or_else(|| {
            Failure::new("no home directory is known: HOME is not set", "set it, or use --project")
        })?;
    Ok((home.join(client.file(false)), home))
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(format!("{} cannot be read: {why}", path.display()), "mend it, then type this again")
    };
    match durable::read(path, MAX_SETTINGS) {
        Ok((bytes, _)) => String::from_utf8(bytes).map(Some).map_err(|_| failed(&"it is not UTF-8")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::symlink_metadata(path) {
            Ok(_) => Err(failed(&"it is a symbolic link to nothing")),
            Err(_) => Ok(None),
        },
        Err(error) => Err(failed(&error)),
    }
}

fn unfit(path: &Path, error: &Unfit) -> Failure {
    Failure::new(
        format!("{} cannot be changed: {error}", path.display()),
        "mend it, then type this again; nothing was changed",
    )
}

/// The program and its arguments, before the event: by its name where a shell finds this program under it.
fn command(context: &Context) -> Result<Vec<String>, Failure> {
    let own = env::current_exe()
        .map_err(|error| Failure::new(format!("where this program is, is not known: {error}"), ""))?;
    let name = format!("conclave{}", env::consts::EXE_SUFFIX);
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|dir| dir.join(&name)).find(|file| file.is_file());
    let is_own = found.is_some_and(|found| fs::canonicalize(found).ok() == fs::canonicalize(&own).ok());
    let mut words = vec![if is_own { "conclave".to_owned() } else { own.to_string_lossy().into_owned() }];
    if context.dir_given {
        let dir = context.dir()?;
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
        words.extend(["--config-dir".to_owned(), dir.to_string_lossy().into_owned()]);
    }
    Ok(words)
}

/// As a shell takes them.
fn words(command: &[String]) -> String {
    command.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

fn hook(client: HookClient, command: &[String], event: &str) -> String {
    with_event(client, &words(command), event)
}

fn with_event(client: HookClient, words: &str, event: &str) -> String {
    format!("{words}{}", ending(client, event))
}

fn ending(client: HookClient, event: &str) -> String {
    format!(" hook {event} --client {client}")
}

/// Whether a command is one that `install` writes, wherever the program was.
fn is_ours(client: HookClient, command: &str) -> bool {
    program(client, command).is_some_and(|words| !words.is_empty())
}

/// What stands before the event.
fn program(client: HookClient, command: &str) -> Option<&str> {
    client.events().iter().find_map(|(event, _)| command.strip_suffix(&ending(client, event)))
}

fn entries(client: HookClient, words: &str) -> Vec<Entry> {
    let entry = |event: &'static str| {
        let command = with_event(client, words, event);
        Entry { event, value: client.entry(&command), command }
    };
    client.installed().map(entry).collect()
}

/// What a new file has beside the hooks.
fn beside(client: HookClient) -> &'static str {
    if client == HookClient::Cursor { "\n  \"version\": 1" } else { "" }
}

/// Whether `install` made the file and nobody has changed it since.
fn is_new_file(client: HookClient, text: &str, ours: &[String]) -> bool {
    let words = ours.first().and_then(|command| program(client, command));
    words.is_some_and(|words| settings::new_file(&entries(client, words), beside(client)) == text)
}

fn plugin(command: &[String]) -> String {
    PLUGIN.replace("COMMAND", &json!(command).to_string())
}

fn is_plugin(text: &str) -> bool {
    text.lines().next() == PLUGIN.lines().next()
}
