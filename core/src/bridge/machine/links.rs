//! Events of links: up, down, messages.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::Bridge;
use super::state::LinkState;
use crate::body::View;
use crate::bridge::api::{Action, LinkEvent};
use crate::bridge::card::card_id;
use crate::bridge::inbox::{Entry, Message};
use crate::bridge::levels::Level;
use crate::bridge::server::Server;
use crate::link::Proof;
use crate::mention::mentions;
use crate::name::SessionPath;
use crate::record::UserId;
use crate::text::{one_line, quoted};
use crate::time::Now;

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
            LinkEvent::Up { path, user, admin } => self.up(now, server, (path, user), admin, actions),
            LinkEvent::Down { why } => {
                let why = one_line(&why, MAX_REASON);
                if let Some(link) = self.mark_down(server, &why) {
                    if !core::mem::replace(&mut link.reported_down, true) {
                        let text =
                            format!("The link to {server} is down: {why}. It is tried again and again.");
                        self.notify(server, text, actions);
                    }
                    self.release(now, Some(server), actions);
                }
            }
            LinkEvent::Refused { why } => {
                let why = one_line(&why, MAX_REASON);
                if let Some(link) = self.mark_down(server, &why) {
                    link.admin = false;
                    link.reported_down = true;
                    let text = format!(
                        "{server} does not let this session in: {why}. It is tried again by itself, every half minute."
                    );
                    self.notify(server, text, actions);
                    self.release(now, Some(server), actions);
                }
            }
            LinkEvent::Disabled { why } => {
                let why = one_line(&why, MAX_REASON);
                if let Some(link) = self.mark_down(server, &why) {
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
            LinkEvent::Message { channel, from, at, payload, place } => {
                let user = self.links.get(server).and_then(|link| link.user);
                let (server, mentions_you) = (server.clone(), mentions(&payload, user));
                let received = now.wall;
                let message = Message { server, channel, from, at, payload, place, mentions_you, received };
                self.message(now, message, actions);
            }
            LinkEvent::Followed { channel, stream, unread, skipped } => {
                let mailbox = channel.is_none();
                self.followed(server, channel, stream, (unread, skipped), actions);
                let link = self.links.get_mut(server);
                if mailbox && link.is_some_and(|link| !core::mem::replace(&mut link.mailboxes, true)) {
                    self.check_who_approves(server, actions);
                }
            }
            LinkEvent::Bound(bindings) => {
                self.levels.load(server, bindings);
                for (channel, stream) in self.levels.followed(server) {
                    self.settle_level(server, &channel, stream, false, actions);
                }
                self.check_who_approves(server, actions);
            }
            LinkEvent::Unread { stream, after, messages, more } => {
                self.loaded(now, server, (stream, after), (messages, more), actions);
            }
            LinkEvent::ChannelRenamed { stream, from, to } => {
                self.channel_renamed(server, stream, &from, to, actions);
            }
            LinkEvent::ReceiptsMoved { stream } => self.receipts_moved(server, stream, actions),
            LinkEvent::Reply { id, result } => self.reply(now, server, id, result, actions),
            LinkEvent::Lost { channel, why } => {
                let Some(link) = self.links.get_mut(server) else { return };
                link.streams.retain(|_, stream| stream.channel.as_ref() != Some(&channel));
                if link.joined.remove(&channel) {
                    let why = one_line(&why, MAX_REASON);
                    let text = format!(
                        "This session is no longer on #{} on {server}: {why}",
                        quoted(channel.as_str())
                    );
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

    /// Notes that a link is down, and why. `None` if it is disabled.
    fn mark_down(&mut self, server: &Server, why: &str) -> Option<&mut LinkState> {
        let link = self.links.get_mut(server).filter(|link| !link.disabled)?;
        link.trouble = Some(why.into());
        link.starting = false;
        Some(link)
    }

    fn up(
        &mut self,
        now: Now,
        server: &Server,
        (path, user): (SessionPath, Option<UserId>),
        admin: bool,
        actions: &mut Vec<Action>,
    ) {
        let Some(link) = self.links.get_mut(server).filter(|link| !link.disabled) else { return };
        link.trouble = None;
        link.starting = false;
        link.admin = admin;
        link.path = Some(path.clone());
        link.user = user;
        let renamed = core::mem::take(&mut link.renamed);
        if core::mem::replace(&mut link.reported_down, false) {
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
        if message.place.as_ref().is_some_and(|place| place.proof == Proof::Forged) {
            return self.forged(&message, actions);
        }
        let level = self.inbound_level(&message);
        if level == Level::Mute {
            self.leave_kept(&message);
            return;
        }
        let venue = message.venue();
        self.guard.heard(now.mono, &venue, &message.from.user, message.row());
        if let (None, Ok(View::Text(text))) = (&message.channel, message.payload.view())
            && let Some(id) = card_id(text)
        {
            self.cards.receive(now.mono, (&message.server, &message.from), id, text);
        }
        self.deliver(Entry::Message(message), actions);
    }

    /// A message that is not from whom it names: the agent learns of it, and not what it says.
    fn forged(&mut self, message: &Message, actions: &mut Vec<Action>) {
        self.pass(message);
        let (place, from) = (message.channel.as_ref(), &message.from);
        let place = place.map_or_else(
            || String::from("A whisper"),
            |channel| format!("A message on #{}", quoted(channel.as_str())),
        );
        let text = format!(
            "FORGED: {place} that names {} as its sender is not signed by them. It was altered or made up, on \
             the server or on the way. It is not shown. Tell your user.",
            quoted(&from.to_string())
        );
        self.notify(&message.server.clone(), text, actions);
    }
}
