//! One message as lines.

use conclave_core::desk::{Content, Entry, Message, Outgoing, Place, Progress, Receipts, Source};
use conclave_core::link::Proof;
use conclave_core::name::SessionPath;
use jiff::Timestamp;
use jiff::civil::Date;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::lines_of;
use crate::chat::app::App;
use crate::chat::wrap::{fit, safe_line, width};
use crate::connect::is_one_shot;

/// Messages of one session stand under one name for so long.
const TOGETHER: i64 = 5 * 60_000;
/// Lines of a message that are laid out.
const MAX_LINES: usize = 2000;

/// The lines of an entry; `before` is the one above it.
pub(super) fn lines(
    app: &App,
    before: Option<&Entry<'_>>,
    entry: &Entry<'_>,
    columns: usize,
) -> Vec<Line<'static>> {
    match entry {
        Entry::Message(source, message) => self::message(app, before, (*source, message), columns),
        Entry::Outgoing(outgoing) => self::outgoing(app, before, outgoing, columns),
    }
}

fn message(
    app: &App,
    before: Option<&Entry<'_>>,
    (source, message): (Option<&Source>, &Message),
    columns: usize,
) -> Vec<Line<'static>> {
    let theme = app.theme;
    let above = before.and_then(|entry| match entry {
        Entry::Message(source, message) => Some((*source, *message)),
        Entry::Outgoing(_) => None,
    });
    let mut lines = Vec::new();
    let day = day(app, message);
    if above.is_none_or(|(_, above)| self::day(app, above) != day) {
        lines.push(rule(&day.strftime("%A, %-d %B %Y").to_string(), columns, theme.faint()));
    }
    let is_read = |source: Option<&Source>, message: &Message| {
        let divider = app.divider.iter().find(|(of, _)| Some(of) == source);
        message.own || divider.is_none_or(|(_, read)| message.seq <= *read)
    };
    let is_first_new =
        !is_read(source, message) && above.is_none_or(|(source, above)| is_read(source, above));
    if is_first_new {
        lines.push(rule("new", columns, theme.bad()));
    }
    let is_together = above.is_some_and(|(_, above)| {
        above.from.user == message.from.user
            && session(&above.from) == session(&message.from)
            && message.at.0 - above.at.0 < TOGETHER
            && above.at <= message.at
    });
    let needs_name = !is_together || !lines.is_empty() || message.reply_to.is_some();
    if needs_name {
        if before.is_some() && lines.is_empty() {
            lines.push(Line::default());
        }
        lines.push(name(app, message, columns));
    }
    if let Some(seq) = message.reply_to {
        lines.push(answered(app, source, seq, columns));
    }
    if message.proof == Proof::Forged {
        let warning = "FORGED: not signed by the sender that it names";
        lines.push(Line::from(Span::styled(format!("  {}", fit(warning, columns - 2)), theme.bad())));
    }
    let style = if message.mentions_you { theme.strong() } else { Style::new() };
    match &message.content {
        Content::Text { text, cut } => {
            lines.extend(said(app, text, columns, style));
            if *cut > 0 {
                lines.push(Line::from(Span::styled(format!("  … {cut} bytes more"), theme.faint())));
            }
        }
        Content::Sealed { size } => {
            lines.push(Line::from(Span::styled(format!("  (encrypted, {size} bytes)"), theme.faint())));
        }
        Content::Group => {
            let change = "  (a change of who is in this sealed channel)";
            lines.push(Line::from(Span::styled(fit(change, columns), theme.faint())));
        }
        Content::Broken => lines.push(Line::from(Span::styled("  (unreadable)", theme.bad()))),
    }
    if message.own {
        state(app, message, &mut lines, columns);
    }
    if message.exhausted {
        let note = "agents alone wrote the last messages; they go on when a person writes";
        lines.push(Line::from(Span::styled(format!("  {}", fit(note, columns - 2)), theme.faint())));
    }
    lines
}

/// Who wrote, and when. The user's name stands out, since it is what a key vouches for.
fn name(app: &App, message: &Message, columns: usize) -> Line<'static> {
    let theme = app.theme;
    let at = time(app, message).strftime("%H:%M").to_string();
    let user = safe_line(message.from.user.as_str());
    let session = safe_line(&session(&message.from));
    let sign = if message.agent { "◆ " } else { "" };
    let user = fit(&user, columns.saturating_sub(10)).into_owned();
    let room = columns.saturating_sub(width(sign) + width(&user) + width(&at) + 3);
    let kind = if message.agent { "agent " } else { "" };
    Line::from(vec![
        Span::styled(sign, theme.accent()),
        Span::styled(user, theme.user(message.from.user.as_str())),
        Span::styled(format!(" {}", fit(&format!("{kind}{session}"), room)), theme.faint()),
        Span::styled(format!(" {at}"), theme.faint()),
    ])
}

/// Where somebody writes from. The handle of a verb that asked and went says nothing.
fn session(from: &SessionPath) -> String {
    match is_one_shot(&from.session) {
        true => from.machine.to_string(),
        false => format!("{}/{}", from.machine, from.session),
    }
}

/// The beginning of the message that this one answers.
fn answered(app: &App, source: Option<&Source>, seq: u64, columns: usize) -> Line<'static> {
    let found = source.and_then(|source| app.desk()?.message(source, seq));
    let text = match found {
        Some(message) => {
            let text = message.text().unwrap_or_default();
            let first = text.lines().next().unwrap_or_default();
            format!("{}: {}", safe_line(message.from.user.as_str()), safe_line(first))
        }
        None => format!("message {seq}"),
    };
    Line::from(Span::styled(format!("  ↳ {}", fit(&text, columns.saturating_sub(4))), app.theme.faint()))
}

/// A text: fenced code stands behind a bar, and is not broken between words.
fn said(app: &App, text: &str, columns: usize, style: Style) -> Vec<Line<'static>> {
    let theme = app.theme;
    let mut lines = Vec::new();
    let mut is_code = false;
    for line in text.trim_end_matches('\n').split('\n') {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
            continue;
        }
        let room = columns.saturating_sub(if is_code { 4 } else { 2 });
        let mut parts = lines_of(line, room);
        if parts.is_empty() {
            parts.push(String::new());
        }
        for part in parts {
            lines.push(match is_code {
                true => {
                    Line::from(vec![Span::styled("  │ ", theme.faint()), Span::styled(part, theme.accent())])
                }
                false => Line::from(vec![Span::raw("  "), Span::styled(part, style)]),
            });
        }
        if lines.len() >= MAX_LINES {
            lines.push(Line::from(Span::styled("  …", theme.faint())));
            break;
        }
    }
    lines
}

/// How far an own message came, at the right of its last line.
fn state(app: &App, message: &Message, lines: &mut Vec<Line<'static>>, columns: usize) {
    let theme = app.theme;
    let (word, style) = match (&message.receipts, message.receipts.tally()) {
        (Receipts::Known { readers, .. }, _) if readers.is_empty() => ("stored".to_owned(), theme.faint()),
        (_, Some((_, seen, all))) if seen > 0 => (format!("seen {seen}/{all}"), theme.good()),
        (_, Some((delivered, _, all))) => (format!("delivered {delivered}/{all}"), theme.faint()),
        (_, None) => ("stored".to_owned(), theme.faint()),
    };
    beside(lines, Span::styled(word, style), columns);
}

/// Puts a word at the right of the last line, or on a line of its own.
fn beside(lines: &mut Vec<Line<'static>>, word: Span<'static>, columns: usize) {
    let wide = word.width();
    let last = lines.last().map_or(columns, Line::width);
    if last + wide + 2 > columns {
        lines.push(Line::default());
    }
    if let Some(line) = lines.last_mut() {
        let padding = columns.saturating_sub(line.width() + wide);
        line.push_span(Span::raw(" ".repeat(padding)));
        line.push_span(word);
    }
}

fn outgoing(
    app: &App,
    before: Option<&Entry<'_>>,
    outgoing: &Outgoing,
    columns: usize,
) -> Vec<Line<'static>> {
    let theme = app.theme;
    let mut lines = Vec::new();
    let is_below_own = before.is_some_and(|entry| match entry {
        Entry::Message(_, message) => message.own,
        Entry::Outgoing(_) => true,
    });
    if !is_below_own {
        lines.extend(before.map(|_| Line::default()));
        lines.push(Line::from(Span::styled("you", theme.strong())));
    }
    lines.extend(said(app, &outgoing.text, columns, theme.faint()));
    match &outgoing.progress {
        Progress::Failed(why) => {
            for part in lines_of(&format!("not sent: {why}"), columns.saturating_sub(2)) {
                lines.push(Line::from(Span::styled(format!("  {part}"), theme.bad())));
            }
            let next = "choose it with Ctrl-↑: s sends again, d drops it";
            lines.push(Line::from(Span::styled(
                format!("  {}", fit(next, columns.saturating_sub(2))),
                theme.faint(),
            )));
        }
        Progress::Resolving | Progress::Sending => {
            beside(&mut lines, Span::styled("sending…", theme.faint()), columns)
        }
    }
    lines
}

fn time(app: &App, message: &Message) -> jiff::Zoned {
    let at = Timestamp::from_millisecond(message.at.0).unwrap_or(Timestamp::UNIX_EPOCH);
    at.to_zoned(app.zone.clone())
}

fn day(app: &App, message: &Message) -> Date {
    time(app, message).date()
}

/// A line with a word in it.
fn rule(word: &str, columns: usize, style: Style) -> Line<'static> {
    let word = fit(word, columns.saturating_sub(6)).into_owned();
    let rest = columns.saturating_sub(width(&word) + 4);
    Line::from(Span::styled(format!("── {word} {}", "─".repeat(rest)), style))
}

/// Whether a place is a person's.
pub(super) fn is_person(place: &Place) -> bool {
    matches!(place, Place::Person(_))
}
