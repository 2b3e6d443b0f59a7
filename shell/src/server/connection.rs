//! One connection: WebSocket messages in, the hub's items out, on whatever socket a runtime brings.
//!
//! tungstenite parses what arrives and answers control frames; its answers join the connection's own write
//! queue. Messages to the peer are framed by the core once and written from there, shared with every other
//! recipient, in as few system calls as there is room for.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll};

use conclave_core::fanout::{Item, WriteQueue};
use conclave_core::handshake::MAX_HANDSHAKE_FRAME;
use conclave_core::hub::Input;
use conclave_core::protocol::CloseReason;
use conclave_core::wire::edge::{Edge, Submit};
use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

use super::engine::{Engaged, Engine};
use super::gate;
use super::mailbox::Mailbox;

/// A socket as a runtime brings it: non-blocking, waking the task that polls it.
pub trait Socket {
    /// Reads into `buf`; zero at the end.
    ///
    /// # Errors
    /// The socket's.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes from `bufs`.
    ///
    /// # Errors
    /// The socket's.
    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Sends on what was written.
    ///
    /// # Errors
    /// The socket's.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends the sending half.
    ///
    /// # Errors
    /// The socket's.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// The bounds of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The largest message of a session, in bytes.
    pub frame: usize,
    /// Bytes queued to a session that does not read, before it is dropped.
    pub queue: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { frame: 1 << 20, queue: 8 << 20 }
    }
}

/// What is read from a socket at once, shared by the connections of a thread.
const READ: usize = 64 << 10;
/// tungstenite's own buffer for a partial message; grows with the message.
const PARSE: usize = 256;
/// What is taken from the mailbox while this much waits to be written.
const WRITE: usize = 256 << 10;
/// Pieces of one system call.
const PIECES: usize = 32;
/// What is read and dropped of a peer that was told the end: beyond it, the peer does not listen.
const LINGER: usize = 4 << 20;
/// Messages handled before other tasks get their turn.
const TURN: usize = 256;

thread_local! {
    static SCRATCH: RefCell<Box<[u8; READ]>> = RefCell::new(Box::new([0; READ]));
}

/// A connection whose HTTP upgrade is done.
pub struct Connection<S> {
    socket: S,
    ws: WebSocketContext,
    edge: Edge,
    queue: WriteQueue,
    /// Bytes read and not yet parsed.
    unread: Vec<u8>,
    /// How many of them may be parsed already: the frames that are whole.
    whole: usize,
    /// Whether tungstenite may hold whole messages that the edge did not want yet.
    more: bool,
    items: Vec<Item>,
    mailbox: Arc<Mailbox>,
    engine: Engine,
    engaged: Option<Engaged>,
    bounds: Bounds,
    unflushed: bool,
    lingered: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Live,
    /// The last word is queued.
    Parting,
    /// The last word is sent; what the peer still sends is read and dropped, so that it can read the last word.
    Lingering,
    Ended,
}

/// Where a connection stands when [`Connection::poll`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has become a session.
    Established,
    /// It is ending: give it a few seconds to say its last word, polling on.
    Parting,
    /// It has ended: drop it.
    Ended,
}

impl<S: Socket> Connection<S> {
    /// A connection on `socket`, of which `read` was read already beyond the upgrade.
    pub fn new(socket: S, read: Vec<u8>, engine: Engine, bounds: Bounds) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(PARSE)
            .write_buffer_size(0)
            .max_write_buffer_size(64 << 10)
            .max_message_size(Some(MAX_HANDSHAKE_FRAME))
            .max_frame_size(Some(MAX_HANDSHAKE_FRAME));
        let mut nonce = [0; 32];
        getrandom::rand_core::Rng::fill_bytes(&mut generator(), &mut nonce);
        Self {
            socket,
            ws: WebSocketContext::new(Role::Server, Some(config)),
            edge: Edge::new(nonce),
            queue: WriteQueue::default(),
            unread: read,
            whole: 0,
            more: false,
            items: Vec::new(),
            mailbox: Arc::new(Mailbox::new(bounds.queue)),
            engine,
            engaged: None,
            bounds,
            unflushed: false,
            lingered: 0,
            state: State::Live,
        }
    }

    /// Ends the connection with a reason that the shell knows: a handshake that took too long.
    pub fn end(&mut self, reason: CloseReason) {
        self.part(&reason);
    }

    /// Drives the connection until something about it changes.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Progress> {
        let (was_opening, was) = (self.edge.is_opening(), self.state);
        self.mailbox.register(cx.waker());
        for _ in 0..TURN {
            let progress = match self.step(cx) {
                Ok(progress) => progress,
                Err(_) => {
                    self.leave();
                    self.state = State::Ended;
                    true
                }
            };
            if self.state != was {
                return Poll::Ready(if self.state == State::Ended {
                    Progress::Ended
                } else {
                    Progress::Parting
                });
            }
            if was_opening && !self.edge.is_opening() {
                return Poll::Ready(Progress::Established);
            }
            if !progress {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Does what can be done at once; false if there is nothing.
    fn step(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let was_opening = self.edge.is_opening();
        let mut progress = self.state == State::Live && self.pick_up();
        if was_opening && !self.edge.is_opening() {
            // It gives up its place among those that open before its peer can know that it is a session.
            return Ok(true);
        }
        progress |= self.write(cx)?;
        match self.state {
            State::Live => progress |= self.read(cx)?,
            State::Parting if self.queue.is_empty() && !self.unflushed => {
                if self.socket.poll_shutdown(cx)?.is_ready() {
                    self.state = State::Lingering;
                    progress = true;
                }
            }
            State::Lingering => {
                let read = SCRATCH.with_borrow_mut(|scratch| self.socket.poll_read(cx, &mut scratch[..]));
                if let Poll::Ready(read) = read {
                    let read = read?;
                    self.lingered += read;
                    if read == 0 || self.lingered > LINGER {
                        self.state = State::Ended;
                    }
                    progress = true;
                }
            }
            State::Parting | State::Ended => {}
        }
        Ok(progress)
    }

    /// Takes what the engine left, unless enough waits to be written already. The connection's end does not wait:
    /// whoever does not read would be kept for ever.
    fn pick_up(&mut self) -> bool {
        let waits = self.queue.len() >= WRITE && !self.mailbox.is_closed();
        if waits || self.mailbox.take(&mut self.items) == 0 {
            return false;
        }
        let conn = self.engaged.as_ref().map(Engaged::conn).unwrap_or_default();
        let mut items = std::mem::take(&mut self.items);
        for item in items.drain(..) {
            match item {
                Item::Burst(burst) => burst.pieces(conn, |piece| self.queue.push(piece)),
                Item::Reply { request, reply } => {
                    let next = self.edge.on_reply(request, reply, &mut generator(), self.queue.own());
                    if let Some(next) = next {
                        self.submit(next);
                    }
                }
                Item::Whisper { from, target, payload } => {
                    self.edge.whisper(&from, &target, &payload, self.queue.own());
                }
                Item::Established { path, admin } => {
                    self.edge.established(&path, admin, self.queue.own());
                    let most = self.bounds.frame;
                    self.ws.set_config(|config| {
                        config.max_message_size = Some(most);
                        config.max_frame_size = Some(most);
                    });
                }
                Item::Close(reason) => {
                    if reason.cuts_off() {
                        self.queue.abandon();
                    }
                    self.part(&reason);
                }
            }
        }
        self.queue.settle();
        // An idle connection keeps no room for items.
        if items.capacity() <= 8 {
            self.items = items;
        }
        true
    }

    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut progress = false;
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(self.queue.pieces()) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            let Poll::Ready(written) = self.socket.poll_write(cx, &slices[..count]) else { break };
            let written = written?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.queue.advance(written);
            self.engine.metrics().bytes_sent(written);
            progress = true;
        }
        if progress || self.unflushed {
            self.unflushed = self.socket.poll_flush(cx)?.is_pending();
        }
        Ok(progress)
    }

    /// Parses and submits messages while the edge wants any.
    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        // Some answers are made right here: whoever does not read them is read no further.
        if !self.edge.wants_message() || self.queue.len() >= WRITE {
            return Ok(false);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let most = self.ws.get_config().max_frame_size.unwrap_or(usize::MAX);
            let mut unread = std::mem::take(&mut self.unread);
            self.whole += gate::parsable(&unread[self.whole..], most);
            if !self.more && self.whole == 0 {
                let Poll::Ready(read) = self.socket.poll_read(cx, &mut scratch[..]) else {
                    self.unread = unread;
                    return Ok(false);
                };
                let read = read?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.engine.metrics().bytes_received(read);
                if unread.is_empty() {
                    let whole = gate::parsable(&scratch[..read], most);
                    let used = self.parse(&scratch[..whole])?;
                    self.whole = whole - used;
                    self.unread.extend_from_slice(&scratch[used..read]);
                    return Ok(true);
                }
                unread.extend_from_slice(&scratch[..read]);
                self.whole = gate::parsable(&unread, most);
            }
            let used = self.parse(&unread[..self.whole])?;
            self.whole -= used;
            unread.drain(..used);
            // A quiet connection keeps no room for what it read.
            if !unread.is_empty() {
                self.unread = unread;
            }
            Ok(true)
        })
    }

    /// Feeds `bytes` to tungstenite until they are used up or the edge has enough; says how many were used.
    fn parse(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        self.more = true;
        while self.state == State::Live && self.edge.wants_message() {
            let read = self.ws.read(&mut Feed { rest: &mut rest, answers: self.queue.own() });
            match read {
                Ok(Message::Binary(message)) => {
                    let handled = self.edge.on_message(&message, &mut generator(), self.queue.own());
                    match handled {
                        Ok(Some(submit)) => self.submit(submit),
                        Ok(None) => {}
                        Err(reason) => self.part(&reason),
                    }
                }
                Ok(Message::Close(_)) => self.bye(),
                // Text is not of the protocol; control frames are tungstenite's.
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.more = false;
                    break;
                }
                Err(Error::Io(error)) => return Err(error),
                Err(Error::Capacity(_)) => self.part(&CloseReason::Malformed("frame too large")),
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => self.bye(),
                Err(_) => self.part(&CloseReason::Malformed("not a WebSocket message")),
            }
        }
        self.queue.settle();
        Ok(bytes.len() - rest.len())
    }

    fn submit(&mut self, submit: Submit) {
        match (submit, &self.engaged) {
            (Submit::Open(proven), None) => {
                self.engaged = Some(self.engine.open(proven, &self.mailbox));
            }
            (Submit::Request { request, command, token }, Some(engaged)) => {
                self.engine.submit(Input::Request { conn: engaged.conn(), request, command, token });
            }
            _ => {}
        }
    }

    /// Queues the reason as the last word.
    fn part(&mut self, reason: &CloseReason) {
        if self.state == State::Live {
            self.engine.metrics().closed(reason, self.edge.is_opening());
            self.edge.farewell(reason, self.queue.own());
            self.bye();
        }
    }

    /// Queues the WebSocket's own goodbye.
    fn bye(&mut self) {
        let _ = self.ws.close(&mut Feed { rest: &mut &[][..], answers: self.queue.own() }, None);
        self.queue.settle();
        self.leave();
        self.state = State::Parting;
    }

    fn leave(&mut self) {
        if let Some(engaged) = &mut self.engaged {
            engaged.leave();
        }
    }
}

/// The system's generator. It fails only where no random number can be had at all, and then nothing may go on.
fn generator() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// What tungstenite takes for a socket: bytes that were read, and a place for its answers.
struct Feed<'a, 'b> {
    rest: &'a mut &'b [u8],
    answers: &'a mut Vec<u8>,
}

impl Read for Feed<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.rest.read(buf)
    }
}

impl Write for Feed<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.answers.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
