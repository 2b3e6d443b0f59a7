//! What the host of agents keeps.

use super::*;
use conclave_core::host::Phase;
use conclave_core::name::UserName;

#[test]
fn a_job_goes_its_way_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (site, ops) = (reader("site"), name("ops"));
    let (key, now) = ((STREAM, 7), UnixMillis(10_000_000));
    let again = || open(dir.path());
    again().host_judge(&site, key, Some((Some(&ops), &message(7)))).unwrap();
    again().host_judge(&site, (STREAM, 9), None).unwrap();
    again().host_judge(&site, (STREAM, 8), None).unwrap();
    assert_eq!(again().host_judged(&site, STREAM).unwrap(), 9, "never back");
    assert_eq!(again().host_judged(&reader("other"), STREAM).unwrap(), 0);
    let job = || again().host_job(&site, key).unwrap().unwrap();
    assert_eq!((job().message, job().phase, job().attempts), (message(7), Phase::Waiting, 0));
    again().host_begin(&site, key, 1, now).unwrap();
    again().host_process(&site, key, "12:34").unwrap();
    assert_eq!((job().phase, job().attempts, job().process.as_deref()), (Phase::Running, 1, Some("12:34")));
    again().host_answered(&site, key, Some("done"), Some(("ops", "abc")), now).unwrap();
    assert_eq!((job().phase, job().answer.as_deref()), (Phase::Answered, Some("done")));
    assert_eq!(again().host_session(&site, "ops").unwrap().as_deref(), Some("abc"));
    again().host_target(&site, key, ChannelId(u64::MAX)).unwrap();
    assert_eq!(job().target, Some(ChannelId(u64::MAX)));
    again().host_phase(&site, key, Phase::Posted).unwrap();
    let all = again().host_agent(&site, now).unwrap();
    assert_eq!((all.jobs, all.runs, all.paused), (vec![job()], vec![now], false));
    again().host_forget(&site, key).unwrap();
    assert_eq!(again().host_job(&site, key).unwrap(), None);
}

#[test]
fn a_budget_is_remembered_for_an_hour_and_who_was_told_until_it_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (state, site) = (open(dir.path()), reader("site"));
    let at = |minutes: i64| UnixMillis(minutes * 60_000);
    for minutes in [100, 130, 170] {
        state.host_begin(&site, (STREAM, 1), 1, at(minutes)).unwrap();
    }
    assert_eq!(state.host_agent(&site, at(180)).unwrap().runs, [at(130), at(170)]);
    let bea = UserName::new("bea").unwrap();
    state.host_told(&site, Some(&bea)).unwrap();
    state.host_told(&site, Some(&bea)).unwrap();
    state.host_pause(&site, true).unwrap();
    let kept = state.host_agent(&site, at(180)).unwrap();
    assert_eq!((kept.told, kept.paused), (vec![bea], true));
    state.host_told(&site, None).unwrap();
    assert_eq!(state.host_agent(&site, at(180)).unwrap().told, []);
}

#[test]
fn of_many_sessions_the_oldest_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (state, site) = (open(dir.path()), reader("site"));
    state.host_judge(&site, (STREAM, 1), Some((None, &message(1)))).unwrap();
    state
        .write(|connection| {
            for nth in 0..=crate::state::MAX_SESSIONS as i64 {
                connection.execute(
                    "INSERT INTO host_sessions (agent, conversation, session, used) VALUES (1, ?1, 's', ?2)",
                    rusqlite::params![nth.to_string(), nth],
                )?;
            }
            Ok(())
        })
        .unwrap();
    let now = UnixMillis(1_000_000);
    state.host_answered(&site, (STREAM, 1), None, Some(("new", "n")), now).unwrap();
    assert_eq!(state.host_session(&site, "new").unwrap().as_deref(), Some("n"));
    for (conversation, is_kept) in [("0", false), ("1", false), ("2", true)] {
        assert_eq!(state.host_session(&site, conversation).unwrap().is_some(), is_kept, "{conversation}");
    }
}
