//! Connections: the core's pumps over a simulated network.

use conclave_core::engine::Arrival;
use conclave_core::fanout::Item;
use conclave_core::handshake::{Format, HANDSHAKE_TIMEOUT, Proven};
use conclave_core::hub::{ConnId, Input};
use conclave_core::mailbox::Queue;
use conclave_core::protocol::CloseReason;
use conclave_core::pump::{Carrier, Progress, Pump};
use conclave_core::wire::edge::Edge;
use conclave_core::wire::websocket::{self, Head};
use conclave_core::write_queue::WriteQueue;
use rand_core::CryptoRng;

use super::plan::SECOND;
use super::wire::{Down, Outside, ServerEnd, Wire};
use super::world::{Event, World};

/// Bytes that wait to be written beyond which a pump takes no more; the shell's are more.
pub(super) const WRITE: usize = 16 << 10;
/// Bytes of a mailbox of version 2. It must hold a page and whatever is answered beside it.
pub(super) const QUEUE: usize = 4 << 20;
/// The WebSocket's own goodbye: an empty close frame.
const GOODBYE: [u8; 2] = [0x80 | CLOSE, 0];
/// Its opcode.
const CLOSE: u8 = 8;
/// How long a connection that ends may take to read its last word.
const LAST_WORD: u64 = 2 * SECOND;

impl World {
    /// A client's dial arrives.
    pub(super) fn dial_arrives(&mut self, client: usize, attempt: u64) {
        let reachable = self.at >= self.no_dial_until;
        let accepts = self.server.process.as_ref().is_some_and(|process| !process.draining);
        if !reachable || !accepts {
            return self.dial_fails(client, attempt);
        }
        let mut nonce = [0; 32];
        rand_core::Rng::fill_bytes(&mut self.secrets, &mut nonce);
        let wire = self.wires.len();
        let format = self.clients[client].as_ref().map_or(Format::V1, |client| client.format());
        let queue = match format {
            Format::V1 => Queue::new(self.plan.queue),
            Format::V2 | Format::V2Json => Queue::new(QUEUE).with_live(self.plan.live),
        };
        let edge = Edge::new(format, &self.identity, nonce);
        self.wires.push(Wire::new(wire, client, edge, WRITE, queue));
        self.server.ends.insert(wire);
        self.after(HANDSHAKE_TIMEOUT.as_micros() as u64, Event::HandshakeTimeout(wire));
        let wanted = self.with_client(client, |client, world| client.dialed(world, attempt, wire));
        if wanted != Some(true) {
            self.hang_up(wire);
        }
    }

    /// A client's dial has failed.
    pub(super) fn dial_fails(&mut self, client: usize, attempt: u64) {
        self.coverage.failed_dials += 1;
        self.with_client(client, |client, world| client.dial_failed(world, attempt));
    }

    /// A client sends a message.
    pub(super) fn send_up(&mut self, wire: usize, bytes: Vec<u8>) {
        let at = self.arrival(self.wires[wire].up_last);
        self.wires[wire].up_last = at;
        self.on(at, Event::Up(wire, bytes));
    }

    fn arrival(&mut self, last: u64) -> u64 {
        (self.at + self.net.between(self.plan.latency)).max(last)
    }

    /// A client closes its end.
    pub(super) fn hang_up(&mut self, wire: usize) {
        if std::mem::replace(&mut self.wires[wire].open, false) {
            let at = self.arrival(self.wires[wire].up_last);
            self.wires[wire].up_last = at;
            self.on(at, Event::UpEnd(wire));
        }
    }

    /// A message arrives at the server.
    pub(super) fn up(&mut self, wire: usize, bytes: Vec<u8>) {
        let end = &mut self.wires[wire];
        if end.cut {
            return;
        }
        match &mut end.server {
            Some(server) => {
                server.outside.arrived.push_back(bytes);
                self.wake(wire);
            }
            None if self.server.process.is_some() => self.send_down(wire, Down::End("connection reset")),
            None => {}
        }
    }

    /// The client's end arrives at the server.
    pub(super) fn up_end(&mut self, wire: usize) {
        if !self.wires[wire].cut
            && let Some(server) = &mut self.wires[wire].server
        {
            server.outside.ended = true;
            self.wake(wire);
        }
    }

    /// Something goes down to a client.
    pub(super) fn send_down(&mut self, wire: usize, what: Down) {
        let at = self.arrival(self.wires[wire].down_last);
        self.wires[wire].down_last = at;
        self.on(at, Event::Down(wire, what));
    }

    /// Something arrives at a client.
    pub(super) fn down(&mut self, wire: usize, what: Down) {
        let end = &mut self.wires[wire];
        if end.cut || !end.open {
            return;
        }
        if end.stalled_until > self.at || !end.held.is_empty() {
            end.held.push_back(what);
            return;
        }
        self.take_down(wire, what);
    }

    /// A client reads again.
    pub(super) fn resume(&mut self, wire: usize) {
        while self.wires[wire].open && !self.wires[wire].cut && self.wires[wire].stalled_until <= self.at {
            let Some(what) = self.wires[wire].held.pop_front() else { break };
            self.take_down(wire, what);
        }
    }

    fn take_down(&mut self, wire: usize, what: Down) {
        let client = self.wires[wire].client;
        match what {
            Down::End(why) => {
                self.hang_up(wire);
                self.with_client(client, |client, world| client.closed(world, wire, why));
            }
            Down::Bytes(bytes) => {
                let end = &mut self.wires[wire];
                end.unread -= bytes.len();
                let mut buffer = std::mem::take(&mut end.partial);
                if end.server.as_ref().is_some_and(|server| server.pump.unwritten() > 0) {
                    self.wake(wire);
                }
                let bytes = if buffer.is_empty() {
                    bytes
                } else {
                    buffer.extend_from_slice(&bytes);
                    buffer
                };
                let mut rest = &bytes[..];
                while let Some(content) = websocket::content(rest).filter(|it| it.end <= rest.len()) {
                    let (message, next) = (&rest[content.clone()], &rest[content.end..]);
                    if std::mem::take(&mut self.wires[wire].parted) {
                        self.fail(format!("client {client} is sent something after the last word"));
                    }
                    if Head::read(rest).is_some_and(|head| head.opcode == CLOSE) {
                        self.wires[wire].parted = true;
                    } else {
                        self.with_client(client, |client, world| client.message(world, wire, message));
                    }
                    rest = next;
                    if !self.wires[wire].open {
                        return;
                    }
                }
                self.wires[wire].partial = rest.to_vec();
            }
        }
    }

    /// The task of a connection's server end will run.
    pub(super) fn wake(&mut self, wire: usize) {
        if let Some(end) = &mut self.wires[wire].server
            && !std::mem::replace(&mut end.woken, true)
        {
            let delay = self.net.below(100);
            self.after(delay, Event::Poll(wire));
        }
    }

    /// The task of a connection's server end runs.
    pub(super) fn poll(&mut self, wire: usize) {
        let Some(mut end) = self.wires[wire].server.take() else { return };
        end.woken = false;
        let progress = loop {
            let ServerEnd { pump, outside, .. } = &mut *end;
            match pump.run(&mut Polled { world: self, wire, outside }) {
                Progress::Established => {}
                Progress::Parting => self.after(LAST_WORD, Event::PartingTimeout(wire)),
                progress => break progress,
            }
        };
        let verdict = self.bounded(&end);
        self.demand(verdict);
        match progress {
            Progress::Ended => return self.gone(wire),
            Progress::Again => {
                end.woken = true;
                self.after(1, Event::Poll(wire));
            }
            Progress::Waiting | Progress::Established | Progress::Parting => {}
        }
        self.wires[wire].server = Some(end);
    }

    /// The server's end of a connection is closed.
    fn gone(&mut self, wire: usize) {
        self.server.ends.remove(&wire);
        self.send_down(wire, Down::End("end of file"));
    }

    /// The server gives up a connection.
    pub(super) fn drop_end(&mut self, wire: usize) {
        if let Some(mut end) = self.wires[wire].server.take() {
            let ServerEnd { pump, outside, .. } = &mut *end;
            pump.give_up(&mut Polled { world: self, wire, outside });
            self.gone(wire);
        }
    }

    /// The handshake should have ended by now.
    pub(super) fn handshake_timeout(&mut self, wire: usize) {
        if let Some(end) = &mut self.wires[wire].server
            && end.pump.is_opening()
        {
            end.pump.time_out();
            self.wake(wire);
        }
    }
}

/// What a pump works with while its task runs.
struct Polled<'a> {
    world: &'a mut World,
    wire: usize,
    outside: &'a mut Outside,
}

/// The peer has gone.
struct Gone;

impl Carrier for Polled<'_> {
    type Error = Gone;

    fn generator(&mut self) -> impl CryptoRng {
        &mut self.world.secrets
    }

    fn take_items(&mut self, room: bool, into: &mut Vec<Item>) -> bool {
        self.outside.mailbox.take(room, into)
    }

    fn write(&mut self, queue: &mut WriteQueue) -> Result<bool, Gone> {
        let Self { world, wire, outside } = self;
        if outside.shut_down && !queue.is_empty() {
            world.fail(format!("on connection {wire}, something is written after the end"));
        }
        let mut room = world.plan.window.saturating_sub(world.wires[*wire].unread);
        if room == 0 || queue.is_empty() {
            return Ok(false);
        }
        if room < queue.len() {
            world.coverage.partial_writes += 1;
        }
        let mut bytes = Vec::with_capacity(room.min(queue.len()));
        for piece in queue.pieces() {
            let part = &piece[..piece.len().min(room)];
            bytes.extend_from_slice(part);
            room -= part.len();
        }
        queue.advance(bytes.len());
        world.wires[*wire].unread += bytes.len();
        world.wires[*wire].taken += bytes.len() as u64;
        world.send_down(*wire, Down::Bytes(bytes));
        Ok(true)
    }

    fn read(&mut self, pump: &mut Pump) -> Result<bool, Gone> {
        match self.outside.arrived.pop_front() {
            Some(message) => {
                pump.message(self.outside.kind, &message, self);
                pump.settle();
                Ok(true)
            }
            None if self.outside.ended => Err(Gone),
            None => Ok(false),
        }
    }

    fn shut_down(&mut self) -> Result<bool, Gone> {
        self.outside.shut_down = true;
        self.world.send_down(self.wire, Down::End("end of file"));
        Ok(true)
    }

    fn discard(&mut self) -> Result<Option<usize>, Gone> {
        Ok(match self.outside.arrived.pop_front() {
            Some(message) => Some(message.len()),
            None => self.outside.ended.then_some(0),
        })
    }

    fn open(&mut self, proven: Proven) -> Result<ConnId, CloseReason> {
        Ok(self.world.engage(&self.outside.mailbox, proven))
    }

    fn submit(&mut self, input: Input) {
        self.world.submit(input);
    }

    fn leave(&mut self, conn: ConnId) {
        self.world.arrives(Arrival::Left { conn });
    }

    fn established(&mut self) {}

    fn ending(&mut self, _: &CloseReason, _: bool) {}

    fn goodbye(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&GOODBYE);
    }
}
