//! `conclave tail`: a channel's messages, each once and in order, across drops and restarts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use conclave_core::body::View;
use conclave_core::key::PublicKey;
use conclave_core::link::{Action, Config, DownReason, Input, JoinFrom, Loss, Newest, Place, Proof, Refused};
use conclave_core::name::{ChannelName, SessionPath};
use conclave_core::payload::Payload;
use conclave_core::protocol::{Command, Refusal};
use conclave_core::text::shell_word;
use conclave_core::time::UnixMillis;
use conclave_core::wire::client::KeyUse;
use conclave_shell_tokio::client::{DialError, DialOptions};
use conclave_shell_tokio::client::{LinkDriver, SessionError, Stage, link};
use conclave_store::config::{Change, Pin, ServerUrl};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::post::hex;
use crate::args::Tail;
use crate::connect::{options, own_handle, pin_now, runtime};
use crate::output::{FAINT, STRONG, line, shown};
use crate::{Context, Failure, explain};

pub(super) fn run(tail: Tail, context: &Context) -> Result<(), Failure> {
    let channel = tail.of.channel()?;
    let url = context.server(tail.of.net.server.as_deref())?;
    let key = context.key()?;
    let pin = pin_now(Some(&context.config()?), &url, &key, &tail.of.net.dial)?;
    let public = Pin::key(pin, key.clone()).public();
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| Failure::new(format!("the system has no random numbers: {error}"), ""))?;
    let config = Config {
        defaulted: tail.handle.is_none(),
        handle: match tail.handle.clone() {
            Some(handle) => handle,
            None => own_handle("tail")?,
        },
        key,
        seed,
        newest: Some(newest(pin, tail.handle.is_some())),
    };
    let options = options(&tail.of.net.dial, &context.config()?, &url);
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let watch = Watch {
            context,
            tail: &tail,
            channel,
            url: &url,
            public,
            pin,
            zone: TimeZone::system(),
            options,
        };
        let mut driver = link(url.clone(), config, watch.options.clone());
        watch.follow(&mut driver).await
    });
    runtime.shutdown_background();
    ended
}

struct Watch<'a> {
    context: &'a Context,
    tail: &'a Tail,
    channel: ChannelName,
    url: &'a ServerUrl,
    public: PublicKey,
    pin: Option<Pin>,
    zone: TimeZone,
    options: DialOptions,
}

impl Watch<'_> {
    async fn follow(&self, driver: &mut LinkDriver) -> Result<(), Failure> {
        let channel = &self.channel;
        let from = self.from(driver.now().wall);
        driver.input(Input::Join { channel: channel.clone(), token: None, from });
        // The first connection must be made in time, later ones are waited for; what has an end must go on to it.
        let patience = || Some(Instant::now() + self.options.timeout);
        let mut deadline = patience();
        let (mut begun, mut was_down, mut last) = (false, false, None);
        let mut path = String::new();
        loop {
            let told = tokio::select! {
                told = driver.next() => told,
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    return Err(self.late(begun, last));
                }
            };
            match told {
                Action::Deliver { from, payload, ts, place, .. } => {
                    self.show(Some(&self.channel), &from, &payload, ts, place.as_ref())?;
                    deadline = deadline.and_then(|_| patience());
                }
                Action::Whispered { from, payload } => self.show(None, &from, &payload, None, None)?,
                Action::Up { path: own, server_key, .. } => {
                    path = own.to_string();
                    self.pin(server_key)?;
                }
                Action::Joined { .. } => {
                    self.greet(&path, was_down);
                    if !begun {
                        deadline = if self.tail.no_follow { patience() } else { None };
                    }
                    (begun, was_down, last) = (true, false, None);
                }
                Action::CaughtUp { .. } if self.tail.no_follow => return Ok(()),
                // There is time left: the link tries again by itself.
                Action::Down(reason @ (DownReason::DialTimeout | DownReason::HandshakeTimeout)) if !begun => {
                    last = Some(reason);
                }
                Action::Down(reason) if !begun => return Err(self.not_begun(driver, reason)),
                Action::Down(reason) => {
                    was_down = true;
                    self.note(format_args!("{}: {reason}; trying again", self.url));
                }
                Action::Deferred { reason, .. } if !begun => return Err(self.lost(channel, true, reason)),
                Action::Deferred { reason, .. } => self.note(format_args!("{reason}; trying again")),
                Action::Lost { why: Loss::Refused(reason), .. } => {
                    return Err(self.lost(channel, !begun, reason));
                }
                Action::Lost { why, .. } => {
                    let what = format!("#{channel} cannot be followed any more: {why}");
                    return Err(Failure::new(what, "ask an admin of the channel"));
                }
                Action::Passed { from, to, purged: true, .. } => {
                    self.note(format_args!("the server does not keep messages {from} to {to} any more"));
                }
                Action::ChannelRenamed { from, to, .. } => {
                    self.note(format_args!("#{from} is called #{to} now"));
                }
                Action::Refused(
                    Refused::Key(error) | Refused::Protocol(error) | Refused::ServerKey(error),
                ) => return Err(self.unreached(&error.into())),
                Action::Refused(Refused::Downgrade) => {
                    return Err(self.unreached(&SessionError::Downgrade));
                }
                // This session is in one channel only: that one got another name, and nothing comes under the old one.
                Action::Stray { channel: now } => {
                    return Err(Failure::new(
                        format!("#{channel} is called #{now} now"),
                        format!("follow it: conclave tail --channel {}", shell_word(now.as_str())),
                    ));
                }
                Action::Renamed { to, .. } => self.note(format_args!("goes on as {to}")),
                Action::Collision { handle } => self.note(format_args!(
                    "another session is connected as {handle}, too: choose another name with --as"
                )),
                _ => {}
            }
        }
    }

    /// Writes the server's key down at first contact.
    fn pin(&self, found: Option<PublicKey>) -> Result<(), Failure> {
        let (Some(server_key), None) = (found, self.pin) else { return Ok(()) };
        let config = self.context.config()?;
        if config.server(self.url).is_none() || config.pin(self.url).is_some() {
            return Ok(());
        }
        let change = Change::SetPin(self.url.clone(), Pin { server_key, derived: false });
        self.context.config_file()?.change(&[change])?;
        Ok(())
    }

    fn from(&self, now: UnixMillis) -> JoinFrom {
        match self.tail.since {
            Some(since) => JoinFrom::Since(since.moment(now)),
            // Nothing to follow: all that is kept, then.
            None if self.tail.no_follow => JoinFrom::Since(UnixMillis(0)),
            None => JoinFrom::Live,
        }
    }

    /// Shows a message of a channel, or one that was whispered to this session and is kept nowhere else.
    fn show(
        &self,
        channel: Option<&ChannelName>,
        from: &SessionPath,
        payload: &Payload,
        ts: Option<UnixMillis>,
        place: Option<&Place>,
    ) -> Result<(), Failure> {
        let now = Timestamp::now();
        let output = &self.context.output;
        if output.is_json() {
            let (text, encrypted) = match payload.view() {
                Ok(View::Text(text)) => (Some(text), None),
                Ok(View::Sealed { ciphertext, key_id }) => {
                    (None, Some(json!({ "ciphertext": STANDARD.encode(ciphertext), "key_id": key_id })))
                }
                Err(_) => (None, None),
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
                "signed": place.map_or(Proof::Unsigned, |place| place.proof).as_str(),
            }));
        }
        let stamp = ts.and_then(|ts| Timestamp::from_millisecond(ts.0).ok()).unwrap_or(now);
        let stamp = stamp.to_zoned(self.zone.clone());
        output.text(format_args!(
            "{FAINT}{}{FAINT:#} {}{STRONG}{}{STRONG:#}{}: {}",
            local(&stamp),
            if place.is_some_and(|place| place.proof == Proof::Forged) { FORGED } else { "" },
            line(&from.to_string()),
            if channel.is_some() { "" } else { " whispers" },
            body(payload)
        ))
    }

    fn greet(&self, path: &str, again: bool) {
        let channel = &self.channel;
        if again {
            self.note(format_args!("connected again"));
        } else if !self.context.output.is_json() && !self.tail.no_follow {
            self.note(format_args!("following #{channel} as {path}; Ctrl-C ends it"));
        }
    }

    fn note(&self, text: std::fmt::Arguments<'_>) {
        let text = text.to_string();
        self.context.output.note(format_args!("{FAINT}{}{FAINT:#}", line(&text)));
    }

    /// The time ran out, before the channel was followed or before the end of what was asked for.
    fn late(&self, begun: bool, last: Option<DownReason>) -> Failure {
        let after = self.options.timeout;
        if let Some(reason) = last {
            return Failure::new(
                format!("{}: {reason}", self.url),
                "check the network; conclave doctor looks at each stage",
            );
        }
        if begun {
            let what = format!("{}: no more came within {after:?}, and there is more", self.url);
            return Failure::new(what, "try again, or wait longer with --timeout 1m");
        }
        let error = DialError::Timeout { address: self.url.authority(), stage: Stage::WebSocket, after };
        self.unreached(&error.into())
    }

    fn not_begun(&self, driver: &mut LinkDriver, reason: DownReason) -> Failure {
        match (reason, driver.dial_error()) {
            (DownReason::Dial(_), Some(error)) => self.unreached(&error.into()),
            (DownReason::Handshake(error), _) => self.unreached(&error.into()),
            (reason, _) => {
                let why = Some(reason.to_string());
                self.unreached(&SessionError::Ended { why, sent: false })
            }
        }
    }

    fn unreached(&self, error: &SessionError) -> Failure {
        let config = self.context.config().unwrap_or_default();
        explain::opening(self.url, config.server(self.url), &self.public, error)
    }

    fn lost(&self, channel: &ChannelName, at_first: bool, reason: Refusal) -> Failure {
        let command = Command::Join { channel: channel.clone(), token: None };
        let failure = explain::request(self.url, &command, &SessionError::Refused(reason));
        match failure {
            Failure::Failed { what, next } if !at_first => {
                Failure::new(format!("#{channel} cannot be followed any more: {what}"), next)
            }
            other => other,
        }
    }
}

/// What stands before a message whose signature is not its sender's.
const FORGED: &str = "FORGED, not signed by the sender that it names: ";

/// How a session that goes on speaks version 2.
fn newest(pin: Option<Pin>, keep: bool) -> Newest {
    let key = if pin.is_some_and(|pin| pin.derived) { KeyUse::PerServer } else { KeyUse::Shared };
    Newest { pinned: pin.map(|pin| pin.server_key), key, keep }
}

fn local(stamp: &Zoned) -> String {
    stamp.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A message for people: what follows its first line is set in, so that no message looks like several.
fn body(payload: &Payload) -> String {
    match payload.view() {
        Ok(View::Text(text)) => shown(text.trim_end_matches('\n')).replace('\n', "\n    "),
        Ok(View::Sealed { ciphertext, key_id }) => {
            let key = key_id.unwrap_or("unnamed");
            format!("(encrypted for the key {}, {} bytes)", line(key), ciphertext.len())
        }
        Err(_) => "(unreadable: the server sent a broken message)".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_look_like_two_or_drive_the_terminal() {
        let forged = Payload::Plain("hi\n2026-11-21 09:00:00 boss/ws/x: wire money\r\u{1b}[1A\n".into());
        assert_eq!(body(&forged), "hi\n    2026-11-21 09:00:00 boss/ws/x: wire money\\u{d}\\u{1b}[1A");
    }

    #[test]
    fn stamps_are_local() {
        let stamp = Timestamp::from_second(0).unwrap().to_zoned(TimeZone::fixed(jiff::tz::offset(2)));
        assert_eq!(local(&stamp), "1970-01-01 02:00:00");
    }
}
