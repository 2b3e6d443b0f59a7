//! A data directory with a server on it, and plain HTTP.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::marker::PhantomData;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use conclave_core::hub::{self, Limits};
use tempfile::TempDir;

use super::shell::{Options, RunningServer, ServerShell};
use crate::client::{PATIENCE, Peer};

/// A server on a data directory of its own.
pub struct World<S> {
    server: Option<RunningServer>,
    dir: TempDir,
    shell: PhantomData<fn() -> S>,
}

impl<S: ServerShell> World<S> {
    /// A server without rate limits, whose admin is `root`.
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// The same with other options.
    pub fn with(change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Some(RunningServer::start::<S>(dir.path(), options(change)).unwrap());
        Self { server, dir, shell: PhantomData }
    }

    /// Drains the server and starts another on the same directory.
    pub fn restart(&mut self, change: impl FnOnce(&mut Options)) {
        self.stop();
        self.server = Some(RunningServer::start::<S>(self.dir.path(), options(change)).unwrap());
    }

    /// Drains the server.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.stop();
        }
    }

    /// The running server.
    pub fn server(&self) -> &RunningServer {
        self.server.as_ref().unwrap()
    }

    /// Its data directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server().address()
    }

    /// A new user's session.
    pub fn register(&self, user: &str) -> Peer {
        Peer::register(self.address(), user)
    }

    /// Another session of a user.
    pub fn connect(&self, user: &str, session: &str) -> Peer {
        Peer::connect(self.address(), user, session)
    }

    /// A metric, zero if it was never counted.
    pub fn metric(&self, name: &str) -> f64 {
        metric(self.address(), name)
    }

    /// Asks for the metrics until one is as it should be.
    pub fn until_metric(&self, name: &str, holds: impl Fn(f64) -> bool) {
        let start = Instant::now();
        while !holds(self.metric(name)) {
            assert!(start.elapsed() < PATIENCE, "{name} is {}", self.metric(name));
        }
    }
}

fn options(change: impl FnOnce(&mut Options)) -> Options {
    let admins = BTreeMap::from([("root".parse().unwrap(), None)]);
    // Listeners of a test say nothing, however slow the machine is.
    let idle = Duration::from_secs(3600);
    let limits = Limits { idle, ..Limits::default().without_rates() };
    let mut options =
        Options { hub: hub::Config { admins, limits, ..hub::Config::default() }, ..Options::default() };
    options.admission.failures = hub::Rate::OFF;
    change(&mut options);
    options
}

/// A metric of the server at `address`, zero if it was never counted.
pub fn metric(address: SocketAddr, name: &str) -> f64 {
    let page = get(address, "/metrics").body;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

/// An HTTP response.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The head, as it came.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Response {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Asks for a page.
pub fn get(address: SocketAddr, path: &str) -> Response {
    http(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
}

/// Sends `request` and reads the response to the end of the connection.
pub fn http(address: SocketAddr, request: &str) -> Response {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(request.as_bytes());
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Response { status, head: head.into(), body: body.into() }
}
