//! The head of a WebSocket frame as a server sends it (RFC 6455, section 5.2): unmasked, so that one encoding
//! of a message serves every connection that it goes to.

use alloc::vec::Vec;

/// The first byte of a whole binary message: FIN and opcode 2.
const BINARY: u8 = 0x82;
/// The head of a message of 126 to 65,535 bytes, which most are.
const USUAL_HEAD: usize = 4;

/// Appends one binary message to `out`, whose content `encode` appends.
pub fn append(out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[BINARY, 126, 0, 0]);
    encode(out);
    let len = out.len() - start - USUAL_HEAD;
    if let Ok(short) = u8::try_from(len)
        && short < 126
    {
        out[start + 1] = short;
        out.copy_within(start + USUAL_HEAD.., start + 2);
        out.truncate(start + 2 + len);
    } else if let Ok(medium) = u16::try_from(len) {
        out[start + 2..start + USUAL_HEAD].copy_from_slice(&medium.to_be_bytes());
    } else {
        out[start + 1] = 127;
        let len = (len as u64).to_be_bytes();
        out.splice(start + 2..start + USUAL_HEAD, len);
    }
}

/// The length of the message that starts at `bytes`, head included; `None` if there is no whole head.
pub fn message_len(bytes: &[u8]) -> Option<usize> {
    match *bytes.get(1)? & 0x7f {
        126 => Some(4 + usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => {
            let len: [u8; 8] = bytes.get(2..10)?.try_into().ok()?;
            usize::try_from(u64::from_be_bytes(len)).ok()?.checked_add(10)
        }
        short => Some(2 + usize::from(short)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn messages_of_any_length_stand_one_after_another(lens in proptest::collection::vec(
            prop_oneof![0..200usize, 65_500..65_600usize, Just(125), Just(126), Just(65_535), Just(65_536)], 1..6)) {
            let mut out = Vec::new();
            for (nth, len) in lens.iter().enumerate() {
                append(&mut out, |out| out.resize(out.len() + len, nth as u8));
            }
            let mut rest = &out[..];
            for (nth, len) in lens.iter().enumerate() {
                prop_assert_eq!(rest[0], BINARY);
                let whole = message_len(rest).unwrap();
                prop_assert_eq!(whole, len + if *len < 126 { 2 } else if *len < 65_536 { 4 } else { 10 });
                prop_assert!(rest[whole - len..whole].iter().all(|byte| *byte == nth as u8));
                rest = &rest[whole..];
            }
            prop_assert!(rest.is_empty());
        }
    }
}
