//! Outcomes as the agent reads them.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt::Write as _;

use super::frame::{About, Framed, Place, beginning, body, escape, preamble};
use super::inbox::{Entry, Message, Page, Source};
use super::levels::{Level, advice};
use super::tool_call::{JoinedChannel, Outcome, Status, Waiting};
use crate::mention::mentions;
use crate::stream::{Receipt, ReceiptState};
use crate::text::{one_line, quoted};

impl Outcome {
    /// The outcome as text: what others wrote stands framed and escaped in it.
    pub fn text(&self) -> String {
        match self {
            Self::Joined { server, channel, level, note } => {
                let mut text = format!(
                    "This session is on #{} on {}, at level {level}: {}.",
                    named(channel.as_str()),
                    escape(server.as_str()),
                    advice(*level)
                );
                if let Some(note) = note {
                    let _ = write!(text, " {note}");
                }
                text
            }
            Self::Left { server, channel } => {
                format!("This session has left #{} on {}.", named(channel.as_str()), escape(server.as_str()))
            }
            Self::Sent { to, stored: None, .. } => format!("Sent to {}.", escape(to)),
            Self::Sent { to, stored: Some(stored), mentioned, waited, .. } => {
                let mut text = format!("Sent to {} as message {}.", escape(to), stored.seq);
                if !mentioned.is_empty() {
                    let names: Vec<_> = mentioned.iter().map(|name| named(name.as_str())).collect();
                    let _ = write!(text, " It mentions {}.", names.join(", "));
                }
                if stored.present == Some(false) {
                    text.push_str(" They are not there now; it is kept until they come.");
                }
                if let Some((wanted, readers)) = waited {
                    text.push_str(&waited_for(*wanted, readers));
                }
                text
            }
            Self::Receipts { readers, .. } if readers.is_empty() => {
                String::from("Nobody else on this channel tells how far they have read.")
            }
            Self::Receipts { readers, .. } => lines(readers, |reader| {
                let word = reader.word.as_ref().filter(|word| !word.is_empty());
                let word = word.map(|word| format!(", says: {}", escape(&one_line(word, 256))));
                let (path, state) = (reader.reader.to_string(), reader.said());
                format!("{}: {state}{}", escape(&path), word.unwrap_or_default())
            }),
            Self::Acknowledged { channel, seq, .. } => {
                format!("Message {seq} on #{} is acknowledged.", named(channel.as_str()))
            }
            Self::Channels { server, channels } if channels.is_empty() => {
                format!("There are no channels to be seen on {}.", escape(server.as_str()))
            }
            Self::Channels { channels, .. } => lines(channels, |(info, level)| {
                let joined = level.map(|level| format!(", joined at {level}")).unwrap_or_default();
                let member = if info.member { ", member" } else { "" };
                format!("#{} ({}{member}{joined})", named(info.name.as_str()), info.visibility)
            }),
            Self::Presence { sessions, .. } if sessions.is_empty() => String::from("Nobody is there."),
            Self::Presence { sessions, own, .. } => lines(sessions, |path| {
                let this = if own.as_ref() == Some(&**path) { " (this session)" } else { "" };
                format!("{}{this}", named(&path.to_string()))
            }),
            Self::History { messages, .. } if messages.is_empty() => {
                String::from("Nothing was posted since then.")
            }
            Self::History { server, channel, level, user, messages, more } => {
                let mut text = preamble(*level);
                for message in messages {
                    let whole = body(&message.payload);
                    let shown = beginning(&whole);
                    let framed = Framed {
                        server,
                        place: Place::Channel(channel.as_str()),
                        from: &message.from,
                        at: Some(message.ts),
                        received: None,
                        about: About {
                            seq: message.seq,
                            mentions_you: mentions(&message.payload, *user),
                            ..About::default()
                        },
                        text: shown,
                        around: (0, whole.len() - shown.len()),
                    };
                    let _ = write!(text, "\n{}", framed.tag());
                    if shown.len() < whole.len() {
                        text.push_str("\nAll of it is in the inbox.");
                    }
                }
                if let Some(since) = more {
                    let _ = write!(text, "\nThere is more: continue with since={}.", since.0);
                }
                text
            }
            Self::Read { page, levels, waiting } => read(page, levels, waiting),
            Self::Marked { count, more } => {
                let more = if *more { ", and others that were kept on disk" } else { "" };
                format!(
                    "Marked as read without being shown: {count}{more}. Their senders are not told that you saw them."
                )
            }
            Self::Nothing { waited } => format!("Nothing arrived in {} seconds.", waited.as_secs()),
            Self::LevelSet { server, scope, level } => format!(
                "{} on {} is at level {level} for this session: {}.",
                escape(&scope.to_string()),
                escape(server.as_str()),
                advice(*level)
            ),
            Self::Answered { to, id, allow } => {
                let word = if *allow { "allow" } else { "deny" };
                format!("{} was told to {word} {id}.", named(&to.to_string()))
            }
            Self::Status(status) => status_text(status),
            Self::Done { what, .. } => format!("Done: {}.", escape(&one_line(what, 500))),
            Self::Users { users, .. } if users.is_empty() => String::from("Nobody."),
            Self::Users { users, .. } => lines(users, |user| named(user.as_str())),
            Self::Invites { invites, .. } if invites.is_empty() => String::from("There are no invites."),
            Self::Invites { invites, .. } => lines(invites, |invite| {
                let uses =
                    invite.uses.map_or(String::from("any number of uses"), |uses| format!("{uses} uses"));
                let end = invite
                    .expires
                    .map_or(String::from("until revoked"), |at| format!("until {}", at.rfc3339()));
                format!("{} ({uses}, {end})", escape(invite.token.expose()))
            }),
            Self::Invite { token, .. } => {
                format!("The invite's token, for whom it is meant only: {}", escape(token.expose()))
            }
        }
    }
}

/// Who has a message that was waited for, and who has not.
fn waited_for(wanted: ReceiptState, readers: &[Receipt]) -> String {
    if readers.is_empty() {
        return String::from(" Nobody else on this channel tells how far they have read.");
    }
    let list = |which: &dyn Fn(&Receipt) -> bool| {
        let paths: Vec<_> = readers
            .iter()
            .filter(|reader| which(reader))
            .map(|reader| named(&reader.reader.to_string()))
            .collect();
        paths.join(", ")
    };
    let has = list(&|reader| reader.state >= wanted);
    let missing = list(&|reader| reader.lacks(wanted));
    let off = list(&|reader| reader.state < wanted && !reader.lacks(wanted));
    let state = wanted.as_str();
    let mut text = String::new();
    if !has.is_empty() {
        let _ = write!(text, " It is {state} by {has}.");
    }
    if !missing.is_empty() {
        let _ = write!(text, " It is not {state} yet by {missing}; receipts tells when it is.");
    }
    if !off.is_empty() {
        let _ = write!(text, " {off} do not tell how far they read.");
    }
    text
}

impl Source {
    /// The source, for a sentence.
    pub fn shown(&self) -> String {
        match self {
            Self::Notices => String::from("notices of the bridge"),
            Self::Channel(server, channel) => {
                format!("messages of #{} on {server}", quoted(channel.as_str()))
            }
            Self::Whispers(server, user) => format!("whispers of {} on {server}", quoted(user.as_str())),
        }
    }
}

fn read(page: &Page, levels: &[Option<Level>], waiting: &[Waiting]) -> String {
    let mut text = String::new();
    for (source, count) in &page.dropped {
        let _ = writeln!(
            text,
            "{count} {} were lost unread, since the inbox was full; catch_up still has what was posted to channels.",
            escape(&source.shown())
        );
    }
    let unread: usize = waiting.iter().map(|waiting| waiting.unread).sum();
    if page.entries.is_empty() {
        text.push_str(if unread == 0 { "Nothing is unread." } else { "Nothing of that is unread." });
        told(&mut text, waiting);
        return text;
    }
    let mut said = None;
    for (unread, level) in page.entries.iter().zip(levels) {
        let Entry::Message(message) = &unread.entry else {
            let _ = writeln!(text, "Notice of the bridge: {}", escape(&unread.text()));
            continue;
        };
        let level = level.unwrap_or_default();
        if said != Some(level) {
            let _ = writeln!(text, "{}", preamble(level));
            said = Some(level);
        }
        let Message { server, channel, from, at, .. } = message;
        let place = channel.as_ref().map_or(Place::Whisper, |channel| Place::Channel(channel.as_str()));
        let (about, received) = (message.about(), message.received_at());
        let (text_of, around) = (&*unread.text(), unread.around());
        let framed = Framed { server, place, from, at: *at, received, about, text: text_of, around };
        let _ = writeln!(text, "{}", framed.tag());
    }
    let _ = match unread {
        0 => write!(text, "That is all."),
        more => write!(text, "{more} more unread: call inbox again."),
    };
    told(&mut text, waiting);
    text
}

/// What is unread still, by sources.
fn told(text: &mut String, waiting: &[Waiting]) {
    for Waiting { source, unread, quiet, more } in waiting {
        let Source::Channel(_, channel) = source else { continue };
        let channel = named(channel.as_str());
        let more = if *more { " and more on disk" } else { "" };
        if *unread > 0 || (*quiet == 0 && !more.is_empty()) {
            let _ = write!(text, "\n#{channel}: {unread} unread{more}.");
        }
        if *quiet > 0 {
            let _ = write!(
                text,
                "\n#{channel}: {quiet} unread{more} that do not mention you; only mentions are shown there. Read them with \
                 inbox, channel={channel}, or mark them as read with mark_read."
            );
        }
    }
}

fn status_text(status: &Status) -> String {
    let mut text = String::new();
    if status.links.is_empty() {
        text.push_str("No server is configured: conclave register --server URL --username NAME\n");
    }
    for link in &status.links {
        let state = match (&link.trouble, &link.path) {
            (Some(trouble), _) => format!("not connected ({})", escape(trouble)),
            (None, Some(path)) => format!("connected as {}", named(&path.to_string())),
            (None, None) => String::from("connected"),
        };
        let admin = if link.admin { ", admin" } else { "" };
        let _ = writeln!(text, "{}: {state}{admin}", escape(link.server.as_str()));
        for JoinedChannel { name, level, mentions_only } in &link.channels {
            let only = if *mentions_only { ", mentions only" } else { "" };
            let _ = writeln!(text, "  #{} at {level}{only}", named(name.as_str()));
        }
        let _ = writeln!(text, "  whispers at {}", link.whispers);
    }
    let _ = write!(text, "Default level: {}. Unread: {}.", status.default, status.unread);
    if status.own_prompts > 0 {
        let _ = write!(text, " Own permission requests that wait for an approver: {}.", status.own_prompts);
    }
    for (id, from) in &status.prompts {
        let _ =
            write!(text, "\nPermission request {id} of {} waits for your user.", named(&from.to_string()));
    }
    text
}

/// A name that somebody chose, in a sentence.
fn named(name: &str) -> String {
    escape(&quoted(name)).into_owned()
}

fn lines<T>(items: &[T], each: impl Fn(&T) -> String) -> String {
    let mut text = String::new();
    for item in items {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&each(item));
    }
    text
}
