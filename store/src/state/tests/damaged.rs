//! Files that are not as they should be: an error says so and what to do, whatever they hold.

use std::fs;

use proptest::prelude::*;

use super::*;

/// A file with something of everything, closed.
fn filled(dir: &Path) -> Vec<u8> {
    let (state, site) = (open(dir), reader("site"));
    state.follow(&site, STREAM, &name("ops"), 0).unwrap();
    state.follow(&site, ChannelId(5), &name("dev"), 3).unwrap();
    state.keep(&site, STREAM, &(1..=4).map(|seq| sized(seq, 2_000)).collect::<Vec<_>>()).unwrap();
    state.seen(&site, STREAM, 1).unwrap();
    state.pin(&key(1), UserId(1), MachineId(1), &key(3), UnixMillis(5)).unwrap();
    drop(state.claim_handle("site", dir).unwrap());
    drop(state);
    fs::read(dir.join(FILE_NAME)).unwrap()
}

/// Calls everything. The first error, if there is one.
fn use_all(dir: &Path) -> Result<(), StateError> {
    let (state, site) = (State::open(dir)?, reader("site"));
    let results = [
        state.followed(&site).map(drop),
        state.unread(&site, STREAM, 0, ALL).map(drop),
        state.unread_bytes(&site).map(drop),
        state.follow(&site, STREAM, &name("ops"), 9),
        state.follow(&site, ChannelId(6), &name("new"), 9),
        state.keep(&site, STREAM, &messages(1..=6)).map(drop),
        state.advance(&site, STREAM, 8).map(drop),
        state.seen(&site, STREAM, 7).map(drop),
        state.pin(&key(1), UserId(1), MachineId(1), &key(3), UnixMillis(5)).map(drop),
        state.pinned(&key(1), UserId(1)).map(drop),
        state.repin(&key(1), UserId(1), MachineId(1), &key(4), UnixMillis(5)),
        state.claim_handle("site", dir).map(drop),
        state.claim_handle("site", &dir.join("other")).map(drop),
        state.unfollow(&site, STREAM),
    ];
    results.into_iter().collect()
}

#[test]
fn a_whole_file_has_no_errors() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    use_all(dir.path()).unwrap();
}

#[test]
fn what_is_no_state_file_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE_NAME);
    filled(dir.path());
    let foreign = "PRAGMA application_id = 7";
    for content in [Some(&b"# my notes, by no means a database"[..]), None] {
        match content {
            Some(content) => fs::write(&file, content.repeat(99)).unwrap(),
            None => {
                fs::remove_file(&file).unwrap();
                open(dir.path()).connection.execute_batch(foreign).unwrap();
            }
        }
        let before = fs::read(&file).unwrap();
        let error = State::open(dir.path()).unwrap_err();
        assert!(matches!(error, StateError::NotOurs { .. }), "{error}");
        assert!(error.advice().contains("mv "), "{}", error.advice());
        assert_eq!(fs::read(&file).unwrap(), before);
    }
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(matches!(State::open(dir.path()), Err(StateError::Io { .. })));
}

#[test]
fn a_newer_file_is_refused_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).connection.execute_batch("PRAGMA user_version = 99").unwrap();
    let before = fs::read(dir.path().join(FILE_NAME)).unwrap();
    let error = State::open(dir.path()).unwrap_err();
    assert!(matches!(error, StateError::Newer { found: 99, .. }));
    assert!(error.to_string().contains("a newer release wrote it"), "{error}");
    assert!(error.advice().contains("use the release that wrote it"));
    assert_eq!(fs::read(dir.path().join(FILE_NAME)).unwrap(), before);
}

#[test]
fn a_row_that_makes_no_sense_is_an_error() {
    for sql in [
        "UPDATE streams SET name = 'a/b'",
        "UPDATE streams SET name = ''",
        "UPDATE streams SET name = CAST(x'ff' AS TEXT)",
        "UPDATE streams SET delivered = -1",
        "UPDATE unread SET message = x'ff'",
        "UPDATE unread SET message = x''",
        "UPDATE unread SET seq = seq + 1 WHERE seq < 4",
        "UPDATE unread SET size = -1",
        "UPDATE unread SET size = 9223372036854775807",
        "UPDATE machines SET key = x'00'",
        "UPDATE handles SET handle = 'a/b'",
        "UPDATE handles SET used = 9223372036854775807",
        "DROP TABLE unread",
        "DROP TABLE handles",
        "ALTER TABLE streams DROP COLUMN seen",
    ] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        open(dir.path()).connection.execute_batch(sql).unwrap();
        let error = use_all(dir.path()).expect_err(sql);
        assert!(matches!(error, StateError::Damaged { .. }), "{sql}: {error:?}");
        assert!(error.advice().contains("start anew"));
    }
}

#[test]
fn the_advice_for_a_damaged_file_helps() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = filled(dir.path());
    let file = dir.path().join(FILE_NAME);
    bytes[4096..].fill(0xff);
    fs::write(&file, bytes).unwrap();
    let error = use_all(dir.path()).unwrap_err();
    assert!(matches!(error, StateError::Damaged { .. }), "{error:?}");
    let advice = error.advice();
    let command = advice.split('`').nth(1).unwrap();
    if cfg!(unix) {
        assert!(std::process::Command::new("sh").args(["-c", command]).status().unwrap().success());
        use_all(dir.path()).unwrap();
        assert!(dir.path().join("old-state").join(FILE_NAME).exists());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Errors there may be; panics and endless work there may not.
    #[test]
    fn any_content_is_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = filled(dir.path());
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(dir.path().join(FILE_NAME), bytes).unwrap();
        if let Err(error) = use_all(dir.path()) {
            let shown = format!("{error} {error:?} {}", error.advice());
            prop_assert!(!shown.contains("message 1"), "{}", shown);
        }
    }
}
