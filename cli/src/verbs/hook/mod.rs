//! `conclave hook`: puts what the bridge of a session holds unread before the agent, when its client runs a hook.

mod client;
mod install;
mod settings;

use std::io::{self, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use conclave_shell_smol::runtime::{self, Moment};
use serde::Deserialize;
use serde_json::Value;

use crate::args::{Hook, HookAction, HookClient};
use crate::{Context, Failure};

/// What is read of an event. Tools' results stand in it, and can be large.
const MAX_INPUT: u64 = 16 * 1024 * 1024;

pub(super) fn run(hook: Hook, context: &Context) -> Result<(), Failure> {
    match hook.action {
        Some(HookAction::Install(change)) => install::install(&change, context),
        Some(HookAction::Uninstall(change)) => install::uninstall(&change, context),
        None => {
            if let Err(why) = answer(hook, context) {
                context.output.detail(why);
            }
            Ok(())
        }
    }
}

/// Answers the client, or says why there is nothing to answer.
fn answer(hook: Hook, context: &Context) -> Result<(), String> {
    let Hook { event, client, timeout, .. } = hook;
    let deadline = Instant::now() + timeout;
    let event = event.unwrap_or_default();
    let moment = client.moment(&event).ok_or_else(|| format!("{event} is no event of {client}"))?;
    let dir = context.dir().map_err(|error| error.to_string())?.clone();
    let asked = within(deadline, move || ask(client, moment, &dir));
    let (bridge, text) = asked.ok_or("the bridge did not answer in time")??;
    let mut answer = client.answer(&event, moment, &text).to_string();
    answer.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(answer.as_bytes()).and_then(|()| out.flush()).map_err(|error| error.to_string())?;
    // It is written: a bridge that hangs must not hold the client up.
    within(Instant::now() + timeout, move || bridge.shown().map_err(|error| error.to_string()))
        .ok_or("the bridge did not take it in time")?
}

/// Asks the bridge of this session.
fn ask(client: HookClient, moment: Moment, dir: &Path) -> Result<(runtime::Client, String), String> {
    let reader = BufReader::new(io::stdin().lock().take(MAX_INPUT));
    let input: Input = serde_json::from_reader(reader).map_err(|error| format!("standard input: {error}"))?;
    let moment = input.moment(moment).ok_or("it is a subagent's, or the turn did not end well")?;
    let cwd = input.cwd().map_or_else(std::env::current_dir, Ok).map_err(|error| error.to_string())?;
    let mut bridge = runtime::find(dir, &cwd).ok_or("no bridge of this session runs")?;
    let failed = |error: io::Error| error.to_string();
    if moment == Moment::Stop && client == HookClient::Cursor && input.loop_count.as_u64() == Some(0) {
        // Cursor shows no text at a prompt, so no hook runs then: the first stop behind a prompt says that there was one.
        bridge.unread(Moment::Prompt { human: by_human() }, 0).map_err(failed)?;
    }
    let text = bridge.unread(moment, client.most()).map_err(failed)?;
    text.map(|text| (bridge, text)).ok_or_else(|| "nothing is unread".to_owned())
}

/// What clients tell a hook, as far as it matters here. What a field holds may change from version to version.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Input {
    cwd: Value,
    workspace_roots: Value,
    /// The session that acts is a subagent's.
    agent_id: Value,
    prompt: Value,
    /// How a turn ended.
    status: Value,
    /// How often a stopping agent went on since its human's prompt.
    loop_count: Value,
    /// The plugin for OpenCode submitted the prompt.
    continued: Value,
}

impl Input {
    /// The moment, if it is one for messages.
    fn moment(&self, moment: Moment) -> Option<Moment> {
        // What a subagent is shown, the agent does not see.
        if self.agent_id.is_string() {
            return None;
        }
        match moment {
            // The human ended the turn, or it failed: going on would work against them.
            Moment::Stop if matches!(self.status.as_str(), Some("aborted" | "error")) => None,
            Moment::Prompt { .. } => {
                // A message that the bridge pushed is a prompt to Claude Code, too.
                let pushed =
                    self.prompt.as_str().is_some_and(|text| text.trim_start().starts_with("<channel "));
                let continued = self.continued.as_bool() == Some(true);
                Some(Moment::Prompt { human: by_human() && !pushed && !continued })
            }
            moment => Some(moment),
        }
    }

    /// The session's directory. Some clients run hooks in another one.
    fn cwd(&self) -> Option<PathBuf> {
        let root = self.workspace_roots.get(0).and_then(Value::as_str);
        let named = self.cwd.as_str().or(root).filter(|path| !path.is_empty());
        named.map(PathBuf::from)
    }
}

/// Whether a human types the prompts here, and not a supervisor.
fn by_human() -> bool {
    std::env::var_os("CONCLAVE_AGENT").is_none()
}

/// What `work` gives, unless it takes longer.
fn within<T: Send + 'static>(deadline: Instant, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (send, receive) = mpsc::sync_channel(1);
    thread::Builder::new()
        .spawn(move || {
            let _ = send.send(work());
        })
        .ok()?;
    receive.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn moment(input: &str, moment: Moment) -> Option<Moment> {
        serde_json::from_str::<Input>(input).unwrap().moment(moment)
    }

    #[test]
    fn a_pushed_message_and_a_continuation_are_no_prompts_of_the_human() {
        let prompt = Moment::Prompt { human: true };
        assert_eq!(moment(r#"{"prompt":"go on"}"#, prompt), Some(prompt));
        for other in [r#"{"prompt":"<channel source=\"conclave\">hi</channel>"}"#, r#"{"continued":true}"#] {
            assert_eq!(moment(other, prompt), Some(Moment::Prompt { human: false }), "{other}");
        }
    }

    #[test]
    fn fields_of_any_type_are_taken() {
        let odd = r#"{"cwd":7,"workspace_roots":"x","prompt":[],"status":null,"new":{"a":[1e400]}}"#;
        assert!(serde_json::from_str::<Input>(&odd.replace("1e400", "1")).unwrap().cwd().is_none());
        assert_eq!(moment("{}", Moment::Tool), Some(Moment::Tool));
    }

    #[test]
    fn what_takes_too_long_is_given_up() {
        let (send, receive) = mpsc::channel::<()>();
        assert_eq!(within(Instant::now() + Duration::from_millis(1), move || receive.recv().is_ok()), None);
        drop(send);
        assert_eq!(within(Instant::now() + Duration::from_secs(60), || 1), Some(1));
    }
}
