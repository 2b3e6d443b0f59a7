//! What holds for the state as a whole; here what the tests share, and examples.

use std::path::Path;
use std::sync::Arc;

use conclave_core::body;
use conclave_core::bridge::Bound;
use conclave_core::key::{PublicKey, SecretKey};
use conclave_core::name::{ChannelName, Handle, UserName};
use conclave_core::opaque::Opaque;
use conclave_core::payload::Payload;
use conclave_core::protocol::Stamped;
use conclave_core::record::{ChannelId, MachineId, UserId};
use conclave_core::stream::{MessageId, Origin, Signed};
use conclave_core::time::UnixMillis;
use conclave_core::wire::v2::kept;

use super::*;

mod damaged;
mod handles;
mod host;
mod model;
mod process;

fn key(seed: u8) -> PublicKey {
    SecretKey::from_seed(&[seed; 32]).public()
}

fn reader(handle: &str) -> Reader {
    Reader { server: key(1), handle: Handle::new(handle).unwrap() }
}

fn name(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

/// A message that no other number has.
fn message(seq: u64) -> Stamped {
    sized(seq, 0)
}

/// The same with so many bytes more.
fn sized(seq: u64, more: usize) -> Stamped {
    Stamped {
        from: "ann/laptop/site".parse().unwrap(),
        ts: UnixMillis(seq.cast_signed()),
        payload: Payload::Body(body::of_text(&format!("message {seq}{}", ".".repeat(more)))),
        seq,
        origin: Origin {
            expires: None,
            sender: Some((UserId(seq), MachineId(u64::MAX - 1))),
            signed: Some(Arc::new(Signed {
                id: MessageId([seq as u8; 16]),
                signature: Opaque([7; 64]),
                acknowledge: seq.is_multiple_of(2),
            })),
        },
    }
}

fn messages(seqs: impl IntoIterator<Item = u64>) -> Vec<Stamped> {
    seqs.into_iter().map(message).collect()
}

fn open(dir: &Path) -> State {
    State::open(dir).unwrap()
}

const STREAM: ChannelId = ChannelId(4);
const ALL: u64 = u64::MAX;

#[test]
fn messages_are_unread_until_they_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("deep/conclave");
    let (state, site) = (open(&dir), reader("site"));
    state.follow(&site, STREAM, &name("ops"), 10).unwrap();
    assert_eq!(state.keep(&site, STREAM, &messages([9, 10, 11, 12, 15])).unwrap(), 15);
    assert_eq!(state.keep(&site, STREAM, &messages([12, 15])).unwrap(), 15, "again");
    drop(state);

    let state = open(&dir);
    assert_eq!(state.unread(&site, STREAM, 0, ALL).unwrap(), messages([11, 12, 15]));
    assert_eq!(state.seen(&site, STREAM, 12).unwrap(), 12);
    assert_eq!(state.unread(&site, STREAM, 0, ALL).unwrap(), messages([15]));
    assert_eq!(state.seen(&site, STREAM, 99).unwrap(), 15, "not past what was delivered");
    assert_eq!(state.seen(&site, STREAM, 3).unwrap(), 15, "not back");
    assert_eq!(state.advance(&site, STREAM, 20).unwrap(), 20);
    assert_eq!(state.advance(&site, STREAM, 19).unwrap(), 20, "not back");
    assert_eq!(state.unread_bytes(&site).unwrap(), 0);
    let followed = Followed { stream: STREAM, name: name("ops"), delivered: 20, seen: 15 };
    assert_eq!(state.followed(&site).unwrap(), [followed]);
}

#[test]
fn following_again_takes_the_name_and_no_position() {
    let dir = tempfile::tempdir().unwrap();
    let (state, site) = (open(dir.path()), reader("site"));
    state.follow(&site, STREAM, &name("ops"), 10).unwrap();
    state.keep(&site, STREAM, &messages([11])).unwrap();
    state.follow(&site, STREAM, &name("operations"), 99).unwrap();
    state.follow(&site, ChannelId(u64::MAX), &name("far"), 0).unwrap();
    state.follow(&site, ChannelId(0), &name("first"), 0).unwrap();
    let followed = state.followed(&site).unwrap();
    assert_eq!(
        followed
            .iter()
            .map(|one| (one.stream.0, one.name.as_str(), one.delivered, one.seen))
            .collect::<Vec<_>>(),
        [(0, "first", 0, 0), (4, "operations", 11, 10), (u64::MAX, "far", 0, 0)]
    );
    state.unfollow(&site, STREAM).unwrap();
    assert_eq!(state.unread_bytes(&site).unwrap(), 0);
    assert!(matches!(state.keep(&site, STREAM, &messages([12])), Err(StateError::NotFollowed { .. })));
    assert!(matches!(state.advance(&site, STREAM, 12), Err(StateError::NotFollowed { .. })));
    assert!(matches!(state.seen(&site, STREAM, 12), Err(StateError::NotFollowed { .. })));
    assert_eq!(state.unread(&site, STREAM, 0, ALL).unwrap(), []);
}

#[test]
fn readers_have_nothing_in_common() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let other_server = Reader { server: key(2), ..reader("site") };
    for (reader, seq) in [(&reader("site"), 1), (&reader("blog"), 2), (&other_server, 3)] {
        assert_eq!(state.followed(reader).unwrap(), []);
        state.follow(reader, STREAM, &name("ops"), 0).unwrap();
        assert_eq!(state.keep(reader, STREAM, &messages([seq])).unwrap(), seq);
    }
    state.seen(&reader("site"), STREAM, 1).unwrap();
    state.unfollow(&reader("blog"), STREAM).unwrap();
    assert_eq!(state.unread(&other_server, STREAM, 0, ALL).unwrap(), messages([3]));
}

#[test]
fn a_limit_in_bytes_holds_but_for_the_first_message() {
    let dir = tempfile::tempdir().unwrap();
    let (state, site) = (open(dir.path()), reader("site"));
    state.follow(&site, STREAM, &name("ops"), 0).unwrap();
    let seqs = [1, 3, 5];
    state.keep(&site, STREAM, &messages(seqs)).unwrap();
    let bytes = state.unread_bytes(&site).unwrap();
    assert_eq!(bytes, 3 * kept::encode(&message(1)).len() as u64);
    for (limit, count) in [(0, 1), (bytes / 3, 1), (bytes - 1, 2), (bytes, 3), (ALL, 3)] {
        let expected = messages(seqs.into_iter().take(count));
        assert_eq!(state.unread(&site, STREAM, 0, limit).unwrap(), expected, "{limit}");
    }
}

#[test]
fn a_reader_has_no_more_unread_than_the_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let (state, site) = (open(dir.path()), reader("site"));
    state.follow(&site, STREAM, &name("ops"), 0).unwrap();
    let large = |seq| sized(seq, MAX_UNREAD_BYTES as usize / 2);
    assert_eq!(state.keep(&site, STREAM, &[large(1), large(2), large(3)]).unwrap(), 2);
    assert_eq!(state.keep(&site, STREAM, &[large(3)]).unwrap(), 2);
    let other = ChannelId(9);
    state.follow(&site, other, &name("dev"), 0).unwrap();
    assert_eq!(state.keep(&site, other, &messages([1])).unwrap(), 0, "a reader's streams share the bound");
    state.seen(&site, STREAM, 1).unwrap();
    assert_eq!(state.keep(&site, STREAM, &[large(3), large(4)]).unwrap(), 3);
    state.seen(&site, STREAM, 3).unwrap();

    let most = MAX_UNREAD as u64;
    assert_eq!(state.keep(&site, other, &messages(1..=most + 1)).unwrap(), most);
    assert_eq!(state.keep(&site, other, &messages([most + 1])).unwrap(), most);
    state.seen(&site, other, 1).unwrap();
    assert_eq!(state.keep(&site, other, &messages([most + 1, most + 2])).unwrap(), most + 1);
}

#[test]
fn streams_and_readers_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let (state, site) = (open(dir.path()), reader("site"));
    // As many calls would take as many waits for the disk.
    let fill = |sql: &str, count: usize| {
        let series =
            format!("WITH RECURSIVE n(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < {count})");
        state.connection.execute_batch(&format!("{series} {sql}")).unwrap();
    };
    state.follow(&site, STREAM, &name("ops"), 0).unwrap();
    fill(
        "INSERT INTO streams (reader, stream, name, delivered, seen) SELECT 1, 1000000 + n, 'x', 0, 0 FROM n",
        MAX_STREAMS - 1,
    );
    let refused = state.follow(&site, ChannelId(5), &name("dev"), 0).unwrap_err();
    assert!(matches!(refused, StateError::TooMany { most: MAX_STREAMS, .. }), "{refused}");
    state.follow(&site, STREAM, &name("dev"), 0).unwrap();
    assert_eq!(state.followed(&site).unwrap().len(), MAX_STREAMS);

    fill("INSERT INTO readers (server, handle) SELECT x'00', n FROM n", MAX_READERS - 1);
    let refused = state.follow(&reader("blog"), STREAM, &name("dev"), 0).unwrap_err();
    assert!(matches!(refused, StateError::TooMany { most: MAX_READERS, .. }), "{refused}");

    let server = key(1);
    fill(
        "INSERT INTO machines SELECT (SELECT server FROM readers WHERE id = 1), 1, n, x'', 0 FROM n",
        MAX_MACHINES,
    );
    let refused = state.pin(&server, UserId(2), MachineId(1), &key(3), UnixMillis(0)).unwrap_err();
    assert!(matches!(refused, StateError::TooMany { most: MAX_MACHINES, .. }), "{refused}");
    let pinned = state.pin(&key(2), UserId(2), MachineId(1), &key(3), UnixMillis(0)).unwrap();
    assert_eq!(pinned, Pinned::First, "another server has room of its own");
}

#[test]
fn numbers_past_what_a_stream_reaches_are_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (state, site) = (open(dir.path()), reader("site"));
    let far = 1 << 63;
    let refused =
        |result: Result<u64, _>| matches!(result, Err(StateError::OutOfRange { seq }) if seq == far);
    assert!(refused(state.follow(&site, STREAM, &name("ops"), far).map(|()| 0)));
    state.follow(&site, STREAM, &name("ops"), 0).unwrap();
    assert!(refused(state.advance(&site, STREAM, far)));
    assert!(refused(state.keep(&site, STREAM, &messages([1, far]))));
    assert_eq!(state.unread(&site, STREAM, 0, ALL).unwrap(), [], "all or nothing");
    assert_eq!(state.keep(&site, STREAM, &messages([1, far - 1])).unwrap(), far - 1);
    assert_eq!(state.seen(&site, STREAM, far).unwrap(), far - 1);
}

#[test]
fn a_key_is_taken_once_and_changed_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let (server, user, machine) = (key(1), UserId(u64::MAX), MachineId(7));
    let pin = |state: &State, key, now| state.pin(&server, user, machine, &key, UnixMillis(now)).unwrap();
    assert_eq!(pin(&state, key(3), 10), Pinned::First);
    assert_eq!(pin(&state, key(3), 11), Pinned::Same);
    assert_eq!(pin(&state, key(4), 12), Pinned::Changed { was: key(3) });
    let state = open(dir.path());
    assert_eq!(pin(&state, key(4), 13), Pinned::Changed { was: key(3) }, "to be told is not to accept");
    assert_eq!(state.pin(&server, user, MachineId(0), &key(9), UnixMillis(14)).unwrap(), Pinned::First);
    let pinned = |machine, seed, since| PinnedMachine { machine, key: key(seed), since: UnixMillis(since) };
    assert_eq!(state.pinned(&server, user).unwrap(), [pinned(MachineId(0), 9, 14), pinned(machine, 3, 10)]);
    state.repin(&server, user, machine, &key(4), UnixMillis(15)).unwrap();
    assert_eq!(pin(&state, key(4), 16), Pinned::Same);
    assert_eq!(state.pinned(&server, user).unwrap(), [pinned(MachineId(0), 9, 14), pinned(machine, 4, 15)]);
    assert_eq!(state.pinned(&key(2), user).unwrap(), []);
    assert_eq!(state.pinned(&server, UserId(0)).unwrap(), []);
}

#[test]
fn two_at_once_keep_each_message_once() {
    let dir = tempfile::tempdir().unwrap();
    let site = reader("site");
    let work = |own: ChannelId| {
        // Opening is a race, too.
        let state = open(dir.path());
        for stream in [STREAM, own] {
            state.follow(&site, stream, &name("ops"), 0).unwrap();
        }
        for seq in 1..=25 {
            assert_eq!(state.keep(&site, own, &messages([seq])).unwrap(), seq);
            assert!(state.keep(&site, STREAM, &messages([seq])).unwrap() >= seq);
        }
    };
    std::thread::scope(|scope| {
        for own in 10..14 {
            scope.spawn(move || work(ChannelId(own)));
        }
    });
    let state = open(dir.path());
    for stream in [STREAM, ChannelId(10), ChannelId(11), ChannelId(12), ChannelId(13)] {
        assert_eq!(state.unread(&site, stream, 0, ALL).unwrap(), messages(1..=25));
    }
}

#[test]
fn nothing_of_a_message_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (state, site) = (open(dir.path()), reader("site"));
    state.follow(&site, STREAM, &name("ops"), 0).unwrap();
    state.keep(&site, STREAM, &messages([1])).unwrap();
    let shown = format!("{state:?} {:?}", state.unread(&site, STREAM, 0, ALL).unwrap());
    assert!(!shown.contains("message 1"), "{shown}");
}

#[test]
#[cfg(unix)]
fn nobody_else_can_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (state, site) = (open(dir.path()), reader("site"));
    let lease = state.claim_handle("site", dir.path()).unwrap();
    state.follow(&site, STREAM, &name("ops"), 0).unwrap();
    let mut files = 0;
    for entry in
        std::fs::read_dir(dir.path()).unwrap().chain(std::fs::read_dir(dir.path().join("handles")).unwrap())
    {
        let metadata = entry.unwrap().metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o077, 0);
        files += usize::from(metadata.is_file());
    }
    assert_eq!(files, 4, "the file, its log, the log's index and a lock");
    drop((state, lease));
    let file = dir.path().join(FILE_NAME);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = State::open(dir.path()).unwrap_err();
    assert!(matches!(error, StateError::Exposed { mode: 0o640, .. }));
    assert!(error.advice().contains("chmod 600"));
}

#[test]
fn a_name_means_what_it_meant_first_until_it_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path()).unwrap();
    let (one, two) = (key(1), key(2));
    let ops = |stream| Bound::Channel(ChannelName::new("ops").unwrap(), ChannelId(stream));
    let user = |id| Bound::User(UserName::new("ops").unwrap(), UserId(id));
    for bound in [ops(7), user(u64::MAX), ops(8), user(3)] {
        state.bind(&one, &bound).unwrap();
    }
    drop(state);
    let state = State::open(dir.path()).unwrap();
    assert_eq!(state.bindings(&one).unwrap(), [ops(7), user(u64::MAX)]);
    assert_eq!(state.bindings(&two).unwrap(), []);
    state.unbind(&one, &ops(0)).unwrap();
    state.bind(&one, &ops(8)).unwrap();
    assert_eq!(state.bindings(&one).unwrap(), [ops(8), user(u64::MAX)]);
}
