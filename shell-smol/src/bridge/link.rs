//! The task of one link: words of the bridge in, events for it out. What arrives is kept before it is handed on.

use std::cell::RefCell;
use std::rc::Rc;

use conclave_core::bridge::{BridgedLink, LinkEvent, Server, Step};
use conclave_core::key::PublicKey;
use conclave_core::link::{Action, DownReason, Input, OwnMailbox, ServerRegistry};
use conclave_core::protocol::Command;
use conclave_store::config::{Change, ConfigFile, Pin, ServerUrl};
use smol::channel::{Receiver, Sender};
use smol::future::FutureExt as _;

use super::kept::{Kept, Resumed};
use crate::event::Event;
use crate::link::LinkDriver;
use crate::log;
use crate::mcp::ToLink;

/// Actions that are taken together: their messages are kept by one write.
const BATCH: usize = 256;

/// The mailboxes that an agent reads.
const OWN: [OwnMailbox; 2] = [OwnMailbox::User, OwnMailbox::Session];

/// One link's task.
pub(super) struct Task {
    pub(super) server: Server,
    /// Which of the links it is.
    pub(super) number: usize,
    /// The servers of all links, by their numbers.
    pub(super) names: Rc<[Server]>,
    /// Which link is on which server.
    pub(super) registry: Rc<RefCell<ServerRegistry>>,
    pub(super) url: ServerUrl,
    pub(super) kept: Kept,
    /// Where the server's key is written down.
    pub(super) pins: ConfigFile,
    pub(super) events: Sender<Event>,
}

enum Next {
    Action(Action),
    Word(ToLink),
    Over,
}

impl Task {
    /// Runs a link until the bridge drops the sender of `words`.
    pub(super) async fn run(mut self, mut driver: LinkDriver, words: Receiver<ToLink>) {
        if let Err(why) = self.kept.server().map_or(Ok(()), |key| self.claim(key)) {
            return self.send(LinkEvent::Disabled { why }).await;
        }
        let mut bridged = BridgedLink::default();
        let (mut steps, mut inputs) = (Vec::new(), Vec::new());
        self.send_bindings().await;
        for Resumed { channel, stream, unread, skipped } in self.kept.resume(&OWN, &mut inputs) {
            self.send(LinkEvent::Followed { channel, stream, unread, skipped }).await;
        }
        inputs.drain(..).for_each(|input| driver.input(input));
        loop {
            // Actions that are there already come first: requests depend on them.
            let next = match driver.pending() {
                Some(action) => Next::Action(action),
                None => {
                    let word = async { words.recv().await.map_or(Next::Over, Next::Word) };
                    let action = async { Next::Action(driver.next().await) };
                    word.or(action).await
                }
            };
            match next {
                Next::Action(first) => {
                    let mut actions = vec![with_advice(first, &mut driver)];
                    while actions.len() < BATCH
                        && let Some(action) = driver.pending()
                    {
                        actions.push(with_advice(action, &mut driver));
                    }
                    for action in self.kept.take(actions, driver.now().wall, &mut inputs) {
                        if let Action::Up { server_key: Some(key), .. } = &action {
                            if let Err(why) = self.claim(*key) {
                                driver.input(Input::Disable(&why));
                                break;
                            }
                            self.pin(*key);
                            self.send_bindings().await;
                        }
                        bridged.action(driver.link(), action, &mut steps);
                    }
                }
                Next::Word(ToLink::Request(id, command)) => {
                    if let Command::Leave { channel } = &command {
                        self.kept.forget(channel);
                    }
                    let now = driver.now().mono;
                    bridged.request(now, driver.link(), driver.queued(), id, command, &mut steps);
                }
                Next::Word(ToLink::Seen { stream, seq }) => self.kept.seen(stream, seq, &mut inputs),
                Next::Word(ToLink::Shown { stream, seqs }) => self.kept.shown(stream, &seqs, &mut inputs),
                Next::Word(ToLink::Skip { stream, from, to }) => {
                    self.kept.skip(stream, (from, to), &mut inputs);
                }
                Next::Word(ToLink::Bind(bound)) => self.kept.bind(&bound),
                Next::Word(ToLink::LoadBindings) => self.send_bindings().await,
                Next::Word(ToLink::LoadUnread { stream, after }) => {
                    let (messages, more) = self.kept.unread(stream, after);
                    self.send(LinkEvent::Unread { stream, after, messages, more }).await;
                }
                Next::Over => return,
            }
            inputs.drain(..).for_each(|input: Input<'static>| driver.input(input));
            for step in steps.drain(..) {
                match step {
                    Step::Input(input) => driver.input(input),
                    Step::Event(event) => self.send(event).await,
                }
            }
        }
    }

    /// Writes the server's key down at first contact.
    fn pin(&self, server_key: PublicKey) {
        let Ok(config) = self.pins.load() else { return };
        if config.server(&self.url).is_none() || config.pin(&self.url).is_some() {
            return;
        }
        let pin = Change::SetPin(self.url.clone(), Pin { server_key, derived: false });
        if let Err(error) = self.pins.change(&[pin]) {
            log(&format!("the key of {} is not written down: {error}", self.url));
        }
    }

    /// Takes the server with this key for this link, or says why this link ends.
    fn claim(&self, key: PublicKey) -> Result<(), String> {
        self.registry.borrow_mut().claim(self.number, key).map_err(|first| {
            let first = &self.names[first];
            format!("it is the same server as {first}; remove one of the two (conclave server remove)")
        })
    }

    async fn send_bindings(&self) {
        self.send(LinkEvent::Bound(self.kept.bindings())).await;
    }

    async fn send(&self, event: LinkEvent) {
        // The receiver is gone when the bridge ends.
        let _ = self.events.send(Event::Link(self.server.clone(), event)).await;
    }
}

/// Adds to a failed dial what its reader can do about it.
fn with_advice(action: Action, driver: &mut LinkDriver) -> Action {
    match (action, driver.dial_error()) {
        (Action::Down(DownReason::Dial(text)), Some(error)) => {
            Action::Down(DownReason::Dial(format!("{text}; {}", error.advice())))
        }
        (action, _) => action,
    }
}
