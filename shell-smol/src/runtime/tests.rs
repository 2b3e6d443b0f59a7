#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::thread::{self, JoinHandle};

use conclave_core::bridge::{CallId, Moment};
use conclave_core::opaque::Opaque;
use smol::channel::{Receiver, Sender, bounded};
use smol::future::FutureExt as _;

use super::client::find_in;
use super::server::{bind, listen};
use super::socket::{make_directory, read_line};
use super::{MAX_REQUEST, VERSION};
use crate::event::Event;

/// A bridge of which only the socket is real: what its hooks ask is answered by the test.
struct Bridge {
    dir: PathBuf,
    asked: Receiver<Event>,
    end: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Bridge {
    fn start(dir: &Path) -> Self {
        let (events, asked) = bounded(4);
        let (end, ended) = bounded::<()>(1);
        let (bound, is_bound) = std::sync::mpsc::channel();
        let at = dir.to_owned();
        let thread = thread::spawn(move || {
            let listener = bind(&at).unwrap();
            bound.send(()).unwrap();
            let stop = async {
                let _ = ended.recv().await;
            };
            smol::block_on(listen(&listener, &events).or(stop));
        });
        is_bound.recv().unwrap();
        Self { dir: dir.to_owned(), asked, end, thread: Some(thread) }
    }

    fn socket(&self) -> PathBuf {
        fs::read_dir(&self.dir).unwrap().next().unwrap().unwrap().path()
    }

    /// Takes the next question and answers it.
    fn answer(&self, call: u64, text: Option<&str>) -> (Moment, usize) {
        let Event::Hook(moment, most, answer) = self.asked.recv_blocking().unwrap() else {
            panic!("no question of a hook");
        };
        answer.send_blocking((CallId(call), text.map(|text| Opaque(text.to_owned())))).unwrap();
        (moment, most)
    }

    /// Sends a line and reads the answer.
    fn say(&self, line: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        // A connection that ends before all was read is reset.
        let _ = BufReader::new(stream).read_line(&mut answer);
        answer
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.end.try_send(());
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn a_hook_asks_and_says_that_it_has_shown_the_answer() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("run");
    let bridge = Bridge::start(&dir);
    let cwd = std::env::current_dir().unwrap();
    let asking = thread::spawn({
        let dir = dir.clone();
        move || {
            let mut client = find_in(from_ref(&dir), &cwd, &[]).unwrap();
            let text = client.unread(Moment::Prompt { human: true }, 9000).unwrap();
            client.shown().unwrap();
            let mut client = find_in(from_ref(&dir), &cwd, &[]).unwrap();
            let nothing = client.unread(Moment::Stop, 100).unwrap();
            (text, nothing)
        }
    });
    assert_eq!(
        bridge.answer(1, Some("<message>hi\n\"there\"</message>")),
        (Moment::Prompt { human: true }, 9000)
    );
    assert_eq!(bridge.answer(2, None), (Moment::Stop, 100));
    assert_eq!(asking.join().unwrap(), (Some("<message>hi\n\"there\"</message>".to_owned()), None));
    assert!(bridge.asked.is_empty(), "nothing is taken back");
}

#[test]
fn what_was_not_shown_is_taken_back() {
    let home = tempfile::tempdir().unwrap();
    let bridge = Bridge::start(home.path().join("run").as_path());
    for last in ["", "{\"version\":1}\n", "no JSON\n"] {
        let mut stream = UnixStream::connect(bridge.socket()).unwrap();
        writeln!(stream, r#"{{"version":{VERSION},"hook":"tool","most":10}}"#).unwrap();
        assert_eq!(bridge.answer(7, Some("hi")), (Moment::Tool, 10));
        stream.write_all(last.as_bytes()).unwrap();
        drop(stream);
        let Event::HookFailed(CallId(7)) = bridge.asked.recv_blocking().unwrap() else { panic!("{last}") };
    }
}

#[test]
fn what_is_no_request_of_this_version_is_refused_in_words() {
    let home = tempfile::tempdir().unwrap();
    let bridge = Bridge::start(home.path().join("run").as_path());
    for (line, why) in [
        ("", "no request"),
        ("{}", "no request"),
        (r#"{"version":"1"}"#, "no request"),
        (r#"{"version":1,"hook":"sleep"}"#, "no such hook"),
        (r#"{"version":1,"pause":true}"#, "no such request"),
        (r#"{"version":2,"hook":"stop"}"#, "update conclave"),
    ] {
        assert!(bridge.say(line).contains(why), "{line}");
    }
    // More than a request may have: the connection ends.
    assert_eq!(bridge.say(&"x".repeat(MAX_REQUEST + 1)), "");
    assert!(bridge.asked.is_empty());
}

#[test]
fn the_socket_is_for_one_user_and_goes_with_the_bridge() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("run");
    let bridge = Bridge::start(&dir);
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&dir), mode(&bridge.socket())), (0o700, 0o600));
    drop(bridge);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o750)).unwrap();
    assert_eq!(make_directory(&dir).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    let link = home.path().join("link");
    std::os::unix::fs::symlink(home.path(), &link).unwrap();
    assert!(make_directory(&link).is_err());
}

#[test]
fn a_hook_finds_the_bridge_of_its_own_client() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("run");
    let bridge = Bridge::start(&dir);
    let own = rustix::process::getppid().unwrap().as_raw_pid();
    let (cwd, elsewhere) = (std::env::current_dir().unwrap(), home.path());
    assert!(find_in(from_ref(&dir), elsewhere, &[]).is_none(), "another directory, and another client");
    assert!(find_in(from_ref(&dir), elsewhere, &[1, own]).is_some(), "the same client");
    assert!(find_in(from_ref(&dir), &cwd, &[]).is_some(), "the same directory");
    // A bridge that was killed is passed over, and a new one tidies up.
    let name = bridge.socket().file_name().unwrap().to_str().unwrap().to_owned();
    let killed = name.replace(&format!("-{}-", std::process::id()), "-2147483646-");
    drop(bridge);
    drop(std::os::unix::net::UnixListener::bind(dir.join(&killed)).unwrap());
    assert!(find_in(from_ref(&dir), &cwd, &[own]).is_none());
    let bridge = Bridge::start(&dir);
    assert_eq!(bridge.socket(), dir.join(&name));
    drop(std::os::unix::net::UnixListener::bind(dir.join(killed)).unwrap());
    assert!(find_in(from_ref(&dir), &cwd, &[]).is_some(), "the one that was killed does not count");
    // Two in one directory, and neither is of this client: there is no telling which.
    let (other, elsewhere) = (name.replacen("bridge-", "bridge-1", 1), home.path().join("elsewhere"));
    make_directory(&elsewhere).unwrap();
    drop(std::os::unix::net::UnixListener::bind(elsewhere.join(other)).unwrap());
    let both = [elsewhere, dir];
    assert!(find_in(&both, &cwd, &[]).is_none());
    assert!(find_in(&both, &cwd, &[own]).is_some());
}

#[test]
fn a_line_has_a_bound() {
    let read = |mut bytes: &[u8], most| smol::block_on(read_line(&mut bytes, most));
    assert_eq!(read(b"abc\nd", 3).unwrap(), Some("abc".to_owned()));
    assert_eq!(read(b"\n", 0).unwrap(), Some(String::new()));
    assert_eq!(read(b"abc", 3).unwrap(), None);
    assert!(read(b"abcd\n", 3).is_err());
    assert!(read(b"\xff\n", 3).is_err());
}
