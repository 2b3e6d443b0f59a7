//! An agent whose session runs: it reads its inbox and answers each message there, through the real bridge.

use std::collections::VecDeque;

use conclave_core::bridge::{
    Action, Bound, Bridge, BridgedLink, Budget, CallId, Config, Entry, Failure, Filter, Input, Level,
    LinkEvent, Outcome, Server, Settings, Step, ToolCall,
};
use conclave_core::link::{self, Link, Proof};
use conclave_core::name::ChannelName;
use conclave_core::opaque::Opaque;
use conclave_core::protocol::Stamped;
use conclave_core::record::ChannelId;
use conclave_core::time::Now;

use super::super::super::world::World;
use super::asleep::ANSWER;
use super::{DEN, Wish, stamped};

/// See the module.
#[derive(Debug)]
pub(super) struct Awake {
    /// How many messages in a row its human allows agents.
    pub(super) budget: u32,
    bridge: Bridge,
    bridged: BridgedLink,
    calls: u64,
    /// The call that posts an answer, while it has no outcome.
    sending: Option<CallId>,
    /// Messages that it read and did not answer.
    owed: usize,
    /// On disk: messages that were not put before it, and what names mean.
    unread: Vec<(Stamped, Proof)>,
    bound: Vec<Bound>,
    /// Answers that are stored, and those that the loop guard held back.
    sent: u64,
    held: u64,
}

impl Awake {
    pub(super) fn new(budget: u32) -> Self {
        Self {
            budget,
            bridge: bridge(budget),
            bridged: BridgedLink::default(),
            calls: 0,
            sending: None,
            owed: 0,
            unread: Vec::new(),
            bound: Vec::new(),
            sent: 0,
            held: 0,
        }
    }

    pub(super) fn crash(&mut self) {
        let (unread, bound) = (std::mem::take(&mut self.unread), std::mem::take(&mut self.bound));
        *self = Self { unread, bound, ..Self::new(self.budget) };
    }

    /// A process starts: what an earlier one kept is handed in.
    pub(super) fn resume(&mut self, now: Now, channel: &ChannelName, stream: Option<ChannelId>, link: &Link) {
        let Some(stream) = stream else { return };
        let unread = !self.unread.is_empty();
        let channel = Some(channel.clone());
        let followed = LinkEvent::Followed { channel, stream, unread, skipped: None };
        let mut wishes = Vec::new();
        for event in [LinkEvent::Bound(self.bound.clone()), followed] {
            self.handle(now, Input::Link { server: server(), event }, link, &mut wishes);
        }
    }

    pub(super) fn told(&mut self, now: Now, action: link::Action, link: &Link, wishes: &mut Vec<Wish>) {
        self.unread.extend(stamped(&action));
        let mut steps = Vec::new();
        self.bridged.action(link, action, &mut steps);
        for step in steps {
            match step {
                Step::Input(input) => wishes.push(Wish::Link(input)),
                Step::Event(event) => {
                    self.handle(now, Input::Link { server: server(), event }, link, wishes);
                }
            }
        }
    }

    pub(super) fn act(&mut self, now: Now, link: &Link, wishes: &mut Vec<Wish>, world: &mut World) {
        if self.bridge.next_deadline().is_some_and(|due| due <= now.mono) {
            self.handle(now, Input::Tick, link, wishes);
        }
        world.coverage.answers += std::mem::take(&mut self.sent);
        world.coverage.held_back += std::mem::take(&mut self.held);
        if self.sending.is_some() {
            return;
        }
        let Ok(channel) = ChannelName::new(DEN) else { return };
        self.calls += 1;
        let id = CallId(self.calls);
        let call = match self.owed {
            0 => ToolCall::Inbox { limit: None, filter: Filter::default() },
            _ => {
                self.sending = Some(id);
                ToolCall::Send {
                    server: None,
                    channel,
                    text: Opaque(ANSWER.into()),
                    reply_to: None,
                    mentions: Vec::new(),
                    wait: None,
                }
            }
        };
        self.handle(now, Input::Call { id, call }, link, wishes);
    }

    fn handle(&mut self, now: Now, input: Input, link: &Link, wishes: &mut Vec<Wish>) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut actions = Vec::new();
            self.bridge.handle(now, input, &mut actions);
            for action in actions {
                let event = match action {
                    Action::Request { id, command, .. } => {
                        let mut steps = Vec::new();
                        self.bridged.request(now.mono, link, 0, id, command, &mut steps);
                        for step in steps {
                            match step {
                                Step::Input(input) => wishes.push(Wish::Link(input)),
                                Step::Event(event) => {
                                    inputs.push_back(Input::Link { server: server(), event })
                                }
                            }
                        }
                        continue;
                    }
                    Action::LoadUnread { stream, after, .. } => {
                        let messages = self.unread.iter().filter(|(it, _)| it.seq > after).cloned().collect();
                        LinkEvent::Unread { stream, after, messages, more: false }
                    }
                    Action::LoadBindings { .. } => LinkEvent::Bound(self.bound.clone()),
                    other => {
                        self.carry_out(other, wishes);
                        continue;
                    }
                };
                inputs.push_back(Input::Link { server: server(), event });
            }
        }
    }

    fn carry_out(&mut self, action: Action, wishes: &mut Vec<Wish>) {
        match action {
            Action::Bind { bound, .. } => self.bound.push(bound),
            Action::Seen { stream, seq, .. } => {
                self.unread.retain(|(it, _)| it.seq > seq);
                wishes.push(Wish::Link(link::Input::Report { stream, delivered: seq, seen: seq }));
            }
            Action::Shown { seqs, .. } => self.unread.retain(|(it, _)| !seqs.contains(&it.seq)),
            Action::Skip { from, to, .. } => self.unread.retain(|(it, _)| !(from..=to).contains(&it.seq)),
            Action::Answer { call, result } => self.answered(call, result),
            _ => {}
        }
    }

    fn answered(&mut self, call: CallId, result: Result<Outcome, Failure>) {
        let was_sent = self.sending.take_if(|sending| *sending == call).is_some();
        match result {
            Ok(Outcome::Read { page, .. }) => {
                let messages = page.entries.iter().filter(|it| matches!(it.entry, Entry::Message(_)));
                self.owed += messages.count();
            }
            Ok(_) if was_sent => {
                self.owed -= 1;
                self.sent += 1;
            }
            Err(Failure::Loop { .. }) => {
                self.held += self.owed as u64;
                self.owed = 0;
            }
            // It tries again: nothing is known of the message.
            _ => {}
        }
    }
}

fn bridge(hops: u32) -> Bridge {
    let mut config = Config::new(vec![server()]);
    // Only the row of answers, which travels with the messages, is to stop it.
    let most = u32::MAX;
    config.budget = Budget { alone: most, exchange: most, conversation: most, ..Budget::default() };
    let mut settings = Settings { hops: Some(hops), ..Settings::default() };
    settings.permissions.default = Level::Converse;
    Bridge::new(config, settings)
}

fn server() -> Server {
    Server::new("wss://simulated")
}
