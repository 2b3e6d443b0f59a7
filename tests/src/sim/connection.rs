//! The server's end of a connection: the shell's `Connection`, step by step, over a simulated network.

use conclave_core::fanout::Item;
use conclave_core::handshake::HANDSHAKE_TIMEOUT;
use conclave_core::hub::Input;
use conclave_core::protocol::CloseReason;
use conclave_core::wire::edge::Submit;
use conclave_core::wire::websocket;

use super::plan::SECOND;
use super::wire::{Down, ServerEnd, Wire};
use super::world::{Event, World};

/// What is taken from the mailbox while this much waits to be written; the shell's is larger.
pub(super) const WRITE: usize = 16 << 10;
/// Messages handled before others get their turn.
const TURN: usize = 256;

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
        self.wires.push(Wire::new(client, nonce, self.plan.queue));
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
                server.arrived.push_back(bytes);
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
            server.ended = true;
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
                self.wires[wire].open = false;
                self.with_client(client, |client, world| client.closed(world, wire, why));
            }
            Down::Bytes(bytes) => {
                let end = &mut self.wires[wire];
                end.unread -= bytes.len();
                let mut buffer = std::mem::take(&mut end.partial);
                if end.server.as_ref().is_some_and(|server| !server.queue.is_empty()) {
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
                    self.with_client(client, |client, world| client.message(world, wire, message));
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
        let lives = self.step(wire, &mut end);
        let verdict = self.bounded(&end);
        self.demand(verdict);
        if lives {
            self.wires[wire].server = Some(end);
        } else {
            self.gone(wire, *end);
        }
    }

    fn gone(&mut self, wire: usize, end: ServerEnd) {
        self.server.ends.remove(&wire);
        if let Some(conn) = end.conn {
            self.leave(conn);
        }
        self.send_down(wire, Down::End("end of file"));
    }

    /// The server gives up a connection.
    pub(super) fn drop_end(&mut self, wire: usize) {
        if let Some(end) = self.wires[wire].server.take() {
            self.gone(wire, *end);
        }
    }

    /// The handshake should have ended by now.
    pub(super) fn handshake_timeout(&mut self, wire: usize) {
        if let Some(mut end) = self.wires[wire].server.take() {
            if end.edge.is_opening() {
                self.part(wire, &mut end, &CloseReason::HandshakeTimeout);
            }
            self.wires[wire].server = Some(end);
            self.wake(wire);
        }
    }

    /// False if the connection has ended.
    fn step(&mut self, wire: usize, end: &mut ServerEnd) -> bool {
        for _ in 0..TURN {
            let mut progress = !end.parting && self.pick_up(wire, end);
            progress |= self.write(wire, end);
            if end.parting {
                if end.queue.is_empty() {
                    return false;
                }
            } else if end.edge.wants_message() {
                match end.arrived.pop_front() {
                    Some(message) => {
                        self.take_message(wire, end, &message);
                        progress = true;
                    }
                    None if end.ended => return false,
                    None => {}
                }
            }
            if !progress {
                return true;
            }
        }
        end.woken = true;
        self.after(1, Event::Poll(wire));
        true
    }

    fn take_message(&mut self, wire: usize, end: &mut ServerEnd, message: &[u8]) {
        let handled = end.edge.on_message(message, &mut self.secrets, end.queue.own());
        match handled {
            Ok(Some(submit)) => self.submit_of(wire, end, submit),
            Ok(None) => {}
            Err(reason) => self.part(wire, end, &reason),
        }
        end.queue.settle();
    }

    fn submit_of(&mut self, wire: usize, end: &mut ServerEnd, submit: Submit) {
        match (submit, end.conn) {
            (Submit::Open(proven), None) => end.conn = self.engage(wire, proven),
            (Submit::Request { request, command, token }, Some(conn)) => {
                self.submit(Input::Request { conn, request, command, token });
            }
            _ => {}
        }
    }

    fn pick_up(&mut self, wire: usize, end: &mut ServerEnd) -> bool {
        let waits = end.queue.len() >= WRITE && !end.mailbox.is_closed();
        let mut items = Vec::new();
        if waits || end.mailbox.take(&mut items) == 0 {
            return false;
        }
        let conn = end.conn.unwrap_or_default();
        for item in items {
            match item {
                Item::Burst(burst) => burst.pieces(conn, |piece| end.queue.push(piece)),
                Item::Reply { request, reply } => {
                    let next = end.edge.on_reply(request, reply, &mut self.secrets, end.queue.own());
                    if let Some(next) = next {
                        self.submit_of(wire, end, next);
                    }
                }
                Item::Whisper { from, target, payload } => {
                    end.edge.whisper(&from, &target, &payload, end.queue.own());
                }
                Item::Established { path, admin } => end.edge.established(&path, admin, end.queue.own()),
                Item::Close(reason) => {
                    if reason.cuts_off() {
                        end.queue.abandon();
                    }
                    self.part(wire, end, &reason);
                }
            }
        }
        end.queue.settle();
        true
    }

    fn part(&mut self, wire: usize, end: &mut ServerEnd, reason: &CloseReason) {
        if std::mem::replace(&mut end.parting, true) {
            return;
        }
        end.edge.farewell(reason, end.queue.own());
        end.queue.settle();
        if let Some(conn) = end.conn.take() {
            self.leave(conn);
        }
        self.after(3 * SECOND, Event::PartingTimeout(wire));
    }

    fn write(&mut self, wire: usize, end: &mut ServerEnd) -> bool {
        let mut room = self.plan.window.saturating_sub(self.wires[wire].unread);
        if room == 0 || end.queue.is_empty() {
            return false;
        }
        if room < end.queue.len() {
            self.coverage.partial_writes += 1;
        }
        let mut bytes = Vec::with_capacity(room.min(end.queue.len()));
        for piece in end.queue.pieces() {
            let part = &piece[..piece.len().min(room)];
            bytes.extend_from_slice(part);
            room -= part.len();
        }
        end.queue.advance(bytes.len());
        self.wires[wire].unread += bytes.len();
        self.send_down(wire, Down::Bytes(bytes));
        true
    }
}
