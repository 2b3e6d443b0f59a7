//! Who may write to one's mailboxes, and confirming what was written.

use std::time::Instant;

use conclave_core::name::{ChannelName, Handle};
use conclave_core::opaque::Opaque;
use conclave_core::protocol::{Command, Reply};
use conclave_core::stream::{
    ContactChange, MailboxRef, Notice, Standing, Start, StreamCommand, StreamRef, StreamReply,
};
use conclave_core::text::shell_word;
use serde_json::json;

use super::inbox;
use super::post::subscribe;
use super::receipts::receipts_of;
use super::tail::no_mailboxes;
use crate::args::{Ack, Net, OfContact};
use crate::connect::{Connection, unexpected};
use crate::{Context, Failure};

pub(super) fn change(of: &OfContact, change: ContactChange, context: &Context) -> Result<(), Failure> {
    let mut connection = open(context, &of.net, None)?;
    connection.done(&Command::Stream(StreamCommand::SetContact { user: of.user.clone(), change }))?;
    let (word, done) = match change {
        ContactChange::Allow => ("allow", "may write to your mailboxes"),
        ContactChange::Disallow => ("disallow", "may write to your mailboxes only while you share a channel"),
        ContactChange::Block => ("block", "may not write to your mailboxes"),
        ContactChange::Unblock => ("unblock", "may write to your mailboxes while you share a channel"),
    };
    context.output.result(
        format_args!("{} {done}", of.user),
        json!({ "server": connection.url.as_str(), "user": of.user.as_str(), "change": word }),
    )
}

pub(super) fn list(net: &Net, context: &Context) -> Result<(), Failure> {
    let mut connection = open(context, net, None)?;
    let Reply::Stream(StreamReply::Contacts(contacts)) =
        connection.request(&Command::Stream(StreamCommand::ListContacts))?
    else {
        return Err(unexpected(&connection.url));
    };
    let standing = |standing| match standing {
        Standing::Allowed => "allowed",
        Standing::Blocked => "blocked",
    };
    let items: Vec<_> = contacts
        .iter()
        .map(|it| json!({ "user": it.name.as_str(), "standing": standing(it.standing) }))
        .collect();
    context.output.list(&items, ["USER", "STANDING"], "nobody is allowed or blocked", |it| {
        ["user", "standing"].map(|key| it[key].as_str().unwrap_or_default().to_owned())
    })
}

/// Confirms a message as the kept session that read it.
pub(super) fn ack(ack: Ack, context: &Context) -> Result<(), Failure> {
    let (channel, seq, word) = ack.split()?;
    let (handle, stream) = match &channel {
        None => {
            let handle = ack.handle.map_or_else(inbox::own, Ok)?;
            (handle, StreamRef::Mailbox(MailboxRef::Mine))
        }
        Some(channel) => {
            let handle = follower(channel, seq, &ack.net, ack.handle, context)?;
            (handle, StreamRef::Channel(channel.clone()))
        }
    };
    let mut connection = open(context, &ack.net, Some(handle))?;
    let subscribe = StreamCommand::Subscribe { stream: stream.clone(), from: Start::Cursor, invite: None };
    let Reply::Stream(StreamReply::Subscribed { stream, after, last }) =
        connection.request(&Command::Stream(subscribe))?
    else {
        return Err(unexpected(&connection.url));
    };
    if seq == 0 || seq > last {
        return Err(Failure::new(
            format!("there is no message {seq} yet: the last one is {last}"),
            "check the number: `conclave tail --json` and `conclave inbox --json` print it",
        ));
    }
    // The server takes a confirmation only of what it has sent to the session.
    let until = Instant::now() + ack.net.dial.timeout();
    let mut sent = after;
    while sent < seq {
        let left = until.saturating_duration_since(Instant::now());
        sent = match connection.notice(left)? {
            Some(Notice::Deliveries { messages, .. }) => messages.last().map_or(sent, |it| it.seq),
            Some(Notice::Gap { to, .. }) => to,
            Some(_) => sent,
            None => {
                let what = format!("{}: message {seq} did not come in time", connection.url);
                return Err(Failure::new(what, "try again, or wait longer with --timeout 1m"));
            }
        };
    }
    let stream = StreamRef::Number(stream);
    let word_to_send = Opaque(word.clone());
    connection.done(&Command::Stream(StreamCommand::Acknowledge { stream, seq, word: word_to_send }))?;
    if context.output.is_json() {
        let channel = channel.as_ref().map(ChannelName::as_str);
        let value =
            json!({ "server": connection.url.as_str(), "channel": channel, "seq": seq, "word": word });
        return context.output.result("", value);
    }
    Ok(())
}

/// The session of this machine that follows the channel. Any other would become a reader whom everybody waits for.
fn follower(
    channel: &ChannelName,
    seq: u64,
    net: &Net,
    named: Option<Handle>,
    context: &Context,
) -> Result<Handle, Failure> {
    let mut connection = open(context, net, None)?;
    let stream = StreamRef::Number(subscribe(&mut connection, channel)?);
    let readers = receipts_of(&mut connection, stream, seq)?;
    let own = connection.session().map(|session| session.path().clone());
    let mut ours: Vec<Handle> = readers
        .iter()
        .map(|it| &it.reader)
        .filter(|it| own.as_ref().is_some_and(|own| own.user == it.user && own.machine == it.machine))
        .map(|it| it.session.clone())
        .collect();
    if let Some(named) = &named {
        ours.retain(|it| it == named);
    }
    let word = shell_word(channel.as_str());
    match (ours.pop(), ours.first()) {
        (Some(one), None) => Ok(one),
        (None, _) => {
            let who = named.map_or("no kept session of this machine".into(), |it| format!("'{it}'"));
            Err(Failure::new(
                format!("{who} follows #{channel}, so nobody can confirm it"),
                format!("follow it first: conclave tail {word} --as NAME"),
            ))
        }
        (Some(one), Some(_)) => Err(Failure::usage(
            format!("several sessions of this machine follow #{channel}"),
            format!("say which confirms: conclave ack {word} {seq} --as {}", shell_word(one.as_str())),
        )),
    }
}

/// A session of version 2, which alone has mailboxes.
fn open<'a>(context: &'a Context, net: &Net, handle: Option<Handle>) -> Result<Connection<'a>, Failure> {
    let connection = Connection::open_as(context, net, handle)?;
    if connection.server_key().is_none() {
        return Err(no_mailboxes(&connection.url));
    }
    Ok(connection)
}
