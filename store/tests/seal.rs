//! Sealed channels on disk, shared by processes that are killed at any moment.
#![cfg(all(feature = "seal", unix))]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use conclave_core::key::SecretKey;
use conclave_seal::{Addition, Channel, Content, Entry, Input, Kind, Member, Output};
use conclave_store::seal::{SealStore, SealStoreError};

const GROUP: &[u8] = b"group";
const NOW: u64 = 1_800_000_000;
/// Where a child process finds the file that it shares.
const CHILD: &str = "CONCLAVE_TEST_SEAL_FILE";

fn key(machine: u64) -> SecretKey {
    SecretKey::from_seed(&[u8::try_from(machine).unwrap(); 32])
}

fn open(file: &Path, machine: u64) -> SealStore {
    let me = Member {
        user: machine,
        machine,
        user_name: "u".into(),
        machine_name: "m".into(),
        server: key(99).public(),
        key: key(machine).public(),
    };
    SealStore::open(file, me, key(machine)).unwrap()
}

fn content(text: &str) -> Content {
    Content { session: "s".into(), body: text.as_bytes().to_vec(), heads: Vec::new() }
}

fn entry(seq: u64, machine: u64, id: [u8; 16], kind: Kind<'_>) -> Input<'_> {
    Input::Entry(Entry { seq, id, user: machine, machine, session: "s", kind })
}

/// Machines 1 and 2 in one group, each with a file.
fn pair(dir: &Path) -> (SealStore, SealStore) {
    let (one, two) = (open(&dir.join("one/seal.db"), 1), open(&dir.join("two/seal.db"), 2));
    one.enter(None, |me, key| Ok((Channel::create(me.clone(), key, GROUP, 0, NOW)?, Vec::new()))).unwrap();
    let package = two.make_key_packages(1, false, NOW).unwrap().remove(0);
    let added = Addition { user: 2, machine: 2, key: key(2).public(), package: &package };
    let change = Input::Change { id: [1; 16], adds: &[added], removes: &[] };
    let Some(Output::PostCommit(made)) = one.step(GROUP, change, NOW).unwrap().pop() else { panic!() };
    one.step(
        GROUP,
        entry(1, 1, made.id, Kind::Commit { epoch: 0, bytes: &made.commit, adds: &[2], removes: &[] }),
        NOW,
    )
    .unwrap();
    let packages = two.key_packages().unwrap();
    let welcome = made.welcome.unwrap();
    two.enter(Some(&packages[0].id), |me, key| {
        Ok((Channel::join(me.clone(), key, GROUP, &welcome, &packages, (1, 1, NOW))?, Vec::new()))
    })
    .unwrap();
    assert!(two.key_packages().unwrap().is_empty());
    (one, two)
}

#[test]
fn what_one_process_opened_the_others_find_until_it_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = pair(dir.path());
    let other = open(&dir.path().join("two/seal.db"), 2);
    let text = content("a secret that is looked for on the disk");
    let Some(Output::Post { id, epoch, bytes }) =
        one.step(GROUP, Input::Seal { id: [2; 16], content: &text }, NOW).unwrap().pop()
    else {
        panic!()
    };
    assert_eq!(
        two.step(GROUP, entry(2, 1, id, Kind::Sealed { epoch, bytes: &bytes }), NOW).unwrap().len(),
        1
    );
    assert!(
        other.step(GROUP, entry(2, 1, id, Kind::Sealed { epoch, bytes: &bytes }), NOW).unwrap().is_empty()
    );
    let kept = other.messages(GROUP, 0).unwrap();
    assert_eq!((kept.len(), kept[0].body.as_slice(), kept[0].machine), (1, text.body.as_slice(), 1));
    let on_disk = || {
        std::fs::read_dir(dir.path().join("two")).unwrap().any(|file| {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            bytes.windows(text.body.len()).any(|part| part == text.body)
        })
    };
    assert!(on_disk(), "or the test could not fail");
    drop(other);
    assert_eq!(two.forget(GROUP).unwrap(), 1);
    assert!(!on_disk());
}

#[test]
fn others_have_no_access_and_no_other_file_is_taken() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = pair(dir.path());
    drop((one, two));
    let file = dir.path().join("one/seal.db");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let me = |machine| Member {
        user: machine,
        machine,
        user_name: "u".into(),
        machine_name: "m".into(),
        server: key(99).public(),
        key: key(machine).public(),
    };
    assert!(matches!(
        SealStore::open(&file, me(1), key(1)),
        Err(SealStoreError::Exposed { mode: 0o640, .. })
    ));
}

/// Seals and prints until it is killed; no test of its own.
#[test]
fn child_that_seals_until_it_is_killed() {
    let Ok(file) = std::env::var(CHILD) else { return };
    let store = open(Path::new(&file), 1);
    let process = std::process::id();
    for number in 0u64.. {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        id[8..12].copy_from_slice(&process.to_be_bytes());
        let text = content(&format!("{process} {number}"));
        let outputs = match store.step(GROUP, Input::Seal { id, content: &text }, NOW) {
            Ok(outputs) => outputs,
            Err(SealStoreError::Seal(conclave_seal::Error::OutboxFull(_))) => std::process::exit(0),
            Err(error) => panic!("{error}"),
        };
        for output in outputs {
            let Output::Post { id, bytes, .. } = output else { panic!() };
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let mut out = std::io::stdout().lock();
            writeln!(out, "sent {} {}", hex(&id), hex(&bytes)).unwrap();
            out.flush().unwrap();
        }
    }
}

/// Two processes at a time send over one file and are killed; whatever any of them sent, the other machine opens. It opens
/// each key once, so that a key that was used twice would show.
#[test]
fn killed_processes_use_no_key_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = pair(dir.path());
    drop(one);
    let file = dir.path().join("one/seal.db");
    let mut sent: BTreeMap<[u8; 16], Vec<u8>> = BTreeMap::new();
    let unhex = |text: &str| -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    };
    for round in 0..6 {
        let mut children: Vec<_> = (0..2)
            .map(|_| {
                Command::new(std::env::current_exe().unwrap())
                    .args([
                        "child_that_seals_until_it_is_killed",
                        "--exact",
                        "--nocapture",
                        "--test-threads=1",
                    ])
                    .env(CHILD, &file)
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        // Killed after so many messages: somewhere within the next step.
        for (at, child) in children.iter_mut().enumerate() {
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut count = 0;
            while let Some(Ok(line)) = lines.next() {
                let words: Vec<&str> = line.split(' ').collect();
                // The last line may be cut off.
                if let Some(at) = words.iter().position(|word| word.ends_with("sent"))
                    && let [id, bytes] = words[at + 1..]
                    && let Ok(id) = <[u8; 16]>::try_from(unhex(id))
                {
                    sent.insert(id, unhex(bytes));
                    count += 1;
                }
                if count == 5 + round + 3 * at {
                    child.kill().unwrap();
                }
            }
            child.wait().unwrap();
        }
    }
    assert!(sent.len() >= 60, "{}", sent.len());
    // What was saved and not sent comes with the outbox.
    let one = open(&file, 1);
    for output in one.step(GROUP, Input::Resume, NOW).unwrap() {
        let Output::Post { id, bytes, .. } = output else { panic!() };
        let before = sent.insert(id, bytes.clone());
        assert!(before.is_none_or(|before| before == bytes), "one id was sealed twice");
    }
    for (seq, (id, bytes)) in (2..).zip(&sent) {
        let outputs = two.step(GROUP, entry(seq, 1, *id, Kind::Sealed { epoch: 1, bytes }), NOW).unwrap();
        assert!(matches!(outputs.as_slice(), [Output::Message { .. }]), "{outputs:?}");
    }
}
