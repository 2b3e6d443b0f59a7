//! What `config.toml` says, as the bridge takes it, and how a change of it is noticed.

use std::time::Duration;

use conclave_core::bridge::{Permissions, Server, Settings};
use conclave_store::config::{Config, ConfigFile, EXPOSED, Fingerprint, ServerUrl};
use smol::Timer;
use smol::channel::Sender;

use crate::event::Event;
use crate::{Options, log};

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// The servers to link with, each under its URL as it is shown.
pub(crate) fn servers(options: &Options, config: &Config) -> Vec<(Server, ServerUrl)> {
    let mut servers: Vec<(Server, ServerUrl)> = Vec::new();
    let mut add = |url: &ServerUrl| {
        if !servers.iter().any(|(_, known)| known == url) {
            servers.push((Server::new(url.as_str()), url.clone()));
        }
    };
    match options.servers[..] {
        [] => config.servers.iter().for_each(|server| add(&server.url)),
        [..] => options.servers.iter().for_each(add),
    }
    for (_, url) in servers.iter().filter(|(_, url)| url.is_exposed()) {
        log(&format!("warning: {url} {EXPOSED}"));
    }
    servers
}

/// The levels and approvers, for those servers.
pub(crate) fn settings(options: &Options, config: &Config, servers: &[(Server, ServerUrl)]) -> Settings {
    let (default, mentions_only) = (config.default_permission, config.default_mentions_only);
    let mut permissions = Permissions { default, mentions_only, ..Permissions::default() };
    for said in &config.overrides {
        for (server, _) in servers.iter().filter(|(_, url)| *url == said.server) {
            permissions.overrides.insert((server.clone(), said.scope.clone()), said.level);
            permissions.attention.insert((server.clone(), said.scope.clone()), said.mentions_only);
        }
    }
    let approvers = if options.approvers.is_empty() { &config.approvers } else { &options.approvers };
    Settings { permissions, approvers: approvers.clone(), hops: config.agent_messages }
}

/// Looks at the file for ever, and says when it was written since it was as it is `known`. A file that cannot be read
/// changes nothing: what it said last stands.
pub(crate) async fn watch(
    file: ConfigFile,
    (mut known, mut before): (Fingerprint, Config),
    options: Options,
    servers: Vec<(Server, ServerUrl)>,
    events: Sender<Event>,
) {
    loop {
        Timer::after(INTERVAL).await;
        let seen = file.fingerprint();
        if seen == known {
            continue;
        }
        known = seen;
        match file.load() {
            Ok(config) => {
                let (settings, again) = (settings(&options, &config, &servers), config == before);
                before = config;
                if events.send(Event::Settings(settings, again)).await.is_err() {
                    return;
                }
            }
            Err(error) => log(&format!("{error}: {}; the levels stay as they were", error.advice())),
        }
    }
}
