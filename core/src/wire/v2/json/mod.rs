//! The canonical JSON mapping of version 2, translated to and from protobuf without building the message.
//!
//! Both directions follow a table that is generated from the schema, so a field that is added there is known here. They
//! agree with Python's `protobuf` package, called as `json_format.Parse(…, ignore_unknown_fields=True)` and
//! `json_format.MessageToJson(…)`, except where [`to_protobuf`] and [`to_json`] say otherwise.

mod parse;
mod print;
mod protobuf;

use alloc::vec::Vec;

pub use parse::JsonError;
pub use protobuf::ProtobufError;

use super::table::{CLIENT_FRAME, MESSAGES, SERVER_FRAME};

/// A message type of the schema.
pub struct Message {
    /// The type's name, without the package.
    pub name: &'static str,
    /// The fields, in ascending order of their numbers.
    pub fields: &'static [Field],
}

/// A field of a message type.
pub struct Field {
    /// The number that stands for the field in protobuf.
    pub number: u32,
    /// The name in the schema. JSON texts may use it, too.
    pub name: &'static str,
    /// The name in JSON.
    pub json: &'static str,
    /// The type of the value, or of each element.
    pub kind: Kind,
    /// Whether the value is a list.
    pub repeated: bool,
    /// The oneof that the field belongs to, by its position in the message type.
    pub oneof: Option<u32>,
}

/// The type of a field.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A number below 2^32.
    Uint32,
    /// A number below 2^64; a string in JSON.
    Uint64,
    /// A signed number of 64 bits; a string in JSON.
    Int64,
    /// True or false.
    Bool,
    /// Text.
    String,
    /// Bytes; base64 in JSON.
    Bytes,
    /// One of a set of names; numbers without a name are kept.
    Enum(&'static Enum),
    /// Another message.
    Message(&'static Message),
}

/// An enum of the schema.
pub struct Enum {
    /// The numbers and their names.
    pub values: &'static [(i32, &'static str)],
}

impl Message {
    fn field(&self, number: u32) -> Option<(usize, &'static Field)> {
        let index = self.fields.binary_search_by_key(&number, |it| it.number).ok()?;
        Some((index, &self.fields[index]))
    }
}

impl Field {
    /// Whether a zero or an empty value is left out: it means the same as no value.
    fn omits_default(&self) -> bool {
        self.oneof.is_none() && !self.repeated
    }
}

impl Kind {
    /// Whether the value is a varint in protobuf. Lists of these are packed.
    fn is_varint(self) -> bool {
        !matches!(self, Self::String | Self::Bytes | Self::Message(_))
    }
}

/// All message types of the schema.
pub fn messages() -> &'static [Message] {
    &MESSAGES
}

/// The message type with the name `name`, such as `ClientFrame`.
pub fn message(name: &str) -> Option<&'static Message> {
    MESSAGES.iter().find(|it| it.name == name)
}

/// Translates a JSON text to protobuf and appends it to `out`; after an error, `out` is what it was.
///
/// The result is canonical: fields in ascending order of their numbers, defaults left out, the shortest varints, lists
/// of numbers packed.
///
/// Names that the schema does not have are ignored with their values, whatever those are, as unknown fields are in
/// protobuf. Otherwise this accepts what the mapping demands of parsers and refuses the rest. In particular, it refuses
/// what Python accepts by accident: names of enum values that the schema does not have, base64 with foreign characters
/// or of both alphabets at once, `1_000`, and a list or string in place of an empty message. It accepts one thing less
/// on purpose: -2^63 must be written in plain digits, since `serde_json` does not tell -2^63 in exponent form from a
/// number just below it.
///
/// # Errors
///
/// [`JsonError`] if the text is malformed or does not fit the message. It quotes nothing of the text.
pub fn to_protobuf(message: &'static Message, text: &str, out: &mut Vec<u8>) -> Result<(), JsonError> {
    let start = out.len();
    parse::message(message, text, out).inspect_err(|_| out.truncate(start))
}

/// Translates protobuf to a JSON text in UTF-8 and appends it to `out`; after an error, `out` is what it was.
///
/// The text is what Python prints, but compact and with `ensure_ascii=False`: fields in ascending order of their numbers,
/// defaults left out, no unknown fields. Of a field that occurs more than once, the last value counts; messages are
/// merged.
///
/// # Errors
///
/// [`ProtobufError`] if `protobuf` is malformed.
pub fn to_json(message: &'static Message, protobuf: &[u8], out: &mut Vec<u8>) -> Result<(), ProtobufError> {
    let start = out.len();
    print::message(message, protobuf, out).inspect_err(|_| out.truncate(start))
}

/// Translates a `ClientFrame` that came as JSON, on the server.
///
/// # Errors
///
/// As [`to_protobuf`].
pub fn client_frame_from_json(text: &str) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::with_capacity(text.len());
    to_protobuf(CLIENT_FRAME, text, &mut out)?;
    Ok(out)
}

/// Translates a `ServerFrame` that is to be sent as JSON, on the server, and appends it to `out`.
///
/// # Errors
///
/// As [`to_json`].
pub fn server_frame_to_json(protobuf: &[u8], out: &mut Vec<u8>) -> Result<(), ProtobufError> {
    to_json(SERVER_FRAME, protobuf, out)
}

/// Translates a `ServerFrame` that came as JSON, on the client.
///
/// # Errors
///
/// As [`to_protobuf`].
pub fn server_frame_from_json(text: &str) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::with_capacity(text.len());
    to_protobuf(SERVER_FRAME, text, &mut out)?;
    Ok(out)
}

/// Translates a `ClientFrame` that is to be sent as JSON, on the client, and appends it to `out`.
///
/// # Errors
///
/// As [`to_json`].
pub fn client_frame_to_json(protobuf: &[u8], out: &mut Vec<u8>) -> Result<(), ProtobufError> {
    to_json(CLIENT_FRAME, protobuf, out)
}
