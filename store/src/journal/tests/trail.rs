//! The audit trail: stored with its change, bounded, read in pages.

use conclave_core::audit::{Act, Deed, Entry};
use proptest::prelude::*;

use super::*;
use crate::backend::AuditRequest;

fn deed(user: u64, at: i64, channel: Option<u64>) -> Deed {
    Deed {
        at: UnixMillis(at),
        by: SessionPath::new(&format!("user{user}"), "box", "main").unwrap().into(),
        user: UserId(user),
        act: Act::Banned,
        channel: channel.map(|id| (ChannelId(id), ChannelName::new(&format!("channel{id}")).unwrap())),
        subject: Some("mallory".into()),
    }
}

fn audited(user: u64, at: i64, channel: Option<u64>) -> Record {
    Record::Audited(Arc::new(deed(user, at, channel)))
}

fn trail(rig: &Rig, channel: Option<u64>, before: Option<u64>, max_rows: usize) -> Vec<Entry> {
    let (sender, page) = mpsc::channel();
    let request = AuditRequest { channel: channel.map(ChannelId), before, max_rows };
    rig.running.read_audit(request, Box::new(move |page| sender.send(page).unwrap()));
    page.recv().unwrap().unwrap()
}

#[test]
fn what_was_done_is_read_back_newest_first_by_page_and_channel_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    let records = (1..=6).map(|at| audited(7, at, (at % 2 == 0).then_some(3))).collect();
    rig.persist(0, records).unwrap();
    rig.running.stop();
    let rig = Rig::open(dir.path());
    let all = trail(&rig, None, None, 100);
    assert_eq!(all.iter().map(|entry| entry.number).collect::<Vec<_>>(), [6, 5, 4, 3, 2, 1]);
    assert!(all.iter().all(|it| it.deed == deed(7, it.number as i64, (it.number % 2 == 0).then_some(3))));
    assert_eq!(trail(&rig, None, Some(4), 2), all[3..5]);
    let numbers = |page: Vec<Entry>| page.iter().map(|entry| entry.number).collect::<Vec<_>>();
    assert_eq!(numbers(trail(&rig, Some(3), Some(6), 100)), [4, 2]);
    assert!(trail(&rig, Some(4), None, 100).is_empty());
}

#[test]
fn a_change_that_is_not_stored_leaves_no_entry() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    rig.persist(0, vec![user(0), audited(0, 1, None)]).unwrap();
    // The same user again contradicts what is stored.
    assert!(rig.persist(1, vec![audited(0, 2, None), user(0)]).is_err());
    assert_eq!(trail(&rig, None, None, 100).len(), 1);
}

#[test]
fn a_row_that_makes_no_entry_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    rig.persist(0, vec![audited(0, 1, None), audited(0, 2, None), audited(0, 3, None)]).unwrap();
    let connection = Connection::open(home::database(dir.path())).unwrap();
    connection
        .execute_batch(
            "UPDATE audit SET act = 'danced' WHERE id = 1; UPDATE audit SET path = 'x' WHERE id = 3",
        )
        .unwrap();
    let numbers: Vec<_> = trail(&rig, None, None, 100).iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, [2]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whoever does how much: it stays bounded, what a user did last is kept, and nobody is pushed out by one who does
    /// more than a user's share.
    #[test]
    fn it_is_bounded_in_all_and_for_each_user(users in proptest::collection::vec(0..3_u64, 1..400)) {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../schema/5.sql")).unwrap();
        let (rows, of_user) = (100_i64, 20_i64);
        for (at, user) in users.iter().enumerate() {
            audit::insert_bounded(&connection, &deed(*user, at as i64, None), rows, of_user).unwrap();
        }
        let request = AuditRequest { channel: None, before: None, max_rows: 10_000 };
        let kept = audit::page(&connection, request).unwrap();
        prop_assert!(kept.len() as i64 <= rows);
        for user in 0..3 {
            let done: Vec<u64> = (1..).zip(&users).filter(|(_, by)| **by == user).map(|(nth, _)| nth).collect();
            let has: Vec<u64> = kept.iter().rev().filter(|it| it.deed.user.0 == user).map(|it| it.number).collect();
            prop_assert!(done.ends_with(&has), "{has:?} of {done:?}");
            // Gone is only what is older than a user's share, or than all that is kept.
            let oldest = users.len() as i64 - rows;
            let share = done.iter().rev().take(of_user as usize);
            prop_assert!(share.filter(|nth| **nth as i64 > oldest).all(|nth| has.contains(nth)));
        }
    }
}
