//! Protobuf to JSON.
//!
//! A message is read once to find its fields, which may come in any order and more than once, and to check them; then
//! the fields are printed in the order of their numbers. Only lists, and messages that come in pieces, are read again.

use alloc::vec::Vec;
use core::fmt::{self, Write as _};
use core::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::protobuf::{DEPTH, ProtobufError, Reader, Value};
use super::{Enum, Field, Kind, Message};

/// Appends the JSON of `message`.
pub(super) fn message(
    message: &'static Message,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), ProtobufError> {
    Printer { out: Text(out), found: Vec::new() }.message(message, bytes, DEPTH)
}

struct Printer<'o> {
    out: Text<'o>,
    /// For each field of each message that is being printed.
    found: Vec<Found>,
}

/// What a message has of one field.
#[derive(Clone, Default)]
struct Found {
    /// Nothing, once, or more than once.
    count: Count,
    /// From the tag of the first occurrence to the end of the last.
    all: Range<usize>,
    /// The last value, if it is a number.
    number: u64,
    /// Where the last value stands, if it is no number.
    content: Range<usize>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Count {
    #[default]
    None,
    One,
    Many,
}

impl Printer<'_> {
    fn message(&mut self, message: &'static Message, bytes: &[u8], depth: u32) -> Result<(), ProtobufError> {
        let depth = depth.checked_sub(1).ok_or(ProtobufError::TooDeep)?;
        let base = self.found.len();
        self.found.resize(base + message.fields.len(), Found::default());
        self.find(message, bytes, base, depth)?;
        let mut separator = b'{';
        for (index, field) in message.fields.iter().enumerate() {
            let found = self.found[base + index].clone();
            let (number, length) = (found.number, found.content.len());
            let absent = found.count == Count::None;
            let default = !matches!(field.kind, Kind::Message(_)) && number == 0 && length == 0;
            if absent || (default && field.omits_default()) {
                continue;
            }
            let start = self.out.0.len();
            self.out.0.push(separator);
            self.out.quote(field.json.as_bytes());
            self.out.0.push(b':');
            if !field.repeated {
                self.single(field, bytes, &found, depth)?;
            } else if !self.list(field, bytes, found.all, depth)? {
                self.out.0.truncate(start);
                continue;
            }
            separator = b',';
        }
        if separator == b'{' {
            self.out.0.push(b'{');
        }
        self.out.0.push(b'}');
        self.found.truncate(base);
        Ok(())
    }

    /// Fills in what the message has of each field, and checks all of it but messages.
    fn find(
        &mut self,
        message: &'static Message,
        bytes: &[u8],
        base: usize,
        depth: u32,
    ) -> Result<(), ProtobufError> {
        let mut reader = Reader::new(bytes, 0);
        loop {
            let start = reader.position();
            let Some((number, value)) = reader.field()? else { return Ok(()) };
            let Some((index, field)) = message.field(number) else { continue };
            match &value {
                Value::Varint(_) if field.kind.is_varint() => {}
                Value::Delimited(range) if !field.kind.is_varint() => {
                    if let Kind::String = field.kind {
                        core::str::from_utf8(&bytes[range.clone()])
                            .map_err(|_| ProtobufError::InvalidUtf8(field.name))?;
                    }
                }
                Value::Delimited(range) if field.repeated => {
                    let mut packed = Reader::new(&bytes[range.clone()], 0);
                    while packed.element()?.is_some() {}
                }
                // Another wire type than the schema's is another field, which is unknown.
                _ => continue,
            }
            if field.oneof.is_some() && self.found[base + index].count == Count::None {
                self.clear(message, field, bytes, base, depth)?;
            }
            let found = &mut self.found[base + index];
            if found.count == Count::None {
                found.count = Count::One;
                found.all = start..reader.position();
            } else {
                found.count = Count::Many;
                found.all.end = reader.position();
            }
            match value {
                Value::Varint(number) => found.number = narrowed(field.kind, number),
                Value::Delimited(range) => found.content = range,
                Value::Other => {}
            }
        }
    }

    /// Forgets the other members of the oneof that `field` belongs to: the last one counts.
    fn clear(
        &mut self,
        message: &'static Message,
        field: &Field,
        bytes: &[u8],
        base: usize,
        depth: u32,
    ) -> Result<(), ProtobufError> {
        for (index, other) in message.fields.iter().enumerate() {
            if other.oneof != field.oneof || self.found[base + index].count == Count::None {
                continue;
            }
            let found = core::mem::take(&mut self.found[base + index]);
            if let Kind::Message(_) = other.kind {
                // It must be well-formed even if it does not count. Printing is how messages are checked.
                let start = self.out.0.len();
                self.single(other, bytes, &found, depth)?;
                self.out.0.truncate(start);
            }
        }
        Ok(())
    }

    fn single(
        &mut self,
        field: &'static Field,
        bytes: &[u8],
        found: &Found,
        depth: u32,
    ) -> Result<(), ProtobufError> {
        let content = &bytes[found.content.clone()];
        match field.kind {
            Kind::Message(message) if found.count == Count::Many => {
                let whole = merged(field.number, bytes, &found.all)?;
                self.message(message, &whole, depth)
            }
            Kind::Message(message) => self.message(message, content, depth),
            Kind::String => {
                self.out.quote(content);
                Ok(())
            }
            Kind::Bytes => {
                self.out.base64(content);
                Ok(())
            }
            kind => {
                self.out.number(kind, found.number);
                Ok(())
            }
        }
    }

    /// Prints the elements of a list, of which all occurrences lie in `all`. False if there are none.
    fn list(
        &mut self,
        field: &'static Field,
        bytes: &[u8],
        all: Range<usize>,
        depth: u32,
    ) -> Result<bool, ProtobufError> {
        let mut separator = b'[';
        let mut reader = Reader::new(&bytes[..all.end], all.start);
        while let Some((number, value)) = reader.field()? {
            match value {
                _ if number != field.number => {}
                Value::Varint(value) if field.kind.is_varint() => {
                    self.out.0.push(core::mem::replace(&mut separator, b','));
                    self.out.number(field.kind, narrowed(field.kind, value));
                }
                Value::Delimited(range) if field.kind.is_varint() => {
                    let mut packed = Reader::new(&bytes[range], 0);
                    while let Some(value) = packed.element()? {
                        self.out.0.push(core::mem::replace(&mut separator, b','));
                        self.out.number(field.kind, narrowed(field.kind, value));
                    }
                }
                Value::Delimited(content) => {
                    self.out.0.push(core::mem::replace(&mut separator, b','));
                    let found = Found { count: Count::One, content, ..Found::default() };
                    self.single(field, bytes, &found, depth)?;
                }
                Value::Varint(_) | Value::Other => {}
            }
        }
        self.out.0.push(b']');
        Ok(separator == b',')
    }
}

/// The pieces of a message that came in several, one after the other: to read these is to merge them.
fn merged(number: u32, bytes: &[u8], all: &Range<usize>) -> Result<Vec<u8>, ProtobufError> {
    let mut whole = Vec::new();
    let mut reader = Reader::new(&bytes[..all.end], all.start);
    while let Some((other, value)) = reader.field()? {
        let Value::Delimited(range) = value else { continue };
        if other == number {
            // Each must be well-formed by itself: the end of one must not complete another.
            let piece = &bytes[range];
            let mut fields = Reader::new(piece, 0);
            while fields.field()?.is_some() {}
            whole.extend_from_slice(piece);
        }
    }
    Ok(whole)
}

/// The value that the type holds of a varint: protobuf drops the bits that are too many.
fn narrowed(kind: Kind, value: u64) -> u64 {
    match kind {
        Kind::Uint32 => u64::from(value as u32),
        Kind::Enum(_) => value as i32 as u64,
        Kind::Bool => u64::from(value != 0),
        _ => value,
    }
}

struct Text<'o>(&'o mut Vec<u8>);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl Text<'_> {
    fn number(&mut self, kind: Kind, value: u64) {
        // Writing to memory does not fail.
        let _ = match kind {
            Kind::Uint64 => write!(self, "\"{value}\""),
            Kind::Int64 => write!(self, "\"{}\"", value as i64),
            Kind::Bool => write!(self, "{}", value != 0),
            Kind::Enum(names) => match name(names, value as i32) {
                Some(name) => write!(self, "\"{name}\""),
                None => write!(self, "{}", value as i32),
            },
            _ => write!(self, "{value}"),
        };
    }

    /// Writes UTF-8 as a JSON string.
    fn quote(&mut self, mut text: &[u8]) {
        self.0.push(b'"');
        while let Some(at) = text.iter().position(|it| matches!(it, b'"' | b'\\' | 0..0x20)) {
            self.0.extend_from_slice(&text[..at]);
            let short = match text[at] {
                0x08 => b'b',
                b'\t' => b't',
                b'\n' => b'n',
                0x0c => b'f',
                b'\r' => b'r',
                byte => byte,
            };
            if short < 0x20 {
                // Writing to memory does not fail.
                let _ = write!(self, "\\u{short:04x}");
            } else {
                self.0.extend_from_slice(&[b'\\', short]);
            }
            text = &text[at + 1..];
        }
        self.0.extend_from_slice(text);
        self.0.push(b'"');
    }

    fn base64(&mut self, bytes: &[u8]) {
        self.0.push(b'"');
        let start = self.0.len();
        self.0.resize(start + bytes.len().div_ceil(3) * 4, 0);
        // It has exactly the space that it takes.
        let _ = STANDARD.encode_slice(bytes, &mut self.0[start..]);
        self.0.push(b'"');
    }
}

fn name(names: &Enum, number: i32) -> Option<&'static str> {
    names.values.iter().find(|it| it.0 == number).map(|it| it.1)
}
