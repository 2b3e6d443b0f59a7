//! A session of the host's: one link, what it keeps, and requests on it. What arrives is kept before it is handed on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use conclave_core::key::PublicKey;
use conclave_core::link::{
    Action, DownReason, Input, JoinFrom, Loss, OwnMailbox, Place, Proof, RequestError, RequestId,
};
use conclave_core::name::{ChannelName, SessionPath};
use conclave_core::protocol::{Command, Reply, Stamped};
use conclave_core::record::{ChannelId, UserId};
use conclave_store::config::{Change, ConfigFile, Pin, ServerUrl};
use smol::Timer;
use smol::channel::{Receiver, Sender};
use smol::future::{FutureExt as _, pending};
use tracing::{info, warn};

use crate::bridge::Kept;
use crate::link::LinkDriver;

/// Actions that are taken together: their messages are kept by one write.
const BATCH: usize = 256;
/// How long a request waits for a connection and its answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// After which time a channel that was refused is asked for again: it may be created, or opened to us, later.
const AGAIN: Duration = Duration::from_secs(5);

/// What a session is to do.
#[derive(Debug)]
pub(super) enum Word {
    /// Ask the server.
    Ask(Command, Sender<Answer>),
    /// Everything up to here was put before the reader.
    Seen(ChannelId, u64),
    /// This is never put before the reader.
    Skip(ChannelId, u64, u64),
}

pub(super) type Answer = Result<Reply, RequestError>;

/// What happens to a session.
#[derive(Debug)]
pub(super) enum Happened {
    /// It is up.
    Up { path: SessionPath, user: Option<UserId>, server: PublicKey },
    /// It is down.
    Down,
    /// A message is kept.
    Message(Box<Arrived>),
}

/// A message that is kept.
#[derive(Debug)]
pub(super) struct Arrived {
    /// `None` for the session's mailbox.
    pub(super) channel: Option<ChannelName>,
    pub(super) stream: ChannelId,
    pub(super) message: Stamped,
    pub(super) proof: Proof,
}

/// One session.
pub(super) struct Follower {
    /// Its name in logs.
    pub(super) name: String,
    pub(super) url: ServerUrl,
    pub(super) kept: Kept,
    pub(super) pins: ConfigFile,
    pub(super) channels: Vec<ChannelName>,
    pub(super) mailbox: bool,
    pub(super) events: Sender<(usize, Happened)>,
    pub(super) id: usize,
}

enum Next {
    Action(Action),
    Word(Word),
    /// Ask again for what was refused.
    Again,
    Over,
}

impl Follower {
    /// Runs until the sender of `words` is dropped.
    pub(super) async fn run(mut self, mut driver: LinkDriver, words: Receiver<Word>) {
        let mut inputs = Vec::new();
        let mailboxes: &[_] = if self.mailbox { &[OwnMailbox::Session] } else { &[] };
        // What was kept in an earlier run, by streams.
        let mut unread: Vec<_> = self.kept.resume(mailboxes, &mut inputs);
        for channel in &self.channels {
            // One that was followed before is followed from where it ended.
            if !unread.iter().any(|it| it.channel.as_ref() == Some(channel)) {
                inputs.push(Input::Join { channel: channel.clone(), token: None, from: JoinFrom::Live });
            }
        }
        for it in &unread {
            if let Some(channel) = it.channel.as_ref().filter(|it| !self.channels.contains(it)) {
                self.kept.forget(channel);
                inputs.push(Input::Leave { channel: channel.clone() });
            }
        }
        unread.retain(|it| it.channel.as_ref().is_none_or(|channel| self.channels.contains(channel)));
        let (mut refused, mut again_at) = (Vec::new(), Instant::now());
        let (mut asked, mut number) = (BTreeMap::<RequestId, Sender<Answer>>::new(), 0);
        loop {
            inputs.drain(..).for_each(|input: Input<'static>| driver.input(input));
            let next = match driver.pending() {
                Some(action) => Next::Action(action),
                None => {
                    let word = async { words.recv().await.map_or(Next::Over, Next::Word) };
                    let again = async {
                        match refused.is_empty() {
                            true => pending().await,
                            false => drop(Timer::at(again_at).await),
                        }
                        Next::Again
                    };
                    word.or(again).or(async { Next::Action(driver.next().await) }).await
                }
            };
            let first = match next {
                Next::Action(first) => first,
                Next::Word(Word::Ask(command, answer)) => {
                    number += 1;
                    let id = RequestId(number);
                    asked.insert(id, answer);
                    let deadline = Some(driver.now().mono + PATIENCE);
                    driver.input(Input::Request { id, command, deadline });
                    continue;
                }
                Next::Word(Word::Seen(stream, seq)) => {
                    self.kept.seen(stream, seq, &mut inputs);
                    continue;
                }
                Next::Word(Word::Skip(stream, from, to)) => {
                    self.kept.skip(stream, (from, to), &mut inputs);
                    continue;
                }
                Next::Again => {
                    let join = |channel| Input::Join { channel, token: None, from: JoinFrom::Live };
                    inputs.extend(std::mem::take(&mut refused).into_iter().map(join));
                    continue;
                }
                Next::Over => return,
            };
            let mut actions = vec![first];
            while actions.len() < BATCH
                && let Some(action) = driver.pending()
            {
                actions.push(action);
            }
            for action in self.kept.take(actions, driver.now().wall, &mut inputs) {
                if let Action::Replied { id, result } = action {
                    if let Some(answer) = asked.remove(&id) {
                        // Whoever asked may be gone.
                        let _ = answer.try_send(result);
                    }
                    continue;
                }
                if let Action::Lost { channel, why: Loss::Refused(_) } = &action {
                    if refused.is_empty() {
                        again_at = Instant::now() + AGAIN;
                    }
                    refused.push(channel.clone());
                }
                let is_up = matches!(action, Action::Up { .. });
                self.tell(action, &mut driver).await;
                if is_up {
                    for it in std::mem::take(&mut unread) {
                        self.hand_on_unread(it.channel, it.stream).await;
                    }
                }
            }
        }
    }

    async fn tell(&self, action: Action, driver: &mut LinkDriver) {
        match action {
            Action::Up { path, user, server_key: Some(server), .. } => {
                self.pin(server);
                info!(agent = self.name, server = self.url.as_str(), "connected");
                self.send(Happened::Up { path, user, server }).await;
            }
            Action::Up { server_key: None, .. } => warn!(
                agent = self.name,
                server = self.url.as_str(),
                "this server speaks version 1, which has no mailboxes and no receipts: nothing wakes an agent there"
            ),
            Action::Deliver {
                channel,
                from,
                payload,
                ts: Some(ts),
                place: Some(Place { stream, seq, origin, proof }),
            } if proof != Proof::Forged => {
                let message = Stamped { from, ts, payload, seq, origin };
                self.send(Happened::Message(Box::new(Arrived { channel, stream, message, proof }))).await;
            }
            Action::Deliver { from, place: Some(_), .. } => {
                warn!(agent = self.name, from = %from, "forged: a message is not what its sender signed, and is not used");
            }
            Action::Down(why) => {
                let advice = match (&why, driver.dial_error()) {
                    (DownReason::Dial(_), Some(error)) => error.advice(),
                    _ => String::new(),
                };
                warn!(agent = self.name, server = self.url.as_str(), %why, advice, "not connected");
                self.send(Happened::Down).await;
            }
            Action::Refused(why) => {
                warn!(agent = self.name, server = self.url.as_str(), %why, "the server refuses this session");
                self.send(Happened::Down).await;
            }
            Action::Lost { channel, why } => {
                warn!(agent = self.name, channel = channel.as_str(), %why, "the channel is not followed any more");
            }
            Action::Deferred { channel, reason } => {
                warn!(agent = self.name, channel = channel.as_str(), %reason, "the channel is not followed yet");
            }
            Action::Joined { channel, .. } => info!(agent = self.name, channel = channel.as_str(), "follows"),
            Action::Collision { .. } => {
                warn!(
                    agent = self.name,
                    "another program is connected under this name: end it, or rename the agent"
                );
            }
            _ => {}
        }
    }

    async fn hand_on_unread(&self, channel: Option<ChannelName>, stream: ChannelId) {
        let mut after = 0;
        loop {
            let (messages, more) = self.kept.unread(stream, after);
            let Some((last, _)) = messages.last() else { return };
            after = last.seq;
            for (message, proof) in messages {
                let channel = channel.clone();
                self.send(Happened::Message(Box::new(Arrived { channel, stream, message, proof }))).await;
            }
            if !more {
                return;
            }
        }
    }

    /// Writes the server's key down at first contact.
    fn pin(&self, server_key: PublicKey) {
        let Ok(config) = self.pins.load() else { return };
        if config.server(&self.url).is_some() && config.pin(&self.url).is_none() {
            let pin = Change::SetPin(self.url.clone(), Pin { server_key, derived: false });
            if let Err(error) = self.pins.change(&[pin]) {
                warn!(server = self.url.as_str(), %error, "the server's key is not written down");
            }
        }
    }

    async fn send(&self, happened: Happened) {
        // The receiver is gone when the host ends.
        let _ = self.events.send((self.id, happened)).await;
    }
}
