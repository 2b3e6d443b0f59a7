//! Any interleaving of commits, posts, removals, joins, crashes and failures of the store, checked over what is durable by
//! a fold that shares nothing with the hub: one commit wins each epoch, no post is stored in a wrong epoch or while a
//! removal is due, each key package is given out once, and nothing that was acknowledged is lost.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::sealed::{C, blob, change, committing, create, sealed};
use super::streams::{c, join_v2, start};
use super::world::{World, proven};
use crate::body::{self, View};
use crate::handshake::{Format, Terms};
use crate::hub::{ConnId, RequestId};
use crate::payload::Payload;
use crate::protocol::{Reply, Visibility};
use crate::record::{MachineId, Record, Stamp, UserId};
use crate::sealed::{SealedCommand, SealedReply};
use crate::stream::{MessageId, Start, StreamCommand, StreamReply};

const USERS: [&str; 3] = ["ann", "bea", "cid"];

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Of a user, under an id, made so many epochs ago; it adds who waits, removes what is due, or joins by itself.
    Commit {
        who: usize,
        id: u8,
        old: u64,
        adds: bool,
        removes: bool,
        external: bool,
    },
    Post {
        who: usize,
        id: u8,
        old: u64,
    },
    Add(usize),
    Remove(usize),
    Ban(usize),
    Leave(usize),
    Enter(usize),
    Put(usize),
    Take {
        who: usize,
        whose: usize,
    },
    Enrol(usize),
    Retire(usize),
    Seal,
    Persist,
    Fail,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let (who, id, old) = (0..3_usize, 0..60_u8, prop_oneof![8 => Just(0_u64), 1 => Just(1)]);
    prop_oneof![
        8 => (who.clone(), id.clone(), old.clone(), any::<(bool, bool)>(), prop::bool::weighted(0.2)).prop_map(
            |(who, id, old, (adds, removes), external)| Op::Commit { who, id, old, adds, removes, external }
        ),
        10 => (who.clone(), id, old).prop_map(|(who, id, old)| Op::Post { who, id, old }),
        3 => who.clone().prop_map(Op::Add),
        1 => who.clone().prop_map(Op::Remove),
        1 => who.clone().prop_map(Op::Ban),
        1 => who.clone().prop_map(Op::Leave),
        3 => who.clone().prop_map(Op::Enter),
        2 => who.clone().prop_map(Op::Put),
        3 => (who.clone(), 0..3_usize).prop_map(|(who, whose)| Op::Take { who, whose }),
        1 => who.clone().prop_map(Op::Enrol),
        1 => who.prop_map(Op::Retire),
        10 => Just(Op::Seal),
        10 => Just(Op::Persist),
        1 => Just(Op::Fail),
        1 => Just(Op::Crash),
    ]
}

struct Run {
    world: World,
    conns: Vec<ConnId>,
    asked: Vec<(ConnId, RequestId, MessageId)>,
    put: u32,
    given: BTreeSet<Vec<u8>>,
}

impl Run {
    fn new() -> Self {
        let mut world = World::new();
        let conns: Vec<ConnId> = USERS.map(|user| join_v2(&mut world, user, false)).to_vec();
        world.submit_command(conns[0], create(Visibility::Private));
        world.settle();
        let mut run = Self { world, conns, asked: Vec::new(), put: 0, given: BTreeSet::new() };
        for (who, user) in USERS.iter().enumerate() {
            run.say(0, &alloc::format!("add c {user}"));
            run.world.settle();
            run.ask(who, 0, StreamCommand::Subscribe { stream: c(), from: Start::Latest, invite: None });
        }
        run.ask(0, 255, committing(255, &change(0, &[1, 2], &[]), &[1, 2]));
        run.world.settle();
        run
    }

    fn ask(&mut self, who: usize, id: u8, command: StreamCommand) {
        let conn = self.conns[who];
        if self.world.lives(conn) {
            let request = start(&mut self.world, conn, command);
            self.asked.push((conn, request, MessageId([id; 16])));
        }
    }

    fn step(&mut self, op: Op) {
        let directory = self.world.hub.directory();
        let group = directory.group(C).expect("the channel stays");
        let (epoch, inside) = (group.epoch, group.machines.keys().copied().collect::<BTreeSet<_>>());
        let due: Vec<u64> = group.removals.iter().map(|machine| machine.0).collect();
        let machines = |user: u64| directory.user(UserId(user)).map(|user| user.machines.clone());
        match op {
            Op::Commit { who, id, old, adds, removes, external } => {
                let members = directory.channel(C).into_iter().flat_map(|channel| channel.members.clone());
                let waiting = members.filter_map(|user| machines(user.0)).flatten().map(|machine| machine.id);
                let waiting = waiting.filter(|machine| !inside.contains(machine)).map(|machine| machine.0);
                let adds: Vec<u64> = if adds { waiting.collect() } else { Vec::new() };
                let removes = if removes { due } else { Vec::new() };
                let mut commit = change(epoch.saturating_sub(old), &adds, &removes);
                if external {
                    (commit.external, commit.removes) = (true, Vec::new());
                    commit.adds = vec![MachineId(who as u64)];
                }
                let welcomed = if external { &[][..] } else { &adds };
                self.ask(who, id, committing(id, &commit, welcomed));
            }
            Op::Post { who, id, old } => self.ask(who, id, sealed(id, epoch.saturating_sub(old))),
            Op::Enter(who) => {
                let enter = StreamCommand::Subscribe { stream: c(), from: Start::Latest, invite: None };
                self.ask(who, 0, enter);
            }
            Op::Put(who) => {
                self.put += 1;
                let packages = vec![blob(&alloc::format!("{}", self.put))];
                let put = SealedCommand::PutKeyPackages { packages, last_resort: None };
                self.ask(who, 0, StreamCommand::Sealed(put));
            }
            Op::Take { who, whose } => {
                let (users, machines) = (vec![UserId(whose as u64)], Vec::new());
                let take = SealedCommand::TakeKeyPackages { stream: c(), users, machines };
                self.ask(who, 0, StreamCommand::Sealed(take));
            }
            Op::Add(who) => self.say(0, &alloc::format!("add c {}", USERS[who])),
            Op::Remove(who) => self.say(0, &alloc::format!("remove c {}", USERS[who])),
            Op::Ban(who) => self.say(0, &alloc::format!("ban c {}", USERS[who])),
            Op::Leave(who) => self.say(who, &alloc::format!("remove c {}", USERS[who])),
            Op::Enrol(who) => self.say(who, &alloc::format!("enrol n of {}", USERS[who])),
            Op::Retire(who) => self.say(who, "retire n"),
            Op::Seal => drop(self.world.seal()),
            Op::Persist => self.persist(),
            Op::Fail => {
                if self.world.in_flight.is_some() {
                    self.world.fail();
                }
            }
            Op::Crash => {
                self.world = self.world.restart();
                self.asked.clear();
                for (conn, user) in self.conns.iter_mut().zip(USERS) {
                    let mut again = proven(user, "m", "s", false);
                    again.terms = Terms { format: Format::V2, keep: false };
                    *conn = self.world.connect(again);
                }
            }
        }
        self.look();
    }

    fn say(&mut self, who: usize, command: &str) {
        if self.world.lives(self.conns[who]) {
            self.world.submit(self.conns[who], command);
        }
    }

    /// The store takes the batch in flight, unless it has some of its messages already.
    fn persist(&mut self) {
        let Some((_, records)) = &self.world.in_flight else { return };
        let known: Vec<(usize, Stamp)> = records
            .iter()
            .enumerate()
            .filter_map(|(position, record)| {
                let found = self
                    .world
                    .records
                    .iter()
                    .find(|old| key(old).is_some_and(|old| Some(old) == key(record)));
                match found {
                    Some(Record::Posted { stamp, .. }) => Some((position, *stamp)),
                    _ => None,
                }
            })
            .collect();
        let ids: Vec<_> = records.iter().filter_map(key).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "a batch has no message twice");
        match known.is_empty() {
            true => self.world.persist(),
            false => self.world.already_stored(&known),
        }
    }

    /// Checks what was acknowledged against what is durable.
    fn look(&mut self) {
        let Self { world, asked, given, .. } = self;
        asked.retain(|(conn, request, id)| {
            let Some(reply) = world.raw_reply(*conn, *request) else { return true };
            let mut posted = world.records.iter().filter_map(|record| match record {
                Record::Posted { stamp, origin, .. } => Some((*stamp, origin.signed.as_ref()?.id)),
                _ => None,
            });
            match reply {
                Reply::Stream(StreamReply::Stored { stamp, .. }) => {
                    assert!(posted.any(|one| one == (stamp, *id)), "acknowledged and not stored");
                }
                Reply::Stream(StreamReply::Sealed(reply)) => match *reply {
                    SealedReply::Committed { stamp, epoch, .. } => {
                        assert!(posted.any(|one| one == (stamp, *id)), "acknowledged and not stored");
                        let advanced = world.records.iter().any(|record| {
                            matches!(record, Record::GroupAdvanced { epoch: to, last, .. }
                                if *to == epoch && last.id == *id && last.stamp == stamp)
                        });
                        assert!(advanced, "epoch {epoch} was acknowledged and did not begin");
                    }
                    SealedReply::KeyPackages(packages) => {
                        for package in packages.iter().filter_map(|one| one.package.as_ref()) {
                            assert!(given.insert(package.to_vec()), "a key package was given out twice");
                        }
                    }
                    _ => {}
                },
                _ => {}
            }
            false
        });
    }

    /// Folds what is durable.
    fn verify(&self) {
        let (mut epoch, mut seq) = (0, 0);
        let mut group: BTreeMap<MachineId, UserId> = BTreeMap::new();
        let (mut members, mut machines) = (BTreeSet::new(), BTreeSet::new());
        for record in &self.world.records {
            match record {
                Record::MachineAdded { machine, .. } => drop(machines.insert(*machine)),
                Record::MachineRemoved { machine, .. } => drop(machines.remove(machine)),
                Record::MemberAdded { user, .. } => drop(members.insert(*user)),
                Record::MemberRemoved { user, .. } => drop(members.remove(user)),
                Record::GroupJoined { user, machine, .. } => drop(group.insert(*machine, *user)),
                Record::GroupLeft { machine, .. } => drop(group.remove(machine)),
                Record::GroupAdvanced { epoch: next, .. } => {
                    assert_eq!(*next, epoch + 1);
                    epoch = *next;
                }
                Record::Posted { channel: C, stamp, payload, origin, .. } => {
                    assert_eq!(stamp.seq, seq + 1, "numbers have no holes");
                    seq = stamp.seq;
                    let Payload::Body(bytes) = &**payload else { panic!("{payload:?}") };
                    match body::view(bytes).unwrap() {
                        View::Commit { epoch: made, .. } => assert_eq!(made, epoch, "one wins each epoch"),
                        View::Sealed { epoch: made, .. } => {
                            assert_eq!(made, epoch, "a post of another epoch");
                            let due = group.iter().filter(|(machine, user)| {
                                !members.contains(*user) || !machines.contains(*machine)
                            });
                            assert_eq!(due.count(), 0, "a post while a removal is due");
                            let (_, machine) = origin.sender.unwrap();
                            assert!(group.contains_key(&machine), "a post from outside");
                        }
                        View::Text(_) => panic!("a readable post"),
                    }
                }
                _ => {}
            }
        }
        let kept = self.world.stored.group(C).unwrap();
        assert_eq!((kept.epoch, &kept.machines), (epoch, &group));
    }
}

/// What makes a message the same as another.
fn key(record: &Record) -> Option<(UserId, MessageId)> {
    match record {
        Record::Posted { origin, .. } => Some((origin.sender?.0, origin.signed.as_ref()?.id)),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_a_sealed_channel_keeps_its_rules(ops in prop::collection::vec(op(), 0..150)) {
        let mut run = Run::new();
        for op in ops {
            run.step(op);
        }
        while run.world.seal() {
            run.persist();
        }
        run.look();
        run.verify();
        let later = run.world.restart();
        prop_assert_eq!(later.hub.directory(), &run.world.stored);
    }
}
