//! The bridge's side.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use conclave_core::bridge::CallId;
use conclave_core::opaque::Opaque;
use serde::Deserialize;
use serde_json::json;
use smol::channel::{Sender, bounded};
use smol::future::FutureExt as _;
use smol::io::AsyncWriteExt as _;
use smol::{Async, LocalExecutor, Timer};

use super::socket::{Listener, directory, make_directory, read_line};
use super::{MAX_ANSWER, MAX_REQUEST, VERSION, client, moment};
use crate::event::Event;
use crate::log;

/// Connections at once; more wait.
const MAX_CONNECTIONS: usize = 4;
/// How long a peer may take to ask. To say that it has shown an answer it has less than the bridge waits before it counts
/// the messages as seen.
const TO_ASK: Duration = Duration::from_secs(2);
const TO_SHOW: Duration = Duration::from_millis(400);

#[derive(Deserialize)]
struct Request {
    version: u32,
    hook: Option<String>,
    #[serde(default)]
    human: bool,
    #[serde(default)]
    most: usize,
    #[serde(default)]
    shown: bool,
}

/// Listens for hooks until the bridge ends. Without the socket the bridge works as well.
pub(crate) async fn serve(config: PathBuf, events: Sender<Event>) {
    match bind(&directory(&config)) {
        Ok(listener) => listen(&listener, &events).await,
        Err(error) => log(&format!("hooks find no bridge: {error}")),
    }
}

pub(super) fn bind(dir: &Path) -> io::Result<Listener> {
    make_directory(dir)?;
    client::remove_stale(dir);
    Listener::bind(dir, client::own_name()?)
}

pub(super) async fn listen(listener: &Listener, events: &Sender<Event>) {
    let executor = LocalExecutor::new();
    let task = || async {
        while let Ok(mut stream) = listener.accept().await {
            // A peer that breaks the protocol gets no answer.
            let _ = answer(&mut stream, events).await;
        }
    };
    let tasks: Vec<_> = (0..MAX_CONNECTIONS).map(|_| executor.spawn(task())).collect();
    let all = async {
        for task in tasks {
            task.await;
        }
    };
    executor.run(all).await;
}

async fn answer(stream: &mut Async<UnixStream>, events: &Sender<Event>) -> io::Result<()> {
    let Some(request) = within(TO_ASK, read_line(stream, MAX_REQUEST)).await? else { return Ok(()) };
    let asked = match serde_json::from_str::<Request>(&request) {
        Ok(Request { version: VERSION, hook: Some(hook), human, most, .. }) => {
            moment(&hook, human).map(|moment| (moment, most)).ok_or("there is no such hook")
        }
        Ok(Request { version: VERSION, .. }) => Err("there is no such request"),
        Ok(_) => Err("the versions differ: update conclave, and start the agent's session again"),
        Err(_) => Err("that is no request"),
    };
    let (moment, most) = match asked {
        Ok(asked) => asked,
        Err(why) => return write(stream, &json!({ "error": why })).await,
    };
    let (sender, answered) = bounded(1);
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    // Escapes of JSON make a text at most six times as long.
    let asked = Event::Hook(moment, most.min(MAX_ANSWER / 8), sender);
    events.send(asked).await.map_err(|_| gone(()))?;
    let (call, text): (CallId, Option<Opaque<String>>) = answered.recv().await.map_err(|_| gone(()))?;
    let Some(text) = text else { return write(stream, &json!({})).await };
    let shown = async {
        write(stream, &json!({ "text": text.0 })).await?;
        read_line(stream, MAX_REQUEST).await
    };
    let confirmed = within(TO_SHOW, shown).await.ok().flatten();
    let request = confirmed.and_then(|line| serde_json::from_str::<Request>(&line).ok());
    if !request.is_some_and(|request| request.version == VERSION && request.shown) {
        // The bridge is gone otherwise.
        let _ = events.send(Event::HookFailed(call)).await;
    }
    Ok(())
}

async fn write(stream: &mut Async<UnixStream>, value: &serde_json::Value) -> io::Result<()> {
    let line = format!("{value}\n");
    within(TO_ASK, async { stream.write_all(line.as_bytes()).await }).await
}

async fn within<T>(time: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = async {
        Timer::after(time).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    what.or(late).await
}
