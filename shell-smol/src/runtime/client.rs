//! The other side: a hook finds the bridge of its session and asks it.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, process};

use conclave_core::bridge::Moment;
use serde::Deserialize;
use serde_json::json;

use super::{MAX_ANSWER, VERSION, name, socket};

/// How long a bridge may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Sockets that are looked at.
const MAX_SOCKETS: usize = 1024;
/// Processes between a hook and its client.
const MAX_ANCESTORS: usize = 32;

/// A bridge that runs.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

#[derive(Deserialize)]
struct Answer {
    text: Option<String>,
    error: Option<String>,
}

/// Finds the bridge of the session that this process belongs to: the one that was started by an ancestor of this process,
/// the nearest first, or else the only one that runs in the directory `cwd`. `config` is the configuration's directory.
pub fn find(config: &Path, cwd: &Path) -> Option<Client> {
    find_in(&socket::directories(config), cwd, &ancestors())
}

pub(super) fn find_in(dirs: &[PathBuf], cwd: &Path, ancestors: &[i32]) -> Option<Client> {
    let sockets =
        dirs.iter().flat_map(|dir| sockets(dir).into_iter().map(move |it| (dir.join(it.file()), it)));
    let sockets: Vec<_> = sockets.filter(|(_, it)| !it.is_left_behind()).collect();
    let started = ancestors.iter().flat_map(|pid| sockets.iter().filter(move |(_, it)| it.parent == *pid));
    let here = directory_name(cwd);
    let mut in_directory = sockets.iter().filter(|(_, it)| it.directory == here);
    let only = in_directory.next().filter(|_| in_directory.next().is_none());
    // Several bridges of one client: the one in this directory.
    let mut started: Vec<_> = started.collect();
    started.sort_by_key(|(_, it)| it.directory != here);
    started.into_iter().chain(only).find_map(|(path, _)| {
        let stream = UnixStream::connect(path).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        Some(Client { stream: BufReader::new(stream) })
    })
}

impl Client {
    /// Unread messages as the model may read them, framed and escaped, in at most `most` bytes. `None` if there is
    /// nothing; at [`Moment::Stop`] also if there is nothing that the agent may answer, or it went on often enough.
    ///
    /// # Errors
    /// The bridge ended, did not answer in a second, or speaks another version.
    pub fn unread(&mut self, moment: Moment, most: usize) -> io::Result<Option<String>> {
        let human = moment == Moment::Prompt { human: true };
        let request = json!({ "version": VERSION, "hook": name(moment), "human": human, "most": most });
        self.stream.get_mut().write_all(format!("{request}\n").as_bytes())?;
        let mut line = String::new();
        (&mut self.stream).take(MAX_ANSWER as u64 + 1).read_line(&mut line)?;
        let answer: Answer =
            serde_json::from_str(&line).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        match answer.error {
            Some(why) => Err(io::Error::other(why)),
            None => Ok(answer.text),
        }
    }

    /// What [`Client::unread`] returned was written to the client. Without this call the messages are unread again.
    ///
    /// # Errors
    /// The bridge ended.
    pub fn shown(mut self) -> io::Result<()> {
        let request = json!({ "version": VERSION, "shown": true });
        self.stream.get_mut().write_all(format!("{request}\n").as_bytes())
    }
}

/// A bridge's socket, as its file's name tells: which process started the bridge, the bridge's own, and the directory.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    parent: i32,
    pid: i32,
    directory: String,
}

impl Socket {
    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix("bridge-")?.strip_suffix(".sock")?.splitn(3, '-');
        let parent = parts.next()?.parse().ok()?;
        let pid = parts.next()?.parse().ok()?;
        Some(Self { parent, pid, directory: parts.next()?.to_owned() })
    }

    fn file(&self) -> String {
        let Self { parent, pid, directory } = self;
        format!("bridge-{parent}-{pid}-{directory}.sock")
    }

    /// Whether its bridge did not end by itself.
    fn is_left_behind(&self) -> bool {
        let gone = |pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
        rustix::process::Pid::from_raw(self.pid).is_none_or(gone)
    }
}

/// What this process's socket is called, if it is a bridge.
pub(super) fn own_name() -> io::Result<OsString> {
    let parent = rustix::process::getppid().map_or(0, rustix::process::Pid::as_raw_pid);
    let pid = i32::try_from(process::id()).map_err(io::Error::other)?;
    let directory = directory_name(&env::current_dir()?);
    Ok(Socket { parent, pid, directory }.file().into())
}

/// A directory's part of the names: a path is too long for them.
fn directory_name(path: &Path) -> String {
    let path: PathBuf = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    // FNV-1a. Whoever could bring about a collision can write here anyway.
    let hash = path.as_os_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

fn sockets(dir: &Path) -> Vec<Socket> {
    let Ok(files) = fs::read_dir(dir) else { return Vec::new() };
    let names = files.flatten().take(MAX_SOCKETS).filter_map(|file| file.file_name().into_string().ok());
    names.filter_map(|name| Socket::parse(&name)).collect()
}

/// Removes what bridges left that did not end by themselves.
pub(super) fn remove_stale(dir: &Path) {
    for socket in sockets(dir).iter().filter(|it| it.is_left_behind()) {
        let _ = fs::remove_file(dir.join(socket.file()));
    }
}

/// The processes that this one descends from, the nearest first.
fn ancestors() -> Vec<i32> {
    let first = rustix::process::getppid().map(rustix::process::Pid::as_raw_pid);
    let next = |pid: &i32| {
        // The second field behind the name, which stands in parentheses and may contain any character.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent: i32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        Some(parent).filter(|parent| *parent > 1)
    };
    std::iter::successors(first, next).take(MAX_ANCESTORS).collect()
}
