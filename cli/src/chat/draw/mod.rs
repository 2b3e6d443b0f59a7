//! The screen, drawn from the state alone.

mod conversation;
mod entry;
mod over;

use conclave_core::desk::{CardState, Conversation, Place, Status};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};
use unicode_segmentation::UnicodeSegmentation as _;

use super::app::{App, Chosen, Id, Over};
use super::wrap::{fit, safe, safe_line, width, wrap};

/// Rows that the composer takes at most.
const MAX_COMPOSER: usize = 6;

/// What was drawn where.
#[derive(Clone, Debug, Default)]
pub(crate) struct Screen {
    pub(crate) list: Rect,
    /// The rows of the list's conversations.
    pub(crate) places: Vec<(u16, Chosen)>,
    pub(crate) conversation: Rect,
    /// Whose line each row of the conversation is.
    pub(crate) lines: Vec<Option<Id>>,
    /// The entries that are on the screen to their end.
    pub(crate) whole: Vec<Id>,
    /// The last entry of which something is on the screen.
    pub(crate) last: Option<Id>,
    pub(crate) card: Rect,
}

/// Draws everything, and tells the desk what is on the screen.
pub(crate) fn draw(app: &mut App, frame: &mut Frame<'_>) {
    app.divide();
    let area = frame.area();
    let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    let list = if area.width < 80 { 16 } else { 26 };
    let who = if area.width < 110 { 0 } else { 30 };
    let columns = [Constraint::Length(list), Constraint::Min(20), Constraint::Length(who)];
    let [left, middle, right] = Layout::horizontal(columns).areas(body);
    draw_head(app, frame, head);
    draw_list(app, frame, left);
    let composer = composer_rows(app, middle.width);
    let card = if app.waiting_card().is_some() { 2 } else { 0 };
    let rows = [
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(card),
        Constraint::Length(composer.len() as u16 + 1),
    ];
    let [title, conversation, card, typing] = Layout::vertical(rows).areas(middle);
    draw_title(app, frame, title);
    app.screen.conversation = conversation;
    app.screen.card = card;
    let look = conversation::draw(app, frame, conversation);
    draw_card_line(app, frame, card);
    draw_composer(app, frame, typing, &composer);
    if who > 0 {
        draw_who(app, frame, right);
    }
    over::draw(app, frame, body);
    // What lies under something is not read.
    if app.over == Over::Nothing {
        app.drawn(look);
    }
}

fn draw_head(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let theme = app.theme;
    let mut spans = vec![Span::styled(" conclave ", theme.chosen()), Span::raw(" ")];
    let chosen = app.chosen.as_ref().map_or(0, |it| it.0);
    if let Some(server) = app.servers.get(chosen) {
        let label = safe_line(&server.label);
        let who = server.desk.path().map(|path| safe_line(&path.to_string())).unwrap_or_default();
        let (word, style) = match server.desk.status() {
            Status::Up => (String::new(), theme.good()),
            Status::Connecting => ("connecting…".to_owned(), theme.warn()),
            Status::Down(why) => (format!("not connected, trying again: {}", safe_line(why)), theme.warn()),
            Status::Refused(why) => (format!("not let in: {}", safe_line(why)), theme.bad()),
        };
        match server.desk.status() {
            Status::Up => spans.push(Span::raw(format!("{who}  "))),
            _ => spans.push(Span::styled(format!("{word}  "), style)),
        }
        spans.push(Span::styled(label, theme.faint()));
    }
    let note = app.note.clone().or_else(|| decided(app));
    let note = note.map_or_else(|| "F1 help".into(), |note| safe_line(&note));
    let note = fit(&note, usize::from(area.width) / 2).into_owned();
    let wide = (width(&note) as u16 + 2).min(area.width);
    let [left, right] = Layout::horizontal([Constraint::Min(0), Constraint::Length(wide)]).areas(area);
    frame.render_widget(Paragraph::new(Line::from(spans)), left);
    frame.render_widget(Paragraph::new(Span::styled(format!(" {note}"), theme.faint())), right);
}

/// What the answer to a card came to.
fn decided(app: &App) -> Option<String> {
    app.servers.iter().flat_map(|it| it.desk.cards().iter().rev()).find_map(|card| match card.state {
        CardState::Decided(decision) => Some(format!("card {}: {}", card.id, decision.as_str())),
        CardState::Answering { .. } => Some(format!("card {}: answering…", card.id)),
        CardState::Waits | CardState::Failed => None,
    })
}

fn draw_list(app: &mut App, frame: &mut Frame<'_>, area: Rect) {
    let theme = app.theme;
    let block = Block::new().borders(Borders::RIGHT).border_style(theme.faint());
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let mut lines: Vec<(Line<'static>, Option<Chosen>)> = Vec::new();
    let several = app.servers.len() > 1;
    for (nth, server) in app.servers.iter().enumerate() {
        if several {
            let label = fit(&safe_line(&server.label), usize::from(inner.width)).into_owned();
            lines.push((Span::styled(label, theme.faint()).into(), None));
        }
        let conversations = server.desk.conversations();
        let is_channel = |it: &&Conversation| matches!(it.place, Place::Channel(_));
        for (title, wanted) in [("channels", true), ("people", false)] {
            let mut of = conversations.iter().filter(|it| is_channel(it) == wanted).peekable();
            if of.peek().is_none() {
                continue;
            }
            lines.push((Span::styled(format!(" {title}"), theme.faint()).into(), None));
            for conversation in of {
                let chosen = (nth, conversation.place.clone());
                let is_chosen = app.chosen.as_ref() == Some(&chosen);
                lines.push((place_line(app, conversation, inner.width, is_chosen), Some(chosen)));
            }
        }
    }
    // The chosen one is always on the screen.
    let rows = usize::from(inner.height);
    let at = lines.iter().position(|(_, chosen)| chosen.is_some() && *chosen == app.chosen).unwrap_or(0);
    let skip = (at + 2).saturating_sub(rows).min(lines.len().saturating_sub(rows));
    let (mut shown, mut places) = (Vec::new(), Vec::new());
    for (row, (line, chosen)) in lines.into_iter().skip(skip).take(rows).enumerate() {
        places.extend(chosen.map(|chosen| (inner.y + row as u16, chosen)));
        shown.push(line);
    }
    frame.render_widget(Paragraph::new(shown), inner);
    (app.screen.list, app.screen.places) = (inner, places);
}

fn place_line(app: &App, conversation: &Conversation, columns: u16, is_chosen: bool) -> Line<'static> {
    let theme = app.theme;
    let count = conversation.count;
    let more = if conversation.more { "+" } else { "" };
    let mark = match count.mentions {
        0 if count.unread == 0 => String::new(),
        0 => format!(" {}{more}", count.unread),
        mentions => format!(" @{mentions} {}{more}", count.unread),
    };
    let is_person = matches!(conversation.place, Place::Person(_));
    let sign = match (is_person, conversation.is_live) {
        (true, true) => "●",
        (true, false) => "○",
        (false, _) if conversation.lost.is_some() => "!",
        (false, _) => " ",
    };
    let room = usize::from(columns).saturating_sub(width(&mark) + 3);
    let name = safe_line(&conversation.place.to_string());
    let name = fit(if is_person { &name[1..] } else { &name }, room).into_owned();
    let style = match () {
        () if is_chosen => theme.chosen(),
        () if count.unread > 0 => theme.strong(),
        () if !conversation.is_live => theme.faint(),
        () => Style::new(),
    };
    let padding = " ".repeat(room - width(&name));
    let mark_style = if count.mentions > 0 { theme.bad() } else { theme.accent() };
    let sign_style = if conversation.lost.is_some() { theme.bad() } else { theme.good() };
    Line::from(vec![
        Span::styled(sign, sign_style),
        Span::styled(format!(" {name}{padding}"), style),
        Span::styled(mark, mark_style),
    ])
}

fn draw_title(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let theme = app.theme;
    let Some((server, place)) = &app.chosen else { return };
    let desk = &app.servers[*server].desk;
    let list = desk.conversations();
    let lost = list.iter().find(|it| it.place == *place).and_then(|it| it.lost.clone());
    let name = safe_line(&place.to_string());
    let here = desk.present(place).len();
    let about = match (lost, place) {
        (Some(why), _) => format!("not followed: {}", safe_line(&why)),
        (None, Place::Channel(_)) => format!("{here} here"),
        (None, Place::Person(_)) if here == 0 => "not online; messages are kept".to_owned(),
        (None, Place::Person(_)) => format!("{here} online"),
    };
    let room = usize::from(area.width).saturating_sub(width(&about) + 4);
    let line = Line::from(vec![
        Span::raw(" "),
        Span::styled(fit(&name, room).into_owned(), theme.strong()),
        Span::styled(format!("  {about}"), theme.faint()),
    ]);
    frame.render_widget(Paragraph::new(line), area);
}

/// The rows of what is typed.
fn composer_rows(app: &mut App, columns: u16) -> Vec<String> {
    let columns = usize::from(columns).saturating_sub(3);
    let Some(composer) = app.composer() else { return vec![String::new()] };
    rows(composer.text(), columns)
        .into_iter()
        .map(|(_, row)| row)
        .take(1000)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .take(MAX_COMPOSER)
        .rev()
        .collect()
}

/// The rows of a text, and where in it each begins. Its characters keep their places, so that the cursor does.
fn rows(text: &str, columns: usize) -> Vec<(usize, String)> {
    let (mut rows, mut row, mut start, mut used) = (Vec::new(), String::new(), 0, 0);
    for (at, grapheme) in text.grapheme_indices(true) {
        let drawn = if grapheme == "\t" { "    ".to_owned() } else { safe(grapheme) };
        let wide = width(&drawn);
        if grapheme == "\n" || used + wide > columns {
            let next = if grapheme == "\n" { at + 1 } else { at };
            rows.push((std::mem::replace(&mut start, next), std::mem::take(&mut row)));
            used = 0;
        }
        if grapheme != "\n" {
            row.push_str(&drawn);
            used += wide;
        }
    }
    rows.push((start, row));
    rows
}

fn draw_composer(app: &mut App, frame: &mut Frame<'_>, area: Rect, _rows: &[String]) {
    let theme = app.theme;
    let reply_to = app.reply_to;
    let answered = reply_to.and_then(|seq| {
        let view = app.view()?;
        view.entries.iter().find_map(|entry| match entry {
            conclave_core::desk::Entry::Message(_, it) if it.seq == seq => {
                Some(safe_line(&it.from.to_string()))
            }
            _ => None,
        })
    });
    let hint = match (&app.selected, reply_to) {
        (Some(Id::Outgoing(_)), _) => " s send again · d drop · Esc ".to_owned(),
        (Some(_), _) => " ↑↓ choose · r reply · i who has it · Esc ".to_owned(),
        (None, Some(_)) => format!(" reply to {} · Esc ", answered.unwrap_or_default()),
        (None, None) if !app.is_at_newest() => " End: newest ".to_owned(),
        (None, None) => String::new(),
    };
    let hint = fit(&hint, usize::from(area.width).saturating_sub(2)).into_owned();
    let block = Block::new()
        .borders(Borders::TOP)
        .border_style(theme.faint())
        .title(Span::styled(hint, theme.accent()));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let has_focus = app.over == Over::Nothing && app.selected.is_none();
    let Some(composer) = app.composer() else { return };
    let columns = usize::from(inner.width).saturating_sub(3);
    let all = rows(composer.text(), columns);
    let (cursor, is_empty) = (composer.cursor(), composer.is_empty());
    let at = all.iter().rposition(|(start, _)| *start <= cursor).unwrap_or(0);
    let column = width(&rows(&composer.text()[all[at].0..cursor], usize::MAX)[0].1);
    let height = usize::from(inner.height).max(1);
    let skip = (at + 1).saturating_sub(height).max(all.len().saturating_sub(height).min(at));
    for (nth, (_, row)) in all.iter().enumerate().skip(skip).take(height) {
        let area = Rect { y: inner.y + (nth - skip) as u16, height: 1, ..inner };
        let sign = if nth == 0 { "> " } else { "  " };
        frame.render_widget(
            Paragraph::new(Line::from(vec![Span::styled(sign, theme.accent()), Span::raw(row.clone())])),
            area,
        );
    }
    if is_empty {
        let area = Rect {
            x: (inner.x + 2).min(inner.right()),
            width: inner.width.saturating_sub(2),
            height: 1,
            ..inner
        };
        frame.render_widget(
            Paragraph::new(Span::styled("write, / to search, ? for help", theme.faint())),
            area,
        );
    }
    if has_focus {
        let x = (inner.x + 2 + column as u16).min(inner.right().saturating_sub(1));
        frame.set_cursor_position(Position::new(x, inner.y + (at - skip) as u16));
    }
}

/// One line about the card that waits.
fn draw_card_line(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let Some((server, from, id)) = app.waiting_card() else { return };
    let theme = app.theme;
    let desk = &app.servers[server].desk;
    let Some(card) = desk.cards().iter().find(|it| it.from == from && it.id == id) else { return };
    let tool = card.part("tool").join(" ");
    let what = card.part("description").join(" ");
    let columns = usize::from(area.width).saturating_sub(2);
    let failed = if card.state == CardState::Failed { " (the answer was not sent)" } else { "" };
    let first = format!("{} asks: {}{failed}", safe_line(&from.to_string()), safe_line(&tool));
    let second = format!("Ctrl-O answers  {}", safe_line(&what));
    let lines = vec![
        Line::from(Span::styled(format!(" {}", fit(&first, columns)), theme.warn())),
        Line::from(Span::raw(format!(" {}", fit(&second, columns)))),
    ];
    frame.render_widget(Paragraph::new(lines), area);
}

/// Who is in the conversation.
fn draw_who(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let theme = app.theme;
    let block = Block::new().borders(Borders::LEFT).border_style(theme.faint());
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let Some((server, place)) = &app.chosen else { return };
    let server = &app.servers[*server];
    let own = server.desk.path();
    let columns = usize::from(inner.width).saturating_sub(1);
    let mut lines = vec![Line::from(Span::styled(" here", theme.faint()))];
    let mut before = None;
    let view = app.view();
    for path in server.desk.present(place) {
        if before != Some(&path.user) {
            let name = safe_line(path.user.as_str());
            lines.push(Line::from(Span::styled(
                format!(" {}", fit(&name, columns)),
                theme.user(path.user.as_str()),
            )));
            before = Some(&path.user);
        }
        let session = safe_line(&format!("{}/{}", path.machine, path.session));
        let is_me = own == Some(path);
        // A level is this machine's word about its own agents.
        let is_near = own.is_some_and(|own| own.user == path.user && own.machine == path.machine) && !is_me;
        let wrote = view.as_ref().and_then(|view| {
            view.entries.iter().rev().find_map(|entry| match entry {
                conclave_core::desk::Entry::Message(_, it) if it.from == *path => Some((it.at, it.agent)),
                _ => None,
            })
        });
        let is_agent = wrote.is_some_and(|(_, agent)| agent);
        let about = match (is_me, wrote) {
            (true, _) => "you".to_owned(),
            (false, Some((at, _))) if is_near && is_agent => {
                format!("{} {}", (server.level)(place), since(app, at.0))
            }
            (false, Some((at, _))) => since(app, at.0),
            (false, None) => String::new(),
        };
        let sign = if is_agent { "◆" } else { " " };
        let session = fit(&session, columns.saturating_sub(width(&about) + 4)).into_owned();
        lines.push(Line::from(vec![
            Span::styled(format!(" {sign} "), theme.accent()),
            Span::raw(session),
            Span::styled(format!(" {about}"), theme.faint()),
        ]));
    }
    lines.truncate(usize::from(inner.height));
    frame.render_widget(Paragraph::new(lines), inner);
}

/// How long ago somebody wrote.
fn since(app: &App, at: i64) -> String {
    let minutes = (app.now.wall.0 - at).max(0) / 60_000;
    match minutes {
        0 => "now".to_owned(),
        1..60 => format!("{minutes}m"),
        60..1440 => format!("{}h", minutes / 60),
        _ => format!("{}d", minutes / 1440),
    }
}

/// A text of others as lines of this width.
fn lines_of(text: &str, columns: usize) -> Vec<String> {
    safe(text).lines().flat_map(|line| wrap(line, columns)).collect()
}
