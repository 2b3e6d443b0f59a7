//! What the server answers.

use alloc::string::ToString as _;
use alloc::vec::Vec;

use super::cards::CardState;
use super::message::{Message, Receipts};
use super::timeline::Page;
use super::{MAX_LISTED, Output, Source, State};
use crate::bridge::CardId;
use crate::link::{Proof, RequestError, RequestId};
use crate::name::{ChannelName, SessionPath, UserName};
use crate::protocol::{Reply, Stamped};
use crate::record::ChannelId;
use crate::stream::StreamReply;
use crate::time::Now;

/// Readers of a message that are kept.
const MAX_READERS: usize = 256;
/// Numbers of users that are kept.
const MAX_NUMBERS: usize = 4096;

/// What a request was for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    Channels,
    Online,
    Present(ChannelName),
    Page(Source, ChannelId, Page),
    Receipts(Source, u64),
    SentReceipts(UserName, u64),
    Number(UserName),
    Post(u64),
    Verdict { from: SessionPath, id: CardId },
    Search(Source),
    Silent,
}

impl State {
    pub(super) fn replied(
        &mut self,
        now: Now,
        id: RequestId,
        result: Result<Reply, RequestError>,
        out: &mut Vec<Output>,
    ) {
        let Some(pending) = self.pending.remove(&id) else { return };
        match (pending, result) {
            (Pending::Channels, Ok(Reply::Channels(mut listed))) => {
                listed.truncate(MAX_LISTED);
                self.listed = listed;
                self.choose_channels(now, out);
            }
            (Pending::Online, Ok(Reply::Presence { mut sessions, .. })) => {
                sessions.truncate(MAX_LISTED);
                sessions.sort();
                self.online = sessions;
            }
            (Pending::Present(channel), Ok(Reply::Presence { mut sessions, .. })) => {
                sessions.truncate(MAX_LISTED);
                sessions.sort();
                self.are_online(&sessions);
                if let Some(room) = self.rooms.get_mut(&Source::Channel(channel)) {
                    room.present = sessions;
                }
            }
            (Pending::Page(source, stream, page), result) => self.page(now, source, stream, page, result),
            (Pending::Receipts(source, seq), result) => {
                let receipts = self.receipts(result);
                if let Some(timeline) = self.rooms.get_mut(&source).and_then(|it| it.timeline.as_mut()) {
                    timeline.receipts(seq, receipts);
                }
            }
            (Pending::SentReceipts(user, seq), result) => {
                let receipts = self.receipts(result);
                let message =
                    self.sent.get_mut(&user).and_then(|sent| sent.iter_mut().find(|it| it.seq == seq));
                if let Some(message) = message {
                    message.receipts = receipts;
                }
            }
            (Pending::Number(name), result) => {
                let number = match result {
                    Ok(Reply::Stream(StreamReply::Keys { user, machines })) => {
                        for machine in machines {
                            self.keys.entry((user, machine.id)).or_insert(machine.key);
                        }
                        Some(user)
                    }
                    _ => None,
                };
                if self.numbers.len() >= MAX_NUMBERS {
                    self.numbers.pop_first();
                }
                self.numbers.insert(name, number);
                self.send_resolved(now, out);
                // Nobody may have the name today and somebody tomorrow.
                self.numbers.retain(|_, number| number.is_some());
            }
            (Pending::Post(id), result) => self.posted(now, id, result),
            (Pending::Verdict { from, id }, result) => {
                let is_sent = matches!(
                    result,
                    Ok(Reply::Sent | Reply::Done(_) | Reply::Stream(StreamReply::Stored { .. }))
                );
                if !is_sent
                    && let Some(card) = self.cards.iter_mut().find(|it| it.id == id && it.from == from)
                {
                    card.state = CardState::Failed;
                }
            }
            (Pending::Search(source), result) => self.found(now, &source, result),
            _ => {}
        }
    }

    fn page(
        &mut self,
        now: Now,
        source: Source,
        stream: ChannelId,
        page: Page,
        result: Result<Reply, RequestError>,
    ) {
        let answer = match result {
            Ok(Reply::Stream(StreamReply::Page { messages, more, .. })) => Some((messages, more)),
            _ => None,
        };
        let messages = answer.map(|(messages, more)| (self.read_page(stream, messages), more));
        if let (Source::Mailbox(_), Some((messages, _))) = (&source, &messages) {
            messages.iter().for_each(|message| self.card(now, message));
        }
        let Some(room) = self.rooms.get_mut(&source) else { return };
        room.asked = None;
        self.touched.insert(source);
        let Some(timeline) = room.timeline.as_mut().filter(|it| it.number == Some(stream)) else { return };
        match messages {
            Some((messages, more)) => {
                timeline.page(page, messages, more);
            }
            None => room.failed = true,
        }
    }

    /// Messages of a page, as far as they are in order.
    pub(super) fn read_page(&self, stream: ChannelId, page: Vec<Stamped>) -> Vec<Message> {
        let mut messages = Vec::with_capacity(page.len());
        let mut last = 0;
        for Stamped { from, ts, payload, seq, origin } in page {
            if seq <= last {
                continue;
            }
            last = seq;
            let key = origin.sender.and_then(|sender| self.keys.get(&sender));
            let proof = match &self.server_key {
                Some(server) => Proof::of(origin.signed.as_deref(), &payload, (server, stream), key),
                None => Proof::Unsigned,
            };
            let own = self.is_own(&from);
            messages.push(Message::new((seq, from, ts), &payload, (own, self.user), proof));
        }
        messages
    }

    /// Somebody read what we wrote to them.
    pub(super) fn people_moved(&mut self) {
        for message in self.sent.values_mut().flatten() {
            if let Receipts::Known { stale, .. } = &mut message.receipts {
                *stale = true;
            }
        }
    }

    /// An own message to a channel or a person is stored, or is not.
    fn posted(&mut self, now: Now, id: u64, result: Result<Reply, RequestError>) {
        let why = match result {
            Ok(Reply::Stream(StreamReply::Stored { stamp, .. })) => {
                return self.stored(id, Some((stamp.seq, stamp.ts)), now);
            }
            Ok(Reply::Sent | Reply::Done(_)) => return self.stored(id, None, now),
            Ok(Reply::Refused(refusal)) => refusal.to_string(),
            Ok(_) => "the server answered something else".to_string(),
            Err(error) => error.to_string(),
        };
        self.failed(id, why);
    }

    /// Who has a message, but for this very session.
    fn receipts(&self, result: Result<Reply, RequestError>) -> Receipts {
        let Ok(Reply::Stream(StreamReply::Receipts { mut readers, .. })) = result else {
            return Receipts::Known { readers: Vec::new(), stale: false };
        };
        readers.retain(|it| !self.is_own(&it.reader));
        readers.truncate(MAX_READERS);
        Receipts::Known { readers, stale: false }
    }
}
