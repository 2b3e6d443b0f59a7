//! What lies over the conversation: help, jumping, searching, a card, receipts.

use conclave_core::desk::{Entry, Message, Place};
use conclave_core::stream::ReceiptState;
use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Paragraph};

use super::lines_of;
use crate::chat::app::{App, Id, Over};
use crate::chat::wrap::{fit, safe_line, width};

const KEYS: [(&str, &str); 18] = [
    ("Enter", "send; Alt-Enter or Ctrl-J begins a line"),
    ("Tab", "complete @name or #channel"),
    ("↑ ↓", "lines, then what you sent before"),
    ("PgUp PgDn", "scroll; End or Esc: newest"),
    ("Alt-↑ Alt-↓", "other conversation; also Ctrl-P, Ctrl-N"),
    ("Alt-Shift-↑↓", "other one with unread messages"),
    ("Ctrl-K", "go to a channel or person, join a channel"),
    ("/", "search this conversation; also Ctrl-F"),
    ("Ctrl-↑ Ctrl-↓", "choose a message; also Shift-↑↓, mouse"),
    ("  r", "reply to the chosen one"),
    ("  i", "who has it"),
    ("  s  d", "send again, or drop, what was not sent"),
    ("Ctrl-O", "answer an agent's permission card"),
    ("Ctrl-R", "mark everything here as read"),
    ("Ctrl-X", "leave the channel"),
    ("? F1", "this help"),
    ("Esc", "close, go back"),
    ("Ctrl-Q", "quit; Ctrl-C with nothing typed"),
];

/// Draws what lies over everything else, if something does.
pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    match &app.over {
        Over::Nothing => {}
        Over::Help => help(app, frame, area),
        Over::Jump { typed, at } => jump(app, frame, area, (typed, *at)),
        Over::Search { typed, at } => search(app, frame, area, (typed, *at)),
        Over::Card(..) => card(app, frame, area),
        Over::Receipts => receipts(app, frame, area),
    }
}

/// A box in the middle; returns its inside.
fn open(app: &App, frame: &mut Frame<'_>, area: Rect, (columns, rows): (u16, usize), title: &str) -> Rect {
    let wide = columns.min(area.width);
    let high = (rows as u16 + 2).min(area.height);
    let at = Rect {
        x: area.x + (area.width - wide) / 2,
        y: area.y + (area.height - high) / 2,
        width: wide,
        height: high,
    };
    let title = fit(title, usize::from(wide).saturating_sub(4)).into_owned();
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(app.theme.accent())
        .title(Span::styled(format!(" {title} "), app.theme.strong()));
    let inner = block.inner(at);
    frame.render_widget(Clear, at);
    frame.render_widget(block, at);
    Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner }
}

fn help(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let inner = open(app, frame, area, (66, KEYS.len()), "keys");
    let key = if inner.width < 50 { 12 } else { 15 };
    let lines: Vec<Line<'_>> = KEYS
        .iter()
        .map(|(keys, what)| {
            let room = usize::from(inner.width).saturating_sub(key);
            let padding = " ".repeat(key.saturating_sub(width(keys)));
            Line::from(vec![
                Span::styled(fit(keys, key), app.theme.accent()),
                Span::raw(padding),
                Span::raw(fit(what, room)),
            ])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), inner);
}

/// A line that is typed into, at the top of a box.
fn typing(app: &App, frame: &mut Frame<'_>, inner: Rect, typed: &str) {
    let typed = safe_line(typed);
    let line = Line::from(vec![Span::styled("> ", app.theme.accent()), Span::raw(typed.clone())]);
    frame.render_widget(Paragraph::new(line), Rect { height: inner.height.min(1), ..inner });
    let x = (inner.x + 2 + width(&typed) as u16).min(inner.right().saturating_sub(1));
    frame.set_cursor_position(Position::new(x, inner.y));
}

/// The rows of a list around the chosen one.
fn listed(app: &App, frame: &mut Frame<'_>, inner: Rect, rows: Vec<Line<'static>>, at: usize) {
    let area = Rect { y: inner.y + 1, height: inner.height.saturating_sub(1), ..inner };
    let height = usize::from(area.height).max(1);
    let skip = (at + 1).saturating_sub(height);
    let rows: Vec<Line<'static>> = rows
        .into_iter()
        .enumerate()
        .skip(skip)
        .take(height)
        .map(|(nth, line)| if nth == at { line.style(app.theme.chosen()) } else { line })
        .collect();
    frame.render_widget(Paragraph::new(rows), area);
}

fn jump(app: &App, frame: &mut Frame<'_>, area: Rect, (typed, at): (&str, usize)) {
    let found = app.jumps(typed);
    let inner = open(app, frame, area, (50, 14), "go to");
    typing(app, frame, inner, typed);
    let columns = usize::from(inner.width);
    let rows = found.iter().map(|(server, place, is_open)| {
        let mut about = if *is_open { String::new() } else { "  joins it".to_owned() };
        if app.servers.len() > 1 {
            about.push_str(&format!("  {}", safe_line(&app.servers[*server].label)));
        }
        let name = safe_line(&place.to_string());
        let name = fit(&name, columns.saturating_sub(width(&about)).max(8)).into_owned();
        Line::from(vec![Span::raw(name), Span::styled(about, app.theme.faint())])
    });
    listed(app, frame, inner, rows.collect(), at);
}

fn search(app: &App, frame: &mut Frame<'_>, area: Rect, (typed, at): (&str, usize)) {
    let search = app.desk().and_then(|desk| desk.search());
    let place = app.chosen.as_ref().map(|(_, place)| safe_line(&place.to_string())).unwrap_or_default();
    let title = match search {
        None => format!("search {place}"),
        Some(it) if it.is_done => format!("{place}: {} found in {}", it.hits.len(), it.read),
        Some(it) if it.is_paused => format!("{place}: {} found in {}, Tab goes on", it.hits.len(), it.read),
        Some(it) => format!("{place}: {} found in {}…", it.hits.len(), it.read),
    };
    let inner = open(app, frame, area, (90, 18), &title);
    typing(app, frame, inner, typed);
    let columns = usize::from(inner.width);
    let hits = search.map(|it| &it.hits[..]).unwrap_or_default();
    let rows = hits.iter().map(|(_, message)| {
        let head = format!("{} {}: ", stamp(app, message), safe_line(message.from.user.as_str()));
        let head = fit(&head, columns / 2).into_owned();
        let words = search.map(|it| &it.words[..]).unwrap_or_default();
        let text = message.text().unwrap_or_default();
        let first = words.first().map(|it| it.0.as_str()).unwrap_or_default();
        let line = text.lines().find(|line| line.to_lowercase().contains(first)).unwrap_or(text);
        let room = columns.saturating_sub(width(&head));
        let line = fit(&safe_line(line), room).into_owned();
        Line::from(vec![Span::styled(head, app.theme.faint()), Span::raw(line)])
    });
    listed(app, frame, inner, rows.collect(), at);
}

fn stamp(app: &App, message: &Message) -> String {
    let at = Timestamp::from_millisecond(message.at.0).unwrap_or(Timestamp::UNIX_EPOCH);
    at.to_zoned(app.zone.clone()).strftime("%Y-%m-%d %H:%M").to_string()
}

fn card(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let Over::Card(server, from, id) = &app.over else { return };
    let found = app
        .servers
        .get(*server)
        .and_then(|server| server.desk.cards().iter().find(|it| it.from == *from && it.id == *id));
    let theme = app.theme;
    let columns = area.width.min(90);
    let room = usize::from(columns).saturating_sub(4);
    let Some(card) = found else {
        let inner = open(app, frame, area, (columns, 1), "permission card");
        frame.render_widget(Paragraph::new("it has expired"), inner);
        return;
    };
    let mut lines = vec![Line::from(vec![
        Span::styled(fit(&safe_line(&from.to_string()), room).into_owned(), theme.user(from.user.as_str())),
        Span::raw(" asks to use"),
    ])];
    for (part, style) in
        [("tool", theme.strong()), ("description", ratatui::style::Style::new()), ("input", theme.accent())]
    {
        let text = card.part(part).join("\n");
        for line in lines_of(&text, room.saturating_sub(2)) {
            lines.push(Line::from(Span::styled(format!("  {line}"), style)));
        }
    }
    // The question stays on the screen, however long the input is.
    let most = usize::from(area.height).saturating_sub(4);
    if lines.len() > most {
        lines.truncate(most.saturating_sub(1));
        lines.push(Line::from(Span::styled(
            "  … not all of it is shown: deny, or look at the agent",
            theme.warn(),
        )));
    }
    lines.push(Line::default());
    lines.push(Line::from(vec![
        Span::styled("y", theme.good()),
        Span::raw(" allow   "),
        Span::styled("n", theme.bad()),
        Span::raw(" deny   Esc later"),
    ]));
    let inner = open(app, frame, area, (columns, lines.len()), &format!("permission card {id}"));
    frame.render_widget(Paragraph::new(lines), inner);
}

fn receipts(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let Some(view) = app.view() else { return };
    let entry = view.entries.iter().find(|it| app.selected.as_ref() == Some(&Id::of(it)));
    let Some(Entry::Message(_, message)) = entry else {
        let inner = open(app, frame, area, (50, 1), "message");
        frame.render_widget(Paragraph::new("it is not stored yet"), inner);
        return;
    };
    let theme = app.theme;
    let room = usize::from(area.width.min(80)).saturating_sub(4);
    let mut lines = vec![
        Line::from(vec![
            Span::styled("from  ", theme.faint()),
            Span::raw(fit(&safe_line(&message.from.to_string()), room.saturating_sub(6)).into_owned()),
        ]),
        Line::from(vec![Span::styled("at    ", theme.faint()), Span::raw(stamp(app, message))]),
        Line::from(vec![Span::styled("proof ", theme.faint()), Span::raw(message.proof.as_str())]),
    ];
    if message.own {
        lines.push(Line::default());
        match &message.receipts {
            conclave_core::desk::Receipts::Known { readers, .. } if !readers.is_empty() => {
                for receipt in readers {
                    let style =
                        if receipt.state >= ReceiptState::Seen { theme.good() } else { theme.faint() };
                    let word = receipt
                        .word
                        .as_ref()
                        .map(|word| format!(": {}", safe_line(word)))
                        .unwrap_or_default();
                    let said = receipt.said();
                    let reader = safe_line(&receipt.reader.to_string());
                    let reader = fit(&reader, room.saturating_sub(14)).into_owned();
                    lines.push(Line::from(vec![
                        Span::styled(format!("{said:<14}"), style),
                        Span::raw(fit(&format!("{reader}{word}"), room.saturating_sub(14)).into_owned()),
                    ]));
                }
            }
            _ => lines.push(Line::from(Span::styled("stored; no reader is known", theme.faint()))),
        }
    }
    let place = app.chosen.as_ref().map(|(_, place): &(usize, Place)| safe_line(&place.to_string()));
    let title = format!("message {} of {}", message.seq, place.unwrap_or_default());
    let inner = open(app, frame, area, (80, lines.len()), &title);
    frame.render_widget(Paragraph::new(lines), inner);
}
