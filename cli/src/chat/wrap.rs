//! Text in columns: broken between words, measured as terminals measure it.

use std::borrow::Cow;

use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

use crate::output::{line, shown};

/// Code points of one character that are shown: more marks than this write over other lines.
const MAX_MARKS: usize = 6;

/// What others wrote, made safe to draw. What joins emoji is left out: terminals disagree on how wide they are together.
pub(crate) fn safe(text: &str) -> String {
    shown(text).replace(['\u{200d}', '\u{fe0f}'], "").replace('\t', "    ")
}

/// The same on one line.
pub(crate) fn safe_line(text: &str) -> String {
    line(text).replace(['\u{200d}', '\u{fe0f}'], "")
}

/// How many columns a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// A text that takes at most `columns`, with `…` for what is cut off.
pub(crate) fn fit(text: &str, columns: usize) -> Cow<'_, str> {
    if text.width() <= columns {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    let mut used = 0;
    for grapheme in text.graphemes(true) {
        let more = grapheme.width();
        if used + more + 1 > columns {
            break;
        }
        out.push_str(grapheme);
        used += more;
    }
    if columns > 0 {
        out.push('…');
    }
    Cow::Owned(out)
}

/// A line, broken so that each part takes at most `columns`: between words, or within one that is longer.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(2);
    let (mut lines, mut current, mut used) = (Vec::new(), String::new(), 0);
    for word in text.split_word_bounds() {
        let wide = word.width();
        if used + wide <= columns {
            push(&mut current, word);
            used += wide;
            continue;
        }
        if word.trim().is_empty() {
            // A blank at the end of a line is the break.
            lines.push(std::mem::take(&mut current));
            used = 0;
            continue;
        }
        if wide <= columns {
            // Punctuation stays with its word, if that leaves something on the line.
            lines.push(std::mem::take(&mut current).trim_end().to_owned());
            push(&mut current, word);
            used = wide;
            continue;
        }
        for grapheme in word.graphemes(true) {
            let wide = grapheme.width();
            if used + wide > columns {
                lines.push(std::mem::take(&mut current));
                used = 0;
            }
            push(&mut current, grapheme);
            used += wide;
        }
    }
    lines.push(current);
    lines
}

fn push(line: &mut String, text: &str) {
    for grapheme in text.graphemes(true) {
        line.extend(grapheme.chars().take(MAX_MARKS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_break_between_words_and_wide_characters_count_twice() {
        assert_eq!(wrap("the build is green", 10), ["the build", "is green"]);
        assert_eq!(wrap("日本語の長い文", 6), ["日本語", "の長い", "文"]);
        assert_eq!(wrap("", 10), [""]);
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(width("e\u{301}"), 1);
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_it_may_be(text in any::<String>(), columns in 4usize..40) {
            let text = safe(&text);
            for line in text.lines() {
                for part in wrap(line, columns) {
                    prop_assert!(width(&part) <= columns, "{part:?}");
                }
                prop_assert!(width(&fit(line, columns)) <= columns);
            }
        }
    }
}
