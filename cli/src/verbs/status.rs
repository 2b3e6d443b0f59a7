//! `conclave status`: everything that this machine is part of, at a glance.

use std::time::{Duration, Instant};

use conclave_core::key::SecretKey;
use conclave_core::protocol::{Command, Reply};
use conclave_shell_tokio::client::{Credentials, DialOptions, Session};
use conclave_store::config::{Change, Config, Pin, Server, ServerUrl};
use conclave_store::keystore::{self, KeyError};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::args::{Dial, Net};
use crate::connect::{options, own_handle, pin_at, runtime};
use crate::error::Failure;
use crate::output::{BAD, GOOD, STRONG, line, millis, styled, table};
use crate::{Context, explain};

/// What a server said, or why it did not.
struct Look {
    url: ServerUrl,
    /// Who this machine is there, as far as the configuration knows.
    known: Option<Server>,
    /// The server's key and this machine's there.
    pin: Option<Pin>,
    state: Result<Live, Failure>,
}

struct Live {
    latency: Duration,
    online: usize,
    admin: bool,
    found: Server,
}

pub(super) fn run(net: &Net, context: &Context) -> Result<(), Failure> {
    let config = context.config()?;
    let key = match keystore::load(context.dir()?) {
        // Registering makes the key, too.
        Err(error @ KeyError::Missing { .. }) if config.servers.is_empty() && net.server.is_none() => {
            return Err(Failure::new(
                format!("{error}, and knows no server"),
                "register on one: conclave register --server wss://HOST --username NAME",
            ));
        }
        loaded => loaded?,
    };
    let urls = match &net.server {
        Some(named) => vec![context.server(Some(named))?],
        None => config.servers.iter().map(|server| server.url.clone()).collect(),
    };
    let looks = look_at(urls, &config, &key, &net.dial)?;
    for look in &looks {
        if let Ok(live) = &look.state
            && config.server(&live.found.url) != Some(&live.found)
        {
            let pin = look.pin.map(|pin| Change::SetPin(live.found.url.clone(), pin));
            let server = Change::AddServer(live.found.clone());
            let changes: Vec<Change> = [server].into_iter().chain(pin).collect();
            context.config_file()?.change(&changes)?;
        }
    }
    let config = context.config()?;
    if context.output.is_json() {
        let perm = super::perm::as_json(&config);
        context.output.json(&json!({
            "config_dir": context.dir()?.display().to_string(),
            "public_key": key.public().to_string(),
            "servers": looks.iter().map(as_json).collect::<Vec<_>>(),
            "levels": perm,
            "approvers": config.approvers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }))?;
    } else {
        let path = keystore::path(context.dir()?);
        context.output.text(format_args!(
            "{STRONG}key{STRONG:#}     {} ({})",
            key.public(),
            path.display()
        ))?;
        context
            .output
            .text(format_args!("{STRONG}config{STRONG:#}  {}\n", context.config_file()?.path().display()))?;
        if looks.is_empty() {
            context.output.text("no server is known; `conclave register` claims a name on one")?;
        } else {
            show(&looks, context)?;
        }
        context.output.text(format_args!("\n{}", super::perm::show(&config)))?;
    }
    if looks.iter().any(|look| look.state.is_err()) { Err(Failure::Said) } else { Ok(()) }
}

fn look_at(
    urls: Vec<ServerUrl>,
    config: &Config,
    key: &SecretKey,
    dial: &Dial,
) -> Result<Vec<Look>, Failure> {
    let runtime = runtime()?;
    let mut looks = runtime.block_on(async {
        let mut running = JoinSet::new();
        for (nth, url) in urls.into_iter().enumerate() {
            let handle = own_handle("cli")?;
            let options = options(dial, config, &url);
            let known = config.server(&url).cloned();
            let (config, key) = (config.clone(), key.clone());
            running.spawn(async move {
                let pin = pin_at(Some(&config), &url, &key, &options).await.unwrap_or_default();
                let credentials = Credentials { key: Pin::key(pin, key), handle, claim: None };
                let state = server_state(&url, known.as_ref(), credentials, &options).await;
                (nth, Look { url, known, pin, state })
            });
        }
        Ok::<_, Failure>(running.join_all().await)
    })?;
    runtime.shutdown_background();
    looks.sort_by_key(|(nth, _)| *nth);
    Ok(looks.into_iter().map(|(_, look)| look).collect())
}

async fn server_state(
    url: &ServerUrl,
    known: Option<&Server>,
    credentials: Credentials,
    options: &DialOptions,
) -> Result<Live, Failure> {
    let public = credentials.key.public();
    let mut session = Session::open(url, credentials, options)
        .await
        .map_err(|error| explain::opening(url, known, &public, &error))?;
    let explained = |command: &Command, error| explain::request(url, command, &error);
    let start = Instant::now();
    session.request(&Command::Ping).await.map_err(|error| explained(&Command::Ping, error))?;
    let latency = start.elapsed();
    let who = Command::Who { channel: None };
    let online = match session.request(&who).await.map_err(|error| explained(&who, error))? {
        // The session that asks is no news.
        Reply::Presence { sessions, .. } => sessions.len().saturating_sub(1),
        _ => 0,
    };
    let path = session.path();
    let found = Server { url: url.clone(), username: path.user.clone(), machine: path.machine.clone() };
    let live = Live { latency, online, admin: session.is_admin(), found };
    session.close().await;
    Ok(live)
}

fn show(looks: &[Look], context: &Context) -> Result<(), Failure> {
    let rows: Vec<_> = looks
        .iter()
        .map(|look| {
            let server = look.state.as_ref().ok().map(|live| &live.found).or(look.known.as_ref());
            let user = server.map_or("?", |server| server.username.as_str());
            let machine = server.map_or("?", |server| server.machine.as_str());
            let (state, latency, online, role) = match &look.state {
                Ok(live) => (
                    "up",
                    millis(live.latency),
                    live.online.to_string(),
                    if live.admin { "admin" } else { "user" },
                ),
                Err(_) => ("down", String::new(), String::new(), ""),
            };
            [look.url.to_string(), user.into(), machine.into(), state.into(), latency, online, role.into()]
        })
        .collect();
    let table = table(["SERVER", "USER", "MACHINE", "STATE", "LATENCY", "ONLINE", "ROLE"], &rows);
    for line in table.lines() {
        let line = line.replacen("  up  ", &format!("  {}  ", styled(GOOD, "up")), 1);
        context.output.text(line.replacen("  down", &format!("  {}", styled(BAD, "down")), 1))?;
    }
    for look in looks {
        if let Err(Failure::Failed { what, next } | Failure::Usage { what, next }) = &look.state {
            context.output.note(format_args!("\n{BAD}error:{BAD:#} {}", line(what)));
            context.output.note(format_args!("{STRONG} next:{STRONG:#} {}", line(next)));
        }
    }
    Ok(())
}

fn as_json(look: &Look) -> Value {
    match &look.state {
        Ok(live) => json!({
            "url": live.found.url.as_str(),
            "user": live.found.username.as_str(),
            "machine": live.found.machine.as_str(),
            "reachable": true,
            "latency_ms": (live.latency.as_secs_f64() * 100_000.0).round() / 100.0,
            "online": live.online,
            "admin": live.admin,
        }),
        Err(failure) => {
            let next = match failure {
                Failure::Failed { next, .. } | Failure::Usage { next, .. } => next.as_str(),
                _ => "",
            };
            json!({
                "url": look.url.as_str(),
                "user": look.known.as_ref().map(|known| known.username.as_str()),
                "machine": look.known.as_ref().map(|known| known.machine.as_str()),
                "reachable": false,
                "error": failure.to_string(),
                "next": next,
            })
        }
    }
}
