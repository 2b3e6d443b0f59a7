//! A bridge as an agent's client starts it, and a message that goes through it and back.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command as Process, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use conclave_core::level::Level;
use conclave_core::name::SessionPath;
use conclave_core::payload::Payload;
use conclave_core::protocol::{Command, Reply};
use conclave_shell_tokio::client::{Arrival, Credentials, DialOptions, Session};
use conclave_store::config::{Change, ConfigFile, Pin, Server, ServerUrl};
use conclave_store::keystore;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::report::{Finding, Report};
use crate::args::Doctor;
use crate::connect::{ONE_SHOT, options, own_handle, pin_at, runtime};
use crate::output::millis;
use crate::{Context, Failure};

/// A line of a bridge is a JSON object of moderate size.
const MAX_LINE: u64 = 1024 * 1024;

pub(super) fn check(
    report: &mut Report<'_>,
    doctor: &Doctor,
    context: &Context,
    url: &ServerUrl,
) -> Result<(), Failure> {
    let runtime = runtime()?;
    let proven = prove(&runtime, doctor, context, url);
    runtime.shutdown_background();
    let next = "start it by hand and read what it says: conclave bridge </dev/null";
    report.add(
        "bridge",
        match proven {
            Ok(took) => {
                Finding::good(format!("a message went through it to an agent and back in {}", millis(took)))
            }
            Err(what) => Finding::bad(what, next),
        },
    )
}

fn prove(runtime: &Runtime, doctor: &Doctor, context: &Context, url: &ServerUrl) -> Result<Duration, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let dir = context.dir().map_err(|error| text(&error))?;
    let key = keystore::load(dir).map_err(|error| text(&error))?;
    let config = context.config().unwrap_or_default();
    let options = options(&doctor.net.dial, &config, url);
    let pin = runtime.block_on(pin_at(Some(&config), url, &key, &options));
    let pin = pin.map_err(|error| text(&error))?;
    let key = Pin::key(pin, key);
    let credentials =
        Credentials { key, handle: own_handle(ONE_SHOT).map_err(|error| text(&error))?, claim: None };
    let mut session =
        runtime.block_on(Session::open(url, credentials, &options)).map_err(|error| text(&error))?;
    let own = session.path().clone();

    let stage =
        Stage::set(dir, url, &own, pin).map_err(|error| format!("no bridge could be prepared: {error}"))?;
    let handle = own_handle("doctor").map_err(|error| text(&error))?;
    let target = SessionPath { session: handle, ..own.clone() };
    let mut bridge = Bridge::start(&stage, url, &target, &options)
        .map_err(|error| format!("it could not be started: {error}"))?;
    bridge.initialize()?;
    online(runtime, &mut session, &target, options.timeout)?;

    let start = Instant::now();
    let there = format!("doctor: there {}", target.session);
    let whisper = Command::Whisper { target, payload: Payload::Plain(there.clone()) };
    runtime.block_on(session.request(&whisper)).map_err(|error| text(&error))?;
    let heard = bridge
        .call("wait_for_message", json!({ "timeout_secs": options.timeout.as_secs().clamp(1, 3600) }))?;
    if !heard.to_string().contains(&there) {
        return Err("the agent was not given the message that was whispered to it".into());
    }
    let back = format!("doctor: back {}", own.session);
    bridge.call("whisper", json!({ "server": url.as_str(), "target": own.to_string(), "text": back }))?;
    let arrived = runtime.block_on(session.arrival(options.timeout)).map_err(|error| text(&error))?;
    match arrived {
        Some(Arrival::Whispered { payload: Payload::Plain(text), .. }) if text == back => {}
        _ => return Err("the agent's answer did not arrive".into()),
    }
    let took = start.elapsed();
    runtime.block_on(session.close());
    Ok(took)
}

fn online(
    runtime: &Runtime,
    session: &mut Session,
    target: &SessionPath,
    patience: Duration,
) -> Result<(), String> {
    let start = Instant::now();
    while start.elapsed() < patience {
        let who = runtime.block_on(session.request(&Command::Who { channel: None }));
        if let Reply::Presence { sessions, .. } = who.map_err(|error| error.to_string())?
            && sessions.iter().any(|it| **it == *target)
        {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(format!("it did not connect within {} s", patience.as_secs()))
}

/// A configuration for the bridge alone, beside the real one: the same key, and leave to answer whispers.
struct Stage {
    dir: PathBuf,
}

impl Stage {
    fn set(dir: &Path, url: &ServerUrl, own: &SessionPath, pin: Option<Pin>) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::new(error.to_string(), "");
        // What a doctor that was killed left behind is not in the way.
        let stage = Self { dir: dir.join(format!("doctor-{}", std::process::id())) };
        let _ = fs::remove_dir_all(&stage.dir);
        let server = Server { url: url.clone(), username: own.user.clone(), machine: own.machine.clone() };
        let mut changes = vec![Change::DefaultPermission(Level::Converse), Change::AddServer(server)];
        changes.extend(pin.map(|pin| Change::SetPin(url.clone(), pin)));
        ConfigFile::in_dir(&stage.dir).change(&changes)?;
        let key = fs::canonicalize(keystore::path(dir)).map_err(failed)?;
        let link = keystore::path(&stage.dir);
        #[cfg(unix)]
        std::os::unix::fs::symlink(key, link).map_err(failed)?;
        #[cfg(not(unix))]
        fs::copy(key, link).map_err(failed)?;
        Ok(stage)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A bridge and its client's end of the pipes.
struct Bridge {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    requests: u64,
    patience: Duration,
}

impl Bridge {
    fn start(
        stage: &Stage,
        url: &ServerUrl,
        target: &SessionPath,
        options: &DialOptions,
    ) -> std::io::Result<Self> {
        let patience = options.timeout;
        let mut process = Process::new(std::env::current_exe()?);
        process.arg("bridge").arg("--config-dir").arg(&stage.dir);
        process.args(["--server", url.as_str(), "--as", target.session.as_str()]);
        if let Some(ca) = &options.ca {
            process.arg("--ca").arg(ca);
        }
        let mut child = process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (sender, lines) = sync_channel(64);
        if let Some(output) = output {
            thread::spawn(move || {
                let mut output = BufReader::new(output);
                loop {
                    let mut line = String::new();
                    match output.by_ref().take(MAX_LINE).read_line(&mut line) {
                        Ok(1..) if sender.send(line).is_ok() => {}
                        _ => return,
                    }
                }
            });
        }
        Ok(Self { child, input, lines, requests: 0, patience })
    }

    fn initialize(&mut self) -> Result<(), String> {
        let client = json!({ "name": "conclave-doctor", "version": env!("CARGO_PKG_VERSION") });
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
        self.ask("initialize", params)?;
        self.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))
    }

    /// Calls a tool as an agent would.
    fn call(&mut self, tool: &str, arguments: Value) -> Result<Value, String> {
        let result = self.ask("tools/call", json!({ "name": tool, "arguments": arguments }))?;
        if result["isError"] == true {
            return Err(format!(
                "its tool {tool} failed: {}",
                result["content"][0]["text"].as_str().unwrap_or("")
            ));
        }
        Ok(result)
    }

    fn ask(&mut self, method: &str, params: Value) -> Result<Value, String> {
        self.requests += 1;
        let id = self.requests;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))?;
        let deadline = Instant::now() + self.patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).map_err(|error| match error {
                RecvTimeoutError::Timeout => format!("it did not answer {method} in time"),
                RecvTimeoutError::Disconnected => format!("it ended before it answered {method}"),
            })?;
            let message: Value =
                serde_json::from_str(&line).map_err(|_| String::from("it wrote a line that is no JSON"))?;
            if message["id"] != id {
                continue;
            }
            return match message.get("error") {
                Some(error) => {
                    Err(format!("it refused {method}: {}", error["message"].as_str().unwrap_or("")))
                }
                None => Ok(message["result"].clone()),
            };
        }
    }

    fn send(&mut self, message: &Value) -> Result<(), String> {
        let mut line = message.to_string();
        line.push('\n');
        let input = self.input.as_mut().ok_or("it takes no input")?;
        input.write_all(line.as_bytes()).map_err(|_| String::from("it ended unexpectedly"))
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // The end of its input ends it; one that does not see it is ended.
        self.input = None;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
