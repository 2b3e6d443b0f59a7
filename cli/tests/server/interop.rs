//! Met by other clients, and meeting other servers: `CONCLAVE_PEER` names a program that speaks version 1 too and
//! has the same verbs, as the one of crates.io does. Without it, this program meets itself.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use conclave_core::link::{Action, JoinFrom};
use conclave_core::payload::Payload;
use conclave_core::time::UnixMillis;
use conclave_core::wire::v1::Visibility;
use conclave_tests::client::{Door, PATIENCE, Peer, key, text};
use conclave_tests::conformance::{ClientShell as _, Tokio};
use tempfile::TempDir;

use super::process::{Served, bare, run, say, serve};

/// This program.
const OURS: &str = env!("CARGO_BIN_EXE_conclave");

/// The other one; says loudly when there is none.
fn theirs() -> Option<PathBuf> {
    let theirs = std::env::var_os("CONCLAVE_PEER").map(PathBuf::from).filter(|path| path.exists());
    if theirs.is_none() {
        say!("SKIPPED: CONCLAVE_PEER names no program to meet");
    }
    theirs
}

/// Somebody's machine, and the program that they use.
struct Somebody<'a> {
    program: &'a Path,
    dir: &'a Path,
    server: &'a str,
}

impl Somebody<'_> {
    fn command(&self, line: &str) -> Command {
        let mut command = bare(self.program);
        // Both keep a key and a configuration in the directory, and nothing elsewhere.
        command.env("HOME", self.dir).arg("--config-dir").arg(self.dir);
        for word in line.split(' ') {
            command.arg(if word == "$S" { self.server } else { word });
        }
        command
    }

    /// Runs a verb that must do; gives back all that it says.
    #[track_caller]
    fn does(&self, line: &str) -> String {
        let (code, out, err) = run(&mut self.command(line));
        assert_eq!(code, 0, "{} {line}: {out}{err}", self.program.display());
        out + &err
    }

    /// Runs a verb until it says `text`.
    #[track_caller]
    fn sees(&self, line: &str, text: &str) {
        let start = Instant::now();
        while !self.does(line).contains(text) {
            assert!(start.elapsed() < PATIENCE, "{line} never says {text}");
        }
    }

    /// Runs a verb that must fail.
    #[track_caller]
    fn fails(&self, line: &str) {
        let (code, out, err) = run(&mut self.command(line));
        assert_ne!(code, 0, "{} {line}: {out}{err}", self.program.display());
    }

    #[track_caller]
    fn registers(&self, user: &str) {
        self.does(&format!("register --server $S --username {user} --machine m"));
    }

    /// Starts a tail, and waits until it follows.
    fn tails(&self, line: &str) -> Tail {
        let mut child = self.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (lines, said) = channel();
        let outputs: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let lines = lines.clone();
            thread::spawn(move || {
                BufReader::new(output).lines().map_while(Result::ok).for_each(|line| drop(lines.send(line)));
            });
        }
        Tail { child, said }
    }
}

/// A running tail.
struct Tail {
    child: Child,
    said: Receiver<String>,
}

impl Tail {
    #[track_caller]
    fn shows(&self, text: &str) {
        while !self.said.recv_timeout(PATIENCE).unwrap().contains(text) {}
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dirs() -> [TempDir; 4] {
    std::array::from_fn(|_| tempfile::tempdir().unwrap())
}

/// A day on a server: ann and root use one program, bob another.
fn a_day(server: &str, anns: &Path, bobs: &Path) {
    let dirs = dirs();
    let [root, ann, laptop] = [0, 1, 2].map(|nth| Somebody { program: anns, dir: dirs[nth].path(), server });
    let bob = Somebody { program: bobs, dir: dirs[3].path(), server };
    root.registers("root");
    ann.registers("ann");
    bob.registers("bob");
    laptop.fails("register --server $S --username ann --machine n");

    ann.does("channel create --server $S --visibility private plans");
    assert!(ann.does("channel list --server $S").contains("plans"));
    assert!(!bob.does("channel list --server $S").contains("plans"));
    bob.fails("send --server $S --channel plans text");
    let said = ann.does("invite create --server $S --channel plans --uses 1 --expires-in 24h");
    let token = said.split_whitespace().find(|word| word.len() >= 32 && !word.contains(':')).unwrap();
    assert!(ann.does("invite list --server $S --channel plans").contains(token));
    bob.does(&format!("join --server $S plans --token {token} --perm converse"));
    assert!(ann.does("acl list --server $S --channel plans").contains("bob"));

    let tail = ann.tails("tail --server $S --channel plans --as watch");
    bob.sees("who --server $S plans", "watch");
    bob.does("send --server $S --channel plans from-bob");
    tail.shows("from-bob");
    ann.does("send --server $S --channel plans from-ann");
    tail.shows("from-ann");
    drop(tail);
    let replay = bob.tails("tail --server $S --channel plans --since 1h");
    replay.shows("from-bob");
    replay.shows("from-ann");
    drop(replay);

    ann.does("channel rename --server $S plans deeds");
    ann.does("channel set-visibility --server $S deeds public");
    bob.does("send --server $S --channel deeds renamed");
    bob.fails("send --server $S --channel plans renamed");
    ann.does("ban --server $S --channel deeds bob");
    bob.fails("send --server $S --channel deeds banned");
    assert!(ann.does("bans --server $S --channel deeds").contains("bob"));
    ann.does("unban --server $S --channel deeds bob");
    ann.does("acl add --server $S --channel deeds bob");
    ann.does("acl remove --server $S --channel deeds bob");
    bob.fails("kick --server $S --channel deeds ann");
    let tail = bob.tails("tail --server $S --channel deeds --as watch");
    ann.sees("who --server $S deeds", "watch");
    ann.does("kick --server $S --channel deeds bob");
    assert!(!ann.does("who --server $S deeds").contains("watch"));
    drop(tail);
    let revoked = ann.does("invite create --server $S --channel deeds");
    let token = revoked.split_whitespace().find(|word| word.len() >= 32 && !word.contains(':')).unwrap();
    ann.does(&format!("invite revoke --server $S {token}"));

    let key = laptop.does("key");
    let key = key.split_whitespace().find(|word| word.len() == 43).unwrap();
    ann.does(&format!("machine add --server $S --name laptop --pubkey {key}"));
    assert!(ann.does("machine list --server $S").contains("laptop"));
    ann.does("machine remove --server $S laptop");
    assert!(!ann.does("machine list --server $S").contains("laptop"));

    assert!(bob.does("status").contains("bob"));
    bob.does("perm set act --server $S --channel deeds");
    assert!(bob.does("perm show").contains("act"));
    ann.does("channel delete --server $S deeds");
    assert!(!root.does("channel list --server $S").contains("deeds"));
    assert!(root.does("user list --server $S").contains("bob"));
    root.does("user remove --server $S bob");
    bob.fails("who --server $S");
    // The same directory does for the other program.
    let changed = Somebody { program: bobs, ..ann };
    changed.does("channel create --server $S --visibility private later");
    assert!(ann.does("channel list --server $S").contains("later"));
    assert!(changed.does("status").contains("ann"));
}

#[test]
fn this_program_spends_a_day_on_its_own_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(serve(dir.path()));
    a_day(&server.url, OURS.as_ref(), OURS.as_ref());
}

#[test]
fn the_other_program_spends_a_day_on_our_server() {
    let Some(theirs) = theirs() else { return };
    for [anns, bobs] in [[&theirs, &theirs], [&theirs, &PathBuf::from(OURS)], [&PathBuf::from(OURS), &theirs]]
    {
        let dir = tempfile::tempdir().unwrap();
        let server = Served::start(serve(dir.path()));
        a_day(&server.url, anns, bobs);
    }
}

/// Their server.
struct Other {
    child: Child,
    address: SocketAddr,
}

impl Other {
    fn start(program: &Path, dir: &Path) -> Self {
        let mut command = bare(program);
        command
            .env("HOME", dir)
            .args(["serve", "--bind", "127.0.0.1:0", "--admin", "root", "--data-dir"])
            .arg(dir);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (lines, said) = channel();
        let outputs: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let lines = lines.clone();
            thread::spawn(move || {
                BufReader::new(output).lines().map_while(Result::ok).for_each(|line| drop(lines.send(line)));
            });
        }
        let address = loop {
            let line = said.recv_timeout(PATIENCE).unwrap();
            if let Some((_, port)) = line.split_once("127.0.0.1:").filter(|_| line.contains("listening")) {
                let port: String = port.chars().take_while(char::is_ascii_digit).collect();
                break format!("127.0.0.1:{port}").parse().unwrap();
            }
        };
        Self { child, address }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn this_program_spends_a_day_on_the_other_server() {
    let Some(theirs) = theirs() else { return };
    let dir = tempfile::tempdir().unwrap();
    let server = Other::start(&theirs, dir.path());
    a_day(&format!("ws://{}", server.address), OURS.as_ref(), OURS.as_ref());
}

/// Waits until the newest post is history and its millisecond is over: that server keeps order between those only.
fn settles(witness: &mut Peer, newest: &str) {
    let start = Instant::now();
    loop {
        let over = witness.history("c").last().is_some_and(|last| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
            text(&last.payload) == newest && now > u128::try_from(last.ts_ms).unwrap()
        });
        if over {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "it never becomes history");
    }
}

/// Posts in three rounds through drops and a restart of the other server; gives back what was posted, what a
/// link to it handed on until all of that was there, and what the server's history says. `paced`: no post before
/// the one before is history, in an earlier millisecond.
fn follows(theirs: &Path, paced: bool) -> [Vec<String>; 3] {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Other::start(theirs, dir.path());
    let (mut ann, mut witness) =
        (Peer::register(server.address, "ann"), Peer::register(server.address, "bob"));
    ann.create("c", Visibility::Public);
    witness.join("c");
    let door = Door::to(server.address);
    let link = Tokio::open(door.address(), key("ann"), "link");
    link.join("c", JoinFrom::Since(UnixMillis(0)));
    let mut posted = Vec::new();
    for round in 0..3 {
        for nth in 0..60 {
            let text = format!("{round} {nth}");
            ann.post("c", &text);
            if paced {
                settles(&mut witness, &text);
            }
            posted.push(text);
            if nth == 30 {
                door.cut();
            }
        }
        if round == 1 {
            drop(server);
            server = Other::start(theirs, dir.path());
            door.lead_to(server.address);
            (ann, witness) =
                (Peer::connect(server.address, "ann", "s"), Peer::connect(server.address, "bob", "s"));
            [&mut ann, &mut witness].into_iter().for_each(|peer| peer.join("c"));
        }
    }
    let kept = ann.history_texts("c").into_iter().map(str::to_owned).collect();
    let (mut handed, mut missing) = (Vec::new(), posted.iter().cloned().collect::<BTreeSet<_>>());
    while !missing.is_empty() {
        if let Action::Deliver { payload: Payload::Plain(text), .. } = link.next() {
            missing.remove(&*text);
            handed.push(text.to_string());
        }
    }
    [posted, handed, kept]
}

#[test]
fn a_link_to_the_other_server_hands_on_each_post_once_across_drops_and_a_restart() {
    let Some(theirs) = theirs() else { return };
    let [posted, handed, kept] = follows(&theirs, true);
    assert_eq!(kept, posted);
    assert_eq!(handed, posted);
}

#[test]
fn a_link_to_the_other_server_misses_no_post_though_that_server_keeps_no_order() {
    let Some(theirs) = theirs() else { return };
    // What it delivers live may stand in another order in its history: what cannot be matched then may come twice.
    let [posted, handed, kept] = follows(&theirs, false);
    let repeated = handed.len() - posted.len();
    say!(
        "{} posts, {} in another order in the history, {repeated} handed on twice",
        posted.len(),
        kept.iter().zip(&posted).filter(|(a, b)| a != b).count()
    );
}
