//! The built program, run as people run it: homes, servers, and a network in between.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "every test uses a part of it, and fails by panicking"
)]

pub mod session;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// No run takes longer on any machine that works.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a run printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// It failed with exit `code`, one line that says what is wrong and one what to type.
    #[track_caller]
    pub fn fails(self, code: i32, what: &str, next: &str) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.out, "", "nothing but results stands on standard output");
        let lines: Vec<_> = self.err.lines().collect();
        let [.., error, advice] = lines[..] else { panic!("{self:?}") };
        assert!(error.starts_with("error: ") && error.contains(what), "{error}");
        assert!(advice.starts_with(" next: ") && advice.contains(next), "{advice}");
        self
    }

    /// It ended with exit `code`.
    #[track_caller]
    pub fn code_is(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    #[track_caller]
    pub fn json(self) -> Value {
        let ran = self.ok();
        assert_eq!(ran.out.lines().count(), 1, "{ran:?}");
        serde_json::from_str(&ran.out).unwrap()
    }
}

/// A machine of somebody's: a configuration directory of its own.
pub struct Home {
    pub dir: PathBuf,
    _root: TempDir,
}

impl Home {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { dir: root.path().join("conclave"), _root: root }
    }

    /// A machine that is registered on a server.
    pub fn registered(server: &str, user: &str) -> Self {
        let home = Self::new();
        home.run(["register", "--server", server, "--username", user, "--machine", "m"]).ok();
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The program, with nothing of the outside in its environment.
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = program();
        command.env("CONCLAVE_CONFIG_DIR", &self.dir).args(args);
        command
    }

    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        run(&mut self.command(args), b"")
    }

    #[track_caller]
    pub fn piped<A: AsRef<OsStr>>(&self, input: &[u8], args: impl IntoIterator<Item = A>) -> Ran {
        run(&mut self.command(args), input)
    }
}

pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conclave"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TZ", "UTC");
    command
}

/// Runs to the end, with `input` as a pipe.
#[track_caller]
pub fn run(command: &mut Command, input: &[u8]) -> Ran {
    let (mut out, mut err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    command.stdin(Stdio::piped()).stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that does not read its input is none that fails here.
    thread::spawn(move || stdin.write_all(&input));
    let status = wait(&mut child);
    Ran { code: status.code().unwrap_or(-1), out: text(&mut out), err: text(&mut err) }
}

fn text(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// Waits for the end of a child, and ends it when that takes too long.
#[track_caller]
pub fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it did not end within {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// A running server; it ends with this.
pub struct Server {
    pub url: String,
    pub port: u16,
    child: Child,
    /// Where a server that keeps nothing has its files: killed, it leaves them.
    _temporary: TempDir,
}

impl Server {
    /// Keeps nothing.
    pub fn start() -> Self {
        Self::with(["--ephemeral"])
    }

    pub fn with<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Self {
        Self::at("127.0.0.1:0", args)
    }

    /// At an address.
    pub fn at<A: AsRef<OsStr>>(bind: &str, args: impl IntoIterator<Item = A>) -> Self {
        let mut command = program();
        let temporary = tempfile::tempdir().unwrap();
        command.args(["serve", "--bind", bind]).args(args).env("TMPDIR", temporary.path());
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let url = lines.find_map(|line| {
            let rest = line.split_once("conclave serves ")?.1;
            Some(rest.split(',').next()?.to_owned())
        });
        let url = url.expect("the server says where it listens");
        // What a server logs is read to its end, or the pipe fills.
        thread::spawn(move || lines.for_each(drop));
        let port = url.rsplit(':').next().unwrap().parse().unwrap();
        Self { url, port, child, _temporary: temporary }
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// As after a power cut.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As an operator does it.
    #[cfg(unix)]
    pub fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(wait(&mut self.child).success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that goes on, and the lines that it prints.
pub struct Running {
    pub child: Child,
    lines: std::sync::mpsc::Receiver<String>,
    notes: std::sync::mpsc::Receiver<String>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = receive(child.stdout.take().unwrap());
        let notes = receive(child.stderr.take().unwrap());
        Self { child, lines, notes }
    }

    #[track_caller]
    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line in time")
    }

    /// Waits for a note that contains `text`.
    #[track_caller]
    pub fn note(&self, text: &str) -> String {
        loop {
            let note = self.notes.recv_timeout(PATIENCE).expect("a note in time");
            if note.contains(text) {
                return note;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn receive(output: impl std::io::Read + Send + 'static) -> std::sync::mpsc::Receiver<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The names in a directory, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
