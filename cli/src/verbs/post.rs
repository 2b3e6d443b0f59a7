//! Posting to channels and mailboxes: version 2 where the server speaks it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use conclave_core::body;
use conclave_core::mention::{self, MAX_MENTIONS, Wanted};
use conclave_core::name::{ChannelName, UserName};
use conclave_core::opaque::Opaque;
use conclave_core::payload::Payload;
use conclave_core::protocol::{Command, Reply};
use conclave_core::record::{ChannelId, Stamp, UserId};
use conclave_core::stream::{MailboxRef, MessageId, Signed, Start, StreamCommand, StreamRef, StreamReply};
use conclave_core::text::shell_word;
use conclave_core::time::UnixMillis;
use conclave_core::wire::client::KeyUse;
use conclave_core::wire::v2::signature;
use conclave_shell_tokio::client::SessionError;
use serde_json::{Value, json};

use super::message::text;
use super::receipts::{needs_version_2, wait_for};
use crate::args::{Net, Place, Recipient, Send, Wait, Whisper};
use crate::connect::{Connection, unexpected};
use crate::output::line;
use crate::{Context, Failure, explain};

/// How long `--wait` waits unless another time is typed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a message was stored.
struct Stored {
    stream: ChannelId,
    stamp: Stamp,
    present: bool,
    mentions: Vec<UserId>,
}

/// What is sent, and what is waited for.
struct Message {
    target: Place,
    text: String,
    mentions: Vec<UserName>,
    wait: Option<Wait>,
}

/// Posts a message, and waits for its readers where that is asked.
pub(super) fn send(send: Send, context: &Context) -> Result<(), Failure> {
    let (channel, typed) = send.split()?;
    let text = text(if send.stdin { Some("-".to_owned()) } else { typed })?;
    let mut connection = Connection::open_newest(context, &send.net)?;
    if connection.server_key().is_none() {
        if send.wait.is_some() {
            return Err(needs_version_2(&connection));
        }
        if !send.mentions.is_empty() {
            return Err(no_mentions(&connection));
        }
        // Only a subscribed session posts.
        connection.done(&Command::Join { channel: channel.clone(), token: None })?;
        connection.done(&Command::Post { channel: channel.clone(), payload: Payload::Plain(text) })?;
        return acknowledged(
            context,
            json!({ "server": connection.url.as_str(), "channel": channel.as_str() }),
        );
    }
    let message = Message { target: Place::Channel(channel), text, mentions: send.mentions, wait: send.wait };
    deliver(connection, &send.net, &message, context)
}

/// Posts a message to a mailbox.
pub(super) fn whisper(whisper: Whisper, context: &Context) -> Result<(), Failure> {
    let text = text(whisper.text)?;
    let mut connection = Connection::open_newest(context, &whisper.net)?;
    if connection.server_key().is_some() {
        let (target, mentions) = (Place::Mailbox(whisper.target), whisper.mentions);
        let message = Message { target, text, mentions, wait: whisper.wait };
        return deliver(connection, &whisper.net, &message, context);
    }
    if !whisper.mentions.is_empty() {
        return Err(no_mentions(&connection));
    }
    if whisper.wait.is_some() {
        return Err(needs_version_2(&connection));
    }
    let Recipient::Session(target) = whisper.target else {
        let what = format!("{} keeps no mailboxes: it speaks version 1 of the protocol", connection.url);
        let next = format!(
            "name one session that is online: conclave whisper {}/MACHINE/SESSION TEXT; `conclave who` lists them",
            shell_word(&whisper.target.to_string())
        );
        return Err(Failure::usage(what, next));
    };
    let shown = target.to_string();
    connection.done(&Command::Whisper { target: *target, payload: Payload::Plain(text) })?;
    acknowledged(context, json!({ "server": connection.url.as_str(), "target": shown }))
}

fn acknowledged(context: &Context, value: Value) -> Result<(), Failure> {
    if context.output.is_json() { context.output.result("", value) } else { Ok(()) }
}

/// Posts a message and tells what became of it.
fn deliver<'a>(
    mut connection: Connection<'a>,
    net: &Net,
    message: &Message,
    context: &'a Context,
) -> Result<(), Failure> {
    let Message { target, wait, text, .. } = message;
    let wait = *wait;
    let id = message_id()?;
    let mut stored = post(&mut connection, message, &id, context)?;
    if let Err(lost @ SessionError::Ended { sent: true, .. }) = stored {
        // The server knows the message by its id, so it is stored once.
        context.output.detail(format_args!("{}: {lost}; sending again under the same id", connection.url));
        let Ok(again) = Connection::open_newest(context, net) else {
            return Err(explain::general(&connection.url, &lost));
        };
        connection = again;
        stored = post(&mut connection, message, &id, context)?;
    }
    let stored = stored.map_err(|error| explain::general(&connection.url, &error))?;
    let missing = match wait {
        None => Vec::new(),
        Some(wait) => {
            let patience = net.dial.timeout.unwrap_or(PATIENCE);
            wait_for(
                &mut connection,
                (stored.stream, stored.stamp.seq),
                (target, text),
                wait.into(),
                patience,
            )?
        }
    };
    if context.output.is_json() {
        context.output.result("", shown(&connection, target, &stored, &id, &missing))?;
    } else if let Place::Mailbox(_) = target
        && !stored.present
        && missing.is_empty()
        && wait.is_none()
    {
        context.output.note("kept until they come");
    }
    match wait {
        Some(wait) if !missing.is_empty() => {
            let seq = stored.stamp.seq;
            let again = match target {
                Place::Channel(channel) => format!("{} {seq}", shell_word(channel.as_str())),
                Place::Mailbox(to) => format!("--to {} {seq}", shell_word(&to.to_string())),
            };
            Err(Failure::new(
                format!("not {} by {}", wait.as_str(), line(&missing.join(", "))),
                format!("the message is stored; see who has it: conclave receipts {again}"),
            ))
        }
        _ => Ok(()),
    }
}

/// Posts a message once. Fails inside if only the answer to the post is missing.
fn post(
    connection: &mut Connection<'_>,
    Message { target, text, mentions, wait }: &Message,
    id: &MessageId,
    context: &Context,
) -> Result<Result<Stored, SessionError>, Failure> {
    let (stream, of) = match target {
        Place::Channel(channel) => {
            let stream = subscribe(connection, channel)?;
            (stream, StreamRef::Number(stream))
        }
        // By its name: only so a session of version 1 that is meant is handed the message.
        Place::Mailbox(to) => {
            read_own(connection, to)?;
            let of = StreamRef::Mailbox(to.mailbox());
            (locate(connection, &of)?, of)
        }
    };
    if wait.is_some() {
        connection.done(&Command::Stream(StreamCommand::WatchReceipts { stream: of.clone(), on: true }))?;
    }
    let mentions = look_up(connection, mentions, text)?;
    let body = body::of_content(text, &body::Context { mentions: mentions.clone(), ..woken() });
    let signature = Opaque(sign(context, connection, stream, id, &body)?);
    let signed = Signed { id: *id, signature, acknowledge: *wait == Some(Wait::Acknowledged) };
    let payload = Payload::Body(body);
    let post =
        Command::Stream(StreamCommand::Post { stream: of, payload, signed: signed.into(), lifetime: None });
    match connection.ask(&post) {
        Ok(Reply::Stream(StreamReply::Stored { stream: place, stamp, present })) if place == stream => {
            Ok(Ok(Stored { stream, stamp, present, mentions }))
        }
        // The session that is meant came, or was kept, in between: the signature is for another mailbox.
        Ok(Reply::Stream(StreamReply::Stored { .. })) => Err(Failure::new(
            "the mailbox changed while the message was sent, so its reader cannot check who sent it",
            "send it again",
        )),
        Ok(_) => Err(unexpected(&connection.url)),
        Err(error @ SessionError::Ended { .. }) => Ok(Err(error)),
        Err(error) => Err(explain::request(&connection.url, &post, &error)),
    }
}

/// What a message of an agent that `conclave host` started says to the loop guard. See docs/host.md.
fn woken() -> body::Context {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
    let (hops, budget) = (number("CONCLAVE_HOPS"), number("CONCLAVE_BUDGET"));
    body::Context { hops, budget, ..body::Context::default() }
}

pub(super) fn subscribe(
    connection: &mut Connection<'_>,
    channel: &ChannelName,
) -> Result<ChannelId, Failure> {
    let subscribe = StreamCommand::Subscribe {
        stream: StreamRef::Channel(channel.clone()),
        from: Start::Latest,
        invite: None,
    };
    match connection.request(&Command::Stream(subscribe))? {
        Reply::Stream(StreamReply::Subscribed { stream, .. }) => Ok(stream),
        _ => Err(unexpected(&connection.url)),
    }
}

/// What becomes of messages in one's own mailbox is told to its readers only.
pub(super) fn read_own(connection: &mut Connection<'_>, to: &Recipient) -> Result<(), Failure> {
    if connection.session().is_some_and(|session| session.path().user == *to.user()) {
        let stream = StreamRef::Mailbox(MailboxRef::Mine);
        let subscribe = StreamCommand::Subscribe { stream, from: Start::Latest, invite: None };
        connection.request(&Command::Stream(subscribe))?;
    }
    Ok(())
}

fn locate(connection: &mut Connection<'_>, stream: &StreamRef) -> Result<ChannelId, Failure> {
    let locate = StreamCommand::Locate { stream: stream.clone() };
    match connection.request(&Command::Stream(locate))? {
        Reply::Stream(StreamReply::Located { stream, .. }) => Ok(stream),
        _ => Err(unexpected(&connection.url)),
    }
}

/// The numbers of those whom a message mentions. A name that only stands in its text may be nobody's.
fn look_up(
    connection: &mut Connection<'_>,
    mentions: &[UserName],
    text: &str,
) -> Result<Vec<UserId>, Failure> {
    if mentions.len() > MAX_MENTIONS {
        let what = format!("a message mentions at most {MAX_MENTIONS} users");
        return Err(Failure::usage(what, "mention fewer, or send several messages"));
    }
    let mut found = Vec::new();
    for Wanted { name, must } in mention::wanted(mentions, text) {
        let keys = Command::Stream(StreamCommand::Keys { user: name });
        match connection.ask(&keys) {
            Ok(Reply::Stream(StreamReply::Keys { user, .. })) => {
                if !found.contains(&user) {
                    found.push(user);
                }
            }
            Ok(Reply::Refused(_)) | Err(SessionError::Refused(_)) if !must => {}
            Ok(Reply::Refused(reason)) => {
                return Err(explain::request(&connection.url, &keys, &SessionError::Refused(reason)));
            }
            Ok(_) => return Err(unexpected(&connection.url)),
            Err(error) => return Err(explain::request(&connection.url, &keys, &error)),
        }
    }
    Ok(found)
}

/// Numbers of users, as they stand on the wire.
pub(super) fn numbers(users: &[UserId]) -> Value {
    users.iter().map(|user| user.0.saturating_add(1)).collect()
}

fn no_mentions(connection: &Connection<'_>) -> Failure {
    let what = format!("{} takes no mentions: it speaks version 1 of the protocol", connection.url);
    Failure::usage(what, "leave --mention out, and write @NAME for people to read")
}

fn sign(
    context: &Context,
    connection: &Connection<'_>,
    stream: ChannelId,
    id: &MessageId,
    body: &[u8],
) -> Result<[u8; 64], Failure> {
    let server = connection.server_key().ok_or_else(|| unexpected(&connection.url))?;
    let key = match connection.key_use() {
        KeyUse::PerServer => context.key()?.at_server(&server),
        KeyUse::Shared => context.key()?,
    };
    Ok(key.sign(&signature::to_sign(&server, stream, id, body)))
}

/// A new message id.
fn message_id() -> Result<MessageId, Failure> {
    let mut random = [0; 10];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::new(format!("the system has no random numbers: {error}"), ""))?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(MessageId::at(UnixMillis(i64::try_from(since.as_millis()).unwrap_or_default()), random))
}

fn shown(
    connection: &Connection<'_>,
    target: &Place,
    stored: &Stored,
    id: &MessageId,
    missing: &[String],
) -> Value {
    let mut value = json!({
        "server": connection.url.as_str(),
        // As it stands on the wire.
        "stream": stored.stream.0 + 1,
        "seq": stored.stamp.seq,
        "message_id": hex(&id.0),
        "stamp": stored.stamp.ts.rfc3339(),
    });
    match target {
        Place::Channel(channel) => value["channel"] = json!(channel.as_str()),
        Place::Mailbox(to) => {
            value["target"] = json!(to.to_string());
            value["present"] = json!(stored.present);
        }
    }
    if !stored.mentions.is_empty() {
        value["mentions"] = numbers(&stored.mentions);
    }
    if !missing.is_empty() {
        value["missing"] = json!(missing);
    }
    value
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_are_uuids_that_grow_with_time() {
        let (one, other) = (message_id().unwrap(), message_id().unwrap());
        assert_ne!(one, other);
        assert!(one.0[..6] <= other.0[..6]);
        assert_eq!((one.0[6] >> 4, one.0[8] >> 6), (7, 2));
    }
}
