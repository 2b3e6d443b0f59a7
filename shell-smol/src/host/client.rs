//! The clients that are known: how each is called, how it goes on with a conversation, and what of its output is the answer.

use std::str::FromStr;

use serde_json::Value;

/// The longest name of a client's session that is kept, in bytes.
const MAX_SESSION: usize = 256;

/// How a client's output is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// All of it is the answer.
    #[default]
    Text,
    /// `claude -p --output-format json`.
    Claude,
    /// `codex exec --json`.
    Codex,
    /// `gemini --output-format json`.
    Gemini,
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "claude" => Ok(Self::Claude),
            "codex" => Ok(Self::Codex),
            "gemini" => Ok(Self::Gemini),
            _ => Err("it is text, claude, codex or gemini"),
        }
    }
}

/// What a client said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) answer: String,
    /// Its own session, to go on with.
    pub(super) session: Option<String>,
}

impl Format {
    /// How the client is called for the first message of a conversation and for further ones.
    pub(super) fn commands(self) -> Option<(Vec<String>, Vec<String>)> {
        let (first, further): (&[&str], &[&str]) = match self {
            Self::Text => return None,
            Self::Claude => (
                &["claude", "-p", "{tools}", "--output-format", "json", "{args}"],
                &["claude", "-p", "{tools}", "--output-format", "json", "--resume", "{session}", "{args}"],
            ),
            Self::Codex => (
                &["codex", "exec", "{tools}", "--json", "{args}", "-"],
                &["codex", "exec", "{tools}", "--json", "{args}", "resume", "{session}", "-"],
            ),
            // The prompt is appended to what stands on standard input.
            Self::Gemini => (
                &["gemini", "--output-format", "json", "{args}", "-p", GEMINI],
                &["gemini", "--output-format", "json", "--resume", "{session}", "{args}", "-p", GEMINI],
            ),
        };
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Some((owned(first), owned(further)))
    }

    /// Reads what a client printed. `None`: it is not what this client prints, or an error.
    pub(super) fn read(self, printed: &str) -> Option<Said> {
        match self {
            Self::Text => Some(Said { answer: printed.trim().to_owned(), session: None }),
            Self::Claude => {
                let value: Value = serde_json::from_str(printed.trim()).ok()?;
                if value["is_error"] == true || value["type"] != "result" {
                    return None;
                }
                Some(Said { answer: text(&value["result"])?, session: session(&value["session_id"]) })
            }
            Self::Codex => codex(printed),
            Self::Gemini => {
                // Notes may stand before it.
                let start = printed.find('{')?;
                let value: Value = serde_json::from_str(printed[start..].trim()).ok()?;
                if value["error"].is_object() {
                    return None;
                }
                Some(Said { answer: text(&value["response"])?, session: session(&value["session_id"]) })
            }
        }
    }
}

const GEMINI: &str = "Do what the first lines of the input say.";

/// Events, one on each line; the last message of the agent is its answer.
fn codex(printed: &str) -> Option<Said> {
    let (mut said, mut completed) = (Said::default(), false);
    for event in printed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        match event["type"].as_str() {
            Some("thread.started") => said.session = session(&event["thread_id"]),
            Some("item.completed") if event["item"]["type"] == "agent_message" => {
                said.answer = text(&event["item"]["text"])?;
            }
            Some("turn.completed") => completed = true,
            Some("turn.failed") => return None,
            _ => {}
        }
    }
    completed.then_some(said)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(|text| text.trim().to_owned())
}

/// It becomes an argument: none that could be taken for a flag.
fn session(value: &Value) -> Option<String> {
    let id = value.as_str()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fine = !id.is_empty() && id.len() <= MAX_SESSION && !id.starts_with('-') && id.chars().all(is_plain);
    fine.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(answer: &str, session: Option<&str>) -> Option<Said> {
        Some(Said { answer: answer.into(), session: session.map(Into::into) })
    }

    #[test]
    fn each_clients_answer_and_session_are_read() {
        let claude = r#"{"type":"result","subtype":"success","is_error":false,"result":"It is green.\n","session_id":"0b1c-2"}"#;
        assert_eq!(Format::Claude.read(claude), said("It is green.", Some("0b1c-2")));
        let codex = "{\"type\":\"thread.started\",\"thread_id\":\"0199a213-81c0\"}\n{\"type\":\"turn.started\"}\n\
             {\"type\":\"item.completed\",\"item\":{\"id\":\"item_0\",\"type\":\"reasoning\",\"text\":\"hm\"}}\n\
             {\"type\":\"item.completed\",\"item\":{\"id\":\"item_3\",\"type\":\"agent_message\",\"text\":\"Yes.\"}}\n\
             {\"type\":\"turn.completed\",\"usage\":{\"output_tokens\":122}}\n";
        assert_eq!(Format::Codex.read(codex), said("Yes.", Some("0199a213-81c0")));
        let gemini = "Loaded cached credentials.\n{\n \"session_id\": \"s-1\",\n \"response\": \"Paris.\",\n \"stats\": {}\n}";
        assert_eq!(Format::Gemini.read(gemini), said("Paris.", Some("s-1")));
        assert_eq!(Format::Text.read("  done \n"), said("done", None));
    }

    #[test]
    fn what_reports_an_error_or_is_something_else_is_no_answer() {
        for (format, printed) in [
            (Format::Claude, r#"{"type":"result","is_error":true,"result":"no credit","session_id":"s"}"#),
            (Format::Claude, "no JSON"),
            (
                Format::Codex,
                "{\"type\":\"thread.started\",\"thread_id\":\"t\"}\n{\"type\":\"turn.failed\"}\n",
            ),
            (Format::Codex, "{\"type\":\"thread.started\",\"thread_id\":\"t\"}\n"),
            (Format::Gemini, r#"{"error":{"type":"E","message":"m"}}"#),
            (Format::Gemini, ""),
        ] {
            assert_eq!(format.read(printed), None, "{printed}");
        }
    }

    #[test]
    fn a_session_that_could_be_a_flag_is_not_taken() {
        for id in ["--dangerously", "a b", "", "a;b", "a/../b"] {
            let printed =
                serde_json::json!({ "type": "result", "result": "x", "session_id": id }).to_string();
            assert_eq!(Format::Claude.read(&printed), said("x", None), "{id}");
        }
    }
}
