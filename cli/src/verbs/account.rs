//! Who this machine is on servers: registering, machines, users.

use conclave_core::handshake::{Claim, HandshakeError};
use conclave_core::name::{MachineName, sanitize};
use conclave_core::protocol::{Admin, Code, Command, Reply, Visibility};
use conclave_core::text::shell_word;
use conclave_core::wire::client::KeyUse;
use conclave_shell_tokio::client::SessionError;
use conclave_store::config::{Change, EXPOSED, Pin};
use conclave_store::keystore;
use serde_json::json;

use crate::args::{Machine, Register, Release, User};
use crate::confirm::confirm;
use crate::connect::{Connection, unexpected};
use crate::output::line;
use crate::{Context, Failure, explain};

/// Claims a name. Typed again for a name that this machine's key has already, it says so and is content.
pub(super) fn register(register: Register, context: &Context) -> Result<(), Failure> {
    let Some(named) = &register.net.server else {
        return Err(Failure::usage(
            "which server?",
            format!("conclave register --server wss://HOST --username {}", register.username),
        ));
    };
    let url = context.server(Some(named))?;
    if url.is_exposed() {
        context.output.warning(format_args!("{url} {EXPOSED}"));
    }
    let machine = match register.machine {
        Some(machine) => machine,
        None => host_name()?,
    };
    let dir = context.dir()?;
    let (key, new) = keystore::load_or_create(dir)?;
    if new {
        context.output.note(format_args!("made a new key: {}", keystore::path(dir).display()));
    }
    // A malformed configuration is told before a name is claimed that could not be written down.
    context.config()?;
    let invite = super::channel::token(register.invite, register.invite_file)?;
    let claim = Claim { user: register.username.clone(), machine, invite };
    let dial = &register.net.dial;
    // A new registration has a key of its own at each server.
    let mut opened = Connection::register(context, url, Some(claim.clone()), KeyUse::PerServer, dial)?;
    if let Err((url, SessionError::Handshake(HandshakeError::Refused(refusal)))) = &opened
        && refusal.code() == Code::PermissionDenied
    {
        // An operator reserves a name for the key that this machine shows, which is no server's own.
        let shared = Connection::register(context, url.clone(), Some(claim), KeyUse::Shared, dial)?;
        if shared.is_ok() {
            opened = shared;
        }
    }
    let (mut connection, claimed) = match opened {
        Ok(connection) => (connection, true),
        Err((url, error)) => {
            let failure = explain::registering(&url, register.username.as_str(), &key.public(), &error);
            if !matches!(error, SessionError::Handshake(HandshakeError::Refused(_))) {
                return Err(failure);
            }
            // Registered before, with a key of its own or, by an older version, with the machine's.
            let mut known = None;
            for used in [KeyUse::PerServer, KeyUse::Shared] {
                if let Ok(connection) = Connection::register(context, url.clone(), None, used, dial)?
                    && connection.registration().is_some_and(|it| it.username == register.username)
                {
                    known = Some((connection, false));
                    break;
                }
            }
            known.ok_or(failure)?
        }
    };
    let url = connection.url.clone();
    let server = connection.registration().ok_or_else(|| unexpected(&url))?;
    let mut changes = vec![Change::AddServer(server.clone())];
    if let Some(ca) = dial.ca.as_ref().filter(|_| url.is_secure()) {
        // It is needed from any directory.
        changes.push(Change::SetCa(url.clone(), std::path::absolute(ca).unwrap_or_else(|_| ca.clone())));
    }
    if let Some(server_key) = connection.server_key() {
        let derived = connection.key_use() == KeyUse::PerServer;
        changes.push(Change::SetPin(url.clone(), Pin { server_key, derived }));
    }
    context.config_file()?.change(&changes)?;
    let done = if claimed { "registered" } else { "this machine is already registered:" };
    let text = format!("{done} {}/{} on {url}", server.username, server.machine);
    context.output.result(
        line(&text),
        json!({
            "server": url.as_str(),
            "user": server.username.as_str(),
            "machine": server.machine.as_str(),
            "new": claimed,
        }),
    )?;
    if let Ok(Reply::Channels(channels)) = connection.request(&Command::ListChannels)
        && let Some(first) = channels.iter().find(|it| it.visibility == Visibility::Public)
    {
        context.output.note(format_args!("next: conclave join {}", shell_word(first.name.as_str())));
    }
    Ok(())
}

fn host_name() -> Result<MachineName, Failure> {
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    let host = host.split('.').next().unwrap_or_default();
    MachineName::new(&sanitize(host, "machine")).map_err(|error| {
        Failure::usage(format!("this host's name is no machine's: {error}"), "name it: --machine NAME")
    })
}

pub(super) fn machine(action: Machine, context: &Context) -> Result<(), Failure> {
    match action {
        Machine::Add(add) => {
            let mut connection = Connection::open(context, &add.net)?;
            let key = add.pubkey;
            connection.done(&Command::Admin(Admin::MachineAdd { name: add.name.clone(), key }))?;
            let url = &connection.url;
            context.output.result(
                format_args!("enrolled {} on {url}; there: conclave status --server {url}", add.name),
                json!({ "server": url.as_str(), "machine": add.name.as_str(), "public_key": key.to_string() }),
            )
        }
        Machine::List(net) => {
            let mut connection = Connection::open(context, &net)?;
            let Reply::Machines(machines) = connection.request(&Command::ListMachines)? else {
                return Err(unexpected(&connection.url));
            };
            let items: Vec<_> = machines
                .iter()
                .map(|it| {
                    json!({
                        "name": it.name.as_str(),
                        "public_key": it.key.to_string(),
                        "added_at": it.added.rfc3339(),
                    })
                })
                .collect();
            let none = "no machine is enrolled";
            context.output.list(&items, ["NAME", "ADDED", "PUBLIC KEY"], none, |it| {
                ["name", "added_at", "public_key"].map(|key| it[key].as_str().unwrap_or_default().to_owned())
            })
        }
        Machine::Remove { net, name } => {
            let mut connection = Connection::open(context, &net)?;
            connection.done(&Command::Admin(Admin::MachineRemove { name: name.clone() }))?;
            context.output.result(
                format_args!("removed {name} from {}", connection.url),
                json!({ "server": connection.url.as_str(), "machine": name.as_str() }),
            )
        }
    }
}

pub(super) fn release(release: &Release, context: &Context) -> Result<(), Failure> {
    let mut connection = Connection::open_newest(context, &release.net)?;
    let name = &release.name;
    connection.done(&Command::Admin(Admin::NameRelease { name: name.clone() }))?;
    context.output.result(
        format_args!("{name} is free on {}", connection.url),
        json!({ "server": connection.url.as_str(), "name": name.as_str() }),
    )
}

pub(super) fn user(action: User, context: &Context) -> Result<(), Failure> {
    match action {
        User::List(net) => {
            let mut connection = Connection::open(context, &net)?;
            let Reply::Users(users) = connection.request(&Command::ListUsers)? else {
                return Err(unexpected(&connection.url));
            };
            super::names(context, &users, "no user is registered")
        }
        User::Remove { net, yes, username } => {
            let url = context.server(net.server.as_deref())?;
            let oneself = context.config()?.server(&url).is_some_and(|own| own.username == username);
            let whose = if oneself { " That is you: this machine loses its access, too." } else { "" };
            let what = format!(
                "{username} will be removed from {url} with machines, memberships and the channels that they \
                 created.{whose}"
            );
            confirm(context, yes, &what)?;
            let mut connection = Connection::open(context, &net)?;
            connection.done(&Command::Admin(Admin::UserRemove { user: username.clone() }))?;
            context.output.result(
                format_args!("removed {username} from {}", connection.url),
                json!({ "server": connection.url.as_str(), "user": username.as_str() }),
            )
        }
    }
}
