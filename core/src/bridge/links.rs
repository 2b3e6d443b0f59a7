//! What the links bring: their ups and downs, messages, verdicts and cards.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::card::{CARD_LIFETIME, card_id};
use super::guard::Venue;
use super::replies::Pending;
use super::{
    Action, Approver, Bridge, CardId, Entry, Framed, Level, Link, Message, Notice, PUSH_BYTES,
    PermissionRequest, Place, Push, Scope, Server, body, escape, preamble, verdict,
};
use crate::link::{RequestError, RequestId};
use crate::name::{ChannelName, SessionPath};
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{Command, Reply};
use crate::text::one_line;
use crate::time::{Now, UnixMillis};

/// What a link says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// It is up; its channels are joined again by itself.
    Up {
        /// The session's name.
        path: SessionPath,
        /// Whether the user is an admin of the server.
        admin: bool,
    },
    /// The user became or ceased to be an admin.
    Role {
        /// True for an admin of the server.
        admin: bool,
    },
    /// It is down, and tries again.
    Down {
        /// What is the matter.
        why: String,
    },
    /// The server does not let this session in until somebody does something about it; it is tried again.
    Refused {
        /// Why, and what to do.
        why: String,
    },
    /// It is down for good.
    Disabled {
        /// What is the matter, and what to do.
        why: String,
    },
    /// A message, handed on once and in order.
    Message {
        /// The channel; `None` for a whisper.
        channel: Option<ChannelName>,
        /// Who wrote it.
        from: SessionPath,
        /// When the server took it, where that is known.
        at: Option<UnixMillis>,
        /// What it says.
        payload: Payload,
    },
    /// The answer to a request.
    Reply {
        /// Which.
        id: RequestId,
        /// The server's reply, or why there is none.
        result: Result<Reply, RequestError>,
    },
    /// A joined channel could not be joined again.
    Lost {
        /// Which.
        channel: ChannelName,
        /// What the server said.
        why: String,
    },
    /// The session has another handle from now on, since its own was in use.
    Renamed,
    /// Something that the human should know about.
    Trouble {
        /// What.
        text: String,
    },
}

/// Approvers' sessions that a card is whispered to.
const MAX_RELAYED: usize = 16;
/// Bytes of a server's or a network's reason that are shown.
const MAX_REASON: usize = 300;

impl Bridge {
    pub(super) fn link_event(
        &mut self,
        now: Now,
        server: &Server,
        event: LinkEvent,
        actions: &mut Vec<Action>,
    ) {
        if !self.links.contains_key(server) {
            return;
        }
        match event {
            LinkEvent::Up { path, admin } => self.up(now, server, path, admin, actions),
            LinkEvent::Down { why } => {
                let why = one_line(&why, MAX_REASON);
                if let Some(link) = self.fails(server, &why) {
                    if !core::mem::replace(&mut link.told, true) {
                        let text =
                            format!("The link to {server} is down: {why}. It is tried again and again.");
                        self.notify(server, text, actions);
                    }
                    self.release(now, Some(server), actions);
                }
            }
            LinkEvent::Refused { why } => {
                let why = one_line(&why, MAX_REASON);
                if let Some(link) = self.fails(server, &why) {
                    link.admin = false;
                    link.told = true;
                    let text = format!(
                        "{server} does not let this session in: {why}. It is tried again by itself, every half minute."
                    );
                    self.notify(server, text, actions);
                    self.release(now, Some(server), actions);
                }
            }
            LinkEvent::Disabled { why } => {
                let why = one_line(&why, MAX_REASON);
                if let Some(link) = self.fails(server, &why) {
                    link.admin = false;
                    link.disabled = true;
                    self.notify(server, format!("The link to {server} is switched off: {why}"), actions);
                    self.check_approvers(actions);
                    self.release(now, Some(server), actions);
                }
            }
            LinkEvent::Role { admin } => {
                if let Some(link) = self.links.get_mut(server).filter(|link| !link.disabled) {
                    link.admin = admin;
                }
            }
            LinkEvent::Message { channel, from, at, payload } => {
                let server = server.clone();
                self.message(now, Message { server, channel, from, at, payload }, actions);
            }
            LinkEvent::Reply { id, result } => self.reply(now, server, id, result, actions),
            LinkEvent::Lost { channel, why } => {
                let Some(link) = self.links.get_mut(server) else { return };
                if link.joined.remove(&channel) {
                    let why = one_line(&why, MAX_REASON);
                    let text = format!("This session is no longer on #{channel} on {server}: {why}");
                    self.notify(server, text, actions);
                }
            }
            LinkEvent::Renamed => {
                if let Some(link) = self.links.get_mut(server) {
                    link.renamed = true;
                }
            }
            LinkEvent::Trouble { text } => self.notify(server, one_line(&text, 2 * MAX_REASON), actions),
        }
    }

    /// A link that is not switched off is not up: notes why.
    fn fails(&mut self, server: &Server, why: &str) -> Option<&mut Link> {
        let link = self.links.get_mut(server).filter(|link| !link.disabled)?;
        link.trouble = Some(why.into());
        link.starting = false;
        Some(link)
    }

    fn up(&mut self, now: Now, server: &Server, path: SessionPath, admin: bool, actions: &mut Vec<Action>) {
        let Some(link) = self.links.get_mut(server).filter(|link| !link.disabled) else { return };
        link.trouble = None;
        link.starting = false;
        link.admin = admin;
        link.path = Some(path.clone());
        let renamed = core::mem::take(&mut link.renamed);
        if core::mem::replace(&mut link.told, false) {
            let why = if renamed { " from now on, since another one uses the name that it had" } else { "" };
            let text = format!("The link to {server} is up again; this session is {path}{why}.");
            self.notify(server, text, actions);
        }
        let open: Vec<_> = self.cards.own.keys().copied().collect();
        for id in open {
            self.relay(server, id, actions);
        }
        self.release(now, Some(server), actions);
    }

    fn message(&mut self, now: Now, message: Message, actions: &mut Vec<Action>) {
        let Some(link) = self.links.get_mut(&message.server) else { return };
        if link.path.as_ref() == Some(&message.from) {
            return;
        }
        if let (Some(channel), Some(at)) = (&message.channel, message.at)
            && link.joined.contains(channel)
        {
            let seen = link.seen.entry(channel.clone()).or_insert(at);
            *seen = at.max(*seen);
        }
        if message.channel.is_none() && self.take_verdict(&message, actions) {
            return;
        }
        let level = self.inbound_level(&message);
        if level == Level::Mute {
            return;
        }
        let venue = match &message.channel {
            Some(channel) => Venue::Channel(message.server.clone(), channel.clone()),
            None => Venue::Whispers(message.server.clone(), message.from.user.clone()),
        };
        self.guard.heard(now.mono, &venue, &message.from);
        if let (None, Payload::Plain(text)) = (&message.channel, &message.payload)
            && let Some(id) = card_id(text)
        {
            self.cards.receive(now.mono, &message.server, &message.from, id);
        }
        self.deliver(Entry::Message(message), actions);
    }

    /// The level at which a message arrives. A channel that this session did not join under that name has no more
    /// than `notify`: the human's trust in a name is not handed to a channel renamed to it.
    pub(super) fn inbound_level(&self, message: &Message) -> Level {
        let Some(channel) = &message.channel else {
            return self.levels.level(&message.server, &Scope::Whispers);
        };
        let level = self.levels.level(&message.server, &Scope::Channel(channel.clone()));
        let joined = self.links.get(&message.server).is_some_and(|link| link.joined.contains(channel));
        if joined { level } else { level.min(Level::Notify) }
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
        Push { content: Opaque(content), meta }
    }

    /// Takes a whisper as the verdict on an open prompt of this session's client. False if it is none.
    fn take_verdict(&mut self, message: &Message, actions: &mut Vec<Action>) -> bool {
        let Payload::Plain(text) = &message.payload else { return false };
        let Some((id, allow)) = verdict(text) else { return false };
        if !self.approves(&message.from, &message.server) || self.cards.own.remove(&id).is_none() {
            return false;
        }
        actions.push(Action::Verdict { id, allow });
        true
    }

    /// True for a session, not this one, of an approver.
    fn approves(&self, path: &SessionPath, server: &Server) -> bool {
        let own = self.links.get(server).is_none_or(|link| link.path.as_ref() == Some(path));
        !own && self.approvers.iter().any(|approver| approver.is(&path.user, server, self.links.len()))
    }

    /// Tells of approvers whom no permission request reaches, for want of a server that they are on; once.
    pub(super) fn check_approvers(&mut self, actions: &mut Vec<Action>) {
        // A link that is switched off counts: whom a name means does not hang on which links stand.
        let count = self.links.len();
        let linked: Vec<_> =
            self.links.iter().filter(|(_, link)| !link.disabled).map(|(server, _)| server).collect();
        let nowhere = |approver: &&Approver| !linked.iter().any(|server| approver.may_be_on(server, count));
        let lost: Vec<_> = self.approvers.iter().filter(nowhere).cloned().collect();
        if linked.is_empty() || lost == self.lost_approvers {
            return;
        }
        let text = format!(
            "Permission requests do not reach {}: your user has to write on which server that is, as USER@SERVER. This \
             bridge is linked with {}.",
            lost.iter().map(Approver::to_string).collect::<Vec<_>>().join(", "),
            linked.iter().map(|server| server.as_str()).collect::<Vec<_>>().join(", ")
        );
        self.lost_approvers = lost;
        if !self.lost_approvers.is_empty() {
            self.deliver(Entry::Notice(Notice { server: None, text }), actions);
        }
    }

    pub(super) fn prompt(&mut self, now: Now, request: PermissionRequest, actions: &mut Vec<Action>) {
        let id = request.id;
        let lifetime = i64::try_from(CARD_LIFETIME.as_millis()).unwrap_or(i64::MAX);
        let expires = UnixMillis(now.wall.0.saturating_add(lifetime));
        if self.approvers.is_empty() || !self.cards.open(now.mono, expires, request) {
            return;
        }
        let servers: Vec<_> = self.links.keys().cloned().collect();
        for server in &servers {
            self.relay(server, id, actions);
        }
    }

    /// Looks for approvers on a server, where there may be some.
    fn relay(&mut self, server: &Server, id: CardId, actions: &mut Vec<Action>) {
        let count = self.links.len();
        let may = |approver: &Approver| approver.may_be_on(server, count);
        let asked = self.cards.own.get(&id).is_none_or(|card| card.relayed.contains(server));
        if asked || !self.approvers.iter().any(may) {
            return;
        }
        let who = Command::Who { channel: None };
        if self.request(server, who, Pending::Approvers { id }, actions).is_ok()
            && let Some(card) = self.cards.own.get_mut(&id)
        {
            card.relayed.insert(server.clone());
        }
    }

    /// Whispers a card to the approvers among `sessions`.
    pub(super) fn whisper_card<'a>(
        &mut self,
        server: &Server,
        id: CardId,
        sessions: impl Iterator<Item = &'a SessionPath>,
        actions: &mut Vec<Action>,
    ) {
        let own = self.links.get(server).and_then(|link| link.path.clone());
        let (Some(own), Some(card)) = (own, self.cards.own.get(&id)) else { return };
        let text = card.request.card(&own, card.expires);
        let targets: Vec<_> =
            sessions.filter(|path| self.approves(path, server)).take(MAX_RELAYED).cloned().collect();
        for target in targets {
            let whisper = Command::Whisper { target, payload: Payload::Plain(text.clone()) };
            // An approver out of reach is one who does not answer: the client's own human still can.
            let _ = self.request(server, whisper, Pending::Silent, actions);
        }
    }
}
