//! What is shown: results on standard output (for people, or as JSON), everything else on standard error.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table};
use conclave_core::text::visible;
use serde::Serialize;
use serde_json::json;

use crate::args::Color;
use crate::error::Failure;

/// The program's two outputs. Colours reach terminals only; a closed pipe is [`Failure::Closed`].
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
    verbose: bool,
}

/// What stands out.
pub(crate) const STRONG: Style = Style::new().bold();
/// What stands back.
pub(crate) const FAINT: Style = Style::new().dimmed();
/// What went well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What needs a look.
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
/// What went wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();

/// `text` in a style.
pub(crate) fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// A line that begins at column `indent`, broken between words where the terminal would break it within one. What is no
/// terminal gets it whole.
pub(crate) fn hanging(text: &str, indent: usize) -> String {
    match terminal_size::terminal_size_of(io::stdout()) {
        Some((terminal_size::Width(width), _)) => wrapped(text, indent, usize::from(width)),
        None => text.to_owned(),
    }
}

fn wrapped(text: &str, indent: usize, width: usize) -> String {
    // Without room for a word or two it is better left to the terminal.
    if width < indent + 20 {
        return text.to_owned();
    }
    let (mut out, mut column) = (String::with_capacity(text.len()), indent);
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > indent && column + 1 + length > width {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if column > indent {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

/// One line of what others wrote: nothing in it drives the terminal or starts another line.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    match shown(text) {
        shown if shown.contains(['\n', '\t']) => Cow::Owned(shown.replace('\n', "\\n").replace('\t', "\\t")),
        shown => shown,
    }
}

/// What others wrote, with what drives a terminal or deceives a reader made visible. What joins the parts of an emoji
/// is neither: it is left where it does that.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(JOINERS) {
        return visible(text);
    }
    let mut out = String::with_capacity(text.len());
    let (mut start, mut before) = (0, None);
    for (at, c) in text.char_indices() {
        let after = text[at + c.len_utf8()..].chars().next();
        let joins = match c {
            '\u{200d}' => before.is_some_and(is_emoji) && after.is_some_and(is_emoji),
            '\u{fe0f}' => before.is_some_and(is_emoji) || after == Some('\u{20e3}'),
            _ => false,
        };
        if joins {
            out.push_str(&visible(&text[start..at]));
            out.push(c);
            start = at + c.len_utf8();
        }
        // A variation selector belongs to the emoji before it.
        if c != '\u{fe0f}' || !joins {
            before = Some(c);
        }
    }
    out.push_str(&visible(&text[start..]));
    Cow::Owned(out)
}

/// The zero-width joiner, and what asks for an emoji's colours.
const JOINERS: [char; 2] = ['\u{200d}', '\u{fe0f}'];

/// Arrows, symbols, dingbats and pictographs: the blocks whose characters are shown as emoji.
fn is_emoji(c: char) -> bool {
    matches!(c, '\u{2190}'..='\u{21ff}' | '\u{2300}'..='\u{23ff}' | '\u{25a0}'..='\u{27bf}' | '\u{2900}'..='\u{2bff}'
        | '\u{1f000}'..='\u{1faff}' | '©' | '®' | '‼' | '⁉' | '™' | 'ℹ' | '〰' | '〽' | '㊗' | '㊙')
}

impl Output {
    /// The outputs as the flags want them.
    pub fn new(json: bool, color: Color, verbose: bool) -> Self {
        let choice = match color {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
        Self { json, verbose }
    }

    /// Whether results are to be JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether details are asked for.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Prints one result: for people as `text`, for programs as `value`.
    ///
    /// # Errors
    /// [`Failure::Closed`] when nobody reads.
    pub fn result(&self, text: impl Display, value: impl Serialize) -> Result<(), Failure> {
        if self.json { self.json(&value) } else { self.text(text) }
    }

    /// Prints a line for people.
    pub(crate) fn text(&self, text: impl Display) -> Result<(), Failure> {
        let mut out = anstream::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()?;
        Ok(())
    }

    /// Prints a line of JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let mut text = serde_json::to_string(value).map_err(io::Error::other)?;
        text.push('\n');
        // Nothing in JSON is a colour: it goes out as it is.
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// Prints a list: for people an aligned table, or `none` if there is nothing; for programs the `items`.
    ///
    /// # Errors
    /// [`Failure::Closed`] when nobody reads.
    pub fn list<T: Serialize, const N: usize>(
        &self,
        items: &[T],
        header: [&str; N],
        none: &str,
        row: impl Fn(&T) -> [String; N],
    ) -> Result<(), Failure> {
        if self.json {
            return self.json(&items);
        }
        if items.is_empty() {
            self.note(none);
            return Ok(());
        }
        let rows: Vec<_> = items.iter().map(row).collect();
        self.text(table(header, &rows))
    }

    /// Says something that is no result.
    pub fn note(&self, text: impl Display) {
        // Whether anyone reads notes is nobody's failure.
        let _ = writeln!(anstream::stderr(), "{text}");
    }

    /// Says something that may be dangerous.
    pub(crate) fn warning(&self, text: impl Display) {
        self.note(format_args!("{WARN}warning:{WARN:#} {}", line(&text.to_string())));
    }

    /// Says something that `--verbose` asks for.
    pub fn detail(&self, text: impl Display) {
        if self.verbose {
            self.note(styled(FAINT, text));
        }
    }

    /// Says why it did not work, for people or as JSON, and gives the exit code for it.
    pub(crate) fn failure(&self, failure: &Failure) -> ExitCode {
        let (code, what, next) = match failure {
            Failure::Failed { what, next } => (1, what, next),
            Failure::Usage { what, next } => (2, what, next),
            Failure::Said => return ExitCode::from(1),
            Failure::Closed => return ExitCode::SUCCESS,
        };
        if self.json {
            let mut error = json!({ "error": what, "code": code });
            if !next.is_empty() {
                error["next"] = json!(next);
            }
            self.note(error);
            return ExitCode::from(code);
        }
        self.note(format_args!("{BAD}error:{BAD:#} {}", line(what)));
        if !next.is_empty() {
            self.note(format_args!("{STRONG} next:{STRONG:#} {}", line(next)));
        }
        ExitCode::from(code)
    }
}

/// Aligned columns without borders. Cells are shown as single lines of what others may have written.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table.add_rows(rows.iter().map(|row| row.iter().map(|cell| line(cell).into_owned()).collect::<Vec<_>>()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// A duration in milliseconds, to the hundredth: a request on one machine takes a few of them.
pub(crate) fn millis(span: Duration) -> String {
    format!("{:.2} ms", span.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emoji_are_shown_whole_and_what_hides_or_turns_is_seen() {
        for emoji in [
            "👩\u{200d}💻",
            "🏳\u{fe0f}\u{200d}🌈",
            "👩🏽\u{200d}🚀",
            "❤\u{fe0f}",
            "1\u{fe0f}\u{20e3}",
            "👨\u{200d}👩\u{200d}👧",
        ] {
            assert_eq!(shown(emoji), emoji);
        }
        for (text, seen) in [
            ("a\u{200d}b", "a\\u{200d}b"),
            ("👩\u{200d}", "👩\\u{200d}"),
            ("👩\u{200d}\u{200d}💻", "👩\\u{200d}\\u{200d}💻"),
            ("x\u{fe0f}", "x\\u{fe0f}"),
            ("❤\u{fe0f}\u{fe0f}\u{202e}", "❤\u{fe0f}\u{fe0f}\\u{202e}"),
            ("👩\u{200d}💻\u{1b}[2J", "👩\u{200d}💻\\u{1b}[2J"),
        ] {
            assert_eq!(shown(text), seen);
        }
    }

    #[test]
    fn lines_are_broken_between_words() {
        let text = "the key file holds no key, and it is open";
        assert_eq!(wrapped(text, 4, 24), "the key file holds\n    no key, and it is\n    open");
        assert_eq!(wrapped(text, 4, 200), text);
        assert_eq!(
            wrapped("a-word-that-is-longer-than-the-line b", 4, 24),
            "a-word-that-is-longer-than-the-line\n    b"
        );
        assert_eq!(wrapped(text, 18, 20), text);
    }

    #[test]
    fn a_table_is_aligned_and_safe() {
        let rows = [["ops".into(), "x\u{1b}[2J\ny".into()], ["日本".into(), "z".into()]];
        assert_eq!(table(["NAME", "TEXT"], &rows), "NAME  TEXT\nops   x\\u{1b}[2J\\ny\n日本  z");
    }
}
