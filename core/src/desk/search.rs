//! Looking for words in a conversation: page by page, from the newest message back.

use alloc::string::String;
use alloc::vec::Vec;

use super::message::Message;
use super::replies::Pending;
use super::{Output, Place, Source, State, sources};
use crate::link::RequestError;
use crate::opaque::Opaque;
use crate::protocol::{Command, Reply};
use crate::stream::{PageFrom, StreamCommand, StreamRef, StreamReply};
use crate::time::Now;

/// Messages of a page.
const PAGE: usize = 500;
/// Found messages that are kept, and messages that are read before the user is asked whether to go on.
const MAX_HITS: usize = 200;
const PAUSE_AFTER: usize = 10_000;

/// A search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// In which conversation.
    pub place: Place,
    /// For which words, in lower case.
    pub words: Vec<Opaque<String>>,
    /// What was found, newest first.
    pub hits: Vec<(Source, Message)>,
    /// How many messages were read.
    pub read: usize,
    /// Nothing is left to read.
    pub is_done: bool,
    /// It goes on with [`super::Intent::SearchOn`].
    pub is_paused: bool,
    /// Where to read on: before this message.
    pub(super) next: Vec<(Source, u64)>,
    is_asked: bool,
    pause_at: usize,
}

impl Search {
    fn takes(&self, message: &Message) -> bool {
        let is_here = match &self.place {
            Place::Channel(_) => true,
            Place::Person(user) => message.from.user == *user,
        };
        let Some(text) = message.text().filter(|_| is_here) else { return false };
        let text = text.to_lowercase();
        self.words.iter().all(|word| text.contains(&*word.0))
    }
}

impl State {
    pub(super) fn search(&mut self, place: Place, words: &str) {
        let words: Vec<_> = words.split_whitespace().map(|word| Opaque(word.to_lowercase())).collect();
        if words.is_empty() {
            self.search = None;
            return;
        }
        let mut next = Vec::new();
        let mut search = Search {
            words,
            hits: Vec::new(),
            read: 0,
            is_done: false,
            is_paused: false,
            next: Vec::new(),
            is_asked: false,
            pause_at: PAUSE_AFTER,
            place,
        };
        for source in sources(&search.place) {
            let Some(timeline) = self.rooms.get(&source).and_then(|it| it.timeline.as_ref()) else {
                continue;
            };
            match timeline.number {
                Some(_) => next.push((source, timeline.last() + 1)),
                // Version 1 reads no pages: what is loaded is all there is.
                None => {
                    for message in timeline.messages().rev() {
                        search.read += 1;
                        if search.takes(message) && search.hits.len() < MAX_HITS {
                            search.hits.push((source.clone(), message.clone()));
                        }
                    }
                }
            }
        }
        search.is_done = next.is_empty();
        search.next = next;
        self.search = Some(search);
    }

    pub(super) fn search_on(&mut self) {
        if let Some(search) = &mut self.search {
            search.is_paused = false;
            search.pause_at = search.read + PAUSE_AFTER;
        }
    }

    /// Asks for the next page.
    pub(super) fn work_search(&mut self, out: &mut Vec<Output>) {
        let up = self.status == super::Status::Up;
        let Some(search) = &mut self.search else { return };
        if search.is_asked || search.is_paused || search.is_done || !up {
            return;
        }
        let Some((source, before)) = search.next.last().cloned() else {
            search.is_done = true;
            return;
        };
        let number = self.rooms.get(&source).and_then(|it| it.timeline.as_ref()?.number);
        let Some(number) = number.filter(|_| before > 1) else {
            search.next.pop();
            return self.work_search(out);
        };
        search.is_asked = true;
        let (stream, from) = (StreamRef::Number(number), PageFrom::Before(before));
        let read = StreamCommand::Read { stream, from, limit: PAGE };
        self.ask(Command::Stream(read), None, Pending::Search(source), out);
    }

    pub(super) fn found(&mut self, _now: Now, source: &Source, result: Result<Reply, RequestError>) {
        let number = self.rooms.get(source).and_then(|it| it.timeline.as_ref()?.number);
        let page = match (result, number) {
            (Ok(Reply::Stream(StreamReply::Page { messages, more, stream })), Some(number))
                if stream == number =>
            {
                Some((self.read_page(stream, messages), more))
            }
            _ => None,
        };
        let Some(search) = &mut self.search else { return };
        search.is_asked = false;
        let Some((messages, more)) = page else {
            search.is_paused = true;
            return;
        };
        // An answer to an earlier search has nothing to do with this one.
        let Some(next) = search.next.iter_mut().find(|(of, _)| of == source) else { return };
        let (first, last) = (messages.first().map(|it| it.seq), messages.last().map(|it| it.seq));
        if last.is_some_and(|last| last >= next.1) {
            return;
        }
        match first {
            Some(first) if more => next.1 = first,
            _ => next.1 = 1,
        }
        for message in messages.into_iter().rev() {
            search.read += 1;
            if search.hits.len() < MAX_HITS && search.takes(&message) {
                search.hits.push((source.clone(), message));
            }
        }
        search.is_done = search.hits.len() >= MAX_HITS;
        search.is_paused = search.read >= search.pause_at;
    }
}
