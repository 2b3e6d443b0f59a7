//! Messages and notices as they are shown to the agent at once.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::Bridge;
use crate::bridge::api::Push;
use crate::bridge::card::card_id;
use crate::bridge::frame::{Framed, PUSH_BYTES, Place, body, escape, preamble};
use crate::bridge::inbox::{Entry, Message};
use crate::bridge::levels::{Level, Scope};
use crate::opaque::Opaque;

impl Bridge {
    /// The level at which a message arrives. A channel that this session did not join under that name has no more
    /// than `notify`: the human's trust in a name is not handed to a channel renamed to it.
    pub(super) fn inbound_level(&self, message: &Message) -> Level {
        let Some(channel) = &message.channel else {
            return self.levels.level(&message.server, &Scope::Whispers);
        };
        let level = self.levels.level(&message.server, &Scope::Channel(channel.clone()));
        if self.has_joined(&message.server, channel) { level } else { level.min(Level::Notify) }
    }

    /// The level of an entry that is a message.
    pub(super) fn entry_level(&self, entry: &Entry) -> Option<Level> {
        match entry {
            Entry::Message(message) => Some(self.inbound_level(message)),
            Entry::Notice(_) => None,
        }
    }

    pub(super) fn push(&self, entry: &Entry) -> Push {
        let message = match entry {
            Entry::Notice(notice) => {
                let mut meta = Vec::from([("kind", String::from("notice"))]);
                if let Some(server) = &notice.server {
                    meta.push(("server", escape(server.as_str()).into_owned()));
                }
                return Push { content: Opaque(escape(&notice.text).into_owned()), meta };
            }
            Entry::Message(message) => message,
        };
        let level = self.inbound_level(message);
        let text = body(&message.payload);
        let shown = &text[..text.floor_char_boundary(PUSH_BYTES)];
        let framed = Framed {
            server: &message.server,
            place: message
                .channel
                .as_ref()
                .map_or(Place::Whisper, |channel| Place::Channel(channel.as_str())),
            from: &message.from,
            at: message.at,
            received: message.received_at(),
            about: message.about(),
            text: shown,
            around: (0, text.len() - shown.len()),
        };
        let mut content = format!("{}\n{}", preamble(level), framed.tag());
        if shown.len() < text.len() {
            content.push_str("\nThe rest of it is in the inbox.");
        }
        let card = if message.channel.is_none() { card_id(&text) } else { None };
        let kind = match (&message.channel, card) {
            (Some(_), _) => "message",
            (None, Some(_)) => "permission_request",
            (None, None) => "whisper",
        };
        let mut meta = Vec::from([
            ("kind", String::from(kind)),
            ("from", escape(&message.from.to_string()).into_owned()),
            ("server", escape(message.server.as_str()).into_owned()),
            ("level", String::from(level.as_str())),
        ]);
        if let Some(channel) = &message.channel {
            meta.push(("channel", escape(channel.as_str()).into_owned()));
        }
        if let Some(id) = card {
            meta.push(("request_id", id.to_string()));
        }
        if let Some(at) = message.at {
            meta.push(("at", at.rfc3339()));
        }
        if let Some(received) = message.received_at() {
            meta.push(("received_at", received.rfc3339()));
        }
        if message.mentions_you {
            meta.push(("mentions_you", String::from("true")));
        }
        Push { content: Opaque(content), meta }
    }
}
