//! Messages of one's own, and who hears them.

use std::io::{self, IsTerminal as _, Read as _};

use conclave_core::name::{ChannelName, SessionPath};
use conclave_core::protocol::{Command, Reply};
use serde_json::json;

use crate::args::Who;
use crate::connect::{Connection, unexpected};
use crate::{Context, Failure};

/// A message is at most as large as a frame; what is read beyond says that it is larger.
const MAX_INPUT: u64 = 16 * 1024 * 1024;

/// The text that was typed, or piped in; one closing line end does not belong to it.
pub(super) fn text(typed: Option<String>) -> Result<String, Failure> {
    let nothing = || Failure::usage("there is no text to send", "type it behind the flags, or pipe it in");
    let text = match typed {
        Some(text) if text != "-" => text,
        None if io::stdin().is_terminal() => return Err(nothing()),
        _ => {
            let mut text = String::new();
            let read = io::stdin().lock().take(MAX_INPUT + 1).read_to_string(&mut text);
            read.map_err(|error| {
                Failure::new(
                    format!("standard input cannot be read as text: {error}"),
                    "only UTF-8 text can be sent; encode other data, for example with base64",
                )
            })?;
            let line = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
            line.map(str::to_owned).unwrap_or(text)
        }
    };
    if text.is_empty() {
        return Err(nothing());
    }
    if text.len() as u64 > MAX_INPUT - 1024 {
        return Err(Failure::new(
            "the text is larger than any message may be (16 MiB; servers allow 1 MiB as a rule)",
            "send a part of it, or where it can be found",
        ));
    }
    Ok(text)
}

pub(super) fn who(who: Who, context: &Context) -> Result<(), Failure> {
    let mut connection = Connection::open(context, &who.net)?;
    let sessions = sessions(&mut connection, who.channel)?;
    let items: Vec<_> = sessions
        .iter()
        .map(|it| {
            json!({
                "path": it.to_string(),
                "user": it.user.as_str(),
                "machine": it.machine.as_str(),
                "session": it.session.as_str(),
            })
        })
        .collect();
    context.output.list(&items, ["USER", "MACHINE", "SESSION"], "nobody is there", |it| {
        ["user", "machine", "session"].map(|key| it[key].as_str().unwrap_or_default().to_owned())
    })
}

pub(super) fn sessions(
    connection: &mut Connection<'_>,
    channel: Option<ChannelName>,
) -> Result<Vec<SessionPath>, Failure> {
    let Reply::Presence { sessions, .. } = connection.request(&Command::Who { channel })? else {
        return Err(unexpected(&connection.url));
    };
    let own = connection.session().map(|session| session.path().clone());
    Ok(sessions.iter().map(|it| (**it).clone()).filter(|it| Some(it) != own.as_ref()).collect())
}
