//! The host's socket: who runs, what happened, pause and resume. A line of JSON each way.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use smol::channel::{Sender, bounded};
use smol::future::FutureExt as _;
use smol::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use smol::{Async, LocalExecutor, Timer};

use super::HostError;
use super::supervisor::Event;

/// The socket's name in the configuration directory.
pub const SOCKET: &str = "host.sock";
const MAX_LINE: u64 = 4096;
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

/// Asks the host that runs with the configuration directory `dir`.
///
/// # Errors
/// The system's; `NotFound` or `ConnectionRefused` if none runs.
pub fn ask(dir: &Path, request: &Request) -> io::Result<Value> {
    let mut stream = UnixStream::connect(dir.join(SOCKET))?;
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
    let path = dir.join(SOCKET);
    let read = |source| HostError::Read { path: path.clone(), source };
    // What an earlier host left; this one has the lock.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(read(error)),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(&path).map_err(read)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, mode).map_err(read)?;
    let listener = Async::new(listener)?;
    executor
        .spawn(async move {
            loop {
                // One at a time: answers are quick, and a silent peer has its time.
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let late = async { _ = Timer::after(PATIENCE).await };
                        async { drop(answer(stream, &events).await) }.or(late).await;
                    }
                    Err(_) => drop(Timer::after(Duration::from_millis(100)).await),
                }
            }
        })
        .detach();
    Ok(())
}

async fn answer(mut stream: Async<UnixStream>, events: &Sender<Event>) -> io::Result<()> {
    let mut line = String::new();
    smol::io::BufReader::new((&mut stream).take(MAX_LINE)).read_line(&mut line).await?;
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
