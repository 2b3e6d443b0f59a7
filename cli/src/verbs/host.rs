//! `conclave host`.

#[cfg(unix)]
use serde_json::Value;

use crate::args::Host;
#[cfg(unix)]
use crate::args::HostAction;
#[cfg(unix)]
use crate::serve::logging;
use crate::{Context, Failure};

/// An agent, with all keys.
#[cfg(unix)]
const EXAMPLE: &str = include_str!("../../../docs/examples/agents.toml");
/// The packaged unit.
#[cfg(unix)]
const UNIT: &str = include_str!("../../../packaging/conclave-host.service");

#[cfg(not(unix))]
pub(super) fn run(_: Host, _: &Context) -> Result<(), Failure> {
    Err(Failure::new(
        "agents are hosted on Linux, macOS and other Unix systems only",
        "let the agent take part while it runs: conclave bridge",
    ))
}

#[cfg(unix)]
pub(super) fn run(host: Host, context: &Context) -> Result<(), Failure> {
    use conclave_shell_smol::host::Request;
    let request = match host.action {
        None => return serve(host.ca, context),
        Some(HostAction::Example) => {
            return context.output.result(EXAMPLE.trim_end(), serde_json::json!({ "example": EXAMPLE }));
        }
        Some(HostAction::Unit) => {
            return context.output.result(UNIT.trim_end(), serde_json::json!({ "unit": UNIT }));
        }
        Some(HostAction::Status(of)) => Request::Status { agent: of.agent },
        Some(HostAction::Logs(of)) => Request::Logs { agent: of.agent },
        Some(HostAction::Pause(of)) => Request::Pause { agent: of.agent },
        Some(HostAction::Resume(of)) => Request::Resume { agent: of.agent },
    };
    let answer = ask(&request, context)?;
    let text = |it: &Value, key: &str| match &it[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if let Some(lines) = answer["lines"].as_array() {
        return context.output.list(lines, ["AT", "AGENT", "WHAT"], "nothing happened yet", |it| {
            ["at", "agent", "text"].map(|key| text(it, key))
        });
    }
    let agents = answer["agents"].as_array().cloned().unwrap_or_default();
    let columns = ["AGENT", "STATE", "LEVEL", "RUNNING", "WAITING", "RUNS LEFT"];
    context.output.list(&agents, columns, "no agents are declared", |it| {
        ["agent", "state", "level", "running", "waiting", "runs_left"].map(|key| text(it, key))
    })
}

#[cfg(unix)]
fn ask(request: &conclave_shell_smol::host::Request, context: &Context) -> Result<Value, Failure> {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    let answer =
        conclave_shell_smol::host::ask(context.dir()?, request).map_err(|error| match error.kind() {
            NotFound | ConnectionRefused => {
                Failure::new("no host runs with this configuration", "start it: conclave host")
            }
            _ => {
                Failure::new(format!("the host does not answer: {error}"), "look at its log; start it again")
            }
        })?;
    match answer["error"].as_str() {
        Some(error) => Err(Failure::new(error, "conclave host status lists the agents")),
        None => Ok(answer),
    }
}

/// Runs it, until a signal ends it.
#[cfg(unix)]
fn serve(ca: Option<std::path::PathBuf>, context: &Context) -> Result<(), Failure> {
    use conclave_shell_smol::host::{HostOptions, Stop, run};
    use tokio::signal::unix::{SignalKind, signal};
    let _log = logging::start(context)?;
    let options = HostOptions { dir: context.dir()?.clone(), ca };
    let stop = Stop::default();
    let no_signals =
        |error: std::io::Error| Failure::new(format!("no signals: {error}"), "look at `ulimit -a`");
    let waiting = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_signals)?;
    let signals = waiting.block_on(async {
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        kinds.map(signal).into_iter().collect::<Result<Vec<_>, _>>()
    });
    let mut signals = signals.map_err(no_signals)?;
    let stopping = stop.clone();
    std::thread::spawn(move || {
        waiting.block_on(std::future::poll_fn(|cx| {
            let came = signals.iter_mut().any(|signal| signal.poll_recv(cx).is_ready());
            if came { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        }));
        stopping.stop();
    });
    let ran = run(&options, &stop, |declared| {
        let agents = declared.agents.iter().map(|agent| agent.name.to_string());
        let doors = declared.webhooks.iter().map(|hook| format!("the webhook {}", hook.name));
        let all = agents.chain(doors).collect::<Vec<_>>().join(", ");
        let all = if all.is_empty() { "nothing: agents.toml declares no agent".to_owned() } else { all };
        context.output.note(format_args!("conclave host runs {}; Ctrl-C ends it", crate::output::line(&all)));
    });
    ran.map_err(|error| Failure::new(error.to_string(), error.advice()))
}
