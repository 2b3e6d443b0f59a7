//! `conclave doctor`: looks at everything between this machine and its servers, and says for each what to do.

mod bridge;
mod report;
mod server;

use std::time::SystemTime;

use conclave_store::config::{Config, ServerUrl};
use conclave_store::keystore;

use self::report::{Finding, Report};
use crate::args::Doctor;
use crate::context::choose;
use crate::{Context, Failure};

pub(super) fn run(doctor: &Doctor, context: &Context) -> Result<(), Failure> {
    let mut report = Report::new(context);
    let config = local(&mut report, context)?;
    let key = key(&mut report, context)?;
    clock(&mut report)?;
    let urls: Vec<ServerUrl> = match (&doctor.net.server, &config) {
        // A configuration that cannot be read was told above, and is in nobody's way.
        (Some(named), config) => vec![choose(config.as_ref().unwrap_or(&Config::default()), Some(named))?],
        (None, Some(config)) => config.servers.iter().map(|server| server.url.clone()).collect(),
        (None, None) => Vec::new(),
    };
    if urls.is_empty() && config.is_some() {
        report.add(
            "servers",
            Finding::warn(
                "none is known",
                "register on one: conclave register --server wss://HOST --username NAME",
            ),
        )?;
    }
    for url in &urls {
        report.server(url)?;
        let works = server::check(&mut report, doctor, url, key.as_ref(), config.as_ref())?;
        if doctor.bridge && works {
            bridge::check(&mut report, doctor, context, url)?;
        }
    }
    report.end()
}

fn local(report: &mut Report<'_>, context: &Context) -> Result<Option<Config>, Failure> {
    let file = context.config_file()?;
    let (finding, config) = match file.load() {
        Ok(_) if !file.path().exists() => {
            let shown = format!("{} does not exist yet", file.path().display());
            (Finding::good(shown), Some(Config::default()))
        }
        Ok(config) => {
            let (servers, levels) = (config.servers.len(), config.overrides.len());
            let shown = format!("{}: servers: {servers}, levels: {levels}", file.path().display());
            (Finding::good(shown), Some(config))
        }
        Err(error) => (Finding::bad(error.to_string(), error.advice()), None),
    };
    report.add("config", finding)?;
    Ok(config)
}

fn key(report: &mut Report<'_>, context: &Context) -> Result<Option<conclave_core::key::SecretKey>, Failure> {
    let dir = context.dir()?;
    match keystore::load(dir) {
        Ok(key) => {
            let shown = format!("{}: {}", keystore::path(dir).display(), key.public());
            report.add("key", Finding::good(shown))?;
            Ok(Some(key))
        }
        Err(error) => {
            report.add("key", Finding::bad(error.to_string(), error.advice()))?;
            Ok(None)
        }
    }
}

/// A clock that says what cannot be is told before anything that depends on it.
fn clock(report: &mut Report<'_>) -> Result<(), Failure> {
    const BUILT_AFTER: u64 = 1_790_000_000;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let shown = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    report.add(
        "clock",
        if now < BUILT_AFTER {
            Finding::bad(
                format!("it says {shown}, which is long ago"),
                "set it, for example: timedatectl set-ntp true",
            )
        } else {
            Finding::good(shown)
        },
    )
}
