//! The link's machine on plain threads: the least that can drive it, to compare the shells with.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use conclave_core::key::SecretKey;
use conclave_core::link::{Action, Config, Input, JoinFrom, Link, RequestId};
use conclave_core::name::Handle;
use conclave_core::protocol::Command;
use conclave_shell::clock::Clock;

use super::PATIENCE;
use super::socket::{Dial, Socket};

/// What comes to the driver.
enum Event {
    Join(String, JoinFrom),
    Leave(String),
    Ask(u64, Command),
    Stop,
    Dialed(u64, Result<Box<Socket>, String>),
    Message(u64, Vec<u8>),
    Closed(u64),
}

/// What a link tells, in order, and the words that make it act.
pub struct ThreadLink {
    events: Sender<Event>,
    told: Receiver<Action>,
}

/// What [`ThreadLink::next`] gives.
pub type Happened = Action;

impl ThreadLink {
    /// Starts a link to a server.
    pub fn open(address: SocketAddr, key: SecretKey, handle: &str, defaulted: bool) -> Self {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let config = Config { handle: Handle::new(handle).unwrap(), defaulted, key, seed };
        let ((events, inbox), (tell, told)) = (channel(), channel());
        let driver = Driver {
            address,
            link: Link::new(config),
            clock: Clock::default(),
            events: events.clone(),
            tell,
            writer: None,
            generation: 0,
        };
        thread::spawn(move || driver.run(&inbox));
        Self { events, told }
    }

    /// Follows a channel.
    pub fn join(&self, channel: &str, from: JoinFrom) {
        let _ = self.events.send(Event::Join(channel.into(), from));
    }

    /// Follows it no more.
    pub fn leave(&self, channel: &str) {
        let _ = self.events.send(Event::Leave(channel.into()));
    }

    /// Asks; the answer comes as [`Action::Replied`] with this number.
    pub fn ask(&self, id: u64, command: Command) {
        let _ = self.events.send(Event::Ask(id, command));
    }

    /// What the link tells next.
    pub fn next(&self) -> Happened {
        self.told.recv_timeout(PATIENCE).unwrap()
    }
}

impl Drop for ThreadLink {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Stop);
    }
}

struct Driver {
    address: SocketAddr,
    link: Link,
    clock: Clock,
    events: Sender<Event>,
    tell: Sender<Action>,
    writer: Option<TcpStream>,
    /// Which connection is the present one: what an older one still says is not handed on.
    generation: u64,
}

impl Driver {
    fn run(mut self, inbox: &Receiver<Event>) {
        self.feed(Input::Start);
        loop {
            let deadline = self.link.next_deadline().map(|at| self.clock.instant(at));
            let wait = deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            match inbox.recv_timeout(wait.min(PATIENCE)) {
                Ok(Event::Join(channel, from)) => {
                    self.feed(Input::Join { channel: channel.parse().unwrap(), token: None, from });
                }
                Ok(Event::Leave(channel)) => self.feed(Input::Leave { channel: channel.parse().unwrap() }),
                Ok(Event::Ask(id, command)) => {
                    self.feed(Input::Request { id: RequestId(id), command, deadline: None });
                }
                Ok(Event::Dialed(generation, dialed)) if generation == self.generation => match dialed {
                    Ok(socket) => self.dialed(*socket),
                    Err(why) => self.feed(Input::DialFailed(&why)),
                },
                Ok(Event::Message(generation, bytes)) if generation == self.generation => {
                    self.feed(Input::Message(&bytes));
                }
                Ok(Event::Closed(generation)) if generation == self.generation => {
                    self.writer = None;
                    self.feed(Input::Closed("the connection ended"));
                }
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.hang_up();
                    return;
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => self.feed(Input::Tick),
            }
        }
    }

    fn dialed(&mut self, mut socket: Socket) {
        self.writer = socket.hangup();
        let server_id = socket.header("x-conclave-server-id").map(str::to_owned);
        let (events, generation) = (self.events.clone(), self.generation);
        thread::spawn(move || {
            while let Some(bytes) = socket.receive() {
                let _ = events.send(Event::Message(generation, bytes));
            }
            let _ = events.send(Event::Closed(generation));
        });
        self.feed(Input::Dialed { server_id: server_id.as_deref() });
    }

    fn feed(&mut self, input: Input<'_>) {
        let mut actions = Vec::new();
        self.link.handle(self.clock.now(), input, &mut actions);
        for action in actions {
            match action {
                Action::Dial => {
                    self.generation += 1;
                    let (events, generation, address) = (self.events.clone(), self.generation, self.address);
                    thread::spawn(move || {
                        let dialed = Socket::dial(&Dial::plain(address));
                        let dialed = dialed.map(Box::new).map_err(|why| format!("{why:?}"));
                        let _ = events.send(Event::Dialed(generation, dialed));
                    });
                }
                Action::Send(frame) => {
                    if let Some(writer) = &mut self.writer {
                        let _ = writer.write_all(&masked(&frame));
                    }
                }
                Action::Hangup => self.hang_up(),
                told => drop(self.tell.send(told)),
            }
        }
    }

    fn hang_up(&mut self) {
        self.generation += 1;
        if let Some(writer) = self.writer.take() {
            let _ = writer.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// A client's WebSocket message, masked with zeros: the content stays as it is.
pub fn masked(content: &[u8]) -> Vec<u8> {
    let mut out = vec![0x82];
    match content.len() {
        len @ 0..126 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(content);
    out
}
