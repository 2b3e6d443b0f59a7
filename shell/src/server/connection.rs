//! One connection: the core's pump on whatever socket a runtime brings.
//!
//! tungstenite parses what arrives and answers control frames; its answers join the connection's own write
//! queue. Messages to the peer are framed by the core once and written from there, shared with every other
//! recipient, in as few system calls as there is room for.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use conclave_core::fanout::Item;
use conclave_core::handshake::{Format, MAX_HANDSHAKE_FRAME, Proven};
use conclave_core::hub::{ConnId, Input};
use conclave_core::memory::Holding;
use conclave_core::protocol::{CloseReason, Refusal};
use conclave_core::pump::{Carrier, Pump};
use conclave_core::wire::edge::Edge;
use conclave_core::wire::v2::handshake::ServerIdentity;
use conclave_core::wire::websocket::Kind;
use conclave_core::write_queue::WriteQueue;
use getrandom::SysRng;
use getrandom::rand_core::{CryptoRng, UnwrapErr};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

use super::engine::{Engaged, EngineHandle};
use super::gate;
use super::mailbox::Mailbox;

pub use conclave_core::pump::Progress;

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
/// Bytes that wait to be written beyond which no more is taken from the mailbox or the peer.
const WRITE: usize = 256 << 10;
/// How long to wait for whoever holds too much: what is unfinished and unread is gone by then, or ended.
const TOO_MUCH: Duration = Duration::from_secs(1);
/// Pieces of one system call.
const PIECES: usize = 32;

thread_local! {
    static SCRATCH: RefCell<Box<[u8; READ]>> = RefCell::new(Box::new([0; READ]));
}

/// What an HTTP upgrade leaves.
pub struct Socketed<S> {
    /// The socket.
    pub socket: S,
    /// What was read beyond the upgrade.
    pub read: Vec<u8>,
    /// The version that was agreed on.
    pub format: Format,
}

/// A connection whose HTTP upgrade is done.
pub struct Connection<S> {
    pump: Pump,
    outside: Outside<S>,
}

/// What the pump works with.
struct Outside<S> {
    socket: S,
    ws: WebSocketContext,
    /// Bytes read and not yet parsed.
    unread: Vec<u8>,
    /// How many of them may be parsed already: the frames that are whole.
    whole: usize,
    /// Whether tungstenite may hold whole messages that the edge did not want yet.
    more: bool,
    mailbox: Mailbox,
    engine: EngineHandle,
    engaged: Option<Engaged>,
    max_frame: usize,
    unflushed: bool,
    /// Whether its address may register a user more, which counts then.
    may_register: Box<dyn Fn() -> bool + Send>,
    /// What it holds for its user.
    holding: Holding,
    /// Bytes of a message that came in parts and of which the last is still to come.
    parts: usize,
}

impl<S: Socket> Connection<S> {
    /// A connection that was upgraded. `may_register` is asked before it registers a user.
    pub fn new(
        upgraded: Socketed<S>,
        engine: EngineHandle,
        identity: &Arc<ServerIdentity>,
        bounds: Bounds,
        may_register: Box<dyn Fn() -> bool + Send>,
    ) -> Self {
        let Socketed { socket, read, format } = upgraded;
        let config = WebSocketConfig::default()
            .read_buffer_size(PARSE)
            .write_buffer_size(0)
            .max_write_buffer_size(64 << 10)
            .max_message_size(Some(MAX_HANDSHAKE_FRAME))
            .max_frame_size(Some(MAX_HANDSHAKE_FRAME));
        let mut nonce = [0; 32];
        getrandom::rand_core::Rng::fill_bytes(&mut generator(), &mut nonce);
        let outside = Outside {
            socket,
            ws: WebSocketContext::new(Role::Server, Some(config)),
            unread: read,
            whole: 0,
            more: false,
            mailbox: Mailbox::new(bounds.queue),
            engine,
            engaged: None,
            max_frame: bounds.frame,
            unflushed: false,
            may_register,
            holding: Holding::default(),
            parts: 0,
        };
        Self { pump: Pump::new(Edge::new(format, identity, nonce), WRITE), outside }
    }

    /// The handshake has taken too long: the next [`Connection::poll`] ends the connection.
    pub fn time_out(&mut self) {
        self.pump.time_out();
    }

    /// Drives the connection until something about it changes: it never gives [`Progress::Waiting`] or
    /// [`Progress::Again`].
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Progress> {
        let Self { pump, outside } = self;
        outside.mailbox.register(cx.waker());
        let progress = pump.run(&mut Polled { outside: &mut *outside, cx });
        outside.holding.outbound(pump.unwritten_own());
        match progress {
            Progress::Waiting => Poll::Pending,
            Progress::Again => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            progress => Poll::Ready(progress),
        }
    }
}

/// What the pump works with while the connection is polled.
struct Polled<'a, 'b, S> {
    outside: &'a mut Outside<S>,
    cx: &'a mut Context<'b>,
}

impl<S: Socket> Carrier for Polled<'_, '_, S> {
    type Error = io::Error;

    fn generator(&mut self) -> impl CryptoRng {
        generator()
    }

    fn take_items(&mut self, room: bool, into: &mut Vec<Item>) -> bool {
        self.outside.mailbox.take(room, into)
    }

    fn write(&mut self, queue: &mut WriteQueue) -> io::Result<bool> {
        let Outside { socket, engine, mailbox, unflushed, .. } = &mut *self.outside;
        let mut progress = false;
        while !queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(queue.pieces()) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            let Poll::Ready(written) = socket.poll_write(self.cx, &slices[..count]) else { break };
            let written = written?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            queue.advance(written);
            engine.metrics().bytes_sent(written);
            mailbox.taken(written);
            progress = true;
        }
        if progress || *unflushed {
            *unflushed = socket.poll_flush(self.cx)?.is_pending();
        }
        Ok(progress)
    }

    fn read(&mut self, pump: &mut Pump) -> io::Result<bool> {
        SCRATCH.with_borrow_mut(|scratch| {
            let most = self.outside.ws.get_config().max_frame_size.unwrap_or(usize::MAX);
            let mut unread = std::mem::take(&mut self.outside.unread);
            let mut whole = self.outside.whole;
            whole += gate::parsable(&unread[whole..], most);
            if !self.outside.more && whole == 0 {
                let Poll::Ready(read) = self.outside.socket.poll_read(self.cx, &mut scratch[..]) else {
                    self.outside.unread = unread;
                    return Ok(false);
                };
                let read = read?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.outside.engine.metrics().bytes_received(read);
                if unread.is_empty() {
                    let whole = gate::parsable(&scratch[..read], most);
                    let used = self.parse(&scratch[..whole], pump)?;
                    self.outside.whole = whole - used;
                    self.outside.unread.extend_from_slice(&scratch[used..read]);
                    self.hold(pump);
                    return Ok(true);
                }
                unread.extend_from_slice(&scratch[..read]);
                whole = gate::parsable(&unread, most);
            }
            let used = self.parse(&unread[..whole], pump)?;
            self.outside.whole = whole - used;
            unread.drain(..used);
            // A quiet connection keeps no room for what it read.
            if !unread.is_empty() {
                self.outside.unread = unread;
            }
            self.hold(pump);
            Ok(true)
        })
    }

    fn shut_down(&mut self) -> io::Result<bool> {
        Ok(!self.outside.unflushed && self.outside.socket.poll_shutdown(self.cx)?.is_ready())
    }

    fn discard(&mut self) -> io::Result<Option<usize>> {
        SCRATCH.with_borrow_mut(|scratch| match self.outside.socket.poll_read(self.cx, &mut scratch[..]) {
            Poll::Ready(read) => read.map(Some),
            Poll::Pending => Ok(None),
        })
    }

    fn open(&mut self, proven: Proven) -> Result<ConnId, CloseReason> {
        if proven.claim.is_some() && !(self.outside.may_register)() {
            return Err(CloseReason::Refused(Refusal::TooManyRegistrations));
        }
        let engaged = self.outside.engine.open(proven, &self.outside.mailbox);
        Ok(self.outside.engaged.insert(engaged).conn())
    }

    fn submit(&mut self, input: Input) {
        self.outside.engine.submit(input);
    }

    fn leave(&mut self, _: ConnId) {
        if let Some(engaged) = &mut self.outside.engaged {
            engaged.leave();
        }
    }

    fn established(&mut self) {
        self.outside.holding.count_for(self.outside.mailbox.account());
        let most = Some(self.outside.max_frame);
        self.outside.ws.set_config(|config| {
            config.max_message_size = most;
            config.max_frame_size = most;
        });
    }

    fn ending(&mut self, reason: &CloseReason, opening: bool) {
        self.outside.engine.metrics().closed(reason, opening);
    }

    fn goodbye(&mut self, out: &mut Vec<u8>) {
        // It is appended to memory, which does not fail; once the peer has closed there is nothing to append.
        let _ = self.outside.ws.close(&mut Feed { rest: &mut &[][..], answers: out }, None);
    }
}

impl<S: Socket> Polled<'_, '_, S> {
    /// Counts what has come of a message for the user, who may hold so much.
    fn hold(&mut self, pump: &mut Pump) {
        let Outside { holding, unread, parts, .. } = &mut *self.outside;
        if !holding.inbound(unread.len() + *parts) {
            pump.end(&CloseReason::Refused(Refusal::TooFast { wait: TOO_MUCH }), self);
            pump.settle();
        }
    }

    /// Feeds `bytes` to tungstenite until they are used up or the pump has enough; says how many were used.
    fn parse(&mut self, bytes: &[u8], pump: &mut Pump) -> io::Result<usize> {
        let mut rest = bytes;
        self.outside.more = true;
        while pump.wants_message() {
            let before = rest.len();
            let read = self.outside.ws.read(&mut Feed { rest: &mut rest, answers: pump.answers() });
            self.outside.parts += before - rest.len();
            match read {
                Ok(Message::Binary(message)) => {
                    self.outside.parts = 0;
                    pump.message(Kind::Binary, &message, self);
                }
                Ok(Message::Text(message)) => {
                    self.outside.parts = 0;
                    pump.message(Kind::Text, message.as_bytes(), self);
                }
                Ok(Message::Close(_)) => pump.peer_closed(self),
                // Control frames are tungstenite's.
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.outside.more = false;
                    break;
                }
                Err(Error::Io(error)) => return Err(error),
                Err(Error::Capacity(_)) => pump.end(&CloseReason::Malformed("frame too large"), self),
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => pump.peer_closed(self),
                Err(_) => pump.end(&CloseReason::Malformed("not a WebSocket message"), self),
            }
        }
        pump.settle();
        Ok(bytes.len() - rest.len())
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
