//! Drives a link machine over real sockets, on any runtime.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use conclave_core::link::{Action, Config, Input, Link, Version};
use conclave_core::opaque::Opaque;
use conclave_core::time::{Monotonic, Now};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _, future};
use tungstenite::{Bytes, Error, Message};

use super::{DialError, Greeting};
use crate::clock::Clock;

/// How long a socket may take to send its close frame. Nobody waits for it, so a slow way gets its time; what swallows
/// everything does not hold the socket for long.
const CLOSING: Duration = Duration::from_secs(2);

/// What a link needs of its runtime.
pub trait Runtime {
    /// An open WebSocket.
    type Socket: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Send + Unpin + 'static;
    /// A dial under way. To drop it gives it up.
    type Dial: Future<Output = Result<(Self::Socket, Greeting), DialError>> + Unpin;
    /// A timer.
    type Sleep: Future<Output = ()> + Send + Unpin + 'static;

    /// Begins to dial the link's server, for the subprotocol of [`subprotocol`].
    fn dial(&self, version: Version) -> Self::Dial;

    /// A timer that is over at `deadline`.
    fn sleep_until(&self, deadline: Instant) -> Self::Sleep;

    /// Runs a task in the background, as long as the runtime lives.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);
}

/// The WebSocket subprotocol of a version; version 1 has none.
pub fn subprotocol(version: Version) -> Option<&'static str> {
    match version {
        Version::V1 => None,
        Version::V2 => Some("conclave.v2"),
    }
}

/// One link, driven by whoever calls [`LinkDriver::next`]. It reads no faster than that is called: a link whose
/// owner pauses falls behind, is dropped by its server in time, and fills the gap later.
pub struct LinkDriver<R: Runtime> {
    link: Link,
    runtime: R,
    clock: Clock,
    connection: Connection<R>,
    timer: Option<(Monotonic, R::Sleep)>,
    actions: Vec<Action>,
    /// The actions that are the owner's to take, in order.
    pending: VecDeque<Action>,
    dial_error: Option<DialError>,
}

enum Connection<R: Runtime> {
    None,
    Dialing(R::Dial),
    Open(Box<Open<R::Socket>>),
}

struct Open<S> {
    socket: S,
    unsent: VecDeque<Vec<u8>>,
    /// Bytes of what is unsent.
    queued: usize,
    unflushed: bool,
}

enum Progress<S> {
    Dialed(Result<(S, Greeting), DialError>),
    Message(Bytes),
    Closed(String),
    Due,
}

impl<R: Runtime> LinkDriver<R> {
    /// A link that begins with the first call of [`LinkDriver::next`].
    pub fn new(runtime: R, config: Config, clock: Clock) -> Self {
        let mut driver = Self {
            link: Link::new(config),
            runtime,
            clock,
            connection: Connection::None,
            timer: None,
            actions: Vec::new(),
            pending: VecDeque::new(),
            dial_error: None,
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

    /// The machine, to look at.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The time as the link sees it, for deadlines.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Why the last connection could not be made.
    pub fn dial_error(&mut self) -> Option<DialError> {
        self.dial_error.take()
    }

    /// Bytes that the socket has not taken yet.
    pub fn queued(&self) -> usize {
        if let Connection::Open(open) = &self.connection { open.queued } else { 0 }
    }

    /// The next action for the owner, if there is one already.
    pub fn pending(&mut self) -> Option<Action> {
        self.pending.pop_front()
    }

    /// The next action for the owner: any [`Action`] but `Dial`, `Send` and `Hangup`, which are carried out here. Never
    /// ends; after `Disabled` or `Input::Stop` nothing comes any more. May be cancelled at any time.
    pub async fn next(&mut self) -> Action {
        loop {
            if let Some(action) = self.pending() {
                return action;
            }
            match poll_fn(|cx| self.poll(cx)).await {
                Progress::Dialed(Ok((socket, greeting))) => {
                    self.dialed(socket, greeting.server_id.as_deref());
                }
                Progress::Dialed(Err(DialError::NoSubprotocol)) => {
                    self.connection = Connection::None;
                    self.input(Input::VersionRefused);
                }
                Progress::Dialed(Err(error)) => {
                    self.connection = Connection::None;
                    let text = error.to_string();
                    self.dial_error = Some(error);
                    self.input(Input::DialFailed(&text));
                }
                Progress::Message(bytes) => self.input(Input::Message(Opaque(&bytes))),
                Progress::Closed(why) => {
                    self.connection = Connection::None;
                    self.input(Input::Closed(&why));
                }
                Progress::Due => self.input(Input::Tick),
            }
        }
    }

    fn dialed(&mut self, socket: R::Socket, server_id: Option<&str>) {
        self.connection =
            Connection::Open(Box::new(Open { socket, unsent: VecDeque::new(), queued: 0, unflushed: false }));
        self.input(Input::Dialed { server_id });
    }

    /// The connection comes before the timer: after a pause (a suspended machine, a slow owner) both are due, and what
    /// came in time must be read before the link judges that nothing did. The timer is not starved, since the link does
    /// what is due with every input.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Progress<R::Socket>> {
        let progress = match &mut self.connection {
            Connection::None => Poll::Pending,
            Connection::Dialing(dial) => Pin::new(dial).poll(cx).map(Progress::Dialed),
            Connection::Open(open) => open.poll(cx),
        };
        if progress.is_ready() {
            return progress;
        }
        let Some(deadline) = self.link.next_deadline() else { return Poll::Pending };
        // Most inputs leave the deadline as it is.
        if self.timer.as_ref().is_none_or(|(at, _)| *at != deadline) {
            self.timer = Some((deadline, self.runtime.sleep_until(self.clock.instant(deadline))));
        }
        if let Some((_, sleep)) = &mut self.timer {
            ready!(Pin::new(sleep).poll(cx));
        }
        self.timer = None;
        Poll::Ready(Progress::Due)
    }

    fn carry_out(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                Action::Dial(version) => self.connection = Connection::Dialing(self.runtime.dial(version)),
                Action::Send(Opaque(message)) => {
                    if let Connection::Open(open) = &mut self.connection {
                        open.queued += message.len();
                        open.unsent.push_back(message);
                    }
                }
                Action::Hangup => self.hang_up(),
                other => self.pending.push_back(other),
            }
        }
        self.actions = actions;
    }

    fn hang_up(&mut self) {
        if let Connection::Open(open) = std::mem::replace(&mut self.connection, Connection::None) {
            let mut socket = open.socket;
            let late = self.runtime.sleep_until(Instant::now() + CLOSING);
            self.runtime.spawn(async move {
                let closed = pin!(socket.send(Message::Close(None)));
                future::select(closed, late).await;
            });
        }
    }
}

impl<R: Runtime> Drop for LinkDriver<R> {
    fn drop(&mut self) {
        self.hang_up();
    }
}

impl<S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin> Open<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Progress<S>> {
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Progress::Closed(error.to_string()));
        }
        loop {
            return Poll::Ready(match ready!(self.socket.poll_next_unpin(cx)) {
                Some(Ok(Message::Binary(bytes))) => Progress::Message(bytes),
                // The peer has nothing more to say: the end of the stream is not waited for.
                Some(Ok(Message::Close(_))) | None => Progress::Closed("the server closed it".into()),
                // Reading on sends the answer to a ping.
                Some(Ok(_)) => continue,
                Some(Err(error)) => Progress::Closed(error.to_string()),
            });
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.unsent.is_empty() {
            ready!(self.socket.poll_ready_unpin(cx))?;
            if let Some(message) = self.unsent.pop_front() {
                self.queued -= message.len();
                self.unflushed = true;
                self.socket.start_send_unpin(Message::Binary(message.into()))?;
            }
        }
        if self.unflushed {
            ready!(self.socket.poll_flush_unpin(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}
