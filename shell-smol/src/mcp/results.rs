//! Outcomes as structured content. Names stand in it exactly, so that they can be used in the next call; bodies
//! stand escaped, as they do in the text.

use conclave_core::bridge::{Entry, Outcome, Source, Status, Unread, Waiting, beginning, body, escape};
use conclave_core::link::Proof;
use conclave_core::mention::mentions;
use conclave_core::protocol::Stamped;
use conclave_core::record::UserId;
use conclave_core::stream::Receipt;
use serde_json::{Value, json};

/// The structured form of an outcome.
pub(crate) fn structured(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Joined { server, channel, level, note } => json!({
            "server": server.as_str(), "channel": channel.as_str(), "level": level.as_str(),
            "note": note.as_ref().map(ToString::to_string),
        }),
        Outcome::Left { server, channel } => {
            json!({ "server": server.as_str(), "channel": channel.as_str() })
        }
        Outcome::Sent { server, to, stored, mentioned, waited } => {
            let mut value = json!({ "server": server.as_str(), "sent_to": to });
            if let Some(stored) = stored {
                value["seq"] = json!(stored.seq);
                value["at"] = json!(stored.at.rfc3339());
                value["present"] = json!(stored.present);
            }
            if !mentioned.is_empty() {
                value["mentioned"] = mentioned.iter().map(|name| name.as_str()).collect();
            }
            if let Some((wanted, readers)) = waited {
                value["waited_for"] = json!(wanted.as_str());
                value["readers"] = receipts(readers);
            }
            value
        }
        Outcome::Receipts { server, channel, seq, readers } => json!({
            "server": server.as_str(), "channel": channel.as_str(), "seq": seq, "readers": receipts(readers),
        }),
        Outcome::Acknowledged { server, channel, seq } => {
            json!({ "server": server.as_str(), "channel": channel.as_str(), "seq": seq })
        }
        Outcome::Channels { server, channels } => json!({
            "server": server.as_str(),
            "channels": channels.iter().map(|(info, level)| json!({
                "name": info.name.as_str(), "visibility": info.visibility.as_str(), "member": info.member,
                "joined": level.is_some(), "level": level.map(|level| level.as_str()),
            })).collect::<Vec<_>>(),
        }),
        Outcome::Presence { server, channel, sessions, own } => json!({
            "server": server.as_str(),
            "channel": channel.as_ref().map(|channel| channel.as_str()),
            "sessions": sessions.iter().map(|path| json!({
                "path": path.to_string(), "this_session": own.as_ref() == Some(&**path),
            })).collect::<Vec<_>>(),
        }),
        Outcome::History { server, channel, level, user, messages, more } => json!({
            "server": server.as_str(), "channel": channel.as_str(), "level": level.as_str(),
            "untrusted": true,
            "messages": messages.iter().map(|message| stamped(message, *user)).collect::<Vec<_>>(),
            "more": more.is_some(), "since": more.map(|since| since.0.to_string()),
        }),
        Outcome::Read { page, levels, waiting } => json!({
            "untrusted": true,
            "messages": page.entries.iter().zip(levels)
                .map(|(entry, level)| unread(entry, level.map(|level| level.as_str())))
                .collect::<Vec<_>>(),
            "remaining": page.remaining,
            "unread": waiting.iter().map(unread_of).collect::<Vec<_>>(),
            "lost": page.dropped.iter()
                .map(|(source, count)| json!({ "what": escape(&source.shown()), "count": count }))
                .collect::<Vec<_>>(),
        }),
        Outcome::Marked { count, more } => json!({ "marked": count, "more": more }),
        Outcome::Nothing { waited } => {
            json!({ "messages": [], "remaining": 0, "lost": [], "waited_secs": waited.as_secs() })
        }
        Outcome::LevelSet { server, scope, level } => {
            json!({ "server": server.as_str(), "scope": scope.to_string(), "level": level.as_str() })
        }
        Outcome::Answered { to, id, allow } => json!({
            "to": to.to_string(), "request_id": id.to_string(), "decision": if *allow { "allow" } else { "deny" },
        }),
        Outcome::Status(status) => status_of(status),
        Outcome::Done { server, what } => json!({ "server": server.as_str(), "done": escape(what) }),
        Outcome::Users { server, users } => json!({
            "server": server.as_str(), "users": users.iter().map(|user| user.as_str()).collect::<Vec<_>>(),
        }),
        Outcome::Invites { server, invites } => json!({
            "server": server.as_str(),
            "invites": invites.iter().map(|invite| json!({
                "token": invite.token.expose(), "uses_remaining": invite.uses,
                "expires_at": invite.expires.map(|at| at.rfc3339()),
            })).collect::<Vec<_>>(),
        }),
        Outcome::Invite { server, token } => json!({ "server": server.as_str(), "token": token.expose() }),
    }
}

fn receipts(readers: &[Receipt]) -> Value {
    let reader = |receipt: &Receipt| {
        json!({
            "reader": receipt.reader.to_string(),
            "state": receipt.state.as_str(),
            "off": receipt.off,
            "at": receipt.at.map(|at| at.rfc3339()),
            "word": receipt.word.as_ref().map(|word| escape(word)),
        })
    };
    Value::Array(readers.iter().map(reader).collect())
}

fn stamped(message: &Stamped, user: Option<UserId>) -> Value {
    let whole = body(&message.payload);
    let text = beginning(&whole);
    let mut value =
        json!({ "from": message.from.to_string(), "at": message.ts.rfc3339(), "text": escape(text) });
    if message.seq != 0 {
        value["seq"] = json!(message.seq);
    }
    if mentions(&message.payload, user) {
        value["mentions_you"] = json!(true);
    }
    if text.len() < whole.len() {
        value["part"] = part(0, text.len(), whole.len());
    }
    value
}

fn unread(unread: &Unread, level: Option<&str>) -> Value {
    let text = unread.text();
    let message = match &unread.entry {
        Entry::Notice(notice) => {
            let server = notice.server.as_ref().map(|server| server.as_str());
            return json!({ "kind": "notice", "server": server, "text": escape(&text) });
        }
        Entry::Message(message) => message,
    };
    let mut value = json!({
        "kind": if message.channel.is_some() { "message" } else { "whisper" },
        "server": message.server.as_str(),
        "channel": message.channel.as_ref().map(|channel| channel.as_str()),
        "from": message.from.to_string(),
        "at": message.at.map(|at| at.rfc3339()),
        "level": level,
        "text": escape(&text),
    });
    if let Some(received) = message.received_at() {
        value["received_at"] = json!(received.rfc3339());
    }
    let about = message.about();
    if about.mentions_you {
        value["mentions_you"] = json!(true);
    }
    if message.place.is_some() {
        value["seq"] = json!(about.seq);
        value["signature"] = json!(about.proof.map(Proof::as_str));
        value["reply_to"] = json!(about.reply_to);
        value["acknowledge"] = json!(about.acknowledge);
    }
    let (before, after) = unread.around();
    if (before, after) != (0, 0) {
        value["part"] = part(before, before + text.len(), before + text.len() + after);
    }
    value
}

fn unread_of(waiting: &Waiting) -> Value {
    let mut value = match &waiting.source {
        Source::Notices => json!({ "kind": "notice" }),
        Source::Channel(server, channel) => {
            json!({ "kind": "message", "server": server.as_str(), "channel": channel.as_str() })
        }
        Source::Whispers(server, user) => {
            json!({ "kind": "whisper", "server": server.as_str(), "from": user.as_str() })
        }
    };
    value["count"] = json!(waiting.unread);
    if waiting.quiet > 0 {
        value["without_mention"] = json!(waiting.quiet);
    }
    if waiting.more {
        value["more"] = json!(true);
    }
    value
}

fn part(from: usize, to: usize, of: usize) -> Value {
    json!({ "from_byte": from, "to_byte": to, "of": of })
}

fn status_of(status: &Status) -> Value {
    json!({
        "servers": status.links.iter().map(|link| json!({
            "server": link.server.as_str(),
            "connected": link.trouble.is_none(),
            "trouble": link.trouble.as_deref().map(escape),
            "path": link.path.as_ref().map(ToString::to_string),
            "admin": link.admin,
            "channels": link.channels.iter()
                .map(|it| json!({
                    "name": it.name.as_str(), "level": it.level.as_str(), "mentions_only": it.mentions_only,
                }))
                .collect::<Vec<_>>(),
            "whispers": link.whispers.as_str(),
        })).collect::<Vec<_>>(),
        "default_level": status.default.as_str(),
        "unread": status.unread,
        "own_permission_requests": status.own_prompts,
        "permission_requests": status.prompts.iter()
            .map(|(id, from)| json!({ "request_id": id.to_string(), "from": from.to_string() }))
            .collect::<Vec<_>>(),
    })
}
