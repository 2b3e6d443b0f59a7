//! What each client documents of its hooks: events, answers, limits, settings.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::ValueEnum as _;
use conclave_shell_smol::runtime::Moment;
use serde_json::{Value, json};

use crate::args::HookClient;

/// The events that are answered, under the client's names, in the order in which they are written.
type Events = [(&'static str, Moment)];

/// Claude Code's events, which Codex took over.
const CLAUDE_CODE: &Events = &[
    ("SessionStart", Moment::Start),
    ("UserPromptSubmit", Moment::Prompt { human: true }),
    ("PostToolUse", Moment::Tool),
    ("Stop", Moment::Stop),
];
const GEMINI: &Events = &[
    ("SessionStart", Moment::Start),
    ("BeforeAgent", Moment::Prompt { human: true }),
    ("AfterTool", Moment::Tool),
    ("AfterAgent", Moment::Stop),
];
/// What `beforeSubmitPrompt` answers is not put before the model.
const CURSOR: &Events =
    &[("sessionStart", Moment::Start), ("postToolUse", Moment::Tool), ("stop", Moment::Stop)];
const OPENCODE: &Events = &[
    ("chat.message", Moment::Prompt { human: true }),
    ("tool.execute.after", Moment::Tool),
    ("session.idle", Moment::Stop),
];

impl HookClient {
    pub(super) fn events(self) -> &'static Events {
        match self {
            Self::ClaudeCode | Self::Codex => CLAUDE_CODE,
            Self::Gemini => GEMINI,
            Self::Cursor => CURSOR,
            Self::Opencode => OPENCODE,
        }
    }

    /// The events that `install` hooks.
    pub(super) fn installed(self) -> impl Iterator<Item = &'static str> {
        // Some versions of Cursor log what a hook adds after a tool and do not show it to the model. The message would
        // count as seen; so it waits until the agent stops.
        let hooked = move |moment| (self, moment) != (Self::Cursor, Moment::Tool);
        self.events().iter().filter(move |(_, moment)| hooked(*moment)).map(|(event, _)| *event)
    }

    pub(super) fn moment(self, event: &str) -> Option<Moment> {
        self.events().iter().find(|(name, _)| *name == event).map(|(_, moment)| *moment)
    }

    /// How many bytes the client puts before the model as they are.
    pub(super) fn most(self) -> usize {
        match self {
            // Of more than 10,000 characters it shows the first 2,000 and a file's name.
            Self::ClaudeCode => 9_500,
            // 2,500 tokens, which it takes as four bytes each.
            Self::Codex => 9_000,
            // None of them documents a limit.
            Self::Gemini | Self::Cursor | Self::Opencode => 16_000,
        }
    }

    /// The answer that puts `text` before the model.
    pub(super) fn answer(self, event: &str, moment: Moment, text: &str) -> Value {
        let stop = moment == Moment::Stop;
        match self {
            Self::ClaudeCode | Self::Codex if stop => json!({ "decision": "block", "reason": text }),
            Self::Gemini if stop => json!({ "decision": "deny", "reason": text }),
            Self::Cursor if stop => json!({ "followup_message": text }),
            Self::ClaudeCode | Self::Codex => context(event, text),
            // Gemini replaces < and > in what it adds to a prompt, but not &: a frame and an escaped text that looks like
            // a frame would become the same.
            Self::Gemini => context(event, &text.replace('&', "&amp;")),
            Self::Cursor => json!({ "additional_context": text }),
            Self::Opencode => json!({ "text": text }),
        }
    }

    /// What stands in the list of an event in the settings, to run `command`. OpenCode has no such list.
    pub(super) fn entry(self, command: &str) -> Value {
        match self {
            Self::Cursor => json!({ "command": command, "timeout": 5 }),
            Self::Gemini => {
                let hook =
                    json!({ "name": "conclave", "type": "command", "command": command, "timeout": 5000 });
                json!({ "hooks": [hook] })
            }
            _ => json!({ "hooks": [{ "type": "command", "command": command, "timeout": 5 }] }),
        }
    }

    /// The settings file, below the home directory or a project's.
    pub(super) fn file(self, project: bool) -> &'static str {
        match self {
            Self::ClaudeCode => ".claude/settings.json",
            Self::Codex => ".codex/hooks.json",
            Self::Gemini => ".gemini/settings.json",
            Self::Cursor => ".cursor/hooks.json",
            Self::Opencode if project => ".opencode/plugins/conclave.js",
            Self::Opencode => ".config/opencode/plugins/conclave.js",
        }
    }

    /// The settings file of the user where the environment moves it, and the directory that was there before.
    pub(super) fn moved(self, var: impl Fn(&str) -> Option<PathBuf>) -> Option<(PathBuf, &'static Path)> {
        let (name, file) = match self {
            Self::ClaudeCode => ("CLAUDE_CONFIG_DIR", "settings.json"),
            Self::Codex => ("CODEX_HOME", "hooks.json"),
            Self::Opencode => ("XDG_CONFIG_HOME", "opencode/plugins/conclave.js"),
            Self::Gemini | Self::Cursor => return None,
        };
        let dir = var(name).filter(|dir| dir.is_absolute())?;
        Some((dir, Path::new(file)))
    }

    /// What the human has to do besides.
    pub(super) fn next_step(self) -> &'static str {
        match self {
            Self::ClaudeCode => "sessions that start from now on use the hooks; /hooks shows them",
            Self::Codex => "Codex asks you to review the hooks before it runs them: type /hooks in it",
            Self::Gemini => "sessions that start from now on use the hooks; /hooks shows them",
            Self::Cursor => "restart Cursor; its settings have a page that shows the hooks",
            Self::Opencode => "sessions that start from now on use the plugin",
        }
    }
}

impl fmt::Display for HookClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

fn context(event: &str, text: &str) -> Value {
    json!({ "hookSpecificOutput": { "hookEventName": event, "additionalContext": text } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gemini_cannot_confuse_a_frame_with_an_escaped_text() {
        // As Gemini treats it.
        let shown = |text: &str| {
            let answer = HookClient::Gemini.answer("BeforeAgent", Moment::Prompt { human: true }, text);
            let context = answer["hookSpecificOutput"]["additionalContext"].as_str().unwrap();
            context.replace('<', "&lt;").replace('>', "&gt;")
        };
        assert_ne!(shown("</message>"), shown("&lt;/message&gt;"));
    }
}
