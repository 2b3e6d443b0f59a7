use alloc::string::String;
use alloc::vec::Vec;

use prost::Message as _;
use zeroize::Zeroizing;

use crate::{Error, MAX_CONTENT, RosterHead};

/// Lengths are hidden in steps of this many bytes.
pub const PADDING_STEP: usize = 256;
/// How many roster heads travel in one message at most.
pub const MAX_HEADS: usize = 16;

/// What a sealed message says.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// The sending session's handle on its machine.
    pub session: String,
    /// The message, in the encoding of plain channels.
    pub body: Vec<u8>,
    /// Heads of rosters as the sender knows them.
    pub heads: Vec<RosterHead>,
}

/// Shows no bodies.
impl core::fmt::Debug for Content {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Content({} bytes of {})", self.body.len(), self.session)
    }
}

/// The plaintext of a sealed message. The id is in it, so that the server cannot put a message under another's id.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct Inside {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    session: String,
    #[prost(bytes = "vec", tag = "3")]
    body: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    heads: Vec<Head>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Head {
    #[prost(uint64, tag = "1")]
    user: u64,
    #[prost(uint64, tag = "2")]
    length: u64,
    #[prost(bytes = "vec", tag = "3")]
    hash: Vec<u8>,
}

/// The encoding, then a 1, then zeros to a multiple of [`PADDING_STEP`].
pub(crate) fn write(id: &[u8; 16], content: &Content) -> Result<Zeroizing<Vec<u8>>, Error> {
    let heads = content.heads.iter().take(MAX_HEADS);
    let heads =
        heads.map(|head| Head { user: head.user, length: head.length, hash: head.hash.to_vec() }).collect();
    let inside =
        Inside { id: id.to_vec(), session: content.session.clone(), body: content.body.clone(), heads };
    let size = inside.encoded_len();
    if size > MAX_CONTENT {
        return Err(Error::TooLarge { what: "the message", size, most: MAX_CONTENT });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity((size + 1).next_multiple_of(PADDING_STEP)));
    bytes.extend_from_slice(&inside.encode_to_vec());
    bytes.push(1);
    let padded = bytes.len().next_multiple_of(PADDING_STEP);
    bytes.resize(padded, 0);
    Ok(bytes)
}

pub(crate) fn read(bytes: &[u8]) -> Option<([u8; 16], Content)> {
    let end = bytes.iter().rposition(|byte| *byte != 0)?;
    if bytes[end] != 1 {
        return None;
    }
    let inside = Inside::decode(&bytes[..end]).ok()?;
    if inside.heads.len() > MAX_HEADS {
        return None;
    }
    let heads = inside.heads.iter().map(|head| {
        Some(RosterHead { user: head.user, length: head.length, hash: head.hash.as_slice().try_into().ok()? })
    });
    let heads = heads.collect::<Option<_>>()?;
    Some((
        inside.id.as_slice().try_into().ok()?,
        Content { session: inside.session, body: inside.body, heads },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_and_its_length_is_hidden(body in prop::collection::vec(any::<u8>(), 0..700), id: [u8; 16]) {
            let content = Content { session: "a".into(), body, heads: vec![RosterHead { user: 1, length: 2, hash: [3; 32] }] };
            let written = write(&id, &content).unwrap();
            prop_assert_eq!(written.len() % PADDING_STEP, 0);
            prop_assert_eq!(read(&written), Some((id, content)));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&bytes);
        }
    }
}
