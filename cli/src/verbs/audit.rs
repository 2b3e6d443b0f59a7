//! `conclave audit`.

use conclave_core::audit::Entry;
use conclave_core::protocol::{Admin, Command, Reply};
use serde_json::json;

use crate::args::Audit;
use crate::connect::{Connection, unexpected};
use crate::output::line;
use crate::{Context, Failure};

/// Shows the newest entries, the oldest of them first.
pub(super) fn run(audit: Audit, context: &Context) -> Result<(), Failure> {
    let mut connection = Connection::open_newest(context, &audit.net)?;
    let mut entries: Vec<Entry> = Vec::new();
    let mut before = None;
    loop {
        let limit = audit.limit - entries.len();
        let ask = Admin::Audit { channel: audit.channel.clone(), before, limit };
        let Reply::Audit { entries: page, more } = connection.request(&Command::Admin(ask))? else {
            return Err(unexpected(&connection.url));
        };
        let oldest = page.last().map(|entry| entry.number);
        entries.extend(page.into_iter().take(limit));
        // A server that tells the same again would be asked for ever.
        let goes_on = oldest.is_some_and(|oldest| before.is_none_or(|last| oldest < last));
        if !more || !goes_on || entries.len() >= audit.limit {
            break;
        }
        before = oldest;
    }
    entries.reverse();
    let items: Vec<_> = entries
        .iter()
        .map(|Entry { number, deed }| {
            json!({
                "number": number,
                "at": deed.at.rfc3339(),
                "by": deed.by.to_string(),
                "did": deed.act.as_str(),
                "channel": deed.channel.as_ref().map(|(_, name)| name.as_str()),
                "subject": deed.subject,
            })
        })
        .collect();
    context.output.list(&items, ["AT", "BY", "DID", "CHANNEL", "TO"], "nothing was done yet", |it| {
        ["at", "by", "did", "channel", "subject"]
            .map(|key| line(it[key].as_str().unwrap_or_default()).into_owned())
    })
}
