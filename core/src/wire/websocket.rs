//! WebSocket messages as they lie in a buffer (RFC 6455, section 5.2). A server's are unmasked, so that one encoding of a
//! message serves every connection that it goes to.

use alloc::vec::Vec;
use core::ops::Range;

/// The first byte of a whole binary message: FIN and opcode 2.
const BINARY: u8 = 0x82;
/// The first byte of a whole text message: FIN and opcode 1.
const TEXT: u8 = 0x81;
/// The bits of the first byte that say what kind of frame it is.
const OPCODE: u8 = 0x0f;
/// The bit that says that a mask follows.
const MASKED: u8 = 0x80;
/// The head of a message of 126 to 65,535 bytes, which most are.
const USUAL_HEAD: usize = 4;

/// What a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes.
    Binary,
    /// UTF-8.
    Text,
}

/// Appends one message of a server to `out`, whose content is `parts` one after another.
pub fn append_parts(kind: Kind, parts: &[&[u8]], out: &mut Vec<u8>) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let first = match kind {
        Kind::Binary => BINARY,
        Kind::Text => TEXT,
    };
    out.reserve(len + 10);
    out.push(first);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short), _) if short < 126 => out.push(short),
        (_, Ok(medium)) => {
            out.push(126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Appends one binary message of a server to `out`, whose content `encode` appends.
pub fn append(out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
    append_with::<0>(out, encode);
}

/// As [`append`], but a client's message, which has a mask. It is zero, so that the content stays as it is: that hides
/// nothing from an old proxy, and is for measuring and testing servers only.
pub fn append_masked(out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
    append_with::<4>(out, encode);
}

fn append_with<const MASK: usize>(out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    let masked = if MASK > 0 { MASKED } else { 0 };
    out.extend_from_slice(&[BINARY, masked | 126, 0, 0]);
    out.extend_from_slice(&[0; MASK]);
    encode(out);
    let len = out.len() - start - USUAL_HEAD - MASK;
    if let Ok(short) = u8::try_from(len)
        && short < 126
    {
        out[start + 1] = masked | short;
        out.copy_within(start + USUAL_HEAD.., start + 2);
        out.truncate(start + 2 + MASK + len);
    } else if let Ok(medium) = u16::try_from(len) {
        out[start + 2..start + USUAL_HEAD].copy_from_slice(&medium.to_be_bytes());
    } else {
        out[start + 1] = masked | 127;
        let len = (len as u64).to_be_bytes();
        out.splice(start + 2..start + USUAL_HEAD, len);
    }
}

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What kind of frame it is.
    pub opcode: u8,
    /// Bytes of the head itself, its mask included.
    pub size: usize,
    /// Bytes of content, as announced: not to be trusted.
    pub content: u64,
}

impl Head {
    /// Reads the head of the frame that starts at `bytes`; `None` if it is not whole.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [first, second, rest @ ..] = bytes else { return None };
        let (extended, content) = match second & !MASKED {
            126 => (2, u64::from(u16::from_be_bytes(*rest.first_chunk()?))),
            127 => (8, u64::from_be_bytes(*rest.first_chunk()?)),
            short => (0, u64::from(short)),
        };
        let mask = if second & MASKED == 0 { 0 } else { 4 };
        Some(Self { opcode: first & OPCODE, size: 2 + extended + mask, content })
    }
}

/// Where the content of the message that starts at `bytes` lies; where that ends, the message does. `None` if there is
/// no whole head.
pub fn content(bytes: &[u8]) -> Option<Range<usize>> {
    let head = Head::read(bytes)?;
    Some(head.size..head.size.checked_add(usize::try_from(head.content).ok()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn messages_of_any_length_stand_one_after_another(
            lens in proptest::collection::vec(
                prop_oneof![0..200usize, 65_500..65_600usize, Just(125), Just(126), Just(65_535), Just(65_536)],
                1..6,
            ),
            masked in any::<bool>(),
        ) {
            let mut out = Vec::new();
            for (nth, len) in lens.iter().enumerate() {
                let encode = |out: &mut Vec<u8>| out.resize(out.len() + len, nth as u8);
                if masked { append_masked(&mut out, encode) } else { append(&mut out, encode) }
            }
            let mut rest = &out[..];
            for (nth, len) in lens.iter().enumerate() {
                prop_assert_eq!(rest[0], BINARY);
                let content = content(rest).unwrap();
                let head = if *len < 126 { 2 } else if *len < 65_536 { 4 } else { 10 };
                prop_assert_eq!(content.start, head + if masked { 4 } else { 0 });
                prop_assert_eq!(content.len(), *len);
                prop_assert!(rest[content.clone()].iter().all(|byte| *byte == nth as u8));
                rest = &rest[content.end..];
            }
            prop_assert!(rest.is_empty());
        }
    }
}
