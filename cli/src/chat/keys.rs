//! Keys and the mouse.

use ratatui::crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use ratatui::layout::Position;

use super::app::{App, Over, Scroll};

/// Lines that a turn of the wheel scrolls by.
const WHEEL: isize = 3;

impl App {
    /// Takes what came from the terminal.
    pub(crate) fn terminal(&mut self, event: Event) {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.key(key),
            Event::Mouse(mouse) => self.mouse(mouse),
            Event::Paste(text) => self.paste(&text),
            Event::FocusGained => self.is_focused = true,
            Event::FocusLost => self.is_focused = false,
            Event::Key(_) | Event::Resize(..) => {}
        }
    }

    fn paste(&mut self, text: &str) {
        match &mut self.over {
            Over::Nothing => {
                if let Some(composer) = self.composer() {
                    composer.insert(text);
                }
            }
            Over::Jump { typed, at } | Over::Search { typed, at } => {
                typed.extend(text.chars().filter(|c| !c.is_control()).take(200));
                *at = 0;
            }
            Over::Help | Over::Card(..) | Over::Receipts => {}
        }
        self.searched();
    }

    fn key(&mut self, key: KeyEvent) {
        self.note = None;
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => {
                let is_typing = self.composer().is_some_and(|it| !it.is_empty());
                if self.over != Over::Nothing {
                    self.close_over();
                } else if is_typing {
                    self.composer().into_iter().for_each(|it| it.clear());
                } else {
                    self.has_ended = true;
                }
                return;
            }
            KeyCode::Char('q') if control => return self.has_ended = true,
            _ => {}
        }
        match self.over.clone() {
            Over::Nothing if self.selected.is_some() => self.selection_key(key),
            Over::Nothing => self.plain_key(key),
            Over::Help | Over::Receipts => self.over = Over::Nothing,
            Over::Card(..) => match key.code {
                KeyCode::Char('y') => self.answer(true),
                KeyCode::Char('n') => self.answer(false),
                KeyCode::Esc => self.over = Over::Nothing,
                _ => {}
            },
            Over::Jump { typed, at } => self.jump_key(key, typed, at),
            Over::Search { typed, at } => self.search_key(key, typed, at),
        }
    }

    /// Keys that do the same whether a message is chosen or not; false for others.
    fn common_key(&mut self, key: KeyEvent) -> bool {
        let (control, alt) =
            (key.modifiers.contains(KeyModifiers::CONTROL), key.modifiers.contains(KeyModifiers::ALT));
        let shift = key.modifiers.contains(KeyModifiers::SHIFT);
        let page = (self.screen.conversation.height.max(3) - 2) as isize;
        match key.code {
            KeyCode::Char('k') if control => {
                self.refresh();
                self.over = Over::Jump { typed: String::new(), at: 0 };
            }
            KeyCode::Char('o') if control => match self.waiting_card() {
                Some((server, from, id)) => self.over = Over::Card(server, from, id),
                None => self.note = Some("no agent asks for a permission".into()),
            },
            KeyCode::Char('r') if control => self.mark_read(),
            KeyCode::Char('f') if control => self.over = Over::Search { typed: String::new(), at: 0 },
            KeyCode::Char('n') if control => self.step(1, false),
            KeyCode::Char('p') if control => self.step(-1, false),
            KeyCode::Char('x') if control => self.leave(),
            KeyCode::F(1) => self.over = Over::Help,
            KeyCode::PageUp => self.scroll_by -= page,
            KeyCode::PageDown => self.scroll_by += page,
            KeyCode::Up if alt && shift => self.step(-1, true),
            KeyCode::Down if alt && shift => self.step(1, true),
            KeyCode::Up if alt => self.step(-1, false),
            KeyCode::Down if alt => self.step(1, false),
            KeyCode::Up if control || shift => self.select(-1),
            KeyCode::Down if control || shift => self.select(1),
            _ => return false,
        }
        true
    }

    fn plain_key(&mut self, key: KeyEvent) {
        if self.common_key(key) {
            return;
        }
        let (control, alt) =
            (key.modifiers.contains(KeyModifiers::CONTROL), key.modifiers.contains(KeyModifiers::ALT));
        let is_empty = self.composer().is_none_or(|it| it.is_empty());
        match key.code {
            KeyCode::Esc if self.reply_to.is_some() => return self.reply_to = None,
            KeyCode::Esc => return self.newest(),
            KeyCode::Enter if alt || key.modifiers.contains(KeyModifiers::SHIFT) => {}
            KeyCode::Enter => return self.send(),
            KeyCode::Tab => return self.complete(),
            KeyCode::Char('/') if is_empty && !alt => {
                return self.over = Over::Search { typed: String::new(), at: 0 };
            }
            KeyCode::Char('?') if is_empty => return self.over = Over::Help,
            KeyCode::End if is_empty => return self.newest(),
            _ => {}
        }
        let Some(composer) = self.composer() else { return };
        match key.code {
            KeyCode::Enter => composer.insert("\n"),
            KeyCode::Char('j') if control => composer.insert("\n"),
            KeyCode::Char('w') if control => composer.delete_word(),
            KeyCode::Char('u') if control => composer.delete_line(),
            KeyCode::Char('a') if control => composer.home(),
            KeyCode::Char('e') if control => composer.end(),
            KeyCode::Char('b') if alt => composer.word_left(),
            KeyCode::Char('d') if control => composer.delete(),
            KeyCode::Char(c) if !control && !alt => composer.insert(c.encode_utf8(&mut [0; 4])),
            KeyCode::Backspace if control || alt => composer.delete_word(),
            KeyCode::Backspace => composer.backspace(),
            KeyCode::Delete => composer.delete(),
            KeyCode::Left if control || alt => composer.word_left(),
            KeyCode::Right if control || alt => composer.word_right(),
            KeyCode::Left => composer.left(),
            KeyCode::Right => composer.right(),
            KeyCode::Up => composer.up(),
            KeyCode::Down => composer.down(),
            KeyCode::Home => composer.home(),
            KeyCode::End => composer.end(),
            _ => {}
        }
    }

    /// A message is chosen.
    fn selection_key(&mut self, key: KeyEvent) {
        if self.common_key(key) {
            return;
        }
        match key.code {
            KeyCode::Up => self.select(-1),
            KeyCode::Down => self.select(1),
            KeyCode::Char('r') => self.reply(),
            KeyCode::Char('i') | KeyCode::Enter => self.over = Over::Receipts,
            KeyCode::Char('s') => self.retry(true),
            KeyCode::Char('d') => self.retry(false),
            KeyCode::Char('?') => self.over = Over::Help,
            KeyCode::End => self.newest(),
            KeyCode::Esc => self.selected = None,
            _ => {}
        }
    }

    fn jump_key(&mut self, key: KeyEvent, mut typed: String, mut at: usize) {
        let found = self.jumps(&typed);
        match key.code {
            KeyCode::Esc => return self.over = Over::Nothing,
            KeyCode::Enter => {
                self.over = Over::Nothing;
                if let Some(place) = found.into_iter().nth(at) {
                    self.jump(place);
                }
                return;
            }
            KeyCode::Up => at = at.saturating_sub(1),
            KeyCode::Down | KeyCode::Tab => at = (at + 1).min(found.len().saturating_sub(1)),
            _ => {
                edit(key, &mut typed);
                at = 0;
            }
        }
        self.over = Over::Jump { typed, at };
    }

    fn search_key(&mut self, key: KeyEvent, mut typed: String, mut at: usize) {
        let search = self.desk().and_then(|desk| desk.search());
        let (count, is_paused) = search.map_or((0, false), |it| (it.hits.len(), it.is_paused));
        match key.code {
            KeyCode::Esc => return self.close_over(),
            KeyCode::Enter if count > 0 => return self.go(at),
            KeyCode::Enter => {}
            KeyCode::Tab if is_paused => self.search_on(),
            KeyCode::Up => at = at.saturating_sub(1),
            KeyCode::Down | KeyCode::Tab => at = (at + 1).min(count.saturating_sub(1)),
            _ => {
                let before = typed.clone();
                edit(key, &mut typed);
                if typed != before {
                    self.over = Over::Search { typed, at: 0 };
                    return self.searched();
                }
            }
        }
        self.over = Over::Search { typed, at };
    }

    /// The words to look for have changed.
    fn searched(&mut self) {
        if let Over::Search { typed, .. } = &self.over {
            let typed = typed.clone();
            self.search(&typed);
        }
    }

    fn mouse(&mut self, mouse: MouseEvent) {
        let at = Position::new(mouse.column, mouse.row);
        match mouse.kind {
            MouseEventKind::ScrollUp => self.scroll_by -= WHEEL,
            MouseEventKind::ScrollDown => self.scroll_by += WHEEL,
            MouseEventKind::Down(MouseButton::Left) => {
                if self.over != Over::Nothing {
                    return self.close_over();
                }
                let on = |rows: &[(u16, super::app::Chosen)]| {
                    rows.iter().find(|(row, _)| *row == mouse.row).map(|(_, chosen)| chosen.clone())
                };
                if self.screen.list.contains(at) {
                    if let Some(chosen) = on(&self.screen.places) {
                        self.open(chosen);
                    }
                } else if self.screen.conversation.contains(at) {
                    let lines = &self.screen.lines;
                    let row = usize::from(mouse.row - self.screen.conversation.y);
                    self.selected = lines.get(row).cloned().flatten();
                } else if self.screen.card.contains(at)
                    && let Some((server, from, id)) = self.waiting_card()
                {
                    self.over = Over::Card(server, from, id);
                }
            }
            _ => {}
        }
    }

    /// Whether the newest message is at the bottom.
    pub(crate) fn is_at_newest(&self) -> bool {
        self.scroll == Scroll::Newest
    }
}

/// A key in a line that is typed into.
fn edit(key: KeyEvent, typed: &mut String) {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('u') if control => typed.clear(),
        KeyCode::Char(c) if !control && !c.is_control() && typed.len() < 200 => typed.push(c),
        KeyCode::Backspace => drop(typed.pop()),
        _ => {}
    }
}
