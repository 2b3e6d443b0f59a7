//! The console blocks of a page, run in order: each prompt's name is a machine with a home of its own.
//!
//! `conclave serve` and `conclave tail` go on in the background; what is documented of them must have come by the
//! end of the page. The documented address stands for the one that the system gave, `/home`, `/var` and `/etc` for
//! directories of the test's.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::masked::{agrees, is_secret};
use super::page::{Block, Page, prompt};

/// No line takes longer on any machine that works.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where pages say that the server listens.
const ADDRESS: &str = "127.0.0.1:4390";
const DIRS: [&str; 3] = ["/home/", "/var/", "/etc/"];

/// One command of a page.
struct Step {
    place: String,
    machine: String,
    typed: String,
    shows: Vec<String>,
}

/// Runs all console blocks of a page.
pub(crate) fn run(page: &Page) {
    let mut stage = Stage::new();
    let consoles = page.blocks().into_iter().filter(|block| block.language == "console");
    for step in consoles.flat_map(|block| steps(page, &block)) {
        stage.play(step);
    }
    stage.end();
}

fn steps(page: &Page, block: &Block<'_>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (number, line) in &block.lines {
        let place = format!("{}:{number}", page.path);
        match (prompt(line), steps.last_mut()) {
            (Some((machine, typed)), _) => {
                let machine = if machine.is_empty() { "you" } else { machine }.to_owned();
                let typed = typed.to_owned();
                steps.push(Step { place, machine, typed, shows: Vec::new() });
            }
            (None, Some(step)) => step.shows.push((*line).into()),
            (None, None) => panic!("{place}: output without a command"),
        }
    }
    steps
}

struct Stage {
    root: TempDir,
    /// Where the server listens.
    address: Option<String>,
    /// Documented keys and tokens, and the real ones.
    secrets: Vec<(String, String)>,
    background: Vec<(Step, Running)>,
}

impl Stage {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { root, address: None, secrets: Vec::new(), background: Vec::new() }
    }

    fn play(&mut self, step: Step) {
        let fails = step.shows.iter().any(|line| line.starts_with("error: ") || line.starts_with("FAIL"));
        let serves = step.typed.starts_with("conclave serve") && !fails;
        let goes_on = step.typed.contains("conclave tail") && !step.typed.contains("--no-follow");
        let hosts = step.typed == "conclave host";
        let mut running = self.start(&step, serves);
        if serves {
            running.read_until(&step, |lines| lines.iter().any(|line| line.contains("conclave serves ")));
            let address = running.seen.iter().find_map(|line| {
                line.split_once("conclave serves ")?
                    .1
                    .split_once("://")?
                    .1
                    .split(',')
                    .next()
                    .map(String::from)
            });
            self.address = address;
        } else if hosts {
            // Its agents hear what the page goes on with.
            running.read_until(&step, |lines| agrees(&step.shows, &self.documented(lines)));
        } else if goes_on {
            running.read_until(&step, |lines| !lines.is_empty());
        } else {
            running.read_to_end();
            self.compare(&step, &step.shows, &running.seen);
            let pairs = step.shows.iter().zip(&running.seen).filter(|(documented, _)| is_secret(documented));
            self.secrets.extend(pairs.map(|(documented, real)| (documented.clone(), real.clone())));
            let success = running.child.wait().unwrap().success();
            assert_eq!(success, !fails, "{}: {}: exit code", step.place, step.typed);
            return;
        }
        self.background.push((step, running));
    }

    /// Waits for the rest of what goes on in the background.
    fn end(mut self) {
        for (step, mut running) in std::mem::take(&mut self.background) {
            running.read_until(&step, |lines| agrees(&step.shows, &self.documented(lines)));
        }
    }

    fn compare(&self, step: &Step, documented: &[String], printed: &[String]) {
        let printed = self.documented(printed);
        let (place, typed) = (&step.place, &step.typed);
        assert!(
            agrees(documented, &printed),
            "{place}: {typed}\nthe page says:\n  {}\nit prints:\n  {}",
            documented.join("\n  "),
            printed.join("\n  ")
        );
    }

    fn start(&self, step: &Step, serves: bool) -> Running {
        let home = self.root.path().join("home").join(&step.machine);
        for dir in [home.clone(), self.root.path().join("var/lib"), self.root.path().join("etc")] {
            fs::create_dir_all(dir).unwrap();
        }
        let mut typed = step.typed.clone();
        if let Some(address) = self.address.as_deref().or(serves.then_some("127.0.0.1:0")) {
            typed = typed.replace(ADDRESS, address);
        }
        for dir in DIRS {
            typed = typed.replace(&format!(" {dir}"), &format!(" {}{dir}", self.root.path().display()));
        }
        for (documented, real) in &self.secrets {
            typed = typed.replace(documented, real);
        }
        // What goes on is ended later: itself, not a shell around it.
        let exec = if serves || typed.starts_with("conclave tail") || typed == "conclave host" {
            "exec "
        } else {
            ""
        };
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{exec}{typed}")])
            .env_clear()
            .env("PATH", path())
            .env("HOME", &home)
            .env("TMPDIR", &home)
            .env("TZ", "UTC")
            .env("CONCLAVE_BIND", "127.0.0.1:0")
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().unwrap())
            .stderr(writer);
        let child = command.spawn().unwrap();
        // The command keeps writers of the pipe, which would never end.
        drop(command);
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Running { child, lines, seen: Vec::new() }
    }

    /// Printed lines as a page would show them.
    fn documented(&self, lines: &[String]) -> Vec<String> {
        let root = self.root.path().display().to_string();
        lines
            .iter()
            .map(|line| {
                let line = line.replace(&root, "");
                self.address.iter().fold(line, |line, address| line.replace(address, ADDRESS))
            })
            .collect()
    }
}

/// The program first, then what the shell needs.
fn path() -> std::ffi::OsString {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_conclave"));
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(program.parent().unwrap().to_owned()).chain(std::env::split_paths(&rest));
    std::env::join_paths(dirs).unwrap()
}

/// A program that goes on, and what it has printed.
struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    fn read_until(&mut self, step: &Step, enough: impl Fn(&[String]) -> bool) {
        while !enough(&self.seen) {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                Err(_) => panic!(
                    "{}: {}\nthe page says:\n  {}\nit printed only:\n  {}",
                    step.place,
                    step.typed,
                    step.shows.join("\n  "),
                    self.seen.join("\n  ")
                ),
            }
        }
    }

    fn read_to_end(&mut self) {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => panic!("it goes on printing nothing: {:?}", self.seen),
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
