//! How the demo is shown: line by line, at a pace that can be read on a terminal.

use std::cell::Cell;
use std::io::{self, IsTerminal as _};
use std::thread;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use conclave_core::name::ChannelName;
use conclave_core::protocol::Refusal;
use serde_json::{Value, json};

use crate::Failure;
use crate::output::{FAINT, Output, STRONG, line, styled};

pub(super) struct Show {
    output: Output,
    pace: Duration,
    scenes: Cell<u32>,
}

impl Show {
    pub(super) fn new(output: Output, fast: bool) -> Self {
        let read_by_people = io::stdout().is_terminal() && !output.is_json();
        let pace = Duration::from_millis(if fast || !read_by_people { 0 } else { 800 });
        Self { output, pace, scenes: Cell::new(0) }
    }

    pub(super) fn title(&self, text: &str) -> Result<(), Failure> {
        self.line(text, json!({ "event": "title", "text": text }))
    }

    pub(super) fn scene(&self, text: &str) -> Result<(), Failure> {
        let nth = self.scenes.get() + 1;
        self.scenes.set(nth);
        let shown = format!("\n{}", styled(STRONG, format_args!("{nth}  {text}")));
        self.line(&shown, json!({ "event": "scene", "number": nth, "text": text }))
    }

    pub(super) fn told(&self, text: &str) -> Result<(), Failure> {
        self.line(&format!("   {text}"), json!({ "event": "step", "text": text }))
    }

    pub(super) fn refused(&self, what: &str, refusal: &Refusal) -> Result<(), Failure> {
        let text = refusal.to_string();
        let shown = format!("   {what}; the server: {}", styled(FAINT, line(&text)));
        self.line(&shown, json!({ "event": "refused", "what": what, "refusal": text }))
    }

    pub(super) fn post(
        &self,
        channel: &ChannelName,
        from: &str,
        heard_by: &[&str],
        text: &str,
    ) -> Result<(), Failure> {
        let hearers = styled(FAINT, format_args!("(heard by {})", heard_by.join(", ")));
        self.line(
            &format!("   #{channel} {}: {text} {hearers}", colored(from)),
            json!({ "event": "post", "channel": channel.as_str(), "from": from, "text": text, "heard_by": heard_by }),
        )
    }

    pub(super) fn caught_up(
        &self,
        channel: &ChannelName,
        who: &str,
        from: &str,
        text: &str,
    ) -> Result<(), Failure> {
        let hearers = styled(FAINT, format_args!("(caught up by {who})"));
        self.line(
            &format!("   #{channel} {}: {text} {hearers}", colored(from)),
            json!({ "event": "caught_up", "channel": channel.as_str(), "from": from, "text": text, "heard_by": [who] }),
        )
    }

    pub(super) fn whisper(&self, from: &str, to: &str, text: &str) -> Result<(), Failure> {
        self.line(
            &format!("   {} whispers to {}: {text}", colored(from), colored(to)),
            json!({ "event": "whisper", "from": from, "to": to, "text": text }),
        )
    }

    pub(super) fn end(&self) -> Result<(), Failure> {
        let text = "\
\nThat is all of it. Everything above went through a real server and real connections.
Make it yours:
   conclave serve                                                          in one terminal
   conclave register --server ws://127.0.0.1:4390 --username YOUR-NAME     in another
   conclave channel create ops && conclave tail --channel ops
   claude mcp add conclave -- conclave bridge                              for an agent";
        self.line(text, json!({ "event": "end" }))
    }

    pub(super) fn end_of_wake(&self) -> Result<(), Failure> {
        let text = "\
\nMake it yours: declare an agent in ~/.config/conclave/agents.toml (docs/host.md), then
   conclave host                                       or: systemctl --user enable --now conclave-host
   conclave send ops '@reviewer please look' --wait acknowledged";
        self.line(text, json!({ "event": "end" }))
    }

    fn line(&self, text: &str, value: Value) -> Result<(), Failure> {
        self.output.result(text, value)?;
        // One reader waits for one line: there is nothing else for this thread to do.
        thread::sleep(self.pace);
        Ok(())
    }
}

/// Each agent has its colour.
fn colored(agent: &str) -> String {
    let color = match agent {
        "planner" => AnsiColor::Cyan,
        "builder" => AnsiColor::Yellow,
        "aaron" => AnsiColor::Green,
        _ => AnsiColor::Magenta,
    };
    styled(Style::new().bold().fg_color(Some(color.into())), agent)
}
