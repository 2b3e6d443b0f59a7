//! A link as the bridge has it: what is asked of it, and what it tells.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use conclave_core::bridge::{LinkEvent, Server};
use conclave_core::link::{Action, Input, JoinFrom, RequestError, RequestId, ServerRegistry};
use conclave_core::name::ChannelName;
use conclave_core::opaque::Opaque;
use conclave_core::protocol::{Command, Refusal, Reply};
use smol::channel::{Receiver, Sender};
use smol::future::FutureExt as _;

use crate::event::Event;
use crate::link::LinkDriver;

/// So much is queued to a socket that does not take it; requests beyond fail.
const MAX_QUEUED: usize = 8 << 20;

/// How long a server may take to answer a request; the command line waits as long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which servers are reached, and by whom.
#[derive(Default)]
pub(super) struct Registry {
    pub(super) servers: ServerRegistry,
    pub(super) names: Vec<Server>,
}

impl Registry {
    /// Claims the server with this id for the link `number`, or says who has it.
    pub(super) fn claim(&mut self, number: usize, id: &str) -> Result<(), String> {
        self.servers.claim(number, id).map_err(|first| {
            let first = self.names.get(first).map_or(String::new(), Server::to_string);
            format!("it is the same server as {first}; remove one of the two (conclave server remove)")
        })
    }
}

/// One link and what is to be known of it.
pub(super) struct BridgedLink {
    number: usize,
    server: Server,
    driver: LinkDriver,
    registry: Rc<RefCell<Registry>>,
    events: Sender<Event>,
    /// Joins that were asked for and not answered yet.
    joining: BTreeMap<ChannelName, Vec<RequestId>>,
    joined: BTreeSet<ChannelName>,
    up: bool,
}

enum Happened {
    Told(Action),
    Asked(RequestId, Command),
    Over,
}

impl BridgedLink {
    pub(super) fn new(
        number: usize,
        server: Server,
        driver: LinkDriver,
        registry: Rc<RefCell<Registry>>,
        events: Sender<Event>,
    ) -> Self {
        let (joining, joined) = (BTreeMap::new(), BTreeSet::new());
        Self { number, server, driver, registry, events, joining, joined, up: false }
    }

    /// Runs until nobody asks any more.
    pub(super) async fn run(mut self, requests: Receiver<(RequestId, Command)>) {
        loop {
            // What is told already goes first: what is asked is judged by it.
            let happened = match self.driver.told() {
                Some(action) => Happened::Told(action),
                None => {
                    let asked = async {
                        requests
                            .recv()
                            .await
                            .map_or(Happened::Over, |(id, command)| Happened::Asked(id, command))
                    };
                    let told = async { Happened::Told(self.driver.next().await) };
                    asked.or(told).await
                }
            };
            match happened {
                Happened::Told(action) => self.hear(action).await,
                Happened::Asked(id, command) => self.ask(id, command).await,
                Happened::Over => return,
            }
        }
    }

    async fn ask(&mut self, id: RequestId, command: Command) {
        // What is asked while the news of a drop is on its way would wait for the next connection.
        if self.driver.queued() > MAX_QUEUED || !self.up {
            return self.tell(LinkEvent::Reply { id, result: Err(RequestError::NotConnected) }).await;
        }
        match command {
            Command::Join { channel, token } => {
                self.joining.entry(channel.clone()).or_default().push(id);
                self.driver.input(Input::Join { channel, token, from: JoinFrom::Live });
            }
            Command::Leave { channel } => {
                self.joined.remove(&channel);
                self.answer_joins(&channel, Err(RequestError::NotConnected)).await;
                self.driver.input(Input::Leave { channel: channel.clone() });
                let reply = Reply::Done(Opaque(channel.as_str().to_owned()));
                self.tell(LinkEvent::Reply { id, result: Ok(reply) }).await;
            }
            command => {
                let deadline = Some(self.driver.now().mono + PATIENCE);
                self.driver.input(Input::Request { id, command, deadline });
            }
        }
    }

    async fn hear(&mut self, action: Action) {
        let event = match action {
            // The driver carries these out.
            Action::Dial | Action::Send(_) | Action::Hangup => return,
            Action::Deliver { channel, from, payload, ts } => {
                LinkEvent::Message { channel: Some(channel), from, at: ts, payload }
            }
            Action::Whispered { from, payload } => {
                LinkEvent::Message { channel: None, from, at: None, payload }
            }
            Action::Replied { id, result } => LinkEvent::Reply { id, result },
            Action::Up { path, admin, .. } => {
                self.up = true;
                LinkEvent::Up { path, admin }
            }
            Action::Down(why) => {
                self.up = false;
                self.fail_joins().await;
                LinkEvent::Down { why: why.to_string() }
            }
            Action::Role { admin } => LinkEvent::Role { admin },
            Action::Joined { channel } => {
                self.joined.insert(channel.clone());
                return self.answer_joins(&channel, Ok(Reply::Joined(channel.clone()))).await;
            }
            Action::CaughtUp { .. } => return,
            Action::Deferred { channel, reason } => return self.deferred(channel, reason).await,
            Action::Lost { channel, reason } => return self.lost(channel, reason).await,
            Action::Stray { channel } => LinkEvent::Trouble {
                text: format!(
                    "Messages come for #{channel}, which was not joined under that name: it may have been renamed. Join it \
                     under that name; catch_up then reads what was posted meanwhile."
                ),
            },
            Action::Renamed { .. } => LinkEvent::Renamed,
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
            Action::Refused(refused) => {
                self.up = false;
                self.fail_joins().await;
                LinkEvent::Refused { why: refused.to_string() }
            }
        };
        self.tell(event).await;
    }

    /// A join that the server does not take now is given up: whoever asked is told, and asks again. One that stood
    /// before a drop is asked for until it stands again.
    async fn deferred(&mut self, channel: ChannelName, reason: Refusal) {
        if !self.joined.contains(&channel) {
            self.driver.input(Input::Leave { channel: channel.clone() });
        }
        self.answer_joins(&channel, Ok(Reply::Refused(reason))).await;
    }

    async fn lost(&mut self, channel: ChannelName, reason: Refusal) {
        if self.joined.remove(&channel) {
            self.tell(LinkEvent::Lost { channel: channel.clone(), why: reason.to_string() }).await;
        }
        self.answer_joins(&channel, Ok(Reply::Refused(reason))).await;
    }

    /// Joins under way are given up with the connection: whoever asked is told, and asks again.
    async fn fail_joins(&mut self) {
        for (channel, ids) in std::mem::take(&mut self.joining) {
            if !self.joined.contains(&channel) {
                self.driver.input(Input::Leave { channel });
            }
            for id in ids {
                self.tell(LinkEvent::Reply { id, result: Err(RequestError::Interrupted) }).await;
            }
        }
    }

    async fn ended(&mut self) {
        self.up = false;
        self.registry.borrow_mut().servers.release(self.number);
        self.fail_joins().await;
    }

    async fn answer_joins(&mut self, channel: &ChannelName, result: Result<Reply, RequestError>) {
        for id in self.joining.remove(channel).unwrap_or_default() {
            self.tell(LinkEvent::Reply { id, result: result.clone() }).await;
        }
    }

    async fn tell(&self, event: LinkEvent) {
        // Nobody listens any more when the bridge ends.
        let _ = self.events.send(Event::Link(self.server.clone(), event)).await;
    }
}
