//! The bridge as an MCP server: lines of JSON in, lines of JSON out, nothing read or written here.

mod results;
mod rpc;
mod tools;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use conclave_core::bridge::{
    Action, Bound, Bridge, CallId, Failure, INSTRUCTIONS, Input, Line, LinkEvent, Moment, Outcome,
    PermissionRequest, Push, QuestionId, Server, Settings,
};
use conclave_core::link::RequestId;
use conclave_core::opaque::Opaque;
use conclave_core::protocol::Command;
use conclave_core::record::ChannelId;
use conclave_core::time::{Monotonic, Now};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use rpc::{Id, Message, Object, Scalar, code};

/// The protocol versions that are spoken, the newest first.
pub const VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// What a caller must do.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Write this line to the client.
    Line(Opaque<String>),
    /// Write this line to the client, unless it reads too slowly: what it tells is in the inbox, too.
    Hint(Opaque<String>),
    /// Hand this to the server's link.
    Link(Server, ToLink),
    /// Write this to the log.
    Log(String),
}

/// What a link is to do.
#[derive(Debug, PartialEq)]
pub enum ToLink {
    /// Ask the server.
    Request(RequestId, Command),
    /// The agent has seen a stream up to here.
    Seen {
        /// The stream.
        stream: ChannelId,
        /// The last message.
        seq: u64,
    },
    /// These were put before the agent while older ones wait.
    Shown {
        /// Their stream.
        stream: ChannelId,
        /// The messages.
        seqs: Vec<u64>,
    },
    /// Messages are given up unshown.
    Skip {
        /// Their stream.
        stream: ChannelId,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// Write down what a name means.
    Bind(Bound),
    /// Hand in the names that are bound.
    LoadBindings,
    /// Hand in messages that are kept and not seen.
    LoadUnread {
        /// Their stream.
        stream: ChannelId,
        /// From right behind this one.
        after: u64,
    },
}

struct InFlight {
    id: Id,
    /// The token under which the client wants progress, in JSON.
    progress: Option<String>,
}

/// The server of one MCP client. `line`, `link`, `configure` and `tick` process an input and append the resulting outputs
/// to `out`. `next_deadline` says when to call `tick`.
pub struct McpServer {
    bridge: Bridge,
    relays_prompts: bool,
    /// The negotiated version, as a place in [`VERSIONS`]: the smaller, the newer.
    version: usize,
    asks: bool,
    ready: bool,
    calls: BTreeMap<CallId, InFlight>,
    questions: BTreeMap<String, QuestionId>,
    next_call: u64,
    /// The call answered last: a cancellation may have crossed its answer.
    last_answered: Option<(CallId, Id)>,
    actions: Vec<Action>,
    /// The answer to the hook that asks now.
    hooked: Option<Opaque<String>>,
}

#[derive(Deserialize)]
struct Initialize {
    #[serde(rename = "protocolVersion")]
    version: Scalar,
    capabilities: Option<Capabilities>,
    #[serde(rename = "clientInfo")]
    client: Option<Object>,
}

#[derive(Deserialize)]
struct Capabilities {
    elicitation: Option<Elicitation>,
}

#[derive(Deserialize)]
struct Elicitation {
    form: Option<IgnoredAny>,
    url: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct CallTool {
    name: Scalar,
    #[serde(default)]
    arguments: Option<Object>,
    #[serde(rename = "_meta", default)]
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "progressToken", default)]
    progress: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Cancelled {
    #[serde(rename = "requestId")]
    request: Box<RawValue>,
}

#[derive(Deserialize)]
struct Prompt {
    request_id: String,
    #[serde(default)]
    tool_name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    input_preview: String,
}

#[derive(Deserialize)]
struct Elicited {
    action: Scalar,
}

impl McpServer {
    /// A server around `bridge`. With `relays_prompts` the client is told that its permission prompts are relayed.
    pub fn new(bridge: Bridge, relays_prompts: bool) -> Self {
        Self {
            bridge,
            relays_prompts,
            version: 0,
            asks: false,
            ready: false,
            calls: BTreeMap::new(),
            questions: BTreeMap::new(),
            next_call: 0,
            last_answered: None,
            actions: Vec::new(),
            hooked: None,
        }
    }

    /// The bridge, to be looked at.
    pub fn bridge(&self) -> &Bridge {
        &self.bridge
    }

    /// A line of the client.
    pub fn line(&mut self, now: Now, line: &Line, out: &mut Vec<Output>) {
        let text = match line {
            Line::Text(text) => text,
            Line::TooLong => {
                out.push(error(None, code::INVALID, "the line is too long: it was skipped"));
                return;
            }
        };
        for message in rpc::read(text) {
            match message {
                Message::Request { id, method, params } => self.request(now, id, &method, params, out),
                Message::Notification { method, params } => self.notification(now, &method, params, out),
                Message::Response { id, result } => self.response(now, &id, result, out),
                Message::Invalid { id, code, why } => out.push(error(id.as_ref(), code, why)),
            }
        }
    }

    /// Something from a link.
    pub fn link(&mut self, now: Now, server: Server, event: LinkEvent, out: &mut Vec<Output>) {
        self.feed(now, Input::Link { server, event }, out);
    }

    /// A hook of the client asks what is to be put before the model, in at most so many bytes. Returns it, with the call to
    /// cancel if the client does not get it.
    pub fn hook(
        &mut self,
        now: Now,
        moment: Moment,
        most: usize,
        out: &mut Vec<Output>,
    ) -> (CallId, Option<Opaque<String>>) {
        self.next_call += 1;
        let id = CallId(self.next_call);
        self.feed(now, Input::Hook { id, moment, most }, out);
        (id, self.hooked.take())
    }

    /// The client did not get what a hook read.
    pub fn cancel_hook(&mut self, now: Now, id: CallId, out: &mut Vec<Output>) {
        self.feed(now, Input::Cancel { id }, out);
    }

    /// The configuration was written anew.
    pub fn configure(&mut self, now: Now, settings: Settings, again: bool, out: &mut Vec<Output>) {
        self.feed(now, Input::Configured { settings, again }, out);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now, out: &mut Vec<Output>) {
        self.feed(now, Input::Tick, out);
    }

    /// When to call [`McpServer::tick`] at the latest.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.bridge.next_deadline()
    }

    /// True while calls are under way that do not wait for others to say something.
    pub fn is_busy(&self) -> bool {
        self.calls.len() > self.bridge.waiting() + self.questions.len()
    }

    fn request(&mut self, now: Now, id: Id, method: &str, params: Option<&RawValue>, out: &mut Vec<Output>) {
        let answer = match method {
            "initialize" => self.initialize(params, out),
            "ping" => Ok(json!({})),
            "tools/list" => {
                self.be_ready(now, out);
                self.list(params)
            }
            "tools/call" => {
                self.be_ready(now, out);
                match self.call(now, &id, params, out) {
                    Ok(()) => return,
                    Err(why) => Err((code::PARAMS, why)),
                }
            }
            _ => Err((code::METHOD, "there is no such method here".to_owned())),
        };
        out.push(match answer {
            Ok(result) => result_line(&id, &result),
            Err((code, why)) => error(Some(&id), code, &why),
        });
    }

    fn initialize(
        &mut self,
        params: Option<&RawValue>,
        out: &mut Vec<Output>,
    ) -> Result<Value, (i64, String)> {
        let params: Initialize = read(params).map_err(|why| (code::PARAMS, why))?;
        let Scalar::Text(asked) = &params.version else {
            return Err((code::PARAMS, "`protocolVersion` must be a text".to_owned()));
        };
        self.version = VERSIONS.iter().position(|version| version == asked).unwrap_or(0);
        // A client that says nothing of forms has them, unless it speaks of URLs only.
        self.asks = params
            .capabilities
            .and_then(|capabilities| capabilities.elicitation)
            .is_some_and(|elicitation| elicitation.form.is_some() || elicitation.url.is_none());
        if let Some(Object(client)) = &params.client {
            let text = |name| client.iter().find(|(known, _)| known == name).map(|(_, value)| value);
            if let (Some(Scalar::Text(name)), version) = (text("name"), text("version")) {
                let version = if let Some(Scalar::Text(version)) = version { version } else { "" };
                let client = conclave_core::text::one_line(&format!("{name} {version}"), 100);
                out.push(Output::Log(format!("the client is {client}, speaking {}", VERSIONS[self.version])));
            }
        }
        let mut experimental = json!({ "claude/channel": {} });
        if self.relays_prompts {
            experimental["claude/channel/permission"] = json!({});
        }
        Ok(json!({
            "protocolVersion": VERSIONS[self.version],
            "capabilities": { "tools": { "listChanged": true }, "experimental": experimental },
            "serverInfo": { "name": "conclave", "title": "conclave", "version": env!("CARGO_PKG_VERSION") },
            "instructions": INSTRUCTIONS,
        }))
    }

    /// Clients should say that they are ready; one that calls tools is.
    fn be_ready(&mut self, now: Now, out: &mut Vec<Output>) {
        if !self.ready {
            self.ready = true;
            self.feed(now, Input::Ready { asks: self.asks }, out);
        }
    }

    fn list(&self, params: Option<&RawValue>) -> Result<Value, (i64, String)> {
        #[derive(Deserialize)]
        struct List {
            cursor: Option<Scalar>,
        }
        let list =
            params.map(|params| read::<List>(Some(params))).transpose().map_err(|why| (code::PARAMS, why))?;
        if list.is_some_and(|list| list.cursor.is_some()) {
            return Err((code::PARAMS, "`cursor` is none that was given out".to_owned()));
        }
        Ok(json!({ "tools": self.bridge.tools().map(tools::listed).collect::<Vec<_>>() }))
    }

    fn call(
        &mut self,
        now: Now,
        id: &Id,
        params: Option<&RawValue>,
        out: &mut Vec<Output>,
    ) -> Result<(), String> {
        let CallTool { name, arguments, meta } = read(params)?;
        let Scalar::Text(name) = name else { return Err("`name` must be a text".to_owned()) };
        let call = match tools::call(&name, arguments.unwrap_or_default()) {
            Ok(call) => call,
            Err(tools::BadCall::NoTool) => return Err("unknown tool".to_owned()),
            // A tool's error, not the protocol's: only that reaches the model, which can correct itself (SEP-1303).
            Err(tools::BadCall::Schema(why) | tools::BadCall::Value(why)) => {
                out.push(result_line(id, &failed(&why)));
                return Ok(());
            }
        };
        self.next_call += 1;
        let number = CallId(self.next_call);
        let progress = meta.and_then(|meta| meta.progress).and_then(|token| Id::new(&token));
        let progress = progress.map(|token| token.raw().to_owned());
        self.calls.insert(number, InFlight { id: id.clone(), progress });
        self.feed(now, Input::Call { id: number, call }, out);
        Ok(())
    }

    fn notification(&mut self, now: Now, method: &str, params: Option<&RawValue>, out: &mut Vec<Output>) {
        match method {
            "notifications/initialized" => self.be_ready(now, out),
            "notifications/cancelled" => {
                let cancelled =
                    read::<Cancelled>(params).ok().and_then(|cancelled| Id::new(&cancelled.request));
                let Some(id) = cancelled else { return };
                // The last of that id: its answer may have been written already.
                let call = self.calls.iter().rev().find(|(_, call)| call.id == id).map(|(call, _)| *call);
                if let Some(call) = call.or_else(|| self.answered_last(&id)) {
                    self.calls.remove(&call);
                    self.feed(now, Input::Cancel { id: call }, out);
                }
            }
            "notifications/claude/channel/permission_request" => match read::<Prompt>(params) {
                Ok(Prompt { request_id, tool_name: tool, description, input_preview: preview }) => {
                    match request_id.parse() {
                        Ok(id) => {
                            let request = PermissionRequest { id, tool, description, preview };
                            self.feed(now, Input::Prompt(request), out);
                        }
                        Err(error) => {
                            out.push(Output::Log(format!("a permission request was ignored: {error}")))
                        }
                    }
                }
                Err(why) => out.push(Output::Log(format!("a permission request was ignored: {why}"))),
            },
            _ => {}
        }
    }

    fn answered_last(&self, id: &Id) -> Option<CallId> {
        self.last_answered.as_ref().filter(|(_, last)| last == id).map(|(call, _)| *call)
    }

    fn response(&mut self, now: Now, id: &Id, result: Option<&RawValue>, out: &mut Vec<Output>) {
        let Some(question) = self.questions.remove(id.raw()) else { return };
        let elicited = result.and_then(|result| read::<Elicited>(Some(result)).ok());
        let agreed = elicited.is_some_and(|elicited| elicited.action == Scalar::Text("accept".to_owned()));
        self.feed(now, Input::Answered { question, agreed }, out);
    }

    fn feed(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        let mut actions = std::mem::take(&mut self.actions);
        self.bridge.handle(now, input, &mut actions);
        for action in actions.drain(..) {
            self.carry_out(action, out);
        }
        self.actions = actions;
    }

    fn carry_out(&mut self, action: Action, out: &mut Vec<Output>) {
        match action {
            Action::Request { server, id, command } => {
                out.push(Output::Link(server, ToLink::Request(id, command)));
            }
            Action::Seen { server, stream, seq } => {
                out.push(Output::Link(server, ToLink::Seen { stream, seq }));
            }
            Action::Shown { server, stream, seqs } => {
                out.push(Output::Link(server, ToLink::Shown { stream, seqs }));
            }
            Action::Skip { server, stream, from, to } => {
                out.push(Output::Link(server, ToLink::Skip { stream, from, to }));
            }
            Action::Bind { server, bound } => out.push(Output::Link(server, ToLink::Bind(bound))),
            Action::LoadBindings { server } => out.push(Output::Link(server, ToLink::LoadBindings)),
            Action::LoadUnread { server, stream, after } => {
                out.push(Output::Link(server, ToLink::LoadUnread { stream, after }));
            }
            Action::Answer { call, result } => {
                if let Some(InFlight { id, .. }) = self.calls.remove(&call) {
                    out.push(result_line(&id, &self.result(&result)));
                    self.last_answered = Some((call, id));
                }
            }
            Action::Hooked { text, .. } => self.hooked = text,
            Action::Progress { call, waited, total } => {
                let token = self.calls.get(&call).and_then(|call| call.progress.as_ref());
                if let Some(token) = token {
                    out.push(Output::Hint(Opaque(format!(
                        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{},"total":{},"message":"waiting for a message"}}}}"#,
                        waited.as_secs(),
                        total.as_secs(),
                    ))));
                }
            }
            Action::Push(Push { content, meta }) => {
                let meta: serde_json::Map<_, _> =
                    meta.into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))).collect();
                let line = notification(
                    "notifications/claude/channel",
                    json!({ "content": *content, "meta": meta }),
                );
                out.push(Output::Hint(Opaque(line)));
            }
            Action::ToolsChanged => {
                out.push(Output::Line(Opaque(
                    r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#.to_owned(),
                )));
            }
            Action::Ask { question, text } => {
                let id = format!("\"ask-{}\"", question.0);
                let params = json!({
                    "message": text,
                    "requestedSchema": { "type": "object", "properties": {} },
                });
                out.push(Output::Line(Opaque(format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"method":"elicitation/create","params":{params}}}"#
                ))));
                self.questions.insert(id, question);
            }
            Action::Withdraw { question } => {
                let id = format!("\"ask-{}\"", question.0);
                self.questions.remove(&id);
                out.push(Output::Line(Opaque(format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"no longer needed"}}}}"#
                ))));
            }
            Action::Verdict { id, allow } => {
                let params = json!({
                    "request_id": id.to_string(), "behavior": if allow { "allow" } else { "deny" },
                });
                out.push(Output::Line(Opaque(notification(
                    "notifications/claude/channel/permission",
                    params,
                ))));
            }
        }
    }

    fn result(&self, result: &Result<Outcome, Failure>) -> Value {
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(failure) => return failed(&failure.to_string()),
        };
        let mut value = json!({ "content": [{ "type": "text", "text": outcome.text() }], "isError": false });
        // Structured content came with 2025-06-18.
        if self.version <= 1 {
            value["structuredContent"] = results::structured(outcome);
        }
        value
    }
}

fn read<'a, T: Deserialize<'a>>(params: Option<&'a RawValue>) -> Result<T, String> {
    let params = params.map_or("{}", RawValue::get);
    // What serde says may quote the text; where it happened is enough.
    serde_json::from_str(params).map_err(|error| {
        let what = if error.is_data() { "have another shape" } else { "are malformed" };
        format!("the params {what} (column {})", error.column())
    })
}

fn failed(why: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": why }], "isError": true })
}

fn result_line(id: &Id, result: &Value) -> Output {
    Output::Line(Opaque(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id.raw())))
}

fn error(id: Option<&Id>, code: i64, why: &str) -> Output {
    let error = json!({ "code": code, "message": why });
    Output::Line(Opaque(format!(
        r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#,
        id.map_or("null", Id::raw)
    )))
}

fn notification(method: &str, params: Value) -> String {
    json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string()
}
