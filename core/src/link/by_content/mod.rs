//! No gaps, without positions: one joined channel, followed across any number of drops.
//!
//! Only for version 1 of the wire, whose deliveries carry no position: this folder can be deleted with it. The rest of the
//! link uses it as [`Subscriptions`] alone, which has a [`Channel`] for each subscription and [`Reads`] for all of them.
//!
//! History carries stamps, live deliveries do not, and the same text may be posted twice. What holds on every
//! connection: a message is durable before it is delivered, so a read that is asked for after a delivery covers
//! it; all who are subscribed are delivered every message of others, in the log's order. What does not hold: a
//! page may be older than deliveries that come before it, and it may contain messages whose delivery comes
//! after it. So neither a page nor a delivery is new by its place in the stream. Therefore:
//!
//! - The history decides, the live stream hints. After each subscription the history is read from the *cursor*
//!   (the newest stamp up to which everything was handed on) to its end, and handed on as read.
//! - [`Alignment`] keeps every place in the log where the live stream may stand. A delivery that is the next
//!   message in all of them is handed on at once, one that is a repetition in all of them is dropped, and any
//!   other makes the history be read again, where it has its one true place. With texts that differ the first
//!   delivery settles it, and from then on counting suffices. A stream of equal texts costs a read for
//!   each until a pause of two seconds: what a page showed is delivered before the answer to a request sent so
//!   much later.
//! - What was handed on live has no stamp yet. It is *unanchored*: remembered by hash until a reading, which
//!   begins one millisecond before the cursor. The message at the cursor bears witness that the purge
//!   has taken nothing since, so the page's next messages are the unanchored ones, one by one. Without the
//!   witness (quiet for longer than the retention) they are matched by content.
//! - A channel that is followed from now on has no cursor at first: [`Probe`] finds the history's end. Whatever is
//!   delivered meanwhile is handed on at once. Until [`Channel::caught_up`] tells that the end is found, a drop may
//!   lose what was posted since the subscription; afterwards nothing is lost. (A channel that is never quiet for a
//!   round trip has no end to find: it is live all the same, and its cursor follows a second behind.)
//! - Our own messages are not delivered to us. They move the cursor and are not handed on.
//!
//! Limits: a server that stamps two messages alike can hide one behind a page's end. What the purge removes during
//! a drop is lost, and if it removes part of what was unanchored, a new message equal to a removed one
//! may be taken for it. When deliveries and history contradict each other, the deliveries are believed.
//! Nothing of this ever loops faster than the connection's round trip, or remembers more than fixed bounds.

mod align;
mod buffer;
mod page;
mod probe;
mod reads;
mod subscriptions;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use self::align::{Alignment, Delivered, REMEMBERED, Seen};
use self::buffer::Buffer;
use self::buffer::HashKey;
use self::probe::{Probe, RECENT};
use self::reads::Reads;
pub(super) use self::subscriptions::Subscriptions;
use super::{Action, Context, JoinFrom};
use crate::name::{ChannelName, SessionPath};
use crate::payload::Payload;
use crate::time::{Monotonic, Now, UnixMillis};

/// A message to hand on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    pub(super) from: SessionPath,
    pub(super) payload: Payload,
    /// Known if it came from the history.
    pub(super) ts: Option<UnixMillis>,
}

/// A page that no honest server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::link) struct OutOfOrder;

/// So many unanchored messages are anchored without waiting.
const MANY: usize = 256;
/// Fewer are anchored after half of this or more: everyone who follows the channel has the same to do.
const ANCHOR_WITHIN: Duration = Duration::from_secs(120);

/// Former paths that are remembered.
const MAX_FORMER: usize = 8;

/// One followed channel.
#[derive(Clone, Debug)]
struct Channel {
    name: ChannelName,
    key: HashKey,
    /// Everything up to here was handed on, or is not to be.
    cursor: i64,
    /// What is stamped no later is not to be handed on.
    skip: i64,
    /// The messages stamped exactly so, hashed; none if no message was seen there.
    witnesses: Vec<u64>,
    /// What was handed on last, from history and live.
    tail: VecDeque<Seen>,
    /// What was handed on live and not yet found in the history.
    unanchored: VecDeque<u64>,
    /// Paths that we had since the last reading; what we posted under them was not delivered to us.
    former: Vec<SessionPath>,
    /// There is no cursor yet.
    probe: Option<Probe>,

    /// Deliveries on this connection count.
    subscribed: bool,
    /// The history may be read.
    ready: bool,
    alignment: Alignment,
    deliveries: u64,
    /// The newest of them, hashed, until the alignment is exact.
    recent: VecDeque<u64>,
    /// Those that may be next but were not handed on.
    buffer: Buffer,
    caught_up: bool,

    plan: Plan,
    reading: Option<Reading>,
    /// How many of the unanchored the reading has still to find.
    to_anchor: usize,
    /// The witness was there in this reading.
    contiguous: bool,
    hold: Option<Monotonic>,
    anchor_at: Option<Monotonic>,
    settle_at: Option<Monotonic>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Nothing,
    Begin,
    After(i64),
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    since: i64,
    deliveries: u64,
    at: Monotonic,
    /// The cursor whose witness should come first.
    witness: Option<i64>,
}

impl Channel {
    pub(super) fn new(name: ChannelName, from: JoinFrom, now: Now, key: HashKey) -> Self {
        let (cursor, skip, probe) = match from {
            JoinFrom::Since(since) => (since.0.saturating_sub(RECENT), since.0, None),
            JoinFrom::Live | JoinFrom::After { .. } => (i64::MIN, i64::MIN, Some(Probe::new(now.wall.0))),
        };
        Self {
            name,
            key,
            cursor,
            skip,
            witnesses: Vec::new(),
            tail: VecDeque::new(),
            unanchored: VecDeque::new(),
            former: Vec::new(),
            probe,
            subscribed: false,
            ready: false,
            alignment: Alignment::Unknown,
            deliveries: 0,
            recent: VecDeque::new(),
            buffer: Buffer::default(),
            caught_up: false,
            plan: Plan::Nothing,
            reading: None,
            to_anchor: 0,
            contiguous: false,
            hold: None,
            anchor_at: None,
            settle_at: None,
        }
    }

    /// From where a link goes on whose server was updated to version 2. What was handed on since the cursor is handed on
    /// again: nothing is lost.
    pub(super) fn resume_from(&self) -> JoinFrom {
        match self.probe {
            Some(_) => JoinFrom::Live,
            None => JoinFrom::Since(UnixMillis(self.cursor.max(self.skip))),
        }
    }

    /// The request to subscribe goes out, or is answered where a subscription may have stood: what is delivered from here
    /// on counts.
    pub(super) fn subscribing(&mut self, now: Now) {
        self.dropped(now);
        self.subscribed = true;
    }

    /// The subscription stands: the history may be read.
    pub(super) fn subscribed(&mut self) {
        self.ready = true;
        self.plan = Plan::Begin;
    }

    /// The subscription ended with its connection.
    pub(super) fn dropped(&mut self, now: Now) {
        if self.probe.is_some() {
            self.give_up_probe(now);
        }
        self.subscribed = false;
        self.ready = false;
        self.alignment = Alignment::Unknown;
        self.deliveries = 0;
        self.recent.clear();
        self.buffer.clear();
        self.caught_up = false;
        self.plan = Plan::Nothing;
        self.reading = None;
        self.hold = None;
        self.anchor_at = None;
        self.settle_at = None;
    }

    /// We have another path from now on.
    pub(super) fn renamed(&mut self, from: &SessionPath) {
        if self.former.len() < MAX_FORMER {
            self.former.push(from.clone());
        }
    }

    /// A channel too busy for its end to be found has still a cursor, if that is certainly newer than the subscription:
    /// whatever was delivered was handed on, and some of it is behind the cursor. All of it must be remembered, to be
    /// told from what was not. Otherwise it is joined anew.
    fn give_up_probe(&mut self, now: Now) {
        let remembered = self.recent.len() as u64 == self.deliveries;
        if remembered && self.probe.as_ref().is_some_and(Probe::passed_the_end) {
            self.probe = None;
            self.unanchored = core::mem::take(&mut self.recent);
            self.tail = self.unanchored.iter().map(|&hash| Seen { hash, at: now.mono }).collect();
            return;
        }
        self.probe = Some(Probe::new(now.wall.0));
        self.cursor = i64::MIN;
        self.witnesses.clear();
        self.tail.clear();
    }

    /// From where a page is to be asked for now, if at all.
    pub(super) fn next_read(&mut self, now: Monotonic) -> Option<UnixMillis> {
        if !self.wants_read(now) {
            return None;
        }
        self.hold = None;
        let mut witness = None;
        let since = match (self.plan, &self.probe) {
            (Plan::Nothing, _) => return None,
            (_, Some(probe)) => probe.next(),
            (Plan::Begin, None) => {
                self.to_anchor = self.unanchored.len();
                self.contiguous = false;
                witness = (!self.witnesses.is_empty()).then_some(self.cursor);
                self.cursor.saturating_sub(i64::from(witness.is_some()))
            }
            (Plan::After(since), None) => since,
        };
        self.reading = Some(Reading { since, deliveries: self.deliveries, at: now, witness });
        Some(UnixMillis(since))
    }

    /// Whether a page could be asked for now.
    pub(super) fn wants_read(&self, now: Monotonic) -> bool {
        self.ready
            && self.plan != Plan::Nothing
            && self.reading.is_none()
            && self.hold.is_none_or(|hold| now >= hold)
    }

    /// The read was refused for now; it is to be tried again not before `again`.
    pub(super) fn read_refused(&mut self, again: Monotonic) {
        self.reading = None;
        self.hold = Some(again);
    }

    /// Whether the history has been read to its end since the subscription: all that was posted before it is handed
    /// on, and nothing posted after it will be lost, whatever drops.
    pub(super) fn caught_up(&self) -> bool {
        self.caught_up
    }

    #[cfg(test)]
    pub(super) fn buffered(&self) -> usize {
        self.buffer.bytes()
    }

    /// When [`Channel::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        let hold = self.hold.filter(|_| self.plan != Plan::Nothing && self.reading.is_none());
        [hold, self.anchor_at, self.settle_at].into_iter().flatten().min()
    }

    /// Begins the readings whose time has come.
    pub(super) fn tick(&mut self, now: Monotonic) {
        for due in [&mut self.anchor_at, &mut self.settle_at] {
            if due.is_some_and(|due| due <= now) {
                *due = None;
                if self.plan == Plan::Nothing {
                    self.plan = Plan::Begin;
                }
            }
        }
        if self.hold.is_some_and(|hold| hold <= now) {
            self.hold = None;
        }
    }

    /// A message was delivered live.
    pub(super) fn delivered(&mut self, from: SessionPath, payload: Payload, here: &mut Context<'_>) {
        if !self.subscribed || from == *here.own {
            return;
        }
        self.deliveries += 1;
        let hash = self.key.hash(&from, &payload);
        let message = Message { from, payload, ts: None };
        if self.probe.is_some() {
            remember(&mut self.recent, hash);
            self.tell(message, here);
            return;
        }
        if self.alignment.exact() == Some(0) && self.unanchored.len() >= REMEMBERED {
            // The history has not been readable for long: it has to come first now.
            self.alignment = Alignment::Among(alloc::vec![-1]);
            self.wait(hash, message);
            return;
        }
        match self.alignment.delivered(hash, &self.tail) {
            Delivered::Next => {
                self.recent.clear();
                self.hand_on_live(hash, message, here);
            }
            Delivered::Repeated => self.note(hash),
            Delivered::Unclear => {
                self.note(hash);
                self.wait(hash, message);
            }
            Delivered::Contradiction => {
                self.recent.clear();
                self.note(hash);
                self.wait(hash, message);
            }
        }
    }

    fn anchor_later(&mut self, here: &mut Context<'_>) {
        if !self.unanchored.is_empty() && self.anchor_at.is_none() {
            self.anchor_at = Some(here.now.mono + here.jitter.spread(ANCHOR_WITHIN));
        }
    }

    fn hand_on_live(&mut self, hash: u64, message: Message, here: &mut Context<'_>) {
        self.remember(hash, here.now.mono);
        self.unanchored.push_back(hash);
        self.tell(message, here);
        self.anchor_later(here);
        if self.unanchored.len() >= MANY && self.plan == Plan::Nothing {
            self.plan = Plan::Begin;
        }
    }

    fn tell(&self, message: Message, here: &mut Context<'_>) {
        let Message { from, payload, ts } = message;
        here.actions.push(Action::Deliver {
            channel: Some(self.name.clone()),
            from,
            payload,
            ts,
            place: None,
        });
    }

    fn note(&mut self, hash: u64) {
        if self.alignment.exact().is_some() {
            self.recent.clear();
        } else {
            remember(&mut self.recent, hash);
        }
    }

    fn wait(&mut self, hash: u64, message: Message) {
        self.buffer.push(hash, message);
        if self.plan == Plan::Nothing {
            self.plan = Plan::Begin;
        }
    }

    fn remember(&mut self, hash: u64, at: Monotonic) {
        if self.tail.len() >= REMEMBERED {
            self.tail.pop_front();
        }
        self.tail.push_back(Seen { hash, at });
    }
}

fn remember(recent: &mut VecDeque<u64>, hash: u64) {
    if recent.len() >= REMEMBERED {
        recent.pop_front();
    }
    recent.push_back(hash);
}
