//! Another account on a machine where a person, their agents and a server run.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::mcp::Agent;
use super::scene::Scene;

/// Whoever is not root has this number nowhere: `nobody`.
const SOMEBODY_ELSE: u32 = 65_534;

fn everything_in(dir: &Path, found: &mut Vec<(PathBuf, Metadata)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            everything_in(&path, found);
        }
        found.push((path, metadata));
    }
}

/// What a day of use leaves, or makes while it goes on: keys, configuration, state, sockets, a server's data, a backup.
fn lived_in() -> (Scene, Agent) {
    let scene = Scene::new(&["alice", "bob"]);
    // As with a loose umask: the directories themselves are open to everyone.
    for dir in ["alice", "bob"] {
        fs::set_permissions(scene.dir().join(dir), fs::Permissions::from_mode(0o755)).unwrap();
    }
    scene.does("alice", &["channel", "create", "ops"]);
    scene.level("bob", "act", "ops");
    let mut agent = Agent::new(scene.bridge("bob", &["--as", "agent"]));
    agent.done("join_channel", json!({ "channel": "ops" }));
    scene.does("alice", &["send", "ops", "a secret", "--wait", "delivered"]);
    let (data, copy) = (scene.dir().join("data"), scene.dir().join("copy.db"));
    let backup =
        scene.command("server").arg("backup").arg("--data-dir").arg(data).arg(&copy).output().unwrap();
    assert!(backup.status.success(), "{backup:?}");
    (scene, agent)
}

#[test]
fn nothing_that_a_program_makes_is_open_to_other_accounts() {
    let (scene, _agent) = lived_in();
    let mut found = Vec::new();
    everything_in(scene.dir(), &mut found);
    let sockets = found.iter().filter(|(_, metadata)| metadata.file_type().is_socket()).count();
    assert!(sockets == 1 && found.iter().any(|(path, _)| path.ends_with("copy.db")), "{found:?}");
    for (path, metadata) in found.iter().filter(|(_, metadata)| !metadata.is_dir()) {
        assert_eq!(metadata.mode() & 0o077, 0, "{} has mode {:o}", path.display(), metadata.mode());
    }
}

#[test]
fn another_account_reads_no_file_and_speaks_on_no_socket() {
    let (scene, _agent) = lived_in();
    let mut found = Vec::new();
    everything_in(scene.dir(), &mut found);
    // Only root can become somebody else; for everyone else the modes above are the evidence.
    if fs::metadata(scene.dir()).unwrap().uid() != 0 {
        return;
    }
    // The way there is open: what is tried is each file itself.
    let mut open = vec![scene.dir().to_owned()];
    open.extend(found.iter().filter(|(_, metadata)| metadata.is_dir()).map(|(path, _)| path.clone()));
    open.iter().for_each(|dir| fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap());
    for (path, metadata) in found.iter().filter(|(_, metadata)| !metadata.is_dir()) {
        let mut command = match metadata.file_type().is_socket() {
            true => {
                let script = "import socket,sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])";
                let mut python = Command::new("python3");
                python.args(["-c", script]);
                python
            }
            false => Command::new("cat"),
        };
        let tried =
            command.arg(path).current_dir("/").uid(SOMEBODY_ELSE).gid(SOMEBODY_ELSE).output().unwrap();
        let said = String::from_utf8_lossy(&tried.stderr).to_lowercase();
        assert!(!tried.status.success() && said.contains("permission"), "{}: {tried:?}", path.display());
        assert!(tried.stdout.is_empty());
    }
}
