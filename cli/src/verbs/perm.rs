//! `conclave perm`: how far agents may go.

use conclave_core::level::{Level, Scope};
use conclave_core::name::ChannelName;
use conclave_store::config::{Change, Config, Override};
use serde_json::{Value, json};

use crate::args::{Perm, PermSet};
use crate::output::table;
use crate::{Context, Failure};

pub(super) fn run(action: Perm, context: &Context) -> Result<(), Failure> {
    match action {
        Perm::Set(set) => self::set(set, context),
        Perm::Show => {
            let config = context.config()?;
            context.output.result(show(&config), as_json(&config))
        }
    }
}

fn set(set: PermSet, context: &Context) -> Result<(), Failure> {
    let level = set.level;
    let scope = match (set.channel.or(set.positional), set.whisper) {
        (Some(channel), _) => Scope::Channel(channel),
        (None, true) => Scope::Whispers,
        (None, false) if set.server.is_some() => {
            return Err(Failure::usage(
                "--server alone says not what the level is for",
                "add --channel CHANNEL or --whisper; leave --server out to set the default",
            ));
        }
        (None, false) => {
            context.config_file()?.change(&[Change::DefaultPermission(level)])?;
            return context
                .output
                .result(format_args!("default: {level}"), json!({ "level": level.as_str() }));
        }
    };
    let server = context.server(set.server.as_deref())?;
    remember(context, Override { server: server.clone(), scope: scope.clone(), level })?;
    context
        .output
        .result(format_args!("{scope} on {server}: {level}"), level_json(server.as_str(), &scope, level))
}

/// Writes a level down.
pub(super) fn remember(context: &Context, level: Override) -> Result<(), Failure> {
    context.config_file()?.change(&[Change::SetLevel(level)])?;
    Ok(())
}

/// The levels for people.
pub(super) fn show(config: &Config) -> String {
    let mut rows = vec![["(everywhere else)".into(), String::new(), config.default_permission.to_string()]];
    let said = config
        .overrides
        .iter()
        .map(|said| [said.server.to_string(), said.scope.to_string(), said.level.to_string()]);
    rows.splice(0..0, said);
    table(["SERVER", "SCOPE", "LEVEL"], &rows)
}

/// The levels for programs; a `null` channel is the whisper scope.
pub(super) fn as_json(config: &Config) -> Value {
    let overrides: Vec<_> = config
        .overrides
        .iter()
        .map(|said| level_json(said.server.as_str(), &said.scope, said.level))
        .collect();
    json!({ "default": config.default_permission.as_str(), "overrides": overrides })
}

fn level_json(server: &str, scope: &Scope, level: Level) -> Value {
    let channel = scope.channel().map(ChannelName::as_str);
    json!({ "server": server, "channel": channel, "level": level.as_str() })
}
