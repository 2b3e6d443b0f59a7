//! What the bridge reads and shows: lines are the same however they arrive in pieces and what is held is bounded;
//! what others wrote cannot leave its frame.

#![no_main]

use conclave_core::bridge::{About, Framed, Line, LineReader, Place, Server, escape};
use conclave_core::name::SessionPath;
use conclave_core::text::{is_unsafe, one_line};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 64;

fuzz_target!(|input: &[u8]| {
    let Some((piece, bytes)) = input.split_first() else { return };
    let read = |piece: usize| {
        let (mut reader, mut lines) = (LineReader::new(LIMIT), Vec::new());
        for piece in bytes.chunks(piece) {
            reader.feed(piece, |line| lines.push(line));
            assert!(reader.held() <= LIMIT + 1, "{} bytes are held", reader.held());
        }
        reader.finish(|line| lines.push(line));
        lines
    };
    let lines = read(usize::from(*piece) + 1);
    assert_eq!(lines, read(usize::MAX));
    for line in &lines {
        if let Line::Text(text) = line {
            // A byte that is no text stands as three.
            assert!(text.len() <= 3 * LIMIT && !text.contains('\n') && !text.trim_ascii().is_empty());
        }
    }

    let text = String::from_utf8_lossy(bytes);
    let harmless = |c: char| c == '\n' || c == '\t' || !is_unsafe(c);
    let escaped = escape(&text);
    assert!(!escaped.contains(['<', '>', '"']) && escaped.chars().all(harmless));
    let line = one_line(&text, LIMIT);
    assert!(!line.chars().any(is_unsafe));
    let from = SessionPath::new("u", "m", "s").unwrap();
    let server = Server::new("server");
    let (place, around) = (Place::Channel(&text), (0, 0));
    let tag = Framed {
        server: &server,
        place,
        from: &from,
        at: None,
        received: None,
        about: About::default(),
        text: &text,
        around,
    }
    .tag();
    assert_eq!((tag.matches('<').count(), tag.matches('>').count()), (2, 2), "{tag}");
    assert!(tag.ends_with("\n</message>"));
});
