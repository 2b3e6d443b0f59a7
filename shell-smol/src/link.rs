//! The link machine over a smol socket.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_tungstenite::tungstenite::{Bytes, Message};
use conclave_core::link::{Action, Config, Input, Link};
use conclave_core::opaque::Opaque;
use conclave_core::time::Now;
use conclave_shell::client::{DialError, Greeting, trust};
use conclave_shell::clock::Clock;
use conclave_store::config::ServerUrl;
use futures_util::{Sink as _, Stream as _};
use smol::Timer;
use smol::future::FutureExt as _;

use crate::dial::{Dialer, Socket};

/// How long a socket may take to close.
const CLOSING: Duration = Duration::from_secs(2);

/// Asked with a server's id before a connection to it is used; an error ends the link for good, with that reason.
pub(crate) type Admit = Box<dyn FnMut(&str) -> Result<(), String>>;

type Dialed = Result<(Socket, Greeting), DialError>;

/// One link, driven by whoever calls [`LinkDriver::next`]. It reads no faster than that is called: a link whose
/// owner pauses falls behind, is dropped by its server in time, and fills the gap later.
pub struct LinkDriver {
    link: Link,
    dialer: Dialer,
    clock: Clock,
    admit: Admit,
    connection: Connection,
    actions: Vec<Action>,
    /// What the owner is to be told, in order.
    told: VecDeque<Action>,
}

enum Connection {
    None,
    Dialing(Pin<Box<dyn Future<Output = Dialed>>>),
    Open(Box<Open>),
}

struct Open {
    socket: Socket,
    unsent: VecDeque<Vec<u8>>,
    /// Bytes of what is unsent.
    queued: usize,
    unflushed: bool,
}

enum Happened {
    Due,
    Dialed(Dialed),
    Message(Bytes),
    Closed(String),
}

impl LinkDriver {
    /// A link to `url` that begins with the first call of [`LinkDriver::next`]; `ca` is a file of certificates
    /// (PEM) that the server may have its own from, beside the usual ones.
    ///
    /// # Errors
    /// [`DialError::Roots`] if that file cannot be used.
    pub fn new(url: ServerUrl, ca: Option<&Path>, config: Config) -> Result<Self, DialError> {
        let tls = if url.is_secure() { Some(trust(ca)?) } else { None };
        Ok(Self::with(Dialer { url, tls }, config, Clock::default(), Box::new(|_| Ok(()))))
    }

    pub(crate) fn with(dialer: Dialer, config: Config, clock: Clock, admit: Admit) -> Self {
        let mut driver = Self {
            link: Link::new(config),
            dialer,
            clock,
            admit,
            connection: Connection::None,
            actions: Vec::new(),
            told: VecDeque::new(),
        };
        driver.input(Input::Start);
        driver
    }

    /// Hands in what the owner wants: joins, leaves, requests, the end. What follows comes from
    /// [`LinkDriver::next`].
    pub fn input(&mut self, input: Input<'_>) {
        self.link.handle(self.clock.now(), input, &mut self.actions);
        self.carry_out();
    }

    /// The time as the link sees it, for deadlines.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Bytes that the socket has not taken yet.
    pub fn queued(&self) -> usize {
        if let Connection::Open(open) = &self.connection { open.queued } else { 0 }
    }

    /// What the owner is to be told already, if anything.
    pub fn told(&mut self) -> Option<Action> {
        self.told.pop_front()
    }

    /// What the owner is to be told next: any [`Action`] but `Dial`, `Send` and `Hangup`, which are carried out
    /// here. Never ends; after `Disabled` or `Input::Stop` nothing comes any more. May be cancelled at
    /// any time.
    pub async fn next(&mut self) -> Action {
        loop {
            if let Some(told) = self.told() {
                return told;
            }
            match self.happened().await {
                Happened::Due => self.input(Input::Tick),
                Happened::Dialed(Ok((socket, greeting))) => {
                    self.dialed(socket, greeting.server_id.as_deref())
                }
                Happened::Dialed(Err(why)) => {
                    self.connection = Connection::None;
                    self.input(Input::DialFailed(&format!("{why}; {}", why.advice())));
                }
                Happened::Message(bytes) => self.input(Input::Message(Opaque(&bytes))),
                Happened::Closed(why) => {
                    self.connection = Connection::None;
                    self.input(Input::Closed(&why));
                }
            }
        }
    }

    fn dialed(&mut self, socket: Socket, id: Option<&str>) {
        self.connection = Connection::None;
        match id.map(|id| (self.admit)(id)) {
            Some(Err(why)) => self.input(Input::Disable(&why)),
            _ => {
                let open = Open { socket, unsent: VecDeque::new(), queued: 0, unflushed: false };
                self.connection = Connection::Open(Box::new(open));
                self.input(Input::Dialed { server_id: id });
            }
        }
    }

    async fn happened(&mut self) -> Happened {
        let mut timer = self.link.next_deadline().map(|deadline| Timer::at(self.clock.instant(deadline)));
        let connection = &mut self.connection;
        poll_fn(|cx| {
            if let Some(timer) = &mut timer
                && Pin::new(timer).poll(cx).is_ready()
            {
                return Poll::Ready(Happened::Due);
            }
            match connection {
                Connection::None => Poll::Pending,
                Connection::Dialing(dialing) => dialing.as_mut().poll(cx).map(Happened::Dialed),
                Connection::Open(open) => open.poll(cx),
            }
        })
        .await
    }

    fn carry_out(&mut self) {
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Dial => self.connection = Connection::Dialing(Box::pin(self.dialer.clone().dial())),
                Action::Send(Opaque(frame)) => {
                    if let Connection::Open(open) = &mut self.connection {
                        open.queued += frame.len();
                        open.unsent.push_back(frame);
                    }
                }
                Action::Hangup => self.hang_up(),
                told => self.told.push_back(told),
            }
        }
    }

    fn hang_up(&mut self) {
        if let Connection::Open(mut open) = std::mem::replace(&mut self.connection, Connection::None) {
            let closed = async move {
                let _ = open.socket.close(None).await;
            };
            let late = async {
                Timer::after(CLOSING).await;
            };
            smol::spawn(closed.or(late)).detach();
        }
    }
}

impl Drop for LinkDriver {
    fn drop(&mut self) {
        self.hang_up();
    }
}

impl Open {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        let mut socket = Pin::new(&mut *self.socket);
        let closed = |error: &dyn std::fmt::Display| Poll::Ready(Happened::Closed(error.to_string()));
        while !self.unsent.is_empty() {
            match socket.as_mut().poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return closed(&error),
                Poll::Pending => break,
            }
            let Some(frame) = self.unsent.pop_front() else { break };
            self.queued -= frame.len();
            self.unflushed = true;
            if let Err(error) = socket.as_mut().start_send(Message::Binary(frame.into())) {
                return closed(&error);
            }
        }
        if self.unflushed {
            match socket.as_mut().poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return closed(&error),
                Poll::Pending => {}
            }
        }
        loop {
            return match socket.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(Message::Binary(bytes)))) => Poll::Ready(Happened::Message(bytes)),
                Poll::Ready(Some(Ok(_))) => continue,
                Poll::Ready(Some(Err(error))) => closed(&error),
                Poll::Ready(None) => closed(&"the server closed it"),
                Poll::Pending => Poll::Pending,
            };
        }
    }
}
