//! The engine: the hub's rounds, from what has arrived to what lies in every mailbox.
//!
//! A round ([`Engine::round`]) hands the hub what has arrived, ends with one commit for all of it, carries the hub's
//! actions out, and wakes each connection that it left something for, after everything is in place. What the engine
//! works with is its [`Host`]: the queue of arrivals, the store, the wakers. A session whose mailbox is full is ended
//! in the same round, or reads from the store what it was not sent.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::fanout::{Fanout, Item, Outbound};
use crate::handshake::Proven;
use crate::hub::{Action, AuditRead, BatchId, ConnId, Hub, Input, Read};
use crate::mailbox::Pushed;
use crate::memory::{Account, Memory};
use crate::protocol::CloseReason;
use crate::record::{ChannelId, Record, UserId};
use crate::time::{Monotonic, Now};

/// Arrivals of one round: enough to fill a commit, few enough that nobody waits long for the next.
const ROUND: usize = 4096;

/// A handle on a connection's mailbox; cloning it is cheap.
pub trait Mailbox: Clone {
    /// Queues an item, as [`Queue::push`](crate::mailbox::Queue::push) does.
    fn push(&self, item: Item) -> Pushed;

    /// Counts what it holds for a user, as [`Queue::count_for`](crate::mailbox::Queue::count_for) does.
    fn count_for(&self, account: Arc<Account>);
}

/// What arrives at an engine.
#[derive(Clone, Debug)]
pub enum Arrival<M> {
    /// A connection has proven who it is and wants to become a session.
    Open {
        /// Its number, from [`ConnIds::take`].
        conn: ConnId,
        /// What its handshake proved.
        proven: Proven,
        /// Where its items go.
        mailbox: M,
    },
    /// A connection that was opened has ended; it arrives once.
    Left {
        /// The connection.
        conn: ConnId,
    },
    /// Anything else, for the hub.
    Input(Input),
}

/// What an engine works with.
pub trait Host<M> {
    /// The next arrival, if there is one.
    fn next_arrival(&mut self) -> Option<Arrival<M>>;

    /// Makes records durable. The outcome arrives later, as [`Input::Persisted`] or [`Input::PersistFailed`].
    fn persist(&mut self, batch: BatchId, records: Vec<Record>);

    /// Reads a page of history, which arrives later as [`Input::HistoryRead`].
    fn read(&mut self, read: Read);

    /// Reads a page of the audit trail, which arrives later as [`Input::AuditRead`].
    fn read_audit(&mut self, read: AuditRead);

    /// The bytes that a connection's peer has taken since it was accepted.
    fn taken(&mut self, mailbox: &M) -> u64;

    /// Wakes a connection.
    fn wake(&mut self, mailbox: M);

    /// Takes back the number of a connection that left: see [`ConnIds::release`].
    fn release(&mut self, conn: ConnId);

    /// Observes an input before the hub handles it.
    fn before(&mut self, now: Now, hub: &Hub, input: &Input);

    /// Observes the actions that one input led to, before they are carried out.
    fn after(&mut self, now: Now, hub: &Hub, actions: &[Action]);
}

/// What became of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// How much had arrived.
    pub arrivals: usize,
    /// The hub is drained: every accepted post is answered, every session has its end in its mailbox.
    pub drained: bool,
}

/// The hub, its fan-out and the mailboxes of its connections.
pub struct Engine<M> {
    hub: Hub,
    fanout: Fanout,
    actions: Vec<Action>,
    mailboxes: Mailboxes<M>,
    drained: bool,
}

impl<M: Mailbox> Engine<M> {
    /// An engine around a hub.
    pub fn new(hub: Hub) -> Self {
        let limits = &hub.config().limits;
        let accounts = Accounts {
            memory: Memory::new(limits.memory_per_user, limits.memory),
            users: BTreeMap::new(),
            tidy_at: 0,
        };
        let mailboxes = Mailboxes { slots: Vec::new(), to_wake: Vec::new(), feedback: Vec::new(), accounts };
        Self { hub, fanout: Fanout::default(), actions: Vec::new(), mailboxes, drained: false }
    }

    /// The hub, to be looked at.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// What connections hold in memory for their users.
    pub fn memory(&self) -> &Memory {
        &self.mailboxes.accounts.memory
    }

    /// When a round is due though nothing has arrived.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.hub.next_deadline()
    }

    /// Handles what has arrived.
    pub fn round(&mut self, now: Now, host: &mut impl Host<M>) -> Round {
        let mut arrivals = 0;
        while arrivals < ROUND
            && let Some(arrival) = host.next_arrival()
        {
            arrivals += 1;
            let input = match arrival {
                Arrival::Open { conn, proven, mailbox } => {
                    self.mailboxes.place(conn, mailbox);
                    Input::Open { conn, proven }
                }
                Arrival::Input(input) => input,
                Arrival::Left { conn } => {
                    self.mailboxes.remove(conn);
                    host.release(conn);
                    Input::Closed { conn }
                }
            };
            self.handle(now, input, host);
        }
        if self.hub.next_deadline().is_some_and(|at| at <= now.mono) {
            self.handle(now, Input::Tick, host);
        }
        if self.hub.has_batch() {
            self.handle(now, Input::RoundEnded, host);
        }
        self.carry_out(now, host);
        for mailbox in self.mailboxes.to_wake.drain(..) {
            host.wake(mailbox);
        }
        Round { arrivals, drained: self.drained }
    }

    fn handle(&mut self, now: Now, input: Input, host: &mut impl Host<M>) {
        host.before(now, &self.hub, &input);
        let done = self.actions.len();
        self.hub.handle(now, input, &mut self.actions);
        host.after(now, &self.hub, &self.actions[done..]);
    }

    /// Carries out the hub's actions, and what carrying them out led to.
    fn carry_out(&mut self, now: Now, host: &mut impl Host<M>) {
        while !self.actions.is_empty() || !self.mailboxes.feedback.is_empty() {
            let mailboxes = &mut self.mailboxes;
            let mut delivery = Delivery { mailboxes, host, drained: &mut self.drained };
            self.fanout.carry_out(&mut self.actions, &mut delivery);
            let mut feedback = core::mem::take(&mut self.mailboxes.feedback);
            for input in feedback.drain(..) {
                self.handle(now, input, host);
            }
            // Its room is kept.
            self.mailboxes.feedback = feedback;
        }
    }
}

/// The mailboxes of the connections that have not left.
struct Mailboxes<M> {
    slots: Vec<Option<(ConnId, M)>>,
    to_wake: Vec<M>,
    /// What the hub is to hear of the deliveries that are under way.
    feedback: Vec<Input>,
    accounts: Accounts,
}

/// The accounts of users who have connections.
struct Accounts {
    memory: Arc<Memory>,
    users: BTreeMap<UserId, Arc<Account>>,
    /// How many there are when those without connections are forgotten.
    tidy_at: usize,
}

impl Accounts {
    fn of(&mut self, user: UserId) -> Arc<Account> {
        if self.users.len() >= self.tidy_at {
            self.users.retain(|_, account| Arc::strong_count(account) > 1);
            self.tidy_at = 2 * self.users.len() + 64;
        }
        self.users.entry(user).or_insert_with(|| self.memory.account()).clone()
    }
}

impl<M: Mailbox> Mailboxes<M> {
    fn place(&mut self, conn: ConnId, mailbox: M) {
        let slot = slot(conn);
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        self.slots[slot] = Some((conn, mailbox));
    }

    fn remove(&mut self, conn: ConnId) {
        if let Some(place) = self.slots.get_mut(slot(conn)) {
            *place = None;
        }
    }

    fn send(&mut self, conn: ConnId, item: Item) {
        let Some(Some((placed, mailbox))) = self.slots.get(slot(conn)) else { return };
        if *placed != conn {
            return;
        }
        if let Item::Established(session) = &item {
            mailbox.count_for(self.accounts.of(session.user));
        }
        let resumable = match &item {
            Item::Burst(burst) => burst.resumable(),
            _ => None,
        };
        if let Some((channel, _)) = resumable
            && self.feedback.iter().any(|input| is_lagging(input, conn, channel))
        {
            // It follows what was dropped.
            return;
        }
        match mailbox.push(item) {
            Pushed::Wake => self.to_wake.push(mailbox.clone()),
            Pushed::Behind | Pushed::Closed => {}
            Pushed::Full if let Some((channel, seq)) = resumable => {
                self.feedback.push(Input::Lagged { conn, channel, seq });
            }
            Pushed::Full => {
                self.feedback.push(Input::Overflowed { conn });
                // Nothing may follow what was dropped.
                mailbox.push(Item::Close(CloseReason::SlowConsumer));
                self.to_wake.push(mailbox.clone());
            }
        }
    }
}

fn is_lagging(input: &Input, conn: ConnId, channel: ChannelId) -> bool {
    matches!(input, Input::Lagged { conn: other, channel: of, .. } if *other == conn && *of == channel)
}

/// Where the fan-out delivers to.
struct Delivery<'a, M, H> {
    mailboxes: &'a mut Mailboxes<M>,
    host: &'a mut H,
    drained: &'a mut bool,
}

impl<M: Mailbox, H: Host<M>> Outbound for Delivery<'_, M, H> {
    fn send(&mut self, conn: ConnId, item: Item) {
        self.mailboxes.send(conn, item);
    }

    fn persist(&mut self, batch: BatchId, records: Vec<Record>) {
        self.host.persist(batch, records);
    }

    fn read(&mut self, read: Read) {
        self.host.read(read);
    }

    fn read_audit(&mut self, read: AuditRead) {
        self.host.read_audit(read);
    }

    fn probe(&mut self, conn: ConnId) {
        if let Some(Some((placed, mailbox))) = self.mailboxes.slots.get(slot(conn))
            && *placed == conn
        {
            let taken = self.host.taken(mailbox);
            self.mailboxes.feedback.push(Input::Progressed { conn, taken });
        }
    }

    fn drained(&mut self) {
        *self.drained = true;
    }
}

/// Numbers for connections: the place of its mailbox, and how often that place was used before, so that what comes
/// late for a connection never reaches its successor.
#[derive(Debug, Default)]
pub struct ConnIds {
    free: Vec<ConnId>,
    used: u32,
}

/// Added to a number for its place's next connection.
const NEXT_USE: u64 = 1 << 32;

fn slot(conn: ConnId) -> usize {
    (conn.0 % NEXT_USE) as usize
}

impl ConnIds {
    /// A number for a new connection.
    pub fn take(&mut self) -> ConnId {
        self.free.pop().unwrap_or_else(|| {
            self.used += 1;
            ConnId(u64::from(self.used - 1))
        })
    }

    /// Takes back the number of a connection that left.
    pub fn release(&mut self, conn: ConnId) {
        self.free.push(ConnId(conn.0.wrapping_add(NEXT_USE)));
    }
}

#[cfg(test)]
mod tests;
