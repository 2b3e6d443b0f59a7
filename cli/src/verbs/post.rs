//! Posting, and what becomes of a message: version 2 where the server speaks it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use conclave_core::body;
use conclave_core::name::{ChannelName, SessionPath};
use conclave_core::opaque::Opaque;
use conclave_core::payload::Payload;
use conclave_core::protocol::{Command, Reply};
use conclave_core::record::{ChannelId, Stamp};
use conclave_core::stream::{
    MessageId, Receipt, ReceiptState, Signed, Start, StreamCommand, StreamRef, StreamReply,
};
use conclave_core::text::shell_word;
use conclave_core::time::UnixMillis;
use conclave_core::wire::client::KeyUse;
use conclave_core::wire::v2::signature;
use conclave_shell_tokio::client::SessionError;
use serde_json::{Value, json};

use super::message::text;
use crate::args::{Receipts, Send, Wait};
use crate::connect::{Connection, unexpected};
use crate::output::line;
use crate::{Context, Failure, explain};

/// How long `--wait` waits unless another time is typed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Posts a message, and waits for its readers where that is asked.
pub(super) fn send(send: Send, context: &Context) -> Result<(), Failure> {
    let (channel, typed) = send.split()?;
    let text = text(typed)?;
    let mut connection = Connection::open_newest(context, &send.net)?;
    if connection.server_key().is_none() {
        return send_v1(&mut connection, &channel, text, send.wait, context);
    }
    let id = message_id()?;
    let mut stored_at = post(&mut connection, &channel, &text, &id, send.wait, context)?;
    if let Err(lost @ SessionError::Ended { sent: true, .. }) = stored_at {
        // The server knows the message by its id, so it is stored once.
        context.output.detail(format_args!("{}: {lost}; sending again under the same id", connection.url));
        let Ok(again) = Connection::open_newest(context, &send.net) else {
            return Err(explain::general(&connection.url, &lost));
        };
        connection = again;
        stored_at = post(&mut connection, &channel, &text, &id, send.wait, context)?;
    }
    let (stream, stamp) = stored_at.map_err(|error| explain::general(&connection.url, &error))?;
    let missing = match send.wait {
        None => Vec::new(),
        Some(wait) => {
            let patience = send.net.dial.timeout.unwrap_or(PATIENCE);
            wait_for(&mut connection, stream, stamp.seq, wait.into(), patience)?
        }
    };
    if context.output.is_json() {
        let value = stored(&connection, &channel, stream, stamp, &id, &missing);
        context.output.result("", value)?;
    }
    match send.wait {
        Some(wait) if !missing.is_empty() => Err(Failure::new(
            format!("not {} by {}", wait.as_str(), line(&missing.join(", "))),
            format!(
                "the message is stored; see who has it: conclave receipts {} {}",
                shell_word(channel.as_str()),
                stamp.seq
            ),
        )),
        _ => Ok(()),
    }
}

/// Posts a message once. Fails inside if only the answer to the post is missing.
fn post(
    connection: &mut Connection<'_>,
    channel: &ChannelName,
    text: &str,
    id: &MessageId,
    wait: Option<Wait>,
    context: &Context,
) -> Result<Result<(ChannelId, Stamp), SessionError>, Failure> {
    let stream = subscribe(connection, channel)?;
    let of = StreamRef::Number(stream);
    if wait.is_some() {
        connection.done(&Command::Stream(StreamCommand::WatchReceipts { stream: of.clone(), on: true }))?;
    }
    let body = body::of_text(text);
    let signature = Opaque(sign(context, connection, stream, id, &body)?);
    let signed = Signed { id: *id, signature, acknowledge: wait == Some(Wait::Acknowledged) };
    let payload = Payload::Body(body);
    let post =
        Command::Stream(StreamCommand::Post { stream: of, payload, signed: signed.into(), lifetime: None });
    match connection.ask(&post) {
        Ok(Reply::Stream(StreamReply::Stored { stamp, .. })) => Ok(Ok((stream, stamp))),
        Ok(_) => Err(unexpected(&connection.url)),
        Err(error @ SessionError::Ended { .. }) => Ok(Err(error)),
        Err(error) => Err(explain::request(&connection.url, &post, &error)),
    }
}

fn send_v1(
    connection: &mut Connection<'_>,
    channel: &ChannelName,
    text: String,
    wait: Option<Wait>,
    context: &Context,
) -> Result<(), Failure> {
    if wait.is_some() {
        return Err(needs_version_2(connection));
    }
    // Only a subscribed session posts.
    connection.done(&Command::Join { channel: channel.clone(), token: None })?;
    connection.done(&Command::Post { channel: channel.clone(), payload: Payload::Plain(text) })?;
    if context.output.is_json() {
        let value = json!({ "server": connection.url.as_str(), "channel": channel.as_str() });
        context.output.result("", value)?;
    }
    Ok(())
}

fn needs_version_2(connection: &Connection<'_>) -> Failure {
    Failure::new(
        format!("{} does not tell what becomes of messages: it speaks version 1", connection.url),
        "ask its operator to update it",
    )
}

fn subscribe(connection: &mut Connection<'_>, channel: &ChannelName) -> Result<ChannelId, Failure> {
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

/// Waits until every reader of the channel but the sender has come so far; returns who has not when the time is over.
fn wait_for(
    connection: &mut Connection<'_>,
    stream: ChannelId,
    seq: u64,
    state: ReceiptState,
    patience: Duration,
) -> Result<Vec<String>, Failure> {
    let until = Instant::now() + patience;
    loop {
        let readers = receipts_of(connection, StreamRef::Number(stream), seq)?;
        let missing: Vec<String> =
            readers.iter().filter(|it| it.state < state).map(|it| it.reader.to_string()).collect();
        let left = until.saturating_duration_since(Instant::now());
        if readers.is_empty() {
            return Err(Failure::new(
                "nobody in this channel tells how far they read",
                "agents and people whose sessions are kept do; the message is stored",
            ));
        }
        if missing.is_empty() || left.is_zero() {
            return Ok(missing);
        }
        // It comes when a reader has moved.
        connection.notice(left)?;
    }
}

/// How all readers of a channel stand to a message, but the asking session.
fn receipts_of(
    connection: &mut Connection<'_>,
    stream: StreamRef,
    seq: u64,
) -> Result<Vec<Receipt>, Failure> {
    let own: Option<SessionPath> = connection.session().map(|session| session.path().clone());
    match connection.request(&Command::Stream(StreamCommand::Receipts { stream, seq }))? {
        Reply::Stream(StreamReply::Receipts { readers, .. }) => {
            Ok(readers.into_iter().filter(|it| Some(&*it.reader) != own.as_ref()).collect())
        }
        _ => Err(unexpected(&connection.url)),
    }
}

fn stored(
    connection: &Connection<'_>,
    channel: &ChannelName,
    stream: ChannelId,
    stamp: Stamp,
    id: &MessageId,
    missing: &[String],
) -> Value {
    let mut value = json!({
        "server": connection.url.as_str(),
        "channel": channel.as_str(),
        // As it stands on the wire.
        "stream": stream.0 + 1,
        "seq": stamp.seq,
        "message_id": hex(&id.0),
        "stamp": stamp.ts.rfc3339(),
    });
    if !missing.is_empty() {
        value["missing"] = json!(missing);
    }
    value
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Shows who has a message.
pub(super) fn receipts(receipts: Receipts, context: &Context) -> Result<(), Failure> {
    let (channel, seq) = receipts.split()?;
    let mut connection = Connection::open_newest(context, &receipts.net)?;
    if connection.server_key().is_none() {
        return Err(needs_version_2(&connection));
    }
    let stream = StreamRef::Number(subscribe(&mut connection, &channel)?);
    let mut shown = BTreeMap::new();
    if receipts.watch {
        connection
            .done(&Command::Stream(StreamCommand::WatchReceipts { stream: stream.clone(), on: true }))?;
    }
    loop {
        let readers = receipts_of(&mut connection, stream.clone(), seq)?;
        if !receipts.watch {
            let items: Vec<Value> = readers.iter().map(item).collect();
            return context.output.list(&items, ["READER", "STATE", "AT", "WORD"], "nobody tells", |it| {
                ["reader", "state", "at", "word"].map(|key| it[key].as_str().unwrap_or_default().to_owned())
            });
        }
        for receipt in &readers {
            let news = (receipt.state, receipt.word.clone());
            if shown.insert(receipt.reader.clone(), news.clone()) != Some(news) {
                let said = format!("{} {}", receipt.reader, receipt.state.as_str());
                context.output.result(line(&said), item(receipt))?;
            }
        }
        connection.notice(Duration::from_secs(20))?;
        // It keeps the session alive, too.
        connection.done(&Command::Ping)?;
    }
}

fn item(receipt: &Receipt) -> Value {
    json!({
        "reader": receipt.reader.to_string(),
        "state": receipt.state.as_str(),
        "at": receipt.at.map(UnixMillis::rfc3339),
        "word": receipt.word.as_ref().map(|word| word.0.as_str()),
    })
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
