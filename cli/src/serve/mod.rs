//! `conclave serve`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use conclave_core::hub;
use conclave_core::key::PublicKey;
use conclave_core::name::UserName;
use conclave_core::record::Record;
use conclave_shell_tokio::server::{Options, Server, Stop, Tls, listen};
use conclave_store::journal::{self, Journal, Replace};
use lines::Lines;
use logging::Log;
use signals::Signals;
use tokio::runtime::Builder;
use tracing::{error, info, warn};

use crate::{Context, Failure, args};

mod limits;
mod lines;
pub(crate) mod logging;
mod signals;
mod telemetry;

/// Runs the server until it is told to stop.
///
/// # Errors
/// Why it could not start or had to stop.
pub fn run(serve: args::Serve, context: &Context) -> Result<(), Failure> {
    let log = logging::start(context)?;
    match start(serve, &log, context) {
        // Whoever reads line by line is told in the same way why it ends.
        Err(Failure::Failed { what, next }) if log.json => {
            error!(next, "{what}");
            Err(Failure::Said)
        }
        outcome => outcome,
    }
}

fn start(serve: args::Serve, log: &Log, context: &Context) -> Result<(), Failure> {
    let mut options = Options {
        hub: hub::Config {
            admins: serve.admins.into_iter().map(|admin| (admin.name, admin.key)).collect::<BTreeMap<_, _>>(),
            registration: match serve.registration {
                args::Registration::Open => hub::Registration::Open,
                args::Registration::Invite => hub::Registration::Invite,
                args::Registration::Closed => hub::Registration::Closed,
            },
            presence: match serve.presence {
                args::Presence::Everyone => hub::Presence::Everyone,
                args::Presence::Shared => hub::Presence::Shared,
            },
            hold_names: serve.hold_names,
            ..hub::Config::default()
        },
        retention: (!serve.retention.is_zero()).then_some(serve.retention),
        origins: serve.origins,
        hosts: serve.hosts,
        trusted_proxies: serve.trusted_proxies.iter().map(|address| address.to_canonical()).collect(),
        ..Options::default()
    };
    // What is kept for ever comes back as if it were kept for a month.
    options.hub.limits.stored_for = options.retention.unwrap_or(std::time::Duration::from_secs(30 * 86_400));
    for limit in &serve.limits {
        limits::set(&mut options, &limit.name, &limit.value)
            .map_err(|(what, next)| Failure::usage(what, next))?;
    }
    let tls = match (&serve.tls_cert, &serve.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::load(certificate, key).map_err(|why| {
            Failure::new(
                why.to_string(),
                "give a PEM certificate chain and its PEM key, readable by this user",
            )
        })?),
        _ => None,
    };
    let dir = if serve.ephemeral { PathBuf::new() } else { data_dir(serve.data_dir)? };
    let journal = Journal::open(&dir, journal::Options { ephemeral: serve.ephemeral, ..Default::default() })
        .map_err(store_failure)?;
    warn_of_free_admins(&options.hub.admins, &journal)?;
    let kept = if serve.ephemeral {
        String::from("nothing is kept: all is gone when this server ends")
    } else {
        format!("kept in {}", journal.dir().display())
    };
    let bound = |address, flag| listen(address).map_err(|why| not_bound(address, flag, &why));
    let listener = bound(serve.bind, "--bind")?;
    let mut server = Server::new(listener, tls.clone(), journal, options).map_err(store_failure)?;
    if let Some(metrics) = serve.metrics_bind {
        server.serve_metrics_at(bound(metrics, "--metrics-bind")?);
    }
    // Signals are tokio's on either runtime: a thread waits for them.
    let waiting = Builder::new_current_thread().enable_all().build().map_err(no_threads)?;
    let signals = waiting.block_on(async { Signals::listen() });
    let greeting = Greeting { kept, tls: tls.is_some(), json: log.json, lines: log.lines.clone() };
    greeting.say(context, server.address().unwrap_or(serve.bind), server.metrics_address());
    let stop = Stop::new();
    let (stopping, lines) = (stop.clone(), log.lines.clone());
    std::thread::spawn(move || waiting.block_on(signals.attend(stopping, tls, lines)));
    match serve.runtime {
        args::Runtime::Tokio => {
            let runtime = Builder::new_multi_thread().enable_all().build().map_err(no_threads)?;
            runtime.block_on(conclave_shell_tokio::server::run(server, stop)).map_err(no_threads)
        }
        #[cfg(feature = "smol-server")]
        args::Runtime::Smol => conclave_shell_smol::server::run(server, &stop).map_err(no_threads),
    }
}

/// Warns of admins whose names are neither taken nor pinned: whoever registers one first is the admin.
fn warn_of_free_admins(
    admins: &BTreeMap<UserName, Option<PublicKey>>,
    journal: &Journal,
) -> Result<(), Failure> {
    let mut free: BTreeSet<_> =
        admins.iter().filter(|(_, key)| key.is_none()).map(|(name, _)| name).collect();
    if free.is_empty() {
        return Ok(());
    }
    let found = journal.load(&mut |record| {
        if let Record::UserAdded { name, .. } = record {
            free.remove(&name);
        }
    });
    found.map_err(store_failure)?;
    for name in free {
        warn!(
            "whoever registers the name {name} first is server admin. Pin it to a key, which `conclave key` prints \
             on the admin's machine: --admin {name}=KEY"
        );
    }
    Ok(())
}

fn no_threads(why: std::io::Error) -> Failure {
    Failure::new(
        format!("no threads can be started: {why}"),
        "free some memory, or raise the limits (`ulimit -a`)",
    )
}

fn not_bound(bind: SocketAddr, flag: &str, why: &std::io::Error) -> Failure {
    Failure::new(
        format!("{bind} cannot be listened on: {why}"),
        format!("stop what listens there, or choose another address with {flag}"),
    )
}

/// Where a server's data is if nobody says otherwise: the platform's directory for data.
pub(crate) fn data_dir(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named
        .or_else(|| {
            if cfg!(windows) {
                variable("LOCALAPPDATA").map(|base| base.join("conclave").join("data"))
            } else {
                variable("XDG_DATA_HOME")
                    .filter(|base| base.is_absolute())
                    .or_else(|| variable("HOME").map(|home| home.join(".local").join("share")))
                    .map(|base| base.join("conclave"))
            }
        })
        .ok_or_else(|| {
            Failure::new("no directory for data is known: HOME is not set", "name one with --data-dir DIR")
        })
}

pub(crate) fn store_failure(why: journal::OpenError) -> Failure {
    Failure::new(why.to_string(), why.advice())
}

/// What is said once it listens.
struct Greeting {
    kept: String,
    tls: bool,
    /// Whether a program reads it, line by line.
    json: bool,
    lines: Lines,
}

impl Greeting {
    /// Says where it listens, what is kept, and what to type next.
    fn say(&self, context: &Context, address: SocketAddr, metrics: Option<SocketAddr>) {
        let Self { kept, tls, .. } = self;
        let scheme = if *tls { "wss" } else { "ws" };
        info!(%address, tls, "listening");
        let reachable = if address.ip().is_unspecified() {
            SocketAddr::new(
                if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() },
                address.port(),
            )
        } else {
            address
        };
        if !tls && !address.ip().is_loopback() {
            warn!(
                %address,
                "PLAIN TEXT on an address that others reach: whoever is on the way reads every message. \
                 Give --tls-cert and --tls-key, or listen on 127.0.0.1 behind a proxy that ends TLS"
            );
        }
        // What was logged before stands before it.
        self.lines.flush();
        self.note(context, format_args!("conclave serves {scheme}://{address}, {kept}"));
        if let Some(metrics) = metrics {
            self.note(context, format_args!("metrics: http://{metrics}/metrics, and there alone"));
        }
        // A certificate is for a name, which is not known here.
        let url = if *tls { format!("wss://HOST:{}", address.port()) } else { format!("ws://{reachable}") };
        self.note(
            context,
            format_args!("next, in another terminal: conclave register --server {url} --username YOUR-NAME"),
        );
    }

    fn note(&self, context: &Context, text: std::fmt::Arguments<'_>) {
        if self.json {
            info!("{text}");
        } else {
            context.output.note(text);
        }
    }
}

/// `conclave backup`.
pub(crate) fn backup(backup: args::Backup, context: &Context) -> Result<(), Failure> {
    let dir = data_dir(backup.data_dir)?;
    journal::backup(&dir, &backup.file).map_err(store_failure)?;
    context.output.note(format_args!("{} holds all of {}", backup.file.display(), dir.display()));
    Ok(())
}

/// `conclave restore`.
pub(crate) fn restore(restore: args::Restore, context: &Context) -> Result<(), Failure> {
    let dir = data_dir(restore.data_dir)?;
    let replace = if restore.replace { Replace::Yes } else { Replace::No };
    if let Some(kept) = journal::restore(&restore.file, &dir, replace).map_err(store_failure)? {
        context
            .output
            .note(format_args!("what was there is kept as {}: delete it when you are sure", kept.display()));
    }
    context.output.note(format_args!(
        "{} holds what {} held; start it: conclave serve --data-dir {0}",
        dir.display(),
        restore.file.display()
    ));
    Ok(())
}
