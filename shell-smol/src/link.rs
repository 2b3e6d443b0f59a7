//! Drives one link: its machine, its socket, its deadlines.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_tungstenite::tungstenite::Message;
use conclave_core::bridge::{LinkEvent, RequestError, RequestId, Server};
use conclave_core::link::{self, Action, Input, JoinFrom, Link, ServerRegistry};
use conclave_core::name::ChannelName;
use conclave_core::protocol::{Command, Refusal, Reply};
use futures_util::{Sink as _, Stream as _};
use smol::Timer;
use smol::channel::{Receiver, Sender};
use smol::future::FutureExt as _;

use crate::bridge::Event;
use crate::clock::Clock;
use crate::dial::{Dialer, Socket};

/// So much is queued to a socket that does not take it; requests beyond fail.
const MAX_QUEUED: usize = 8 << 20;
/// How long a socket may take to close.
const CLOSING: Duration = Duration::from_secs(2);

type Dialing = Pin<Box<dyn Future<Output = Result<(Socket, Option<String>), String>>>>;

/// One link and what it needs.
pub(crate) struct Driver {
    pub(crate) number: usize,
    pub(crate) server: Server,
    pub(crate) link: Link,
    pub(crate) dialer: Dialer,
    pub(crate) clock: Clock,
    pub(crate) registry: Rc<RefCell<Registry>>,
    pub(crate) requests: Receiver<(RequestId, Command)>,
    pub(crate) events: Sender<Event>,
    pub(crate) state: State,
}

/// Which servers are reached, and by whom.
#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) servers: ServerRegistry,
    pub(crate) names: Vec<Server>,
}

/// What a driver keeps between two events.
#[derive(Default)]
pub(crate) struct State {
    dialing: Option<Dialing>,
    socket: Option<Socket>,
    outgoing: VecDeque<Vec<u8>>,
    queued: usize,
    unflushed: bool,
    /// Joins that were asked for and not answered yet.
    joining: BTreeMap<ChannelName, Vec<RequestId>>,
    joined: BTreeSet<ChannelName>,
    up: bool,
}

enum Happened {
    Due,
    Asked(RequestId, Command),
    Dialed(Result<(Socket, Option<String>), String>),
    Frame(Message),
    Closed(String),
    Over,
}

impl Driver {
    /// Runs until nobody asks any more.
    pub(crate) async fn run(mut self) {
        self.feed(Input::Start).await;
        loop {
            match self.happened().await {
                Happened::Due => self.feed(Input::Tick).await,
                Happened::Asked(id, command) => self.ask(id, command).await,
                Happened::Dialed(Ok((socket, id))) => self.dialed(socket, id).await,
                Happened::Dialed(Err(why)) => self.feed(Input::DialFailed(&why)).await,
                Happened::Frame(Message::Binary(bytes)) => self.feed(Input::Message(&bytes)).await,
                Happened::Frame(_) => {}
                Happened::Closed(why) => {
                    self.hang_up(false);
                    self.feed(Input::Closed(&why)).await;
                }
                Happened::Over => {
                    self.hang_up(true);
                    return;
                }
            }
        }
    }

    async fn happened(&mut self) -> Happened {
        let mut timer = self.link.next_deadline().map(|deadline| Timer::after(self.clock.until(deadline)));
        let state = &mut self.state;
        let mut asked = std::pin::pin!(self.requests.recv());
        poll_fn(|cx| {
            if let Some(timer) = &mut timer
                && Pin::new(timer).poll(cx).is_ready()
            {
                return Poll::Ready(Happened::Due);
            }
            match asked.as_mut().poll(cx) {
                Poll::Ready(Ok((id, command))) => return Poll::Ready(Happened::Asked(id, command)),
                Poll::Ready(Err(_)) => return Poll::Ready(Happened::Over),
                Poll::Pending => {}
            }
            if let Some(dialing) = &mut state.dialing
                && let Poll::Ready(result) = dialing.as_mut().poll(cx)
            {
                state.dialing = None;
                return Poll::Ready(Happened::Dialed(result));
            }
            state.poll_socket(cx)
        })
        .await
    }

    async fn dialed(&mut self, socket: Socket, id: Option<String>) {
        let first =
            id.as_deref().and_then(|id| self.registry.borrow_mut().servers.claim(self.number, id).err());
        match first {
            Some(first) => {
                let first = self.registry.borrow().names.get(first).map_or(String::new(), Server::to_string);
                let why = format!(
                    "it is the same server as {first}; remove one of the two (conclave server remove)"
                );
                self.feed(Input::Disable(&why)).await;
            }
            None => {
                self.state.socket = Some(socket);
                self.feed(Input::Dialed { server_id: id.as_deref() }).await;
            }
        }
    }

    async fn ask(&mut self, id: RequestId, command: Command) {
        // What is asked while the news of a drop is on its way would wait for the next connection.
        if self.state.queued > MAX_QUEUED || !self.state.up {
            return self.tell(LinkEvent::Reply { id, result: Err(RequestError::Unsent) }).await;
        }
        match command {
            Command::Join { channel, .. } if self.state.joined.contains(&channel) => {
                self.tell(LinkEvent::Reply { id, result: Ok(Reply::Joined(channel)) }).await;
            }
            Command::Join { channel, token } => {
                self.state.joining.entry(channel.clone()).or_default().push(id);
                self.feed(Input::Join { channel, token, from: JoinFrom::Live }).await;
            }
            Command::Leave { channel } => {
                self.state.joined.remove(&channel);
                self.answer_joins(&channel, Err(RequestError::Unsent)).await;
                self.feed(Input::Leave { channel: channel.clone() }).await;
                let reply = Reply::Done(channel.as_str().to_owned());
                self.tell(LinkEvent::Reply { id, result: Ok(reply) }).await;
            }
            command => {
                let id = link::RequestId(id.0);
                self.feed(Input::Request { id, command, deadline: None }).await;
            }
        }
    }

    async fn feed(&mut self, input: Input<'_>) {
        let mut actions = Vec::new();
        self.link.handle(self.clock.now(), input, &mut actions);
        for action in actions {
            self.carry_out(action).await;
        }
    }

    async fn carry_out(&mut self, action: Action) {
        let event = match action {
            Action::Dial => {
                self.state.dialing = Some(Box::pin(self.dialer.clone().dial()));
                return;
            }
            Action::Send(frame) => {
                self.state.queued += frame.len();
                self.state.outgoing.push_back(frame);
                return;
            }
            Action::Hangup => return self.hang_up(true),
            Action::Deliver { channel, from, payload, ts } => {
                LinkEvent::Message { channel: Some(channel), from, at: ts, payload }
            }
            Action::Whispered { from, payload } => {
                LinkEvent::Message { channel: None, from, at: None, payload }
            }
            Action::Replied { id, result } => {
                let result = result.map_err(|error| match error {
                    link::RequestError::TimedOut => RequestError::TimedOut,
                    error if error.may_have_happened() => RequestError::Uncertain,
                    _ => RequestError::Unsent,
                });
                LinkEvent::Reply { id: RequestId(id.0), result }
            }
            Action::Up { path, admin, .. } => {
                self.state.up = true;
                LinkEvent::Up { path, admin }
            }
            Action::Down(why) => {
                self.state.up = false;
                self.fail_joins().await;
                LinkEvent::Down { why: why.to_string() }
            }
            Action::Role { admin } => LinkEvent::Role { admin },
            Action::Joined { channel } => {
                self.state.joined.insert(channel.clone());
                return self.answer_joins(&channel, Ok(Reply::Joined(channel.clone()))).await;
            }
            Action::CaughtUp { .. } => return,
            Action::Lost { channel, reason } => return self.lost(channel, reason).await,
            Action::Stray { channel } => LinkEvent::Trouble {
                text: format!(
                    "Messages come for #{channel}, which was not joined under that name: it may have been renamed."
                ),
            },
            Action::Renamed { to, .. } => LinkEvent::Renamed { handle: to },
            Action::Collision { handle } => LinkEvent::Trouble {
                text: format!(
                    "Another session is called {handle} too, and both take the connection from each other. End one of \
                     them, or give one another name (--as)."
                ),
            },
            Action::Disabled(why) => {
                self.ended().await;
                LinkEvent::Disabled { why }
            }
            Action::Fatal(fatal) => {
                self.ended().await;
                LinkEvent::Disabled { why: fatal.to_string() }
            }
        };
        self.tell(event).await;
    }

    async fn lost(&mut self, channel: ChannelName, reason: Refusal) {
        if self.state.joined.remove(&channel) {
            self.tell(LinkEvent::Lost { channel: channel.clone(), why: reason.to_string() }).await;
        }
        self.answer_joins(&channel, Ok(Reply::Refused(reason))).await;
    }

    /// Joins under way are given up with the connection: whoever asked is told, and asks again.
    async fn fail_joins(&mut self) {
        for (channel, ids) in std::mem::take(&mut self.state.joining) {
            if !self.state.joined.contains(&channel) {
                let mut actions = Vec::new();
                self.link.handle(self.clock.now(), Input::Leave { channel }, &mut actions);
            }
            for id in ids {
                self.tell(LinkEvent::Reply { id, result: Err(RequestError::Uncertain) }).await;
            }
        }
    }

    async fn ended(&mut self) {
        self.state.up = false;
        self.registry.borrow_mut().servers.release(self.number);
        self.fail_joins().await;
    }

    async fn answer_joins(&mut self, channel: &ChannelName, result: Result<Reply, RequestError>) {
        for id in self.state.joining.remove(channel).unwrap_or_default() {
            self.tell(LinkEvent::Reply { id, result: result.clone() }).await;
        }
    }

    async fn tell(&self, event: LinkEvent) {
        // Nobody listens any more when the bridge ends.
        let _ = self.events.send(Event::Link(self.server.clone(), event)).await;
    }

    fn hang_up(&mut self, politely: bool) {
        self.state.dialing = None;
        self.state.outgoing.clear();
        self.state.queued = 0;
        self.state.unflushed = false;
        if let Some(mut socket) = self.state.socket.take().filter(|_| politely) {
            let closed = async move {
                let _ = socket.close(None).await;
            };
            let late = async {
                Timer::after(CLOSING).await;
            };
            smol::spawn(closed.or(late)).detach();
        }
    }
}

impl State {
    fn poll_socket(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        let Some(socket) = &mut self.socket else { return Poll::Pending };
        let mut socket = Pin::new(&mut **socket);
        let closed = |error: &dyn std::fmt::Display| Poll::Ready(Happened::Closed(error.to_string()));
        while !self.outgoing.is_empty() {
            match socket.as_mut().poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return closed(&error),
                Poll::Pending => break,
            }
            let Some(frame) = self.outgoing.pop_front() else { break };
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
        match socket.poll_next(cx) {
            Poll::Ready(Some(Ok(message))) => Poll::Ready(Happened::Frame(message)),
            Poll::Ready(Some(Err(error))) => closed(&error),
            Poll::Ready(None) => closed(&"the server closed it"),
            Poll::Pending => Poll::Pending,
        }
    }
}
