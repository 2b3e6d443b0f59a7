//! The wire format of protobuf: varints, and the fields of a message one after the other.

use alloc::vec::Vec;
use core::ops::Range;

/// How deep groups and messages may nest, as in Python.
pub(super) const DEPTH: u32 = 100;

/// Bytes that are no protobuf message of the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// A field ends behind the message.
    #[error("a field is truncated")]
    Truncated,
    /// A number takes more than 10 bytes, or a tag more than 5.
    #[error("a number is too long")]
    LongVarint,
    /// A field has the number 0 or an unknown wire type, or the end of a group stands without its start.
    #[error("a tag is invalid")]
    InvalidTag,
    /// A text is not UTF-8.
    #[error("{0} is not UTF-8")]
    InvalidUtf8(&'static str),
    /// Groups or messages nest more than 100 deep.
    #[error("nested too deeply")]
    TooDeep,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Varint(u64),
    /// Where a text, bytes, a message or a packed list stand.
    Delimited(Range<usize>),
    /// A wire type that the schema does not use. It was skipped.
    Other,
}

/// Reads the fields of a message.
pub(super) struct Reader<'p> {
    bytes: &'p [u8],
    at: usize,
}

impl<'p> Reader<'p> {
    pub(super) fn new(bytes: &'p [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Where the next field starts.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The number and the value of the next field.
    pub(super) fn field(&mut self) -> Result<Option<(u32, Value)>, ProtobufError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let (number, wire_type) = self.tag()?;
        let value = match wire_type {
            0 => Value::Varint(self.varint()?),
            2 => Value::Delimited(self.delimited()?),
            other => {
                self.skip(number, other, DEPTH)?;
                Value::Other
            }
        };
        Ok(Some((number, value)))
    }

    /// The next element of a packed list.
    pub(super) fn element(&mut self) -> Result<Option<u64>, ProtobufError> {
        if self.at == self.bytes.len() { Ok(None) } else { self.varint().map(Some) }
    }

    fn tag(&mut self) -> Result<(u32, u8), ProtobufError> {
        let start = self.at;
        let tag = u32::try_from(self.varint()?).map_err(|_| ProtobufError::InvalidTag)?;
        if self.at - start > 5 {
            return Err(ProtobufError::LongVarint);
        }
        match (tag >> 3, (tag & 7) as u8) {
            (0, _) => Err(ProtobufError::InvalidTag),
            tag => Ok(tag),
        }
    }

    /// What stands in the tenth byte above 64 bits is dropped, as by Python.
    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0;
        for (nth, byte) in self.bytes[self.at..].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * nth);
            if *byte < 0x80 {
                self.at += nth + 1;
                return Ok(value);
            }
        }
        Err(if self.bytes.len() - self.at < 10 {
            ProtobufError::Truncated
        } else {
            ProtobufError::LongVarint
        })
    }

    fn delimited(&mut self) -> Result<Range<usize>, ProtobufError> {
        let length = usize::try_from(self.varint()?).map_err(|_| ProtobufError::Truncated)?;
        let start = self.at;
        self.advance(length)?;
        Ok(start..self.at)
    }

    fn advance(&mut self, length: usize) -> Result<(), ProtobufError> {
        if length > self.bytes.len() - self.at {
            return Err(ProtobufError::Truncated);
        }
        self.at += length;
        Ok(())
    }

    fn skip(&mut self, number: u32, wire_type: u8, depth: u32) -> Result<(), ProtobufError> {
        match wire_type {
            0 => self.varint().map(drop),
            1 => self.advance(8),
            2 => self.delimited().map(drop),
            3 if depth == 0 => Err(ProtobufError::TooDeep),
            3 => loop {
                if self.at == self.bytes.len() {
                    return Err(ProtobufError::Truncated);
                }
                match self.tag()? {
                    (end, 4) if end == number => return Ok(()),
                    (inner, wire_type) => self.skip(inner, wire_type, depth - 1)?,
                }
            },
            5 => self.advance(4),
            _ => Err(ProtobufError::InvalidTag),
        }
    }
}

/// Appends `value`, in as few bytes as it takes.
pub(super) fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the tag of a field.
pub(super) fn write_tag(number: u32, delimited: bool, out: &mut Vec<u8>) {
    write_varint(u64::from(number) << 3 | if delimited { 2 } else { 0 }, out);
}

/// Puts the length of what stands from `start` on right before it.
pub(super) fn insert_length(start: usize, out: &mut Vec<u8>) {
    let end = out.len();
    write_varint((end - start) as u64, out);
    let prefix = out.len() - end;
    out[start..].rotate_right(prefix);
}
