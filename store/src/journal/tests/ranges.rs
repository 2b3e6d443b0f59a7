//! Pages by time and by sequence, over channels with holes.

use proptest::prelude::*;

use super::*;

/// A journal whose channel 1 has these messages, among those of two others.
fn filled(dir: &Path, seqs: &[u64]) -> Rig {
    let rig = Rig::open(dir);
    let records =
        seqs.iter().flat_map(|seq| [post(0, *seq, "before"), post(1, *seq, "x"), post(2, *seq, "behind")]);
    rig.persist(0, records.collect()).unwrap();
    rig
}

fn seqs(rig: &Rig, range: Range, max_rows: usize) -> Vec<u64> {
    rig.read(1, range, max_rows).iter().map(|message| message.seq).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn every_range_finds_its_messages_whatever_is_missing(
        present in prop::collection::btree_set(1..100_u64, 0..50),
        max_rows in 1..60_usize,
        cutoff in 0..1_100_i64,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut present: Vec<u64> = present.into_iter().collect();
        let rig = filled(dir.path(), &present);
        for purged in [false, true] {
            if purged {
                rig.purge(cutoff);
                present.retain(|seq| *seq as i64 * 10 >= cutoff);
            }
            for at in (0..=101).chain([u64::MAX]) {
                let behind: Vec<u64> =
                    present.iter().copied().filter(|seq| *seq > at).take(max_rows).collect();
                let mut before: Vec<u64> =
                    present.iter().rev().copied().filter(|seq| *seq < at).take(max_rows).collect();
                before.reverse();
                prop_assert_eq!(seqs(&rig, Range::After(at), max_rows), &behind[..]);
                prop_assert_eq!(seqs(&rig, Range::Before(at), max_rows), before);
                if let Ok(ts) = i64::try_from(at) {
                    // Between two stamps, and at one.
                    for near in [ts.saturating_mul(10), ts.saturating_mul(10).saturating_add(9)] {
                        prop_assert_eq!(seqs(&rig, Range::Since(UnixMillis(near)), max_rows), &behind[..]);
                    }
                }
            }
            for (time, found) in [(i64::MIN, &present[..]), (i64::MAX, &[])] {
                prop_assert_eq!(&seqs(&rig, Range::Since(UnixMillis(time)), 200)[..], found);
            }
        }
    }
}

#[test]
fn a_page_backwards_ends_with_the_message_before_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let rig = filled(dir.path(), &[1, 2, 3, 4, 5]);
    let request = Request { channel: ChannelId(1), range: Range::Before(5), max_rows: 9, max_bytes: 100 };
    let page = rig.running.history().read_and_wait(request).unwrap();
    assert_eq!(page.iter().map(|message| message.seq).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn damaged_stamps_cost_no_other_message_and_stop_no_purge() {
    let dir = tempfile::tempdir().unwrap();
    let rig = filled(dir.path(), &Vec::from_iter(1..=64));
    Connection::open(home::database(dir.path()))
        .unwrap()
        .execute_batch(
            "PRAGMA ignore_check_constraints = ON; PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '') WHERE name = 'messages'",
        )
        .unwrap();
    Connection::open(home::database(dir.path()))
        .unwrap()
        .execute_batch("UPDATE messages SET ts = 'then' WHERE channel = 1 AND seq IN (1, 2, 32, 33, 48)")
        .unwrap();
    let readable =
        |from: u64| (from..=64).filter(|seq| ![1, 2, 32, 33, 48].contains(seq)).collect::<Vec<_>>();
    for from in 1..=64 {
        let found = seqs(&rig, Range::Since(UnixMillis(from as i64 * 10 - 1)), 100);
        assert_eq!(found, readable(from), "from {from}");
    }
    rig.running.stop();
    let rig = Rig::open(dir.path());
    rig.purge(330);
    assert_eq!(seqs(&rig, Range::After(0), 100), readable(33));
}
