//! One run of an agent's program: its own process group, a bounded output, and nothing of it left behind.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use smol::Timer;
use smol::channel::Receiver;
use smol::future::{or, pending, zip};
use smol::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use smol::process::Command;

/// Of what a program writes to standard error the last bytes are kept, for its human.
const ERRORS: usize = 4096;
/// How long the output is read on once the program has ended and its group is killed: whoever left the group may hold the pipe.
const LINGER: Duration = Duration::from_millis(500);

/// What is run.
pub(super) struct Run {
    pub(super) command: Vec<String>,
    pub(super) directory: PathBuf,
    pub(super) env: Vec<(String, OsString)>,
    pub(super) input: String,
    pub(super) max_output: usize,
}

/// How it ended.
pub(super) struct Ended {
    pub(super) end: End,
    pub(super) output: Vec<u8>,
    /// The end of standard error.
    pub(super) errors: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Exited(ExitStatus),
    /// Its time was over.
    Killed,
    TooLarge,
}

/// The processes of one run: they end with this.
struct Group(Option<Pid>);

impl Group {
    fn kill(&self) {
        if let Some(pid) = self.0 {
            // Nobody is left to be killed, as a rule.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs it to its end, or until `kill` says so. `started` is handed what identifies the process.
///
/// # Errors
/// It cannot be started.
pub(super) async fn run(run: Run, started: impl FnOnce(&str), kill: &Receiver<()>) -> io::Result<Ended> {
    let mut command = std::process::Command::new(&run.command[0]);
    command.args(&run.command[1..]).current_dir(&run.directory).env_clear().envs(run.env).process_group(0);
    let mut command = Command::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let id = child.id();
    let group = Group(i32::try_from(id).ok().and_then(Pid::from_raw));
    started(&identify(id));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (output, errors) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read its input is none that fails here.
            let _ = stdin.write_all(run.input.as_bytes()).await;
        }
    };
    let (say_flood, flood) = smol::channel::bounded(1);
    let read_output = read(stdout, |bytes| {
        output.borrow_mut().extend_from_slice(bytes);
        let fits = output.borrow().len() <= run.max_output;
        if !fits {
            let _ = say_flood.try_send(());
        }
        fits
    });
    let read_errors = read(stderr, |bytes| {
        let mut errors = errors.borrow_mut();
        errors.extend_from_slice(bytes);
        let more = errors.len().saturating_sub(ERRORS);
        errors.drain(..more);
        true
    });
    let mut pipes = pin!(zip(zip(read_output, read_errors), feed));
    let exited = async { child.status().await.map_or(End::Killed, End::Exited) };
    let killed = async {
        let _ = kill.recv().await;
        End::Killed
    };
    let flooded = async {
        let _ = flood.recv().await;
        End::TooLarge
    };
    let go_on = async {
        pipes.as_mut().await;
        pending().await
    };
    let mut end = or(or(exited, killed), or(flooded, go_on)).await;
    group.kill();
    let late = async {
        Timer::after(LINGER).await;
    };
    if matches!(end, End::Exited(_)) {
        // What the program wrote before its end is in the pipe still.
        or(async { _ = pipes.await }, late).await;
        if !flood.is_empty() {
            end = End::TooLarge;
        }
    } else {
        or(async { _ = child.status().await }, late).await;
    }
    let mut output = output.take();
    output.truncate(run.max_output);
    let errors = String::from_utf8_lossy(&errors.take()).into_owned();
    Ok(Ended { end, output, errors })
}

/// Reads to the end, or until `take` wants no more.
async fn read(from: Option<impl AsyncRead + Unpin>, mut take: impl FnMut(&[u8]) -> bool) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => {
                if !take(&buffer[..read]) {
                    return;
                }
            }
        }
    }
}

/// What tells a process from a later one with the same number.
fn identify(id: u32) -> String {
    format!("{id}:{}", start_of(id).unwrap_or_default())
}

/// When a process started, as Linux counts. Elsewhere it is not known.
fn start_of(id: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name may have anything in it, and ends with the last parenthesis.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19).map(str::to_owned)
}

/// Kills the group of a process that an earlier host left behind, if it is that process still.
pub(super) fn kill_left_behind(process: &str) {
    let Some((id, start)) = process.split_once(':') else { return };
    let Ok(id) = id.parse::<u32>() else { return };
    if !start.is_empty() && start_of(id).as_deref() == Some(start) {
        Group(i32::try_from(id).ok().and_then(Pid::from_raw)).kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn shell(script: &str, input: &str, max_output: usize) -> (Ended, Duration) {
        let run_it = Run {
            command: ["/bin/sh", "-c", script].map(String::from).to_vec(),
            directory: "/".into(),
            env: vec![("PATH".into(), std::env::var_os("PATH").unwrap_or_default())],
            input: input.into(),
            max_output,
        };
        let (_keep, kill) = smol::channel::bounded(1);
        let begun = Instant::now();
        let ended = smol::block_on(run(run_it, |_| {}, &kill)).unwrap();
        (ended, begun.elapsed())
    }

    fn succeeded(ended: &Ended) -> bool {
        matches!(ended.end, End::Exited(status) if status.success())
    }

    #[test]
    fn a_program_gets_its_input_and_its_output_is_kept() {
        let input = "x".repeat(1 << 20);
        let (ended, _) = shell("wc -c; echo oops >&2", &input, 1000);
        assert!(succeeded(&ended));
        assert_eq!(String::from_utf8(ended.output).unwrap().trim(), "1048576");
        assert_eq!(ended.errors, "oops\n");
    }

    #[test]
    fn a_program_that_does_not_read_its_input_is_not_waited_for() {
        let (ended, _) = shell("echo done", &"x".repeat(1 << 20), 1000);
        assert!(succeeded(&ended));
        assert_eq!(ended.output, b"done\n");
    }

    #[test]
    fn a_flood_is_ended_and_not_kept() {
        let (ended, _) = shell("while :; do echo flood; done", "", 1000);
        assert_eq!((ended.end, ended.output.len()), (End::TooLarge, 1000));
        let (ended, _) = shell("head -c 2000 /dev/zero", "", 1000);
        assert_eq!(ended.end, End::TooLarge);
    }

    #[test]
    fn children_that_hold_the_pipe_are_killed_or_left() {
        // In the group, and out of it.
        for script in ["sleep 1000 & echo done", "setsid sleep 5 & echo done"] {
            let (ended, took) = shell(script, "", 1000);
            assert!(succeeded(&ended));
            assert_eq!(ended.output, b"done\n");
            assert!(took < Duration::from_secs(4), "{script}: {took:?}");
        }
    }

    #[test]
    fn what_is_told_to_end_ends_with_its_children() {
        let (say, kill) = smol::channel::bounded(1);
        let run_it = Run {
            command: ["/bin/sh", "-c", "sleep 1000 & sleep 1000"].map(String::from).to_vec(),
            directory: "/".into(),
            env: vec![("PATH".into(), std::env::var_os("PATH").unwrap_or_default())],
            input: String::new(),
            max_output: 10,
        };
        let process = RefCell::new(String::new());
        let ended = smol::block_on(run(
            run_it,
            |id| {
                *process.borrow_mut() = id.to_owned();
                say.try_send(()).unwrap();
            },
            &kill,
        ));
        assert_eq!(ended.unwrap().end, End::Killed);
        let process = process.into_inner();
        let id: u32 = process.split_once(':').unwrap().0.parse().unwrap();
        assert!(start_of(id).is_none_or(|start| !process.ends_with(&start)));
    }

    #[test]
    fn only_the_process_that_was_left_behind_is_killed() {
        let mut child = std::process::Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let process = identify(child.id());
        kill_left_behind(&format!("{}:1", child.id()));
        kill_left_behind("nonsense");
        assert!(child.try_wait().unwrap().is_none());
        kill_left_behind(&process);
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_program_that_is_not_there_cannot_be_started() {
        let run_it = Run {
            command: vec!["/no/such/program".into()],
            directory: "/".into(),
            env: Vec::new(),
            input: String::new(),
            max_output: 1,
        };
        let (_keep, kill) = smol::channel::bounded(1);
        assert!(smol::block_on(run(run_it, |_| {}, &kill)).is_err());
    }
}
