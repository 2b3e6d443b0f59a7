//! What becomes of a message: who has it, and waiting until they do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use conclave_core::host::is_addressed;
use conclave_core::name::SessionPath;
use conclave_core::protocol::{Command, Reply};
use conclave_core::record::ChannelId;
use conclave_core::stream::{Receipt, ReceiptState, StreamCommand, StreamRef, StreamReply};
use conclave_core::time::UnixMillis;
use serde_json::{Value, json};

use super::post::{read_own, subscribe};
use crate::args::{Place, Receipts, Switch};
use crate::connect::{Connection, unexpected};
use crate::output::line;
use crate::{Context, Failure};

/// A server drops a session that is silent for a minute.
const EVERY: Duration = Duration::from_secs(20);

pub(super) fn needs_version_2(connection: &Connection<'_>) -> Failure {
    Failure::new(
        format!("{} does not tell what becomes of messages: it speaks version 1", connection.url),
        "ask its operator to update it",
    )
}

/// Waits until the readers have come so far: in a channel the agents that the text addresses, or all but the sender if it
/// addresses none; in a mailbox one of them, since whoever reads it is the one who is meant. Returns who has not when the time
/// is over.
pub(super) fn wait_for(
    connection: &mut Connection<'_>,
    (stream, seq): (ChannelId, u64),
    (target, text): (&Place, &str),
    state: ReceiptState,
    patience: Duration,
) -> Result<Vec<String>, Failure> {
    let until = Instant::now() + patience;
    loop {
        let readers = receipts_of(connection, StreamRef::Number(stream), seq)?;
        let missing: Vec<String> = match target {
            Place::Channel(_) if readers.iter().all(|it| it.state < state && !it.lacks(state)) => {
                return Err(Failure::new(
                    "nobody in this channel tells how far they read",
                    "agents and people whose sessions are kept do; the message is stored",
                ));
            }
            Place::Channel(_) => {
                let addresses_any = readers.iter().any(|it| is_addressed(text, &it.reader));
                let meant = readers.iter().filter(|it| !addresses_any || is_addressed(text, &it.reader));
                meant.filter(|it| it.lacks(state)).map(|it| it.reader.to_string()).collect()
            }
            Place::Mailbox(_) if readers.iter().any(|it| it.state >= state) => Vec::new(),
            Place::Mailbox(to) if !readers.is_empty() && !readers.iter().any(|it| it.lacks(state)) => {
                return Err(Failure::new(
                    format!("{to} does not tell how far they read"),
                    "the message is stored; an acknowledgement can be waited for",
                ));
            }
            Place::Mailbox(to) => vec![to.to_string()],
        };
        let left = until.saturating_duration_since(Instant::now());
        if missing.is_empty() || left.is_zero() {
            return Ok(missing);
        }
        // It comes when a reader has moved.
        connection.notice(left)?;
    }
}

/// How all readers of a stream stand to a message, but the asking session.
pub(super) fn receipts_of(
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

/// Shows who has a message, or sets who learns how far its user has read.
pub(super) fn receipts(receipts: Receipts, context: &Context) -> Result<(), Failure> {
    if let Some(mine) = receipts.mine {
        let mut connection = Connection::open_newest(context, &receipts.net)?;
        if connection.server_key().is_none() {
            return Err(needs_version_2(&connection));
        }
        let on = mine == Switch::On;
        connection.done(&Command::Stream(StreamCommand::SetReceipts { on }))?;
        let said = if on { "others learn" } else { "others do not learn" };
        let value = json!({ "server": connection.url.as_str(), "receipts": on });
        return context.output.result(format_args!("{said} on {} how far you read", connection.url), value);
    }
    let (place, seq) = receipts.split()?;
    let mut connection = Connection::open_newest(context, &receipts.net)?;
    if connection.server_key().is_none() {
        return Err(needs_version_2(&connection));
    }
    // The server tells a sender of news only about what the same session posted: in a mailbox it is asked again and again.
    let (stream, patience) = match &place {
        Place::Channel(channel) => (StreamRef::Number(subscribe(&mut connection, channel)?), EVERY),
        Place::Mailbox(to) => {
            read_own(&mut connection, to)?;
            (StreamRef::Mailbox(to.mailbox()), Duration::from_secs(1))
        }
    };
    let mut shown = BTreeMap::new();
    if receipts.watch && matches!(place, Place::Channel(_)) {
        connection
            .done(&Command::Stream(StreamCommand::WatchReceipts { stream: stream.clone(), on: true }))?;
    }
    loop {
        let readers = receipts_of(&mut connection, stream.clone(), seq)?;
        if !receipts.watch {
            let items: Vec<Value> = readers.iter().map(item).collect();
            return context.output.list(&items, ["READER", "STATE", "AT", "WORD"], "nobody tells", |it| {
                let off = it["off"] == true && it["state"] == ReceiptState::Stored.as_str();
                let field = |key| it[key].as_str().unwrap_or_default().to_owned();
                let state = if off { "does not tell".to_owned() } else { field("state") };
                [field("reader"), state, field("at"), field("word")]
            });
        }
        for receipt in &readers {
            let news = (receipt.state, receipt.word.clone());
            if shown.insert(receipt.reader.clone(), news.clone()) != Some(news) {
                let said = format!("{} {}", receipt.reader, receipt.said());
                context.output.result(line(&said), item(receipt))?;
            }
        }
        connection.notice(patience)?;
        // It keeps the session alive, too.
        connection.done(&Command::Ping)?;
    }
}

fn item(receipt: &Receipt) -> Value {
    json!({
        "reader": receipt.reader.to_string(),
        "state": receipt.state.as_str(),
        "off": receipt.off,
        "at": receipt.at.map(UnixMillis::rfc3339),
        "word": receipt.word.as_ref().map(|word| word.0.as_str()),
    })
}
