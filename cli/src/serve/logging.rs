//! The server's log, on standard error: text for people, or JSON with `CONCLAVE_LOG_FORMAT=json`.

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::telemetry::Telemetry;
use crate::{Context, Failure};

/// Starts the log, and the export if one is wanted; it ends when what is returned is dropped. `CONCLAVE_LOG` sets
/// what is logged, as in `debug` or `conclave_shell=trace`.
pub(super) fn start(context: &Context) -> Result<Telemetry, Failure> {
    let level = if context.output.is_verbose() { Level::DEBUG } else { Level::INFO };
    // Only this project's own words: a library's trace may show what was sent.
    let ours = |level| {
        Targets::new()
            .with_target("conclave_cli", level)
            .with_target("conclave_shell", level)
            .with_target("conclave_shell_tokio", level)
            .with_target("conclave_shell_smol", level)
            .with_target("conclave_store", level)
    };
    let wanted = std::env::var("CONCLAVE_LOG").ok();
    let filter = match wanted.as_deref().map(str::parse::<Level>) {
        None => ours(level),
        Some(Ok(level)) => ours(level),
        Some(Err(_)) => wanted.and_then(|wanted| wanted.parse().ok()).unwrap_or_else(|| ours(level)),
    };
    let telemetry = match std::env::var("CONCLAVE_OTLP_ENDPOINT") {
        Ok(endpoint) if !endpoint.is_empty() => Telemetry::to(&endpoint)
            .map_err(|why| Failure::new(why, "unset CONCLAVE_OTLP_ENDPOINT, or name a collector"))?,
        _ => Telemetry::default(),
    };
    let json = std::env::var_os("CONCLAVE_LOG_FORMAT").is_some_and(|format| format == "json");
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = if json {
        layer.json().flatten_event(true).with_filter(filter.clone()).boxed()
    } else {
        let ansi = std::io::stderr().is_terminal();
        layer.with_ansi(ansi).with_target(false).with_filter(filter.clone()).boxed()
    };
    // A second start in one process, as tests do, keeps the first log.
    let _ = tracing_subscriber::registry().with(layer).with(telemetry.layer(filter)).try_init();
    Ok(telemetry)
}
