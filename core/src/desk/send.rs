//! Sending: who is mentioned is looked up, then the message goes out, and stays on the screen as one that is being sent.

use alloc::string::String;
use alloc::vec::Vec;

use super::message::Message;
use super::replies::Pending;
use super::{Output, Place, SEND_WITHIN, Source, State};
use crate::body;
use crate::link::Proof;
use crate::mention;
use crate::name::UserName;
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::Command;
use crate::stream::{MailboxRef, StreamCommand, StreamRef};
use crate::time::{Now, UnixMillis};

/// Messages that are being sent, at most.
const MAX_OUTGOING: usize = 256;
/// Own messages to one person that are kept.
const MAX_SENT: usize = 200;

/// A message that is not stored yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its number here.
    pub id: u64,
    /// Where it goes.
    pub place: Place,
    /// What it says.
    pub text: Opaque<String>,
    /// The message that it answers.
    pub reply_to: Option<u64>,
    /// How far it is.
    pub progress: Progress,
}

/// How far a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Those whom it mentions are looked up.
    Resolving,
    /// It is with the link.
    Sending,
    /// It was not sent, or nobody knows.
    Failed(String),
}

impl State {
    pub(super) fn send(
        &mut self,
        now: Now,
        (place, text, reply_to): (Place, Opaque<String>, Option<u64>),
        out: &mut Vec<Output>,
    ) {
        if text.trim().is_empty() || self.outgoing.len() >= MAX_OUTGOING {
            return;
        }
        self.requests += 1;
        let id = self.requests;
        self.outgoing.push(Outgoing { id, place, text, reply_to, progress: Progress::Resolving });
        self.resolve(now, id, out);
    }

    pub(super) fn retry(&mut self, now: Now, id: u64, out: &mut Vec<Output>) {
        let failed =
            self.outgoing.iter_mut().find(|it| it.id == id && matches!(it.progress, Progress::Failed(_)));
        if let Some(outgoing) = failed {
            outgoing.progress = Progress::Resolving;
            self.resolve(now, id, out);
        }
    }

    pub(super) fn discard(&mut self, id: u64) {
        self.outgoing.retain(|it| it.id != id || !matches!(it.progress, Progress::Failed(_)));
    }

    pub(super) fn failed(&mut self, id: u64, why: String) {
        if let Some(outgoing) = self.outgoing.iter_mut().find(|it| it.id == id) {
            outgoing.progress = Progress::Failed(why);
        }
    }

    /// Asks for the numbers of those whom a message mentions.
    fn resolve(&mut self, now: Now, id: u64, out: &mut Vec<Output>) {
        if self.has_positions() || !self.begun {
            for name in self.unresolved(id) {
                let pending = Pending::Number(name.clone());
                if self.pending.values().any(|it| *it == pending) {
                    continue;
                }
                let keys = Command::Stream(StreamCommand::Keys { user: name });
                self.ask(keys, Some(now.mono + SEND_WITHIN), pending, out);
            }
        }
        self.send_resolved(now, out);
    }

    fn unresolved(&self, id: u64) -> Vec<UserName> {
        let Some(outgoing) = self.outgoing.iter().find(|it| it.id == id) else { return Vec::new() };
        let mut names = mention::in_text(&outgoing.text);
        names.retain(|name| !self.numbers.contains_key(name));
        names
    }

    /// Sends what waits for nobody's number any more, in the order in which it was typed.
    pub(super) fn send_resolved(&mut self, now: Now, out: &mut Vec<Output>) {
        let waiting: Vec<u64> =
            self.outgoing.iter().filter(|it| it.progress == Progress::Resolving).map(|it| it.id).collect();
        for id in waiting {
            let is_known = !self.has_positions() && self.begun || self.unresolved(id).is_empty();
            if !is_known {
                return;
            }
            self.post(now, id, out);
        }
    }

    fn post(&mut self, now: Now, id: u64, out: &mut Vec<Output>) {
        let has_positions = self.has_positions() || !self.begun;
        let Some(outgoing) = self.outgoing.iter_mut().find(|it| it.id == id) else { return };
        outgoing.progress = Progress::Sending;
        let (place, text, reply_to) = (outgoing.place.clone(), outgoing.text.0.clone(), outgoing.reply_to);
        let mentions: Vec<_> = mention::in_text(&text)
            .iter()
            .filter_map(|name| self.numbers.get(name).copied().flatten())
            .collect();
        let payload = if has_positions {
            let context = body::Context { reply_to, mentions, ..body::Context::default() };
            Payload::Body(body::of_content(&text, &context))
        } else {
            Payload::Plain(text)
        };
        let command = match place {
            Place::Channel(channel) => Command::Post { channel, payload },
            Place::Person(user) if has_positions => {
                let stream = StreamRef::Mailbox(MailboxRef::User(user));
                Command::Stream(StreamCommand::post(stream, payload))
            }
            // Version 1 knows sessions only: the one that wrote last, or the first that is there.
            Place::Person(user) => match self.session_of(&user) {
                Some(target) => Command::Whisper { target, payload },
                None => return self.failed(id, alloc::format!("{user} is not online")),
            },
        };
        self.ask(command, Some(now.mono + SEND_WITHIN), Pending::Post(id), out);
    }

    fn session_of(&self, user: &UserName) -> Option<crate::name::SessionPath> {
        self.online.iter().find(|it| it.user == *user).map(|it| (**it).clone())
    }

    /// A message is stored.
    pub(super) fn stored(&mut self, id: u64, stamp: Option<(u64, UnixMillis)>, now: Now) {
        let Some(at) = self.outgoing.iter().position(|it| it.id == id) else { return };
        let Outgoing { place, text, reply_to, .. } = self.outgoing.remove(at);
        let Some(path) = self.path.clone() else { return };
        let (seq, ts) = stamp.unwrap_or((0, now.wall));
        let context = body::Context { reply_to, ..body::Context::default() };
        let payload = Payload::Body(body::of_content(&text, &context));
        let message = Message::new((seq, path, ts), &payload, (true, None), Proof::Verified);
        match place {
            Place::Channel(channel) => {
                let source = Source::Channel(channel);
                let Some(timeline) = self.rooms.get_mut(&source).and_then(|it| it.timeline.as_mut()) else {
                    return;
                };
                match stamp {
                    Some(_) => timeline.stored(message),
                    None => {
                        let seq = timeline.last() + 1;
                        timeline.live(seq, Some(Message { seq, ..message }));
                    }
                }
                self.touched.insert(source);
            }
            Place::Person(user) => {
                let sent = self.sent.entry(user).or_default();
                if sent.len() >= MAX_SENT {
                    sent.remove(0);
                }
                sent.push(message);
            }
        }
    }
}
