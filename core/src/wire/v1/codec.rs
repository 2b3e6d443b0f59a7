//! bincode 2 behind one door: the only place that names it.
//!
//! Decoding borrows: texts and bytes are slices of the input, so a length that lies is found out before
//! anything is allocated. Lists grow as their elements are read, never by what the input claims.

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire::MAX_FRAME;

/// Bytes that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed frame")]
pub struct Malformed;

/// bincode counts a number at its full width, however short it was written: eight bytes for one.
const LIMIT: usize = 8 * MAX_FRAME;
const DECODE: Configuration<LittleEndian, Varint, Limit<LIMIT>> =
    bincode::config::standard().with_limit::<LIMIT>();
const ENCODE: Configuration<LittleEndian, Varint> = bincode::config::standard();

/// Reads one value that takes all of `bytes`.
pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Malformed> {
    match bincode::serde::borrow_decode_from_slice(bytes, DECODE) {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        _ => Err(Malformed),
    }
}

/// Appends `value` to `out`.
pub(super) fn encode(value: &impl Serialize, out: &mut Vec<u8>) {
    struct Append<'a>(&'a mut Vec<u8>);

    impl Writer for Append<'_> {
        fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }
    }

    // Only a writer that fails or a sequence of unknown length can fail here, and there is neither.
    let _ = bincode::serde::encode_into_writer(value, Append(out), ENCODE);
}

/// `#[serde(with = "bytes")]`: a byte slice written and borrowed as one piece, not number by number.
pub(super) mod bytes {
    use super::*;

    pub(in crate::wire) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<&'de [u8], D::Error> {
        <&[u8]>::deserialize(deserializer)
    }
}

/// `#[serde(deserialize_with = "list")]`: a list that believes no claimed length.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct Elements<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = elements.next_element()? {
                list.push(element);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(Elements(PhantomData))
}
