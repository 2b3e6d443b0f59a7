//! The conversation: only what is on the screen is laid out, however much is loaded.

use std::collections::VecDeque;

use conclave_core::desk::{Entry, Look, View};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::entry;
use crate::chat::app::{App, Id, Scroll};

/// Entries before the first one on the screen, and behind the last, at which more are loaded.
const NEAR: usize = 40;

/// The lines on the screen, from the top, and the entries that they are of.
struct Laid {
    rows: VecDeque<(usize, Line<'static>)>,
    /// Which line of the first entry is at the top.
    skip: usize,
}

/// Draws the conversation; returns what of it is on the screen.
pub(super) fn draw(app: &mut App, frame: &mut Frame<'_>, area: Rect) -> Look {
    let area = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area };
    let (columns, height) = (usize::from(area.width).max(8), usize::from(area.height));
    let Some(view) = app.view() else {
        draw_nothing(app, frame, area);
        return Look::default();
    };
    if view.entries.is_empty() {
        let look = Look { older: !view.at_start, newer: !view.at_end, ..Look::default() };
        let is_empty = view.at_start && view.at_end && !view.is_loading;
        let text = match &app.chosen {
            Some((_, place)) if is_empty && entry::is_person(place) => "nothing was written here lately",
            _ if is_empty => "no messages yet",
            _ => "loading…",
        };
        frame.render_widget(Paragraph::new(Span::styled(text, app.theme.faint())), area);
        if is_empty {
            app.scroll = Scroll::Newest;
        }
        (app.screen.lines, app.screen.whole, app.screen.last) = (Vec::new(), Vec::new(), None);
        return look;
    }
    let (scroll, laid) = lay_out(app, &view, columns, height);
    let first = laid.rows.front().map_or(0, |(nth, _)| *nth);
    let last = laid.rows.back().map_or(0, |(nth, _)| *nth);
    let id = |nth: usize| view.entries.get(nth).map(Id::of);
    let lines_of: Vec<Option<Id>> = laid.rows.iter().map(|(nth, _)| id(*nth)).collect();
    // An entry is whole if what comes behind it is on the screen, or it is the last one and its last line is.
    let ends = |nth: usize| {
        let lines =
            entry::lines(app, nth.checked_sub(1).map(|it| &view.entries[it]), &view.entries[nth], columns)
                .len();
        let shown = laid.rows.iter().filter(|(of, _)| *of == nth).count();
        shown + if nth == first { laid.skip } else { 0 } >= lines
    };
    let end = if ends(last) { last + 1 } else { last };
    let whole: Vec<Id> = (first..end).filter_map(id).collect();
    let shown = (first..end).filter_map(|nth| match view.entries.get(nth)? {
        Entry::Message(Some(source), message) => Some(((*source).clone(), message.seq)),
        _ => None,
    });
    let look = Look {
        shown: shown.collect(),
        older: first < NEAR && !view.at_start,
        newer: last + NEAR >= view.entries.len() && !view.at_end,
    };
    let selected = app.selected.clone();
    let reversed = app.theme.chosen();
    let lines: Vec<Line<'static>> = laid
        .rows
        .into_iter()
        .zip(&lines_of)
        .map(
            |((_, line), id)| if selected.is_some() && *id == selected { line.style(reversed) } else { line },
        )
        .collect();
    // What is less than a screen stands at the bottom, beside what is typed.
    let missing = height.saturating_sub(lines.len());
    let area = Rect { y: area.y + missing as u16, height: lines.len() as u16, ..area };
    let last_id = id(last);
    frame.render_widget(Paragraph::new(lines), area);
    app.screen.lines = std::iter::repeat_n(None, missing).chain(lines_of).collect();
    (app.screen.whole, app.screen.last) = (whole, last_id);
    (app.scroll, app.scroll_by) = (scroll, 0);
    look
}

fn lay_out(app: &App, view: &View<'_>, columns: usize, height: usize) -> (Scroll, Laid) {
    let lines = |nth: usize| {
        let before = nth.checked_sub(1).map(|before| &view.entries[before]);
        entry::lines(app, before, &view.entries[nth], columns)
    };
    let position = |id: &Id| view.entries.iter().position(|entry| Id::of(entry) == *id);
    let at_bottom = || {
        let mut rows = VecDeque::new();
        let mut skip = 0;
        for nth in (0..view.entries.len()).rev() {
            let of = lines(nth);
            let room = height - rows.len();
            skip = of.len().saturating_sub(room);
            for line in of.into_iter().skip(skip).rev() {
                rows.push_front((nth, line));
            }
            if rows.len() >= height {
                break;
            }
        }
        Laid { rows, skip }
    };
    // Where the top is to be: an entry, and a line of it that may lie before or behind it.
    let (nth, line) = match &app.scroll {
        Scroll::Newest => {
            let laid = at_bottom();
            let top = laid.rows.front().map_or(0, |(nth, _)| *nth);
            if app.scroll_by >= 0 {
                return (Scroll::Newest, laid);
            }
            (top, laid.skip as isize)
        }
        Scroll::Unread => match first_unread(app, view) {
            Some(nth) => (nth, -(height as isize / 3)),
            None if view.is_loading => return (Scroll::Unread, at_bottom()),
            None => return (Scroll::Newest, at_bottom()),
        },
        Scroll::Show(id) => match position(id) {
            Some(nth) => (nth, -(height as isize / 2)),
            None if view.is_loading => return (app.scroll.clone(), at_bottom()),
            None => return (Scroll::Newest, at_bottom()),
        },
        Scroll::At(id, line) => match position(id) {
            Some(nth) => (nth, *line as isize),
            None => return (Scroll::Newest, at_bottom()),
        },
    };
    let (mut nth, mut line) = (nth, line + app.scroll_by);
    while line < 0 && nth > 0 {
        nth -= 1;
        line += lines(nth).len() as isize;
    }
    let mut line = line.max(0) as usize;
    let mut here = lines(nth);
    while line >= here.len() && nth + 1 < view.entries.len() {
        line -= here.len();
        nth += 1;
        here = lines(nth);
    }
    let skip = line.min(here.len().saturating_sub(1));
    let mut rows: VecDeque<_> = here.into_iter().skip(skip).map(|it| (nth, it)).take(height).collect();
    let mut next = nth + 1;
    while rows.len() < height && next < view.entries.len() {
        let room = height - rows.len();
        rows.extend(lines(next).into_iter().take(room).map(|it| (next, it)));
        next += 1;
    }
    let last = view.entries.len() - 1;
    let ends_here = rows.len() < height
        || rows.back().is_some_and(|(of, _)| *of == last)
            && rows.iter().filter(|(of, _)| *of == last).count() + if nth == last { skip } else { 0 }
                >= lines(last).len();
    if ends_here {
        let laid = at_bottom();
        let top = laid.rows.front().map_or(0, |(nth, _)| *nth);
        let scroll =
            if view.at_end { Scroll::Newest } else { Scroll::At(Id::of(&view.entries[top]), laid.skip) };
        return (scroll, laid);
    }
    (Scroll::At(Id::of(&view.entries[nth]), skip), Laid { rows, skip })
}

/// The first message behind what was read when the conversation was opened.
fn first_unread(app: &App, view: &View<'_>) -> Option<usize> {
    view.entries.iter().position(|entry| match entry {
        Entry::Message(Some(source), message) => {
            let divider = app.divider.iter().find(|(of, _)| of == *source);
            !message.own && divider.is_some_and(|(_, read)| message.seq > *read)
        }
        _ => false,
    })
}

fn draw_nothing(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let is_up = app.servers.iter().any(|it| *it.desk.status() == conclave_core::desk::Status::Up);
    let text = if is_up { "Ctrl-K finds channels and people" } else { "connecting…" };
    frame.render_widget(Paragraph::new(Span::styled(text, app.theme.faint())), area);
}
