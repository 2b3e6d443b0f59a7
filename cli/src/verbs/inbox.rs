//! `conclave inbox`: one's own mailboxes, and what is new in a channel.

use std::fs::{File, OpenOptions, TryLockError};

use conclave_core::link::OwnMailbox;
use conclave_core::name::{ChannelName, Handle};
use conclave_core::protocol::{Command, Reply};
use conclave_core::stream::{MailboxRef, PageFrom, Start, StreamCommand, StreamRef, StreamReply};
use conclave_store::state::{Reader, State};
use serde_json::json;

use super::tail::{Plan, Showing, follow, no_mailboxes};
use crate::args::Inbox;
use crate::connect::{Connection, unexpected};
use crate::{Context, Failure};

/// The handle of the session that reads the inbox of whoever names none.
pub(super) const HANDLE: &str = "inbox";

pub(super) fn run(inbox: Inbox, context: &Context) -> Result<(), Failure> {
    if inbox.count {
        return count(&inbox, context);
    }
    // What is missing on this machine is said before anything is locked.
    context.server(inbox.net.server.as_deref())?;
    // Two at once would take the connection from each other, and each would show a part.
    let _lock = if inbox.handle.is_none() { Some(lock(context)?) } else { None };
    let mut mailboxes = Vec::new();
    if inbox.channel.is_none() {
        mailboxes.push(OwnMailbox::User);
    }
    if inbox.channel.is_none() && inbox.handle.is_some() {
        mailboxes.push(OwnMailbox::Session);
    }
    let handle = match inbox.handle {
        Some(handle) => handle,
        None => own()?,
    };
    let no_follow = !inbox.follow;
    let Inbox { net, channel, from, mentions, mark_read, .. } = inbox;
    let showing = match (from, mentions) {
        _ if mark_read => Showing::Nothing,
        (None, false) => Showing::All,
        (from, mentions) => Showing::Some { from, mentions },
    };
    let plan = Plan { net, handle: Some(handle), channel, mailboxes, since: None, no_follow, showing };
    follow(plan, context)
}

pub(super) fn own() -> Result<Handle, Failure> {
    Handle::new(HANDLE).map_err(|error| Failure::new(error.to_string(), ""))
}

/// Held until this process ends, however it does.
fn lock(context: &Context) -> Result<File, Failure> {
    let path = context.dir()?.join("inbox.lock");
    let failed = |error: std::io::Error| {
        Failure::new(
            format!("{} cannot be locked: {error}", path.display()),
            format!("look at `ls -l {}`", path.display()),
        )
    };
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::new(
            "another `conclave inbox` is running on this machine",
            "end it, or read as another session: conclave inbox --as NAME",
        )),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Counts what the inbox has not shown yet. The session is not kept, so that it moves no position and disturbs nobody.
fn count(inbox: &Inbox, context: &Context) -> Result<(), Failure> {
    let mut connection = Connection::open_newest(context, &inbox.net)?;
    let Some(server) = connection.server_key() else { return Err(no_mailboxes(&connection.url)) };
    let reader = Reader { server, handle: own()? };
    let state = State::open(context.dir()?)?;
    let (stream, mut after) = match &inbox.channel {
        Some(channel) => {
            let followed = state.followed(&reader)?.into_iter().rev().find(|it| it.name == *channel);
            (StreamRef::Channel(channel.clone()), followed.map_or(0, |it| it.delivered))
        }
        None => {
            let shown = state.mailbox(&reader, OwnMailbox::User)?;
            (StreamRef::Mailbox(MailboxRef::Mine), shown.map_or(0, |(_, delivered, _)| delivered))
        }
    };
    let subscribe = StreamCommand::Subscribe { stream: stream.clone(), from: Start::Latest, invite: None };
    connection.request(&Command::Stream(subscribe))?;
    let mut unread = 0;
    loop {
        let read = StreamCommand::Read { stream: stream.clone(), from: PageFrom::After(after), limit: 0 };
        let Reply::Stream(StreamReply::Page { messages, more, .. }) =
            connection.request(&Command::Stream(read))?
        else {
            return Err(unexpected(&connection.url));
        };
        unread += messages.len();
        match messages.last() {
            Some(last) if more => after = last.seq,
            _ => break,
        }
    }
    let channel = inbox.channel.as_ref().map(ChannelName::as_str);
    let value = json!({ "server": connection.url.as_str(), "channel": channel, "unread": unread });
    context.output.result(unread, value)
}
