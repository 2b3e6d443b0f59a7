//! A connection's pump: it moves messages from a socket through the edge to the engine, and items from the mailbox
//! through the edge to the socket.
//!
//! [`Pump::run`] decides what is done and in which order: items before messages; nothing more is taken from a mailbox
//! or a peer while too much waits to be written; after the last word, nothing is said, and what the peer still sends
//! is read and dropped, since closing a socket with unread bytes could destroy the last word on its way. The socket,
//! the mailbox and the engine are the [`Carrier`]'s.

use alloc::vec::Vec;

use rand_core::CryptoRng;

use crate::fanout::Item;
use crate::handshake::Proven;
use crate::hub::{ConnId, Input};
use crate::protocol::CloseReason;
use crate::wire::edge::{Edge, Submit};
use crate::wire::websocket::Kind;
use crate::write_queue::WriteQueue;

/// Steps of one run, so that other connections get their turn.
const TURN: usize = 256;
/// Bytes that are read and dropped after the last word: a peer that sends more does not listen.
const LINGER: usize = 4 << 20;
/// Room for items that an idle pump keeps.
const KEPT: usize = 8;

/// What a pump works with: a socket, a mailbox, an engine. Nothing here waits.
pub trait Carrier {
    /// Why the socket failed.
    type Error;

    /// The generator for nonces and tokens.
    fn generator(&mut self) -> impl CryptoRng;

    /// Takes what lies in the mailbox, as [`Queue::take`](crate::mailbox::Queue::take) does.
    fn take_items(&mut self, room: bool, into: &mut Vec<Item>) -> bool;

    /// Writes what the socket takes now; false if it takes nothing.
    ///
    /// # Errors
    /// The socket's.
    fn write(&mut self, queue: &mut WriteQueue) -> Result<bool, Self::Error>;

    /// Hands messages that have come to [`Pump::message`] while [`Pump::wants_message`], reading from the socket only
    /// if none has; false if nothing has come.
    ///
    /// # Errors
    /// The socket's, or its end.
    fn read(&mut self, pump: &mut Pump) -> Result<bool, Self::Error>;

    /// Ends the sending half once all is sent on; false if that is still to come.
    ///
    /// # Errors
    /// The socket's.
    fn shut_down(&mut self) -> Result<bool, Self::Error>;

    /// Reads and drops; says how many bytes, zero at the end, `None` if nothing has come.
    ///
    /// # Errors
    /// The socket's.
    fn discard(&mut self) -> Result<Option<usize>, Self::Error>;

    /// Asks the engine to make a session of the connection, and says which number it has.
    ///
    /// # Errors
    /// It may not become one.
    fn open(&mut self, proven: Proven) -> Result<ConnId, CloseReason>;

    /// Hands the engine an input.
    fn submit(&mut self, input: Input);

    /// Tells the engine that the session has ended; called once after [`Carrier::open`].
    fn leave(&mut self, conn: ConnId);

    /// The connection is a session: its messages may be larger from now on.
    fn established(&mut self);

    /// The connection ends for this reason; `opening` if it was no session.
    fn ending(&mut self, reason: &CloseReason, opening: bool);

    /// Appends the transport's own goodbye, which follows the last word.
    fn goodbye(&mut self, out: &mut Vec<u8>);
}

/// One connection's pump.
pub struct Pump {
    edge: Edge,
    queue: WriteQueue,
    items: Vec<Item>,
    /// No more is taken while so many bytes wait to be written.
    room: usize,
    conn: Option<ConnId>,
    /// The engine waits for room.
    marked: bool,
    timed_out: bool,
    lingered: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Live,
    /// The last word is queued.
    Parting,
    /// The last word is sent.
    Lingering,
    Ended,
}

/// Where a connection stands when [`Pump::run`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is nothing to do until the socket or the mailbox changes.
    Waiting,
    /// Its turn is over: run it again soon.
    Again,
    /// It has become a session.
    Established,
    /// It is ending: give it a few seconds to say its last word, running it on.
    Parting,
    /// It has ended: drop it.
    Ended,
}

impl Pump {
    /// The pump of a new connection. While `room` bytes wait to be written, no more is taken.
    pub fn new(edge: Edge, room: usize) -> Self {
        Self {
            edge,
            queue: WriteQueue::default(),
            items: Vec::new(),
            room,
            conn: None,
            marked: false,
            timed_out: false,
            lingered: 0,
            state: State::Live,
        }
    }

    /// Whether the handshake is not yet complete.
    pub fn is_opening(&self) -> bool {
        self.edge.is_opening()
    }

    /// Whether the connection may still ask and be told things: its last word is not queued.
    pub fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// Bytes that wait to be written.
    pub fn unwritten(&self) -> usize {
        self.queue.len()
    }

    /// Bytes of them that are held for this connection alone.
    pub fn unwritten_own(&self) -> usize {
        self.queue.own_len()
    }

    /// The handshake has taken too long: the next run ends the connection.
    pub fn time_out(&mut self) {
        self.timed_out = true;
    }

    /// Does what can be done, until something about the connection changes.
    pub fn run<C: Carrier>(&mut self, carrier: &mut C) -> Progress {
        let (was_opening, was) = (self.is_opening(), self.state);
        for _ in 0..TURN {
            let progress = match self.step(carrier) {
                Ok(progress) => progress,
                Err(_) => {
                    self.give_up(carrier);
                    true
                }
            };
            if self.state != was {
                return if self.state == State::Ended { Progress::Ended } else { Progress::Parting };
            }
            if was_opening && !self.is_opening() {
                return Progress::Established;
            }
            if !progress {
                return Progress::Waiting;
            }
        }
        Progress::Again
    }

    /// Ends the connection without a word: its socket is gone.
    pub fn give_up(&mut self, carrier: &mut impl Carrier) {
        self.leave(carrier);
        self.state = State::Ended;
    }

    /// Does what can be done at once; false if there is nothing.
    fn step<C: Carrier>(&mut self, carrier: &mut C) -> Result<bool, C::Error> {
        if core::mem::take(&mut self.timed_out) {
            self.end(&CloseReason::HandshakeTimeout, carrier);
        }
        let was_opening = self.is_opening();
        let mut progress = self.is_live() && self.take_items(carrier);
        if was_opening && !self.is_opening() {
            // The caller releases the place of a handshake before the peer can know that it is a session.
            return Ok(true);
        }
        progress |= carrier.write(&mut self.queue)?;
        if self.marked
            && self.queue.len() < self.room
            && let Some(conn) = self.conn
        {
            self.marked = false;
            carrier.submit(Input::Ready { conn });
        }
        match self.state {
            // Some answers are made by the edge: a peer that does not read them is read no further.
            State::Live if self.wants_message() && self.queue.len() < self.room => {
                progress |= carrier.read(self)?;
            }
            State::Parting if self.queue.is_empty() && carrier.shut_down()? => {
                self.state = State::Lingering;
                progress = true;
            }
            State::Lingering => {
                if let Some(count) = carrier.discard()? {
                    self.lingered += count;
                    if count == 0 || self.lingered > LINGER {
                        self.state = State::Ended;
                    }
                    progress = true;
                }
            }
            State::Live | State::Parting | State::Ended => {}
        }
        Ok(progress)
    }

    fn take_items(&mut self, carrier: &mut impl Carrier) -> bool {
        if !carrier.take_items(self.queue.len() < self.room, &mut self.items) {
            return false;
        }
        let mut items = core::mem::take(&mut self.items);
        for item in items.drain(..) {
            self.item(item, carrier);
        }
        self.queue.settle();
        if items.capacity() <= KEPT {
            self.items = items;
        }
        true
    }

    fn item(&mut self, item: Item, carrier: &mut impl Carrier) {
        match item {
            Item::Burst(burst) => {
                let conn = self.conn.unwrap_or_default();
                burst.pieces(conn, |piece| self.queue.push(piece));
            }
            Item::Reply { request, reply } => {
                let next = self.edge.on_reply(request, reply, &mut carrier.generator(), self.queue.own());
                if let Some(next) = next {
                    self.submit(next, carrier);
                }
            }
            Item::Whisper { from, target, payload } => {
                self.edge.whisper(&from, &target, &payload, self.queue.own());
            }
            Item::Established(session) => {
                self.edge.established(&session, self.queue.own());
                carrier.established();
            }
            Item::Notice(notice) => self.edge.notify(notice, self.queue.own()),
            Item::Mark => self.marked = true,
            Item::Close(reason) => {
                if reason.cuts_off() {
                    self.queue.abandon();
                }
                self.end(&reason, carrier);
            }
        }
    }

    /// Whether the next message may be handed in.
    pub fn wants_message(&self) -> bool {
        self.is_live() && self.edge.wants_message()
    }

    /// Takes one whole message of the peer; not to be called unless [`Pump::wants_message`].
    pub fn message(&mut self, kind: Kind, bytes: &[u8], carrier: &mut impl Carrier) {
        if kind != self.edge.kind() {
            // Version 1 ignores text.
            if !matches!(self.edge, Edge::V1(_)) {
                self.end(&CloseReason::Malformed("a message of the other kind"), carrier);
            }
            return;
        }
        let handled = self.edge.on_message(bytes, &mut carrier.generator(), self.queue.own());
        match handled {
            Ok(Some(submit)) => self.submit(submit, carrier),
            Ok(None) => {}
            Err(reason) => self.end(&reason, carrier),
        }
    }

    /// Where the transport's answers go, to control frames: they are queued before what comes after them. Call
    /// [`Pump::settle`] when done.
    pub fn answers(&mut self) -> &mut Vec<u8> {
        self.queue.own()
    }

    /// Queues what the messages that were handed in led to.
    pub fn settle(&mut self) {
        self.queue.settle();
    }

    /// Ends the connection with a last word that says why.
    pub fn end(&mut self, reason: &CloseReason, carrier: &mut impl Carrier) {
        if self.is_live() {
            carrier.ending(reason, self.is_opening());
            self.edge.farewell(reason, self.queue.own());
            self.peer_closed(carrier);
        }
    }

    /// Ends the connection with the transport's goodbye alone: the peer has said its own.
    pub fn peer_closed(&mut self, carrier: &mut impl Carrier) {
        if self.is_live() {
            carrier.goodbye(self.queue.own());
            self.queue.settle();
            self.leave(carrier);
            self.state = State::Parting;
        }
    }

    fn submit(&mut self, submit: Submit, carrier: &mut impl Carrier) {
        match (submit, self.conn) {
            (Submit::Open(proven), None) => match carrier.open(proven) {
                Ok(conn) => self.conn = Some(conn),
                Err(reason) => self.end(&reason, carrier),
            },
            (Submit::Request { request, command, token }, Some(conn)) => {
                carrier.submit(Input::Request { conn, request, command, token });
            }
            _ => {}
        }
    }

    fn leave(&mut self, carrier: &mut impl Carrier) {
        if let Some(conn) = self.conn.take() {
            carrier.leave(conn);
        }
    }
}

#[cfg(test)]
mod tests;
