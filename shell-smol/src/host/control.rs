//! The host's socket: who runs, what happened, pause and resume. A line of JSON each way.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use smol::channel::{Sender, bounded};
use smol::future::FutureExt as _;
use smol::io::AsyncWriteExt as _;
use smol::{Async, LocalExecutor, Timer};

use super::HostError;
use super::supervisor::Event;
use crate::runtime::socket::{Listener, directories, directory, make_directory, read_line};

const MAX_LINE: usize = 4096;
const MAX_ANSWER: u64 = 16 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked of a running host.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// How its agents stand.
    Status {
        /// One of them, or all.
        agent: Option<String>,
    },
    /// What happened lately.
    Logs {
        /// To one of them, or to all.
        agent: Option<String>,
    },
    /// Start no further runs.
    Pause {
        /// Of one of them, or of all.
        agent: Option<String>,
    },
    /// Go on.
    Resume {
        /// With one of them, or with all.
        agent: Option<String>,
    },
}

impl Request {
    pub(super) fn agent(&self) -> &Option<String> {
        match self {
            Self::Status { agent }
            | Self::Logs { agent }
            | Self::Pause { agent }
            | Self::Resume { agent } => agent,
        }
    }
}

/// The socket's name for the host with a configuration directory: each has its own.
fn name(dir: &Path) -> String {
    let known = dir.canonicalize();
    let hash = Sha256::digest(known.as_deref().unwrap_or(dir).as_os_str().as_encoded_bytes());
    let name: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("host-{name}.sock")
}

/// Asks the host that runs with the configuration directory `dir`.
///
/// # Errors
/// The system's; `NotFound` or `ConnectionRefused` if none runs.
pub fn ask(dir: &Path, request: &Request) -> io::Result<Value> {
    let name = name(dir);
    let mut tried = directories(dir).into_iter().map(|dir| UnixStream::connect(dir.join(&name)));
    let first = tried.next().unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()));
    let mut stream = tried.fold(first, |found, other| found.or(other))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

/// Listens, and hands on what is asked.
pub(super) fn serve(
    dir: &Path,
    executor: &Rc<LocalExecutor<'static>>,
    events: Sender<Event>,
) -> Result<(), HostError> {
    let (parent, name) = (directory(dir), name(dir));
    let read = |source| HostError::Read { path: parent.join(&name), source };
    make_directory(&parent).map_err(read)?;
    // What an earlier host left is replaced: this one has the lock.
    let listener = Listener::bind(&parent, name.clone().into()).map_err(read)?;
    executor
        .spawn(async move {
            loop {
                // One at a time: answers are quick, and a silent peer has its time.
                match listener.accept().await {
                    Ok(stream) => {
                        let late = async { _ = Timer::after(PATIENCE).await };
                        async { drop(answer(stream, &events).await) }.or(late).await;
                    }
                    Err(_) => {
                        Timer::after(Duration::from_millis(100)).await;
                    }
                }
            }
        })
        .detach();
    Ok(())
}

async fn answer(mut stream: Async<UnixStream>, events: &Sender<Event>) -> io::Result<()> {
    let Some(line) = read_line(&mut stream, MAX_LINE).await? else { return Ok(()) };
    let said = match serde_json::from_str::<Request>(&line) {
        Ok(request) => {
            let (say, said) = bounded(1);
            let _ = events.try_send(Event::Asked(request, say));
            said.recv().await.unwrap_or_default()
        }
        Err(error) => serde_json::json!({ "error": format!("not understood: {error}") }),
    };
    stream.write_all(format!("{said}\n").as_bytes()).await
}
