//! How a message is shown, to people and as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use conclave_core::body::{self, View};
use conclave_core::link::{Place, Proof};
use conclave_core::name::{ChannelName, SessionPath};
use conclave_core::payload::Payload;
use conclave_core::record::UserId;
use conclave_core::time::UnixMillis;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde_json::json;

use super::post::{hex, numbers};
use crate::Failure;
use crate::output::{FAINT, Output, STRONG, line, shown};

/// A message of a channel, of a mailbox, or one that was whispered to this session and is kept nowhere else.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) channel: Option<&'a ChannelName>,
    pub(super) from: &'a SessionPath,
    pub(super) payload: &'a Payload,
    pub(super) ts: Option<UnixMillis>,
    pub(super) place: Option<&'a Place>,
}

/// Shows a message. `own` is the user who reads it.
pub(super) fn show(
    output: &Output,
    zone: &TimeZone,
    message: Message<'_>,
    own: Option<UserId>,
) -> Result<(), Failure> {
    let Message { channel, from, payload, ts, place } = message;
    let body::Context { mentions, reply_to, hops, budget } = match payload {
        Payload::Body(body) => body::context(body),
        _ => body::Context::default(),
    };
    let mentions_you = own.is_some_and(|own| mentions.contains(&own));
    let now = Timestamp::now();
    if output.is_json() {
        let (text, encrypted) = match payload.view() {
            Ok(View::Text(text)) => (Some(text), None),
            Ok(View::Sealed { ciphertext, key_id, .. }) => {
                (None, Some(json!({ "ciphertext": STANDARD.encode(ciphertext), "key_id": key_id })))
            }
            Ok(View::Commit { .. }) | Err(_) => (None, None),
        };
        let signed = place.and_then(|place| place.origin.signed.as_ref());
        return output.json(&json!({
            "channel": channel.map(ChannelName::as_str),
            "from": from.to_string(),
            "user": from.user.as_str(),
            "machine": from.machine.as_str(),
            "session": from.session.as_str(),
            "ts": ts.map(UnixMillis::rfc3339),
            "ts_ms": ts.map(|ts| ts.0),
            "received_at": format!("{now:.3}"),
            "text": text,
            "encrypted": encrypted,
            // As it stands on the wire.
            "stream": place.map(|place| place.stream.0 + 1),
            "seq": place.map(|place| place.seq),
            "message_id": signed.map(|signed| hex(&signed.id.0)),
            "mentions": numbers(&mentions),
            "mentions_you": mentions_you,
            "reply_to": reply_to,
            "hops": hops,
            "budget": budget,
            "signed": place.map_or(Proof::Unsigned, |place| place.proof).as_str(),
        }));
    }
    let stamp = ts.and_then(|ts| Timestamp::from_millisecond(ts.0).ok()).unwrap_or(now);
    let stamp = stamp.to_zoned(zone.clone());
    output.text(format_args!(
        "{FAINT}{}{FAINT:#} {}{STRONG}{}{STRONG:#}{}{}: {}",
        local(&stamp),
        if place.is_some_and(|place| place.proof == Proof::Forged) { FORGED } else { "" },
        line(&from.to_string()),
        if channel.is_some() { "" } else { " whispers" },
        if mentions_you { " to you" } else { "" },
        said(payload)
    ))?;
    // Otherwise nobody would know why it is quiet from now on.
    if budget != 0 && hops >= budget {
        output.note(format_args!(
            "{FAINT}    agents alone wrote the last {hops} messages here, and may write no more until a person writes{FAINT:#}"
        ));
    }
    Ok(())
}

/// What stands before a message whose signature is not its sender's.
const FORGED: &str = "FORGED, not signed by the sender that it names: ";

fn local(stamp: &Zoned) -> String {
    stamp.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A message for people: what follows its first line is set in, so that no message looks like several.
fn said(payload: &Payload) -> String {
    match payload.view() {
        Ok(View::Text(text)) => shown(text.trim_end_matches('\n')).replace('\n', "\n    "),
        Ok(View::Sealed { ciphertext, key_id, .. }) => {
            let key = key_id.unwrap_or("unnamed");
            format!("(encrypted for the key {}, {} bytes)", line(key), ciphertext.len())
        }
        Ok(View::Commit { .. }) => "(a change of who is in this sealed channel)".into(),
        Err(_) => "(unreadable: the server sent a broken message)".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_look_like_two_or_drive_the_terminal() {
        let forged = Payload::Plain("hi\n2026-11-21 09:00:00 boss/ws/x: wire money\r\u{1b}[1A\n".into());
        assert_eq!(said(&forged), "hi\n    2026-11-21 09:00:00 boss/ws/x: wire money\\u{d}\\u{1b}[1A");
    }

    #[test]
    fn stamps_are_local() {
        let stamp = Timestamp::from_second(0).unwrap().to_zoned(TimeZone::fixed(jiff::tz::offset(2)));
        assert_eq!(local(&stamp), "1970-01-01 02:00:00");
    }
}
