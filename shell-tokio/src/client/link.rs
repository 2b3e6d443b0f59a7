//! The link machine over real sockets.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use conclave_core::link::{Action, Config, Input, Link};
use conclave_core::opaque::Opaque;
use conclave_core::time::Now;
use conclave_shell::client::DialError;
use conclave_shell::clock::Clock;
use conclave_store::config::ServerUrl;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::dial::{DialOptions, Dialed, dial};
use super::stream::Stream;

/// One link, driven by whoever calls [`LinkDriver::next`]. It reads no faster than that is called: a link whose
/// owner pauses falls behind, is dropped by its server in time, and fills the gap later.
pub struct LinkDriver {
    link: Link,
    url: ServerUrl,
    options: DialOptions,
    clock: Clock,
    connection: Connection,
    actions: Vec<Action>,
    /// What the owner is to be told, in order.
    told: VecDeque<Action>,
    timer: Pin<Box<Sleep>>,
    dial_error: Option<DialError>,
}

enum Connection {
    None,
    Dialing(JoinHandle<Result<Dialed, DialError>>),
    Open(Box<Open>),
}

struct Open {
    socket: WebSocketStream<Stream>,
    unsent: VecDeque<Vec<u8>>,
}

enum Happened {
    Dialed(Result<Box<Dialed>, DialError>),
    Message(Bytes),
    Closed(String),
    Tick,
}

impl LinkDriver {
    /// A link to `url` that begins with the first call of [`LinkDriver::next`]. To be made inside a runtime.
    pub fn new(url: ServerUrl, config: Config, options: DialOptions) -> Self {
        let clock = Clock::default();
        let mut driver = Self {
            link: Link::new(config),
            url,
            options,
            clock,
            connection: Connection::None,
            actions: Vec::new(),
            told: VecDeque::new(),
            timer: Box::pin(sleep_until(Instant::now())),
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

    /// The time as the link sees it, for deadlines.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Why the last connection could not be made.
    pub fn dial_error(&mut self) -> Option<DialError> {
        self.dial_error.take()
    }

    /// What the owner is to be told next: any [`Action`] but `Dial`, `Send` and `Hangup`, which are carried out
    /// here. Never ends; after `Disabled` or `Input::Stop` nothing comes any more. May be cancelled at
    /// any time.
    pub async fn next(&mut self) -> Action {
        loop {
            if let Some(told) = self.told.pop_front() {
                return told;
            }
            let deadline = self.link.next_deadline().map(|at| Instant::from_std(self.clock.instant(at)));
            if let Some(deadline) = deadline {
                self.timer.as_mut().reset(deadline);
            }
            let happened = poll_fn(|cx| self.poll(cx, deadline.is_some())).await;
            match happened {
                Happened::Dialed(Ok(dialed)) => {
                    let Dialed { socket, greeting, .. } = *dialed;
                    self.connection = Connection::Open(Box::new(Open { socket, unsent: VecDeque::new() }));
                    self.input(Input::Dialed { server_id: greeting.server_id.as_deref() });
                }
                Happened::Dialed(Err(error)) => {
                    self.connection = Connection::None;
                    let text = error.to_string();
                    self.dial_error = Some(error);
                    self.input(Input::DialFailed(&text));
                }
                Happened::Message(bytes) => self.input(Input::Message(Opaque(&bytes))),
                Happened::Closed(why) => {
                    self.connection = Connection::None;
                    self.input(Input::Closed(&why));
                }
                Happened::Tick => self.input(Input::Tick),
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, has_deadline: bool) -> Poll<Happened> {
        let happened = match &mut self.connection {
            Connection::None => Poll::Pending,
            Connection::Dialing(dialing) => Pin::new(dialing).poll(cx).map(|dialed| {
                let failed = |error: tokio::task::JoinError| DialError::WebSocket {
                    address: self.url.to_string(),
                    what: error.to_string(),
                };
                Happened::Dialed(dialed.map_err(failed).flatten().map(Box::new))
            }),
            Connection::Open(open) => open.poll(cx),
        };
        if happened.is_ready() {
            return happened;
        }
        if has_deadline {
            ready!(self.timer.as_mut().poll(cx));
            return Poll::Ready(Happened::Tick);
        }
        Poll::Pending
    }

    fn carry_out(&mut self) {
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Dial => {
                    let (url, options) = (self.url.clone(), self.options.clone());
                    self.connection =
                        Connection::Dialing(tokio::spawn(async move { dial(&url, &options).await }));
                }
                Action::Send(Opaque(frame)) => {
                    if let Connection::Open(open) = &mut self.connection {
                        open.unsent.push_back(frame);
                    }
                }
                Action::Hangup => match std::mem::replace(&mut self.connection, Connection::None) {
                    Connection::None => {}
                    Connection::Dialing(dialing) => dialing.abort(),
                    Connection::Open(mut open) => {
                        tokio::spawn(async move {
                            let _ = timeout(Duration::from_millis(500), open.socket.close(None)).await;
                        });
                    }
                },
                other => self.told.push_back(other),
            }
        }
    }
}

impl Drop for LinkDriver {
    fn drop(&mut self) {
        if let Connection::Dialing(dialing) = &self.connection {
            dialing.abort();
        }
    }
}

impl Open {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Happened::Closed(error.to_string()));
        }
        loop {
            return Poll::Ready(match ready!(self.socket.poll_next_unpin(cx)) {
                Some(Ok(Message::Binary(bytes))) => Happened::Message(bytes),
                // Reading answers pings and closes: that goes out with the next flush.
                Some(Ok(Message::Close(_))) | None => Happened::Closed("the server closed it".into()),
                Some(Ok(_)) => continue,
                Some(Err(error)) => Happened::Closed(error.to_string()),
            });
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), tokio_tungstenite::tungstenite::Error>> {
        while !self.unsent.is_empty() {
            ready!(self.socket.poll_ready_unpin(cx))?;
            if let Some(frame) = self.unsent.pop_front() {
                self.socket.start_send_unpin(Message::Binary(Bytes::from(frame)))?;
            }
        }
        self.socket.poll_flush_unpin(cx)
    }
}
