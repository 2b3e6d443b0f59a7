//! A server's process: started, read, signalled, ended.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use conclave_core::wire::v1::Visibility;
use conclave_tests::client::{PATIENCE, Peer};
use rustix::process::{Pid, Signal, kill_process};

/// The runtimes that the program has.
pub(crate) const RUNTIMES: &[&str] =
    if cfg!(feature = "smol-server") { &["tokio", "smol"] } else { &["tokio"] };

/// What a greeting ends with.
const LAST: &str = "next, in another terminal";

/// Says something that is seen though the test passes.
macro_rules! say {
    ($($what:tt)*) => {
        drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{}\n", format_args!($($what)*))))
    };
}
pub(crate) use say;

/// The program, with nothing of the outside in its environment.
pub(crate) fn program() -> Command {
    bare(env!("CARGO_BIN_EXE_conclave"))
}

/// Any program in such an environment.
pub(crate) fn bare(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
    command
}

/// `conclave serve` on a port of the system's choice, without rate limits; what is refused more often than
/// anyone's agent would be is not what is tested here.
pub(crate) fn serve(dir: &Path) -> Command {
    let mut command = program();
    command.args([
        "serve",
        "--bind",
        "127.0.0.1:0",
        "--limit",
        "all=off,disk-free=1",
        "--admin",
        "root",
        "--data-dir",
    ]);
    command.arg(dir);
    command
}

/// The same behind `sh -c SCRIPT`, which ends with `exec "$@"`.
pub(crate) fn behind(script: &str, command: &Command) -> Command {
    let mut shell = bare("sh");
    shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    shell
}

/// A server that has said where it listens. It is killed when this is dropped.
pub(crate) struct Served {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The same as a URL.
    pub(crate) url: String,
    /// What it said on standard error up to then.
    pub(crate) greeting: Vec<String>,
    log: Receiver<String>,
    /// The log of a server whose log nobody reads.
    _unread: Option<BufReader<ChildStderr>>,
}

impl Served {
    /// Starts a server, and waits until it has said what to type next.
    #[track_caller]
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line))));
        let mut greeting = Vec::new();
        while let Ok(line) = log.recv_timeout(PATIENCE) {
            let last = line.contains(LAST);
            greeting.push(line);
            if last {
                break;
            }
        }
        Self::greeted(child, greeting, log, None)
    }

    /// Starts a server whose log nobody reads after the greeting; unless it is to be `kept`, nobody can.
    #[track_caller]
    pub(crate) fn unread(mut command: Command, kept: bool) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut greeting = Vec::new();
        while greeting.last().is_none_or(|line: &String| !line.contains(LAST)) {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "{greeting:?}");
            greeting.push(line);
        }
        Self::greeted(child, greeting, channel().1, kept.then_some(stderr))
    }

    #[track_caller]
    fn greeted(
        child: Child,
        greeting: Vec<String>,
        log: Receiver<String>,
        unread: Option<BufReader<ChildStderr>>,
    ) -> Self {
        let said = greeting.iter().find_map(|line| line.split_once("conclave serves ")?.1.split(',').next());
        let Some(url) = said.map(str::to_owned) else { panic!("it did not start: {greeting:?}") };
        let address = url.split_once("://").unwrap().1.parse().unwrap();
        Self { child, address, url, greeting, log, _unread: unread }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for a line of its log that contains `text`.
    #[track_caller]
    pub(crate) fn logs(&self, text: &str) -> String {
        loop {
            let line = self.log.recv_timeout(PATIENCE).unwrap();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Ends it as a power cut does.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Ends it as an operator does; checks that it says so by its exit code, and gives back the rest of its log.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Vec<String> {
        self.signal(Signal::TERM);
        assert_eq!(wait(&mut self.child).code(), Some(0));
        self.log.iter().collect()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// What is resident of its memory, in KiB; `None` where the system does not tell.
    pub(crate) fn resident(&self) -> Option<f64> {
        self.status("VmRSS:")
    }

    /// What it has asked the system for, in KiB, used or not.
    pub(crate) fn addressed(&self) -> Option<f64> {
        self.status("VmSize:")
    }

    fn status(&self, name: &str) -> Option<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    }

    /// Whether it has not ended.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A channel `c` with a post, and the text in it.
pub(crate) fn with_a_post(server: &Served, text: &str) -> Peer {
    let mut ann = Peer::register(server.address, "ann");
    ann.create("c", Visibility::Public);
    ann.post("c", text);
    ann
}

/// What is in that channel.
pub(crate) fn history(server: &Served) -> Vec<&'static str> {
    let mut ann = Peer::connect(server.address, "ann", "reader");
    ann.join("c");
    ann.history_texts("c")
}

/// Runs a program to its end; gives back its code, and what it said on standard output and error.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> (i32, String, String) {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let (done, over) = channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    let Ok(output) = over.recv_timeout(PATIENCE) else {
        let _ = kill_process(pid, Signal::KILL);
        panic!("{command:?} does not end");
    };
    let output = output.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[track_caller]
fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(start.elapsed() < PATIENCE, "it does not end");
        thread::yield_now();
    }
}
