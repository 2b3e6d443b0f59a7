//! The way to one server, stage by stage.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use conclave_core::key::SecretKey;
use conclave_core::protocol::Command;
use conclave_shell_tokio::client::{Credentials, DialError, Greeting, Route, Session, Stage, dial};
use conclave_store::config::{Config, Pin, ServerUrl};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use tokio::runtime::Runtime;

use super::report::{Finding, Report};
use crate::args::Doctor;
use crate::connect::{ONE_SHOT, options, own_handle, pin_at, runtime};
use crate::output::millis;
use crate::{Failure, explain};

/// More than a request takes to the other side of the world and back.
const SLOW: Duration = Duration::from_secs(1);
/// A clock that differs more makes stamps and `--since` misleading.
const SKEW: i64 = 30;

/// Checks the way; true if a session was had.
pub(super) fn check(
    report: &mut Report<'_>,
    doctor: &Doctor,
    url: &ServerUrl,
    key: Option<&SecretKey>,
    config: Option<&Config>,
) -> Result<bool, Failure> {
    let runtime = runtime()?;
    let works = check_on(&runtime, report, doctor, url, key, config);
    runtime.shutdown_background();
    works
}

fn check_on(
    runtime: &Runtime,
    report: &mut Report<'_>,
    doctor: &Doctor,
    url: &ServerUrl,
    key: Option<&SecretKey>,
    config: Option<&Config>,
) -> Result<bool, Failure> {
    let options = options(&doctor.net.dial, config.unwrap_or(&Config::default()), url);
    let dialed = match runtime.block_on(dial(url, &options)) {
        Ok(dialed) => dialed,
        Err(error) => {
            report.add(stage(&error), Finding::bad(error.to_string(), error.advice()))?;
            return Ok(false);
        }
    };
    route(report, url, &dialed.route)?;
    let id = dialed.greeting.server_id.as_deref().unwrap_or("no id");
    let software = dialed.greeting.software.as_deref().unwrap_or("a server that does not tell its version");
    let most = dialed.greeting.max_frame.map(|most| format!(", messages of up to {} KiB", most / 1024));
    report.add("server", Finding::good(format!("{software}, {id}{}", most.unwrap_or_default())))?;
    if let Some(finding) = clock(&dialed.greeting) {
        report.add("clock", finding)?;
    }

    let Some(key) = key else { return Ok(false) };
    let pin = runtime.block_on(pin_at(config, url, key, &options))?;
    let key = Pin::key(pin, key.clone());
    let credentials = Credentials { key: key.clone(), handle: own_handle(ONE_SHOT)?, claim: None };
    let deadline = tokio::time::Instant::now() + options.timeout;
    let session = runtime.block_on(Session::establish(dialed, credentials, options.timeout, deadline));
    let known = config.and_then(|config| config.server(url));
    let mut session = match session {
        Ok(session) => session,
        Err(error) => {
            let failure = explain::opening(url, known, &key.public(), &error);
            report.add("handshake", Finding::failure(&failure))?;
            return Ok(false);
        }
    };
    let path = session.path();
    let role = if session.is_admin() { ", server admin" } else { "" };
    let shown = format!("protocol version 1, this machine is {}/{}{role}", path.user, path.machine);
    let as_known = known.is_none_or(|known| known.username == path.user && known.machine == path.machine);
    report.add(
        "handshake",
        match (known, as_known) {
            (None, _) => Finding::warn(
                format!("{shown}, which config.toml does not say yet"),
                format!("conclave status --server {url} writes it down"),
            ),
            (Some(_), true) => Finding::good(shown),
            (Some(known), false) => Finding::warn(
                format!("{shown}, but config.toml says {}/{}", known.username, known.machine),
                format!("conclave status --server {url} writes down what the server says"),
            ),
        },
    )?;

    let start = Instant::now();
    let pong = runtime.block_on(session.request(&Command::Ping));
    let took = start.elapsed();
    runtime.block_on(session.close());
    let shown = format!("{} for a request", millis(took));
    report.add(
        "latency",
        match pong {
            Err(error) => Finding::failure(&explain::request(url, &Command::Ping, &error)),
            Ok(_) if took > SLOW => Finding::warn(shown, "look for a slow network or a busy server"),
            Ok(_) => Finding::good(shown),
        },
    )?;
    Ok(true)
}

/// The name of the check that an error belongs to.
fn stage(error: &DialError) -> &'static str {
    match error {
        DialError::Resolve { .. } | DialError::Timeout { stage: Stage::Resolve, .. } => "DNS",
        DialError::Connect { .. } | DialError::Timeout { stage: Stage::Connect, .. } => "connection",
        DialError::Proxy { .. }
        | DialError::ProxySetting { .. }
        | DialError::Timeout { stage: Stage::Proxy, .. } => "proxy",
        DialError::Roots { .. }
        | DialError::Certificate { .. }
        | DialError::Tls { .. }
        | DialError::Timeout { stage: Stage::Tls, .. } => "TLS",
        DialError::NoSubprotocol
        | DialError::WebSocket { .. }
        | DialError::Busy { .. }
        | DialError::Timeout { stage: Stage::WebSocket, .. } => "server",
    }
}

fn route(report: &mut Report<'_>, url: &ServerUrl, route: &Route) -> Result<(), Failure> {
    let peer = route.peer.map(|peer| peer.to_string()).unwrap_or_default();
    match &route.proxy {
        Some(proxy) => report.add("proxy", Finding::good(format!("through {proxy} ({peer})")))?,
        None => {
            if url.host().parse::<IpAddr>().is_err() {
                let address = route.peer.map(|peer| peer.ip().to_string()).unwrap_or_default();
                report.add("DNS", Finding::good(format!("{} is {address}", url.host())))?;
            }
            report.add("connection", Finding::good(format!("{peer} accepts")))?;
        }
    }
    // Behind a proxy, the peer is the proxy.
    let local = route.proxy.is_none() && route.peer.is_some_and(|peer| peer.ip().is_loopback());
    report.add(
        "TLS",
        match &route.tls {
            Some(version) => Finding::good(format!("{version}, the certificate is valid and trusted")),
            None if local => Finding::good("none, and none is needed on this machine"),
            None => Finding::warn(
                "none: whoever is on the way reads along",
                "use wss://; the operator gives `conclave serve` a certificate or puts it behind a proxy that has one",
            ),
        },
    )
}

fn clock(greeting: &Greeting) -> Option<Finding> {
    let theirs = rfc2822::parse(greeting.date.as_deref()?).ok()?.timestamp();
    let ahead = Timestamp::now().as_second() - theirs.as_second();
    Some(if ahead.abs() > SKEW {
        let which = if ahead > 0 { "ahead of" } else { "behind" };
        Finding::warn(
            format!("this machine is {} s {which} the server", ahead.abs()),
            "set it, for example: timedatectl set-ntp true; stamps and --since depend on it",
        )
    } else {
        Finding::good("within half a minute of the server's")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(date: &str) -> Option<bool> {
        let greeting = Greeting { date: Some(date.into()), ..Greeting::default() };
        clock(&greeting).map(|finding| finding.is_good())
    }

    #[test]
    fn a_clock_is_compared_with_the_servers() {
        let now = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        assert_eq!(at(&now), Some(true));
        assert_eq!(at("Sat, 01 Jan 2000 00:00:00 GMT"), Some(false));
        assert_eq!(at("yesterday"), None);
    }
}
