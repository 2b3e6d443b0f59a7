//! A client of a bridge, on its pipes.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Nothing that is waited for takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client, past its handshake.
pub(crate) struct Agent {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<Value>,
    /// Notifications that nobody looked at yet.
    notes: VecDeque<Value>,
    last: Value,
    next: u64,
}

/// The text of a tool's result.
pub(crate) fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap()
}

impl Agent {
    pub(crate) fn new(mut bridge: Command) -> Self {
        let mut child = bridge.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (send, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines() {
                let Ok(line) = line else { return };
                let value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
                if send.send(value).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        let mut agent = Self { child, input, lines, notes: VecDeque::new(), last: Value::Null, next: 0 };
        let answer = agent.request(
            "initialize",
            json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } }),
        );
        assert_eq!(answer["result"]["protocolVersion"], "2025-11-25");
        agent.says(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        agent
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub(crate) fn says(&mut self, value: &Value) {
        self.bytes(format!("{value}\n").as_bytes());
    }

    /// The next line that `wanted` takes; the others that are notifications are kept.
    fn next(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let value = match self.lines.recv_timeout(left) {
                Ok(value) => value,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no {what} within a minute; notes: {:?}", self.notes)
                }
                Err(RecvTimeoutError::Disconnected) => panic!("the bridge ended before {what}"),
            };
            if wanted(&value) {
                return value;
            }
            if value["method"].is_string() {
                self.notes.push_back(value);
            }
        }
    }

    pub(crate) fn request(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        self.says(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        self.next(method, |value| value["id"] == id)
    }

    /// Calls a tool; the result, failed or not.
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.request("tools/call", json!({ "name": tool, "arguments": arguments }));
        assert!(answer["result"].is_object(), "{tool}: {answer}");
        answer["result"].clone()
    }

    /// Calls a tool until it does not fail for want of a link.
    pub(crate) fn done(&mut self, tool: &str, arguments: Value) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let result = self.call(tool, arguments.clone());
            if result["isError"] == false {
                return result;
            }
            let passes = text(&result).contains("down") || text(&result).contains("no admin");
            assert!(passes && Instant::now() < deadline, "{tool}: {result}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The next notification of that method, of those not looked at.
    pub(crate) fn note(&mut self, method: &str) -> Value {
        if let Some(at) = self.notes.iter().position(|note| note["method"] == method) {
            return self.notes.remove(at).unwrap();
        }
        self.next(method, |value| value["method"] == method)
    }

    /// The next notice of the bridge, of those not looked at.
    pub(crate) fn notice(&mut self) -> String {
        let is_notice = |note: &Value| note["params"]["meta"]["kind"] == "notice";
        let note = match self.notes.iter().position(is_notice) {
            Some(at) => self.notes.remove(at).unwrap(),
            None => self.next("notice", is_notice),
        };
        note["params"]["content"].as_str().unwrap().to_owned()
    }

    /// The notices that have come and that nobody looked at.
    pub(crate) fn notices_left(&mut self) -> Vec<Value> {
        // Whatever was on its way stands before this answer.
        self.call("status", json!({}));
        let is_notice = |note: &&Value| note["params"]["meta"]["kind"] == "notice";
        self.notes.iter().filter(is_notice).cloned().collect()
    }

    /// The code of the error that comes next.
    pub(crate) fn error(&mut self) -> i64 {
        self.next("error", |value| value["error"].is_object())["error"]["code"].as_i64().unwrap()
    }

    /// Waits until the one link is up; this session's name there.
    pub(crate) fn until_connected(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.call("status", json!({}));
            let servers = status["structuredContent"]["servers"].as_array().unwrap().clone();
            if let Some(server) = servers.iter().find(|server| server["connected"] == true) {
                return server["path"].as_str().unwrap().to_owned();
            }
            assert!(Instant::now() < deadline, "never connected: {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a tool is offered.
    pub(crate) fn until_offered(&mut self, tool: &str) {
        loop {
            let list = self.request("tools/list", json!({}));
            if list["result"]["tools"].as_array().unwrap().iter().any(|offered| offered["name"] == tool) {
                return;
            }
            self.note("notifications/tools/list_changed");
        }
    }

    /// Reads messages into `heard` until one has that text.
    pub(crate) fn until_heard(&mut self, text: &str, heard: &mut Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let page = self.call("wait_for_message", json!({ "timeout_secs": 10 }));
            for message in page["structuredContent"]["messages"].as_array().unwrap() {
                if message["kind"] == "message" {
                    heard.push(message["text"].as_str().unwrap().to_owned());
                }
            }
            if heard.iter().any(|heard| heard == text) {
                return;
            }
            assert!(Instant::now() < deadline, "{text} never came: {heard:?}");
        }
    }

    /// Ends the input. True if the bridge then ends well.
    pub(crate) fn ends(&mut self) -> bool {
        self.input = None;
        while let Ok(value) = self.lines.recv_timeout(PATIENCE) {
            self.last = value;
        }
        self.child.wait().unwrap().success()
    }

    /// The last line before the end.
    pub(crate) fn last(&self) -> &Value {
        &self.last
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
