//! The server's log, on standard error: text for people, or JSON with `CONCLAVE_LOG_FORMAT=json`.

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::Context;

/// Starts the log. `CONCLAVE_LOG` sets what is logged, as in `debug` or `conclave_shell_tokio=trace`.
pub(super) fn start(context: &Context) {
    let level = if context.output.is_verbose() { Level::DEBUG } else { Level::INFO };
    // Only this project's own words: a library's trace may show what was sent.
    let ours = |level| {
        Targets::new()
            .with_target("conclave", level)
            .with_target("conclave_cli", level)
            .with_target("conclave_shell", level)
            .with_target("conclave_shell_tokio", level)
            .with_target("conclave_store", level)
    };
    let wanted = std::env::var("CONCLAVE_LOG").ok();
    let filter = match wanted.as_deref().map(str::parse::<Level>) {
        None => ours(level),
        Some(Ok(level)) => ours(level),
        Some(Err(_)) => wanted.and_then(|wanted| wanted.parse().ok()).unwrap_or_else(|| ours(level)),
    };
    let json = std::env::var_os("CONCLAVE_LOG_FORMAT").is_some_and(|format| format == "json");
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    // A second start in one process, as tests do, keeps the first log.
    let _ = if json {
        registry.with(layer.json().flatten_event(true)).try_init()
    } else {
        registry.with(layer.with_ansi(std::io::stderr().is_terminal()).with_target(false)).try_init()
    };
}
