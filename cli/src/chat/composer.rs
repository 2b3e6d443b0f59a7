//! What is being typed: several lines, a cursor that moves by what a person calls a character, a history.

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation as _};

/// Bytes that fit into a message.
const MAX_TYPED: usize = 64 * 1024;
/// Messages that the history keeps.
const MAX_HISTORY: usize = 100;

/// A text under a cursor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Composer {
    text: String,
    cursor: usize,
    history: Vec<String>,
    /// Which message of the history is shown, and what was typed before.
    recalled: Option<(usize, String)>,
}

impl Composer {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn cursor(&self) -> usize {
        self.cursor
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Inserts a text as it stands, but for what no message should contain.
    pub(crate) fn insert(&mut self, text: &str) {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let clean: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
        let room = MAX_TYPED.saturating_sub(self.text.len());
        let clean = &clean[..clean.floor_char_boundary(room)];
        self.text.insert_str(self.cursor, clean);
        self.cursor += clean.len();
        self.recalled = None;
    }

    /// Replaces what lies between `start` and the cursor.
    pub(crate) fn replace_from(&mut self, start: usize, with: &str) {
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
        self.insert(with);
    }

    pub(crate) fn left(&mut self) {
        self.cursor = self.before();
    }

    pub(crate) fn right(&mut self) {
        self.cursor = self.after();
    }

    pub(crate) fn backspace(&mut self) {
        let start = self.before();
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
    }

    pub(crate) fn delete(&mut self) {
        let end = self.after();
        self.text.replace_range(self.cursor..end, "");
    }

    pub(crate) fn delete_word(&mut self) {
        let start = self.word_start();
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
    }

    pub(crate) fn delete_line(&mut self) {
        let start = self.line_start();
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
    }

    pub(crate) fn word_left(&mut self) {
        self.cursor = self.word_start();
    }

    pub(crate) fn word_right(&mut self) {
        let rest = &self.text[self.cursor..];
        let word = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
        let end = rest[word..].find(char::is_whitespace).map_or(rest.len(), |at| word + at);
        self.cursor += end;
    }

    pub(crate) fn home(&mut self) {
        self.cursor = self.line_start();
    }

    pub(crate) fn end(&mut self) {
        let rest = &self.text[self.cursor..];
        self.cursor += rest.find('\n').unwrap_or(rest.len());
    }

    /// One line up, or back in the history.
    pub(crate) fn up(&mut self) {
        let start = self.line_start();
        if start == 0 {
            return self.recall(1);
        }
        let column = self.text[start..self.cursor].graphemes(true).count();
        let above = self.text[..start - 1].rfind('\n').map_or(0, |at| at + 1);
        self.go_to(above, column);
    }

    /// One line down, or forward in the history.
    pub(crate) fn down(&mut self) {
        let Some(next) = self.text[self.cursor..].find('\n') else { return self.recall(-1) };
        let column = self.text[self.line_start()..self.cursor].graphemes(true).count();
        self.go_to(self.cursor + next + 1, column);
    }

    /// Takes the text out, and remembers it.
    pub(crate) fn take(&mut self) -> String {
        let text = std::mem::take(&mut self.text);
        self.cursor = 0;
        self.recalled = None;
        if !text.trim().is_empty() && self.history.last() != Some(&text) {
            if self.history.len() >= MAX_HISTORY {
                self.history.remove(0);
            }
            self.history.push(text.clone());
        }
        text
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.cursor = 0;
        self.recalled = None;
    }

    /// The word before the cursor, if it begins with `@` or `#`, and where it begins.
    pub(crate) fn name(&self) -> Option<(usize, &str)> {
        let start = self.word_start();
        let word = &self.text[start..self.cursor];
        word.starts_with(['@', '#']).then_some((start, word))
    }

    fn recall(&mut self, back: isize) {
        let (at, typed) = match &self.recalled {
            Some((at, typed)) => (*at, typed.clone()),
            None if back > 0 => (self.history.len(), self.text.clone()),
            None => return,
        };
        let Some(at) = at.checked_add_signed(-back) else { return };
        let text = self.history.get(at).cloned();
        self.recalled = text.is_some().then(|| (at, typed.clone()));
        self.text = text.unwrap_or(typed);
        self.cursor = self.text.len();
    }

    fn go_to(&mut self, line: usize, column: usize) {
        let end = self.text[line..].find('\n').map_or(self.text.len(), |at| line + at);
        let offset = self.text[line..end].grapheme_indices(true).nth(column).map_or(end - line, |(at, _)| at);
        self.cursor = line + offset;
    }

    fn line_start(&self) -> usize {
        self.text[..self.cursor].rfind('\n').map_or(0, |at| at + 1)
    }

    fn word_start(&self) -> usize {
        let before = self.text[..self.cursor].trim_end();
        before
            .rfind(char::is_whitespace)
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8))
    }

    fn before(&self) -> usize {
        let found = GraphemeCursor::new(self.cursor, self.text.len(), true).prev_boundary(&self.text, 0);
        found.ok().flatten().unwrap_or(0)
    }

    fn after(&self) -> usize {
        let found = GraphemeCursor::new(self.cursor, self.text.len(), true).next_boundary(&self.text, 0);
        found.ok().flatten().unwrap_or(self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn typed(text: &str) -> Composer {
        let mut composer = Composer::default();
        composer.insert(text);
        composer
    }

    #[test]
    fn the_cursor_moves_by_what_is_seen() {
        let mut composer = typed("ae\u{301}日");
        composer.left();
        composer.backspace();
        assert_eq!(composer.text(), "a日");
        composer.delete();
        assert_eq!(composer.text(), "a");
    }

    #[test]
    fn arrows_move_between_lines_and_then_through_the_history() {
        let mut composer = typed("first");
        composer.take();
        composer.insert("one\ntwo");
        composer.up();
        assert_eq!(composer.cursor(), 3);
        composer.up();
        assert_eq!(composer.text(), "first");
        composer.down();
        assert_eq!(composer.text(), "one\ntwo");
    }

    #[test]
    fn what_is_pasted_drives_nothing() {
        assert_eq!(typed("a\r\nb\u{1b}[31m\rc").text(), "a\nb[31m\nc");
    }

    #[test]
    fn names_are_found_before_the_cursor() {
        assert_eq!(typed("hi @be").name(), Some((3, "@be")));
        assert_eq!(typed("mail a@be").name(), None);
        assert_eq!(typed("#o").name(), Some((0, "#o")));
    }

    proptest! {
        #[test]
        fn any_keys_in_any_text_keep_the_cursor_between_characters(
            text in any::<String>(),
            keys in proptest::collection::vec((0usize..14, any::<char>()), 0..60),
        ) {
            let mut composer = typed(&text);
            for (key, c) in keys {
                match key {
                    0 => composer.left(),
                    1 => composer.right(),
                    2 => composer.up(),
                    3 => composer.down(),
                    4 => composer.home(),
                    5 => composer.end(),
                    6 => composer.backspace(),
                    7 => composer.delete(),
                    8 => composer.delete_word(),
                    9 => composer.word_left(),
                    10 => composer.word_right(),
                    11 => composer.insert("\n"),
                    12 => drop(composer.take()),
                    _ => composer.insert(&c.to_string()),
                }
                prop_assert!(composer.text().is_char_boundary(composer.cursor()));
                prop_assert!(composer.cursor() <= composer.text().len());
            }
        }
    }
}
