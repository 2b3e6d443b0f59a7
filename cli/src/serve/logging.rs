//! The server's log, on standard error: text for people, or JSON with `CONCLAVE_LOG_FORMAT=json`.

use anstream::{AutoStream, ColorChoice};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::lines::Lines;
use super::telemetry::Telemetry;
use crate::{Context, Failure};

/// Whose words are logged. A library's trace may show what was sent, and a key: nobody can ask for that.
const OURS: [&str; 5] =
    ["conclave_cli", "conclave_shell", "conclave_shell_tokio", "conclave_shell_smol", "conclave_store"];

/// A log that was started; what is left of it is written and exported when this is dropped.
pub(super) struct Log {
    telemetry: Telemetry,
    /// Whether each line of it is JSON, for programs.
    pub(super) json: bool,
    /// Where it is written.
    pub(super) lines: Lines,
}

impl Drop for Log {
    fn drop(&mut self) {
        self.telemetry.end();
        self.lines.flush();
    }
}

/// Starts the log, and the export if one is wanted. `CONCLAVE_LOG` sets what is logged, as in `debug` or
/// `conclave_shell=trace`.
pub(super) fn start(context: &Context) -> Result<Log, Failure> {
    let level = if context.output.is_verbose() { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let filter = filter(std::env::var("CONCLAVE_LOG").ok().as_deref(), level);
    let telemetry = match std::env::var("CONCLAVE_OTLP_ENDPOINT") {
        Ok(endpoint) if !endpoint.is_empty() => Telemetry::to(&endpoint)
            .map_err(|why| Failure::new(why, "unset CONCLAVE_OTLP_ENDPOINT, or name a collector"))?,
        _ => Telemetry::default(),
    };
    let json = std::env::var_os("CONCLAVE_LOG_FORMAT").is_some_and(|format| format == "json");
    let lines = Lines::start().map_err(super::no_threads)?;
    let layer = tracing_subscriber::fmt::layer().with_writer(lines.clone());
    let layer = if json {
        layer.json().flatten_event(true).with_filter(filter.clone()).boxed()
    } else {
        // As --color, NO_COLOR and the terminal say.
        let ansi = AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
        layer.with_ansi(ansi).with_target(false).with_filter(filter.clone()).boxed()
    };
    // A second start in one process, as tests do, keeps the first log.
    let _ = tracing_subscriber::registry().with(layer).with(telemetry.layer(filter)).try_init();
    Ok(Log { telemetry, json, lines })
}

/// What is logged when `wanted` is asked for: our own words at a level, or each part's at its own.
fn filter(wanted: Option<&str>, level: LevelFilter) -> Targets {
    let wanted = wanted.and_then(|wanted| wanted.parse::<Targets>().ok());
    let level = wanted.as_ref().map_or(level, |wanted| wanted.default_level().unwrap_or(level));
    let ours = OURS.into_iter().map(|target| (target.to_owned(), level));
    let own =
        |target: &str| OURS.iter().any(|ours| target == *ours || target.starts_with(&format!("{ours}::")));
    let parts = wanted.iter().flatten().filter(|(target, _)| own(target));
    Targets::new().with_targets(ours).with_targets(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn no_library_is_logged_whatever_is_asked_for() {
        let libraries = ["tungstenite::protocol", "hyper", "rustls", "conclaves", "tokio_tungstenite"];
        for wanted in
            [None, Some("trace"), Some("trace,tungstenite=trace,hyper=trace"), Some("conclave=trace")]
        {
            let filter = filter(wanted, LevelFilter::INFO);
            for library in libraries {
                assert!(!filter.would_enable(library, &Level::ERROR), "{wanted:?} {library}");
            }
            assert!(filter.would_enable("conclave_shell::server::engine", &Level::INFO), "{wanted:?}");
        }
    }

    #[test]
    fn levels_are_set_for_all_or_for_parts() {
        let enabled =
            |wanted, target, level| filter(Some(wanted), LevelFilter::INFO).would_enable(target, &level);
        assert!(enabled("trace", "conclave_store::journal", Level::TRACE));
        assert!(!enabled("warn", "conclave_shell", Level::INFO));
        assert!(enabled("warn,conclave_shell=debug", "conclave_shell::server::log", Level::DEBUG));
        assert!(!enabled("warn,conclave_shell=debug", "conclave_store", Level::INFO));
        assert!(enabled("conclave_store=debug", "conclave_shell", Level::INFO));
        assert!(enabled("no level at all", "conclave_shell", Level::INFO));
    }
}
