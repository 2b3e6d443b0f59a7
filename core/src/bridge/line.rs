//! Lines out of a stream of bytes, bounded: whatever arrives, at most one line's worth of it is held.

use alloc::string::String;
use alloc::vec::Vec;

use crate::opaque::Opaque;

/// The longest line that is taken, in bytes.
pub const MAX_LINE: usize = 8 * 1024 * 1024;

/// Above this a buffer is given back once its line was read, so that one long line does not stay for ever.
const KEEP: usize = 64 * 1024;

/// What stood on a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Its text, without the end of line. Bytes that are no UTF-8 stand as U+FFFD.
    Text(Opaque<String>),
    /// It was longer than the limit and was skipped.
    TooLong,
}

/// Cuts a stream of bytes into lines. A line ends with `\n`, with or without `\r` before it; blank lines are
/// passed over. The memory held is bounded by the limit, and grows with what arrived, never with what is claimed.
#[derive(Clone)]
pub struct LineReader {
    limit: usize,
    partial: Vec<u8>,
    skipping: bool,
}

impl Default for LineReader {
    fn default() -> Self {
        Self::new(MAX_LINE)
    }
}

impl LineReader {
    /// Takes lines of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, partial: Vec::new(), skipping: false }
    }

    /// Reads on with `bytes`, and hands each line that ends in them to `each`.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Line)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.take(&bytes[..end]);
            bytes = &bytes[end + 1..];
            self.end(&mut each);
        }
        self.take(bytes);
    }

    /// The stream has ended: what stood on its last line, if it had no end of line.
    pub fn finish(&mut self, mut each: impl FnMut(Line)) {
        self.end(&mut each);
    }

    /// How many bytes of an unfinished line are held.
    pub fn held(&self) -> usize {
        self.partial.len()
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.skipping {
            return;
        }
        // One more than the limit, for a carriage return that is not of the line.
        if self.partial.len() + bytes.len() > self.limit + 1 {
            self.skipping = true;
            self.partial = Vec::new();
            return;
        }
        self.partial.extend_from_slice(bytes);
    }

    fn end(&mut self, each: &mut impl FnMut(Line)) {
        let line = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        if self.skipping || line.len() > self.limit {
            each(Line::TooLong);
        } else if !line.trim_ascii().is_empty() {
            each(Line::Text(Opaque(String::from_utf8_lossy(line).into_owned())));
        }
        self.skipping = false;
        if self.partial.capacity() > KEEP {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn read(limit: usize, chunks: &[&[u8]]) -> Vec<Line> {
        let mut reader = LineReader::new(limit);
        let mut lines = Vec::new();
        for chunk in chunks {
            reader.feed(chunk, |line| lines.push(line));
        }
        reader.finish(|line| lines.push(line));
        lines
    }

    fn text(text: &str) -> Line {
        Line::Text(Opaque(String::from(text)))
    }

    #[test]
    fn lines_end_with_or_without_a_carriage_return_and_at_the_end_of_the_stream() {
        assert_eq!(read(9, &[b"a\r\n\n \r\nb", b"c\nd"]), vec![text("a"), text("bc"), text("d")]);
    }

    #[test]
    fn a_line_past_the_limit_is_skipped_and_the_next_is_read() {
        assert_eq!(
            read(3, &[b"abc\nabcd\nabc\r\nab", b"cd", b"ef\nx\n"]),
            vec![text("abc"), Line::TooLong, text("abc"), Line::TooLong, text("x")]
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(read(9, &[b"a\xff\xfeb\n"]), vec![text("a\u{fffd}\u{fffd}b")]);
    }

    proptest! {
        #[test]
        fn how_the_bytes_were_cut_makes_no_difference(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b' '), any::<u8>()], 0..200),
            cuts in proptest::collection::vec(0..200_usize, 0..10),
            limit in 0..20_usize,
        ) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts {
                let cut = cut.clamp(from, bytes.len());
                chunks.push(&bytes[from..cut]);
                from = cut;
            }
            chunks.push(&bytes[from..]);
            prop_assert_eq!(read(limit, &chunks), read(limit, &[&bytes]));
            let mut reader = LineReader::new(limit);
            for chunk in chunks {
                reader.feed(chunk, |_| ());
                prop_assert!(reader.held() <= limit + 1);
            }
        }
    }
}
