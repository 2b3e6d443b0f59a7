//! Hooks: the client asks, at moments of its own, what is to be put before the model.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Bridge, PAGE_ENTRIES};
use crate::bridge::api::{Action, Moment};
use crate::bridge::frame::PAGE_BYTES;
use crate::bridge::inbox::Entry;
use crate::bridge::tool_call::{CallId, Filter};
use crate::opaque::Opaque;
use crate::time::Now;

/// How often in a row an agent that is about to stop goes on, until its human submits a prompt. Claude Code ends a turn after
/// 8 times by itself.
const MAX_CONTINUED: u32 = 8;
/// Less of a text than this is not worth showing.
const SHORTEST: usize = 64;

impl Bridge {
    /// Answers a hook with what is unread, in at most `most` bytes as the model reads it.
    pub(super) fn hook(
        &mut self,
        now: Now,
        call: CallId,
        (moment, most): (Moment, usize),
        actions: &mut Vec<Action>,
    ) {
        if moment == (Moment::Prompt { human: true }) {
            self.guard.renew();
            self.continued = 0;
        }
        let unread = self.inbox.has_fresh(|entry| !self.is_quiet(entry));
        let due = match moment {
            Moment::Stop => {
                self.continued < MAX_CONTINUED && self.inbox.has_fresh(|entry| self.is_answerable(entry))
            }
            _ => unread,
        };
        let text = if due { self.hook_text(now, call, most) } else { None };
        if moment == Moment::Stop && text.is_some() {
            self.continued += 1;
        }
        actions.push(Action::Hooked { call, text: text.map(Opaque) });
    }

    /// Reads as much as fits: frames and escapes take room, too.
    fn hook_text(&mut self, now: Now, call: CallId, most: usize) -> Option<String> {
        let (mut bytes, mut answer) = (most.min(PAGE_BYTES), Vec::new());
        while bytes >= SHORTEST {
            self.read_bytes(now, call, (PAGE_ENTRIES, bytes), &Filter::default(), &mut answer);
            if let Some(Action::Answer { result: Ok(read), .. }) = answer.pop() {
                let text = read.text();
                if text.len() <= most {
                    return Some(text);
                }
            }
            self.put_back(call);
            bytes /= 2;
        }
        let text = format!("Unread messages: {}. Call the tool inbox to read them.", self.inbox.len());
        Some(text).filter(|text| text.len() <= most)
    }

    /// Whether the agent may answer an unread message, so that it is worth going on for.
    fn is_answerable(&self, entry: &Entry) -> bool {
        matches!(entry, Entry::Message(_))
            && !self.is_quiet(entry)
            && self.entry_level(entry).is_some_and(|level| level.may_emit())
    }
}
