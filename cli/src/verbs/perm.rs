//! `conclave perm`: how far agents may go.

use conclave_core::bridge::{Bound, HOPS};
use conclave_core::level::{Level, Scope};
use conclave_core::name::ChannelName;
use conclave_core::record::ChannelId;
use conclave_store::config::{Change, Config, Override};
use conclave_store::state::State;
use serde_json::{Value, json};

use crate::args::{Perm, PermBudget, PermSet};
use crate::output::table;
use crate::{Context, Failure};

pub(super) fn run(action: Perm, context: &Context) -> Result<(), Failure> {
    match action {
        Perm::Set(set) => self::set(set, context),
        Perm::Budget(PermBudget { messages, .. }) => {
            context.config_file()?.change(&[Change::AgentMessages(messages)])?;
            let count = messages.unwrap_or(HOPS);
            context.output.result(budget(count), json!({ "agent_messages": count }))
        }
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
            let mentions_only = set.mentions_only.unwrap_or(context.config()?.default_mentions_only);
            let changes = [Change::DefaultPermission(level), Change::DefaultMentionsOnly(mentions_only)];
            context.config_file()?.change(&changes)?;
            return context.output.result(
                format_args!("default: {}", shown(level, mentions_only)),
                json!({ "level": level.as_str(), "mentions_only": mentions_only }),
            );
        }
    };
    let server = context.server(set.server.as_deref())?;
    let known = || context.config().map(|config| config.mentions_only(&server, &scope));
    let mentions_only = set.mentions_only.map_or_else(known, Ok)?;
    let said = Override { server: server.clone(), scope: scope.clone(), level, mentions_only };
    let json = level_json(&said);
    remember(context, said)?;
    context.output.result(format_args!("{scope} on {server}: {}", shown(level, mentions_only)), json)
}

/// A level, and whether only mentions are shown.
fn shown(level: Level, mentions_only: bool) -> String {
    if mentions_only { format!("{level}, mentions only") } else { level.to_string() }
}

fn budget(count: u32) -> String {
    format!("agents may write {count} message{} in a row", if count == 1 { "" } else { "s" })
}

/// Writes a level down. It is that of the channel which has the name now, whatever the name meant before.
pub(super) fn remember(context: &Context, level: Override) -> Result<(), Failure> {
    if let (Some(pin), Scope::Channel(channel)) = (context.config()?.pin(&level.server), &level.scope) {
        let bound = Bound::Channel(channel.clone(), ChannelId::default());
        State::open(context.dir()?)?.unbind(&pin.server_key, &bound)?;
    }
    context.config_file()?.change(&[Change::SetLevel(level)])?;
    Ok(())
}

/// The levels for people.
pub(super) fn show(config: &Config) -> String {
    let default = shown(config.default_permission, config.default_mentions_only);
    let mut rows = vec![["(everywhere else)".into(), String::new(), default]];
    let said = config
        .overrides
        .iter()
        .map(|said| [said.server.to_string(), said.scope.to_string(), shown(said.level, said.mentions_only)]);
    rows.splice(0..0, said);
    let budget = budget(config.agent_messages.unwrap_or(HOPS));
    format!("{}\n\n{budget}", table(["SERVER", "SCOPE", "LEVEL"], &rows))
}

/// The levels for programs; a `null` channel is the whisper scope.
pub(super) fn as_json(config: &Config) -> Value {
    let overrides: Vec<_> = config.overrides.iter().map(level_json).collect();
    json!({
        "default": config.default_permission.as_str(),
        "default_mentions_only": config.default_mentions_only,
        "overrides": overrides,
        "agent_messages": config.agent_messages.unwrap_or(HOPS),
    })
}

fn level_json(said: &Override) -> Value {
    json!({
        "server": said.server.as_str(),
        "channel": said.scope.channel().map(ChannelName::as_str),
        "level": said.level.as_str(),
        "mentions_only": said.mentions_only,
    })
}
