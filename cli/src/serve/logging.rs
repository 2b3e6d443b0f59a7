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
pub(crate) struct Log {
    telemetry: Telemetry,
    /// Whether each line of it is JSON, for programs.
    pub(crate) json: bool,
    /// Where it is written.
    pub(crate) lines: Lines,
}

impl Drop for Log {
    fn drop(&mut self) {
        self.telemetry.end();
        self.lines.flush();
    }
}

/// Starts the log, and the export if one is wanted. `CONCLAVE_LOG` sets what is logged, as in `debug` or
/// `conclave_shell=trace`.
pub(crate) fn start(context: &Context) -> Result<Log, Failure> {
    let level = if context.output.is_verbose() { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let wrong = |name: &str, value: &str, next: &str| Failure::Usage {
        what: format!("{name} cannot be {value:?}"),
        next: next.into(),
    };
    let wanted = std::env::var("CONCLAVE_LOG").unwrap_or_default();
    let filter = filter(&wanted, level).ok_or_else(|| {
        wrong(
            "CONCLAVE_LOG",
            &wanted,
            "set it like CONCLAVE_LOG=debug, or like conclave_shell=trace for a part",
        )
    })?;
    let telemetry = match std::env::var("CONCLAVE_OTLP_ENDPOINT") {
        Ok(endpoint) if !endpoint.is_empty() => Telemetry::to(&endpoint)
            .map_err(|why| Failure::new(why, "unset CONCLAVE_OTLP_ENDPOINT, or name a collector"))?,
        _ => Telemetry::default(),
    };
    let json = match std::env::var("CONCLAVE_LOG_FORMAT").unwrap_or_default().as_str() {
        "json" => true,
        "" | "text" => false,
        other => return Err(wrong("CONCLAVE_LOG_FORMAT", other, "set it to json, or to text")),
    };
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

/// What is logged when `wanted` is asked for: our own words at a level, or each part's at its own. `None` if it asks for
/// nothing that there is.
fn filter(wanted: &str, level: LevelFilter) -> Option<Targets> {
    let wanted = if wanted.is_empty() { Targets::new() } else { wanted.parse().ok()? };
    let own =
        |target: &str| OURS.iter().any(|ours| target == *ours || target.starts_with(&format!("{ours}::")));
    let parts: Vec<_> = wanted.iter().filter(|(target, _)| own(target)).collect();
    let says_nothing = wanted.default_level().is_none() && parts.is_empty();
    if says_nothing && wanted.iter().next().is_some() {
        return None;
    }
    let level = wanted.default_level().unwrap_or(level);
    let ours = OURS.into_iter().map(|target| (target.to_owned(), level));
    Some(Targets::new().with_targets(ours).with_targets(parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn no_library_is_logged_whatever_is_asked_for() {
        let libraries = ["tungstenite::protocol", "hyper", "rustls", "conclaves", "tokio_tungstenite"];
        for wanted in ["", "trace", "trace,tungstenite=trace,hyper=trace", "conclave=trace,info"] {
            let filter = filter(wanted, LevelFilter::INFO).unwrap();
            for library in libraries {
                assert!(!filter.would_enable(library, &Level::ERROR), "{wanted:?} {library}");
            }
            assert!(filter.would_enable("conclave_shell::server::engine", &Level::INFO), "{wanted:?}");
        }
    }

    #[test]
    fn levels_are_set_for_all_or_for_parts() {
        let enabled =
            |wanted, target, level| filter(wanted, LevelFilter::INFO).unwrap().would_enable(target, &level);
        assert!(enabled("trace", "conclave_store::journal", Level::TRACE));
        assert!(!enabled("warn", "conclave_shell", Level::INFO));
        assert!(enabled("warn,conclave_shell=debug", "conclave_shell::server::log", Level::DEBUG));
        assert!(!enabled("warn,conclave_shell=debug", "conclave_store", Level::INFO));
        assert!(enabled("conclave_store=debug", "conclave_shell", Level::INFO));
        for nothing in ["no level at all", "verbose", "zzz==", "hyper=debug", "conclave_shell=loud"] {
            assert!(filter(nothing, LevelFilter::INFO).is_none(), "{nothing}");
        }
    }
}
