//! The state against a plain model of it, with the file closed and opened again at any point.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Follow(usize, u64, u64),
    Unfollow(usize, u64),
    Keep(usize, u64, Vec<u64>),
    Advance(usize, u64, u64),
    Seen(usize, u64, u64),
    Shown(usize, u64, u64),
    Skip(usize, u64, u64, u64),
    Pin(u64, u8),
    Repin(u64, u8),
    Claim(usize),
    Release(usize),
    Reopen,
}

fn steps() -> impl Strategy<Value = Step> {
    let (who, stream, seq) = (0..2_usize, 0..2_u64, 0..30_u64);
    let seqs = prop::collection::btree_set(0..30_u64, 0..6).prop_map(Vec::from_iter);
    prop_oneof![
        2 => (who.clone(), stream.clone(), seq.clone()).prop_map(|(who, stream, after)| Step::Follow(who, stream, after)),
        1 => (who.clone(), stream.clone()).prop_map(|(who, stream)| Step::Unfollow(who, stream)),
        6 => (who.clone(), stream.clone(), seqs).prop_map(|(who, stream, seqs)| Step::Keep(who, stream, seqs)),
        2 => (who.clone(), stream.clone(), seq.clone()).prop_map(|(who, stream, seq)| Step::Advance(who, stream, seq)),
        3 => (who.clone(), stream.clone(), seq.clone()).prop_map(|(who, stream, seq)| Step::Seen(who, stream, seq)),
        2 => (who.clone(), stream.clone(), seq.clone()).prop_map(|(who, stream, seq)| Step::Shown(who, stream, seq)),
        1 => (who.clone(), stream.clone(), seq.clone(), seq)
            .prop_map(|(who, stream, from, to)| Step::Skip(who, stream, from, to)),
        1 => (stream.clone(), 1..4_u8).prop_map(|(machine, key)| Step::Pin(machine, key)),
        1 => (stream, 1..4_u8).prop_map(|(machine, key)| Step::Repin(machine, key)),
        2 => who.prop_map(Step::Claim),
        1 => (0..8_usize).prop_map(Step::Release),
        2 => Just(Step::Reopen),
    ]
}

#[derive(Default)]
struct Stream {
    name: String,
    delivered: u64,
    seen: u64,
    skipped: Option<u64>,
    unread: BTreeSet<u64>,
}

#[derive(Default)]
struct Model {
    streams: BTreeMap<(usize, u64), Stream>,
    pins: BTreeMap<u64, (u8, i64)>,
    /// The directory of each handle, by the handle's number.
    handles: BTreeMap<u64, usize>,
}

fn taken(handle: u64) -> String {
    if handle == 1 { "site".into() } else { format!("site-{handle}") }
}

fn not_followed<T>(result: Result<T, StateError>) -> bool {
    matches!(result, Err(StateError::NotFollowed { .. }))
}

fn check(state: &State, readers: &[Reader; 2], model: &Model) {
    for (who, reader) in readers.iter().enumerate() {
        let mine = model.streams.iter().filter(|((of, _), _)| *of == who);
        let expected: Vec<_> = mine
            .clone()
            .map(|((_, stream), it)| Followed {
                stream: ChannelId(*stream),
                name: name(&it.name),
                delivered: it.delivered,
                seen: it.seen,
            })
            .collect();
        assert_eq!(state.followed(reader).unwrap(), expected);
        let mut bytes = 0;
        for ((_, stream), it) in mine {
            let expected = messages(it.unread.iter().copied());
            bytes += expected.iter().map(|message| kept::encode(message).len() as u64).sum::<u64>();
            assert_eq!(state.unread(reader, ChannelId(*stream), 0, ALL).unwrap(), expected);
        }
        assert_eq!(state.unread_bytes(reader).unwrap(), bytes);
    }
    let pins = model.pins.iter().map(|(machine, (seed, since))| PinnedMachine {
        machine: MachineId(*machine),
        key: key(*seed),
        since: UnixMillis(*since),
    });
    assert_eq!(state.pinned(&key(1), UserId(0)).unwrap(), pins.collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_state_is_as_the_model_says(steps in prop::collection::vec(steps(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let dirs = ["one", "two"].map(|name| dir.path().join(name));
        let readers = [reader("site"), Reader { server: key(2), ..reader("site") }];
        let mut state = open(dir.path());
        let mut model = Model::default();
        let mut leases: BTreeMap<u64, HandleLease> = BTreeMap::new();
        for (now, step) in (0..).zip(steps) {
            match step {
                Step::Follow(who, stream, after) => {
                    let called = format!("name-{now}");
                    state.follow(&readers[who], ChannelId(stream), &name(&called), after).unwrap();
                    let known = model.streams.entry((who, stream));
                    let start = || Stream { delivered: after, seen: after, ..Stream::default() };
                    known.or_insert_with(start).name = called;
                }
                Step::Unfollow(who, stream) => {
                    state.unfollow(&readers[who], ChannelId(stream)).unwrap();
                    model.streams.remove(&(who, stream));
                }
                Step::Keep(who, stream, seqs) => {
                    let result = state.keep(&readers[who], ChannelId(stream), &messages(seqs.clone()));
                    let Some(it) = model.streams.get_mut(&(who, stream)) else {
                        prop_assert!(not_followed(result));
                        continue;
                    };
                    it.unread.extend(seqs.iter().filter(|seq| **seq > it.delivered));
                    it.delivered = seqs.into_iter().max().unwrap_or(0).max(it.delivered);
                    prop_assert_eq!(result.unwrap(), it.delivered);
                }
                Step::Advance(who, stream, seq) => {
                    let result = state.advance(&readers[who], ChannelId(stream), seq);
                    let Some(it) = model.streams.get_mut(&(who, stream)) else {
                        prop_assert!(not_followed(result));
                        continue;
                    };
                    it.delivered = it.delivered.max(seq);
                    prop_assert_eq!(result.unwrap(), it.delivered);
                }
                Step::Seen(who, stream, seq) => {
                    let result = state.seen(&readers[who], ChannelId(stream), seq);
                    let Some(it) = model.streams.get_mut(&(who, stream)) else {
                        prop_assert!(not_followed(result));
                        continue;
                    };
                    let most = it.skipped.map_or(it.delivered, |skipped| it.delivered.min(skipped - 1));
                    it.seen = it.seen.max(seq.min(most));
                    it.unread.retain(|seq| *seq > it.seen);
                    prop_assert_eq!(result.unwrap(), it.seen);
                }
                Step::Shown(who, stream, seq) => {
                    let result = state.shown(&readers[who], ChannelId(stream), &[seq]);
                    let Some(it) = model.streams.get_mut(&(who, stream)) else {
                        prop_assert!(not_followed(result));
                        continue;
                    };
                    it.unread.remove(&seq);
                    result.unwrap();
                }
                Step::Skip(who, stream, from, to) => {
                    let result = state.skip(&readers[who], ChannelId(stream), from, to);
                    let Some(it) = model.streams.get_mut(&(who, stream)) else {
                        prop_assert!(not_followed(result));
                        continue;
                    };
                    result.unwrap();
                    it.unread.retain(|seq| !(from..=to.max(from)).contains(seq) || *seq > to);
                    if from > it.seen {
                        it.skipped = Some(it.skipped.map_or(from, |skipped| skipped.min(from)));
                    }
                    prop_assert_eq!(state.skipped(&readers[who], ChannelId(stream)).unwrap(), it.skipped);
                }
                Step::Pin(machine, seed) => {
                    let result = state.pin(&key(1), UserId(0), MachineId(machine), &key(seed), UnixMillis(now));
                    let expected = match model.pins.get(&machine) {
                        None => Pinned::First,
                        Some((was, _)) if *was == seed => Pinned::Same,
                        Some((was, _)) => Pinned::Changed { was: key(*was) },
                    };
                    model.pins.entry(machine).or_insert((seed, now));
                    prop_assert_eq!(result.unwrap(), expected);
                }
                Step::Repin(machine, seed) => {
                    state.repin(&key(1), UserId(0), MachineId(machine), &key(seed), UnixMillis(now)).unwrap();
                    model.pins.insert(machine, (seed, now));
                }
                Step::Claim(directory) => {
                    let lease = state.claim_handle("site", &dirs[directory]).unwrap();
                    let mine = model.handles.iter().filter(|(_, of)| **of == directory).map(|(number, _)| *number);
                    let expected = mine
                        .filter(|number| !leases.contains_key(number))
                        .min()
                        .unwrap_or(model.handles.len() as u64 + 1);
                    prop_assert_eq!(lease.handle().as_str(), taken(expected));
                    model.handles.insert(expected, directory);
                    leases.insert(expected, lease);
                }
                Step::Release(which) => {
                    if let Some(number) = leases.keys().nth(which).copied() {
                        leases.remove(&number);
                    }
                }
                Step::Reopen => {
                    drop(state);
                    state = open(dir.path());
                }
            }
            check(&state, &readers, &model);
        }
        drop(state);
        check(&open(dir.path()), &readers, &model);
    }
}
