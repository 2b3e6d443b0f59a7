//! Handles by directory.

use super::*;

fn claim(state: &State, base: &str, dir: &Path) -> HandleLease {
    state.claim_handle(base, dir).unwrap()
}

fn shown(lease: &HandleLease) -> &str {
    lease.handle().as_str()
}

#[test]
fn a_directory_has_its_handle_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two] = ["one/site", "two/site"].map(|name| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    });
    for _ in 0..2 {
        let state = open(dir.path());
        assert_eq!(shown(&claim(&state, "site", &one)), "site");
        assert_eq!(shown(&claim(&state, "site", &two)), "site-2");
        assert_eq!(shown(&claim(&state, "blog", &two)), "blog");
        assert_eq!(
            shown(&claim(&state, "site", &two.join("../../one/site"))),
            "site",
            "however it is written"
        );
    }
    let state = open(dir.path());
    assert_eq!(shown(&claim(&state, "site-2", dir.path())), "site-2-2", "a directory's handle is no other's");
    assert_eq!(shown(&claim(&state, "a/b ", dir.path())), "a-b");
    assert_eq!(shown(&claim(&state, "", dir.path())), "agent");
}

#[test]
fn sessions_in_one_directory_have_different_handles_and_get_them_again() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let (state, again) = (open(dir.path()), open(dir.path()));
    let first = claim(&state, "site", dir.path());
    let second = claim(&again, "site", dir.path());
    let elsewhere = claim(&state, "site", other.path());
    let third = claim(&state, "site", dir.path());
    assert_eq!([&first, &second, &elsewhere, &third].map(shown), ["site", "site-2", "site-3", "site-4"]);
    drop((second, third));
    assert_eq!(shown(&claim(&state, "site", dir.path())), "site-2", "the lowest that is free");
    drop(first);
    let first = claim(&again, "site", dir.path());
    let second = claim(&again, "site", dir.path());
    assert_eq!([&first, &second].map(shown), ["site", "site-2"]);
    assert_eq!(shown(&claim(&again, "site", dir.path())), "site-4");
}

#[test]
fn racing_sessions_have_different_handles() {
    let dir = tempfile::tempdir().unwrap();
    let leases: Vec<_> = std::thread::scope(|scope| {
        let racers: Vec<_> =
            (0..6).map(|_| scope.spawn(|| claim(&open(dir.path()), "site", dir.path()))).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let mut handles: Vec<_> = leases.iter().map(shown).collect();
    handles.sort_unstable();
    assert_eq!(handles, ["site", "site-2", "site-3", "site-4", "site-5", "site-6"]);
}

#[test]
fn a_session_that_outlives_the_file_keeps_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let old = claim(&state, "site", dir.path());
    drop(state);
    std::fs::remove_file(dir.path().join(FILE_NAME)).unwrap();
    let state = open(dir.path());
    let new = claim(&state, "site", dir.path());
    assert_eq!([&old, &new].map(shown), ["site", "site"], "the server tells them apart then");
    assert_eq!(shown(&claim(&state, "site", dir.path())), "site-2");
}

#[test]
fn the_handle_that_is_not_used_for_longest_is_forgotten_with_its_readers() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let held = claim(&state, "held", dir.path());
    drop(claim(&state, "old", dir.path()));
    drop(claim(&state, "young", dir.path()));
    for handle in ["held", "old", "young"] {
        state.follow(&reader(handle), STREAM, &name("ops"), 0).unwrap();
        state.keep(&reader(handle), STREAM, &messages([1])).unwrap();
    }
    let fill = format!(
        "WITH RECURSIVE n(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < {})
         INSERT INTO handles (handle, base, number, directory, used)
         SELECT 'x-' || n, 'x', n, x'00', 1000 + n FROM n",
        MAX_HANDLES - 3
    );
    state.connection.execute_batch(&fill).unwrap();
    let new = claim(&state, "old", other.path());
    assert_eq!(shown(&new), "old");
    assert_eq!(state.followed(&reader("old")).unwrap(), [], "its reader is another");
    assert_eq!(state.unread_bytes(&reader("old")).unwrap(), 0);
    for handle in ["held", "young"] {
        assert_eq!(state.unread(&reader(handle), STREAM, 0, ALL).unwrap(), messages([1]), "{handle}");
    }
    let count = |state: &State| -> i64 {
        state.connection.query_row("SELECT count(*) FROM handles", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(&state), MAX_HANDLES as i64);
    drop((held, new));
}
