//! Mailboxes against a plain model: any sequence of messages, reports, blocks, bans, absences, failures and restarts.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::mail::to;
use super::streams::{again_v2, ask, drain_queues, join_v2, start, told};
use super::world::World;
use crate::body;
use crate::directory::Directory;
use crate::hub::{Config, ConnId, Limits};
use crate::name::{ChannelName, UserName};
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{Limit, Refusal, Reply};
use crate::stream::{ContactChange, MessageId, Signed, Start, StreamCommand, StreamRef, StreamReply};

const USERS: [&str; 4] = ["bea", "cyn", "dan", "eve"];
const MOST: usize = 3;
const MOST_BYTES: usize = 60;
const KEPT: u64 = 100;

#[derive(Clone, Debug)]
enum Step {
    Send { from: usize, to: usize, session: bool, length: usize, lifetime: Option<u64>, fails: bool },
    Report { who: usize, session: bool, back: u64 },
    Contact { who: usize, whom: usize, change: ContactChange },
    EnterChannel { who: usize },
    Ban { whom: usize, on: bool },
    Read { who: usize, session: bool },
    Leave { who: usize },
    Pass { seconds: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..USERS.len();
    let change = prop::sample::select(alloc::vec![
        ContactChange::Allow,
        ContactChange::Disallow,
        ContactChange::Block,
        ContactChange::Unblock,
    ]);
    prop_oneof![
        12 => (who(), who(), any::<bool>(), 0..30_usize, prop::option::of(1..20_u64), 0..8_u8).prop_map(
            |(from, to, session, length, lifetime, fails)| {
                Step::Send { from, to, session, length, lifetime, fails: fails == 0 }
            }
        ),
        4 => (who(), any::<bool>(), 0..3_u64).prop_map(|(who, session, back)| {
            Step::Report { who, session, back }
        }),
        3 => (who(), who(), change).prop_map(|(who, whom, change)| Step::Contact { who, whom, change }),
        2 => who().prop_map(|who| Step::EnterChannel { who }),
        1 => (who(), any::<bool>()).prop_map(|(whom, on)| Step::Ban { whom, on }),
        4 => (who(), any::<bool>()).prop_map(|(who, session)| Step::Read { who, session }),
        2 => who().prop_map(|who| Step::Leave { who }),
        3 => (1..40_u64).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Restart),
    ]
}

struct Message {
    bytes: usize,
    expires: u64,
    gone: u64,
}

/// What is expected. Times are seconds since the beginning.
#[derive(Default)]
struct Model {
    mail: BTreeMap<(usize, bool), Vec<Message>>,
    delivered: BTreeMap<(usize, bool), u64>,
    reading: BTreeSet<(usize, bool)>,
    contacts: BTreeMap<(usize, usize), bool>,
    entered: BTreeSet<usize>,
    banned: BTreeSet<usize>,
    now: u64,
}

impl Model {
    fn may_write(&self, from: usize, owner: usize) -> bool {
        let meets = |user| self.entered.contains(&user) && !self.banned.contains(&user);
        from == owner
            || self.contacts.get(&(owner, from)).copied().unwrap_or_else(|| meets(from) && meets(owner))
    }

    fn full(&self, mailbox: (usize, bool), bytes: usize) -> Option<Limit> {
        let delivered = self.delivered.get(&mailbox).copied().unwrap_or(0) as usize;
        let waiting: Vec<&Message> = self.mail.get(&mailbox).map_or(Vec::new(), |all| {
            all.iter().skip(delivered).filter(|it| it.gone.min(it.expires) > self.now).collect()
        });
        let sum: usize = waiting.iter().map(|it| it.bytes).sum();
        if waiting.len() >= MOST {
            Some(Limit::MailboxMessages)
        } else if !waiting.is_empty() && sum + bytes > MOST_BYTES {
            Some(Limit::MailboxBytes)
        } else {
            None
        }
    }

    /// What a reader is sent that reads everything.
    fn readable(&self, mailbox: (usize, bool)) -> Vec<String> {
        let (mut told, mut gap) = (Vec::new(), None);
        let all = self.mail.get(&mailbox).map(|all| &all[..]).unwrap_or_default();
        for (seq, message) in (1_usize..).zip(all) {
            if message.expires <= self.now {
                gap = gap.or(Some(seq));
                continue;
            }
            told.extend(gap.take().map(|from| alloc::format!("gap {from}-{}", seq - 1)));
            told.push(alloc::format!("{seq}"));
        }
        told.extend(gap.map(|from| alloc::format!("gap {from}-{}", all.len())));
        told.push(alloc::format!("live {}", all.len()));
        told
    }
}

struct Run {
    world: World,
    model: Model,
    ann: ConnId,
    conns: [Option<ConnId>; USERS.len()],
    sent: u32,
}

impl Run {
    fn new() -> Self {
        let mut config = Config { retention: Some(Duration::from_secs(KEPT)), ..Config::default() };
        config.limits = Limits {
            mailbox_messages: MOST,
            mailbox_bytes: MOST_BYTES,
            idle: Duration::from_secs(1 << 30),
            ..Limits::default().without_rates()
        };
        let mut world = World::over(config, Directory::default());
        let ann = world.register("ann");
        world.must(ann, "create public c");
        let conns = USERS.map(|user| Some(join_v2(&mut world, user, true)));
        Self { world, model: Model::default(), ann, conns, sent: 0 }
    }

    /// The user's session, which comes back if it was away.
    fn conn(&mut self, who: usize) -> ConnId {
        let world = &mut self.world;
        *self.conns[who].get_or_insert_with(|| again_v2(world, USERS[who]))
    }

    fn leave(&mut self, who: usize) {
        if let Some(conn) = self.conns[who].take() {
            self.world.close(conn);
        }
        self.model.reading.retain(|(reader, _)| *reader != who);
    }

    fn own(session: bool) -> StreamRef {
        to(if session { "." } else { "-" })
    }

    fn pass(&mut self, seconds: u64) {
        self.world.pass(Duration::from_secs(seconds));
        self.model.now += seconds;
        self.world.settle();
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Send { from, to: owner, session, length, lifetime, fails } => {
                let conn = self.conn(from);
                let path = alloc::format!("{}/m/s", USERS[owner]);
                self.sent += 1;
                let mut id = [0; 16];
                id[..4].copy_from_slice(&self.sent.to_be_bytes());
                let body = body::of_text(&"x".repeat(length));
                let (payload, bytes) = (Payload::Body(body.clone()), Payload::Body(body).size());
                let signed = Signed { id: MessageId(id), signature: Opaque([0; 64]), acknowledge: false };
                let request = start(
                    &mut self.world,
                    conn,
                    StreamCommand::Post {
                        stream: to(if session { &path } else { USERS[owner] }),
                        payload,
                        signed: Arc::new(signed),
                        lifetime: lifetime.map(Duration::from_secs),
                    },
                );
                if fails && self.world.seal() {
                    self.world.fail();
                }
                self.world.settle();
                let reply = self.world.raw_reply(conn, request).expect("an answer");
                let mailbox = (owner, session);
                match reply {
                    Reply::Refused(Refusal::NotStored { .. }) => prop_assert!(fails),
                    Reply::Refused(refusal) if !self.model.may_write(from, owner) => {
                        prop_assert_eq!(refusal, Refusal::NoMailbox);
                    }
                    Reply::Refused(Refusal::MailboxFull { limit, .. }) => {
                        prop_assert_eq!(self.model.full(mailbox, bytes), Some(limit));
                    }
                    Reply::Stream(StreamReply::Stored { stamp, present, .. }) => {
                        prop_assert!(self.model.may_write(from, owner));
                        prop_assert_eq!(self.model.full(mailbox, bytes), None);
                        let now = self.model.now;
                        let all = self.model.mail.entry(mailbox).or_default();
                        let expires = lifetime.map_or(u64::MAX, |lifetime| now + lifetime);
                        all.push(Message { bytes, expires, gone: now + KEPT });
                        prop_assert_eq!(stamp.seq, all.len() as u64);
                        prop_assert_eq!(present, self.model.reading.contains(&mailbox));
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            Step::Report { who, session, back } => {
                let conn = self.conn(who);
                let mailbox = (who, session);
                let last = self.model.mail.get(&mailbox).map_or(0, Vec::len) as u64;
                let delivered = last.saturating_sub(back);
                let command = StreamCommand::Report { stream: Self::own(session), delivered, seen: 0 };
                let reply = ask(&mut self.world, conn, command);
                if self.model.reading.contains(&mailbox) {
                    prop_assert_eq!(reply, Reply::Stream(StreamReply::Done));
                    let furthest = self.model.delivered.entry(mailbox).or_default();
                    *furthest = delivered.max(*furthest);
                } else {
                    prop_assert_eq!(reply, Reply::Refused(Refusal::MailboxNotSubscribed));
                }
                self.pass(1);
            }
            Step::Contact { who, whom, change } if who != whom => {
                let conn = self.conn(who);
                let user = UserName::new(USERS[whom]).unwrap();
                ask(&mut self.world, conn, StreamCommand::SetContact { user, change });
                let (contacts, key) = (&mut self.model.contacts, (who, whom));
                match (change, contacts.get(&key)) {
                    (ContactChange::Allow, _) => drop(contacts.insert(key, true)),
                    (ContactChange::Block, _) => drop(contacts.insert(key, false)),
                    (ContactChange::Disallow, Some(true)) | (ContactChange::Unblock, Some(false)) => {
                        contacts.remove(&key);
                    }
                    _ => {}
                }
            }
            Step::Contact { .. } => {}
            Step::EnterChannel { who } => {
                let conn = self.conn(who);
                let stream = StreamRef::Channel(ChannelName::new("c").unwrap());
                let subscribe = StreamCommand::Subscribe { stream, from: Start::Latest, invite: None };
                if let Reply::Stream(_) = ask(&mut self.world, conn, subscribe) {
                    self.model.entered.insert(who);
                }
                drain_queues(&mut self.world);
            }
            Step::Ban { whom, on } => {
                let what = if on { "ban" } else { "unban" };
                self.world.must(self.ann, &alloc::format!("{what} c {}", USERS[whom]));
                if on {
                    self.model.banned.insert(whom);
                } else {
                    self.model.banned.remove(&whom);
                }
            }
            Step::Read { who, session } => {
                let conn = self.conn(who);
                told(&mut self.world, conn);
                let stream = Self::own(session);
                let subscribe = StreamCommand::Subscribe { stream, from: Start::After(0), invite: None };
                ask(&mut self.world, conn, subscribe);
                drain_queues(&mut self.world);
                self.model.reading.insert((who, session));
                let told: Vec<String> = told(&mut self.world, conn);
                prop_assert_eq!(told, self.model.readable((who, session)));
            }
            Step::Leave { who } => self.leave(who),
            Step::Pass { seconds } => self.pass(seconds),
            Step::Restart => {
                self.pass(1);
                self.world = self.world.restart();
                self.conns = Default::default();
                self.model.reading.clear();
                self.ann = self.world.open("ann/m/s");
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mailboxes_do_what_a_plain_model_says(steps in prop::collection::vec(step(), 1..60)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step)?;
        }
        for who in 0..USERS.len() {
            for session in [false, true] {
                run.step(&Step::Read { who, session })?;
            }
        }
    }
}
