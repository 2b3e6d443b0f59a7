//! Which of the bytes that arrived may be parsed: whole frames, and heads that will be refused.
//!
//! tungstenite sets as much memory aside as a frame's head announces. Whoever announces much and sends little
//! must not make it.

use conclave_core::wire::websocket::Head;

/// How many of `bytes`, which begin where a frame begins, may be parsed. A frame has at most `most` bytes of content.
pub(crate) fn parsable(bytes: &[u8], most: usize) -> usize {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        // A kind that does not exist is refused at its first byte.
        if rest.len() >= 2 && matches!(rest[0] & 0x0f, 3..=7 | 11..=15) {
            return bytes.len();
        }
        let Some(head) = Head::read(rest) else { return at };
        match usize::try_from(head.content) {
            Ok(content) if content <= most => {
                let frame = head.size.saturating_add(content);
                if frame > rest.len() {
                    return at;
                }
                at += frame;
            }
            _ => return bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a client sends it.
    fn frame(first: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match len {
            0..126 => bytes.push(0x80 | len as u8),
            126..65_536 => {
                bytes.push(0x80 | 126);
                bytes.extend((len as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        bytes.resize(bytes.len() + 4 + len, 0xff);
        bytes
    }

    #[test]
    fn whole_frames_are_parsed_wherever_the_bytes_end() {
        let lens = [0, 1, 125, 126, 127, 300, 65_535, 65_536, 5];
        let (mut bytes, mut ends) = (Vec::new(), vec![0]);
        for len in lens {
            bytes.extend(frame(0x82, len));
            ends.push(bytes.len());
        }
        for cut in 0..=bytes.len() {
            let whole = *ends.iter().rev().find(|end| **end <= cut).unwrap();
            assert_eq!(parsable(&bytes[..cut], 1 << 20), whole, "{cut}");
        }
    }

    #[test]
    fn what_will_be_refused_is_not_waited_for() {
        let refused: [&[u8]; 5] = [
            &[0x83, 0x85],
            &[0x8f, 0x80, 0],
            &[0x82, 0xfe, 0x10, 0x01],
            &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0x10, 0x01],
            &[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
        ];
        for head in refused {
            assert_eq!(parsable(head, 4096), head.len(), "{head:x?}");
            let behind = [frame(0x89, 3), head.to_vec()].concat();
            assert_eq!(parsable(&behind, 4096), behind.len());
        }
        // As much as is allowed is waited for.
        let allowed = frame(0x82, 4096);
        assert_eq!(parsable(&allowed[..allowed.len() - 1], 4096), 0);
        assert_eq!(parsable(&allowed, 4096), allowed.len());
    }
}
