//! JSON to protobuf.
//!
//! Fields are encoded as they come; at the end of a message they are put in the order of their numbers if they came in
//! another one. So a message costs its bytes and a few words for each of its fields, whatever it holds.

use alloc::vec::Vec;
use core::fmt;

use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, Engine as _};
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::protobuf::{insert_length, write_tag, write_varint};
use super::{Enum, Field, Kind, Message};

/// Why a JSON text is no message of the type. Fields are named as in the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text is not JSON, goes on behind its end, or nests more than 127 deep.
    #[error("malformed JSON at line {line}, column {column}")]
    Malformed {
        /// The line, counted from 1.
        line: usize,
        /// The byte in the line, counted from 1.
        column: usize,
    },
    /// The text is JSON, but no object.
    #[error("a message must be a JSON object")]
    NoObject,
    /// A field occurs more than once.
    #[error("{0} occurs more than once")]
    Duplicate(&'static str),
    /// Another field of the same oneof is set.
    #[error("{0} excludes another field that is set")]
    Oneof(&'static str),
    /// A value has the wrong type.
    #[error("{0} has the wrong type")]
    Type(&'static str),
    /// A number is too small, too large, or no integer.
    #[error("{0} is not an integer in range")]
    Range(&'static str),
    /// An enum has no value of that name.
    #[error("{0} has an unknown value")]
    EnumValue(&'static str),
    /// A string that stands for bytes is not base64.
    #[error("{0} is not base64")]
    Base64(&'static str),
}

/// Appends the canonical protobuf of the message in `text`.
pub(super) fn message(message: &'static Message, text: &str, out: &mut Vec<u8>) -> Result<(), JsonError> {
    if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        return Err(JsonError::NoObject);
    }
    let mut encoder = Encoder { out, spans: Vec::new(), sorted: Vec::new(), error: None };
    let mut json = serde_json::Deserializer::from_str(text);
    let result = json.deserialize_map(Root { encoder: &mut encoder, message }).and_then(|()| json.end());
    result.map_err(|error| {
        encoder.error.unwrap_or(JsonError::Malformed { line: error.line(), column: error.column() })
    })
}

struct Encoder<'o> {
    out: &'o mut Vec<u8>,
    /// The fields so far, of each message that is being read.
    spans: Vec<Span>,
    /// Where fields are put in order. Kept, to be allocated once.
    sorted: Vec<u8>,
    /// What a visitor found. An error of `serde_json` carries text only.
    error: Option<JsonError>,
}

/// Where a field stands in the output. Empty if the value is absent or the default.
struct Span {
    field: &'static Field,
    start: usize,
    end: usize,
}

impl Encoder<'_> {
    fn refuse<T, E: Error>(&mut self, error: JsonError) -> Result<T, E> {
        self.error = Some(error);
        Err(E::custom("refused"))
    }

    fn fields<'de, A: MapAccess<'de>>(
        &mut self,
        message: &'static Message,
        mut map: A,
    ) -> Result<(), A::Error> {
        let (base, from) = (self.spans.len(), self.out.len());
        while let Some(key) = map.next_key_seed(Key(message))? {
            let Some(field) = key else {
                map.next_value_seed(Skip)?;
                continue;
            };
            if self.spans[base..].iter().any(|it| it.field.number == field.number) {
                return self.refuse(JsonError::Duplicate(field.name));
            }
            let start = self.out.len();
            map.next_value_seed(Value { encoder: self, field, element: false })?;
            let end = self.out.len();
            // Members of a oneof are written even if they have the default value: who wrote nothing is absent.
            let set = |it: &Span| it.field.oneof == field.oneof && it.start < it.end;
            if field.oneof.is_some() && start < end && self.spans[base..].iter().any(set) {
                return self.refuse(JsonError::Oneof(field.name));
            }
            self.spans.push(Span { field, start, end });
        }
        self.sort(base, from);
        self.spans.truncate(base);
        Ok(())
    }

    fn sort(&mut self, base: usize, from: usize) {
        let spans = &mut self.spans[base..];
        if spans.is_sorted_by_key(|it| it.field.number) {
            return;
        }
        spans.sort_unstable_by_key(|it| it.field.number);
        self.sorted.clear();
        for span in spans {
            self.sorted.extend_from_slice(&self.out[span.start..span.end]);
        }
        self.out[from..].copy_from_slice(&self.sorted);
    }

    /// Starts a text, bytes, a message or a packed list.
    fn start(&mut self, field: &Field) -> Start {
        let tag = self.out.len();
        write_tag(field.number, true, self.out);
        Start { tag, content: self.out.len() }
    }

    fn end(&mut self, start: &Start, omit_empty: bool) {
        if omit_empty && self.out.len() == start.content {
            self.out.truncate(start.tag);
        } else {
            insert_length(start.content, self.out);
        }
    }
}

struct Start {
    tag: usize,
    content: usize,
}

/// The whole text.
struct Root<'e, 'o> {
    encoder: &'e mut Encoder<'o>,
    message: &'static Message,
}

/// The value of a field, or an element of a list.
struct Value<'e, 'o> {
    encoder: &'e mut Encoder<'o>,
    field: &'static Field,
    element: bool,
}

/// The name of a field. None if the message has no such field.
struct Key(&'static Message);

/// A value that is ignored. Unlike `IgnoredAny`, it nests no deeper than any other value.
struct Skip;

impl<'de> Visitor<'de> for Root<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.encoder.fields(self.message, map)
    }
}

impl Value<'_, '_> {
    /// The type that the value must have; none if it must be a list.
    fn kind(&self) -> Option<Kind> {
        (self.element || !self.field.repeated).then_some(self.field.kind)
    }

    fn wrong<T, E: Error>(self) -> Result<T, E> {
        self.encoder.refuse(JsonError::Type(self.field.name))
    }

    fn varint(self, value: u64) {
        if self.element {
            return write_varint(value, self.encoder.out);
        }
        if value != 0 || !self.field.omits_default() {
            write_tag(self.field.number, false, self.encoder.out);
            write_varint(value, self.encoder.out);
        }
    }

    fn integer<E: Error>(self, value: i128) -> Result<(), E> {
        let varint = match self.kind() {
            Some(Kind::Uint32) => u32::try_from(value).ok().map(u64::from),
            Some(Kind::Uint64) => u64::try_from(value).ok(),
            Some(Kind::Int64) => i64::try_from(value).ok().map(|it| it as u64),
            Some(Kind::Enum(_)) => i32::try_from(value).ok().map(|it| it as u64),
            _ => return self.wrong(),
        };
        match varint {
            Some(varint) => {
                self.varint(varint);
                Ok(())
            }
            None => self.encoder.refuse(JsonError::Range(self.field.name)),
        }
    }

    fn delimited<E: Error>(self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), JsonError>) -> Result<(), E> {
        let start = self.encoder.start(self.field);
        if let Err(error) = write(self.encoder.out) {
            return self.encoder.refuse(error);
        }
        self.encoder.end(&start, self.field.omits_default());
        Ok(())
    }
}

impl<'de> Visitor<'de> for Value<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of the field")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.element { self.wrong() } else { Ok(()) }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.kind() {
            Some(Kind::Bool) => {
                self.varint(value.into());
                Ok(())
            }
            _ => self.wrong(),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.integer(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.integer(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.integer(whole(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let name = self.field.name;
        match self.kind() {
            Some(Kind::String) => self.delimited(|out| {
                out.extend_from_slice(text.as_bytes());
                Ok(())
            }),
            Some(Kind::Bytes) => {
                self.delimited(|out| decode_base64(text, out).map_err(|_| JsonError::Base64(name)))
            }
            Some(Kind::Enum(values)) => match number(values, text).or_else(|| text.parse().ok()) {
                Some(number) => self.integer(number),
                None => self.encoder.refuse(JsonError::EnumValue(name)),
            },
            Some(Kind::Uint32 | Kind::Uint64 | Kind::Int64) => {
                // The mapping allows `1e3` in strings, too.
                let value = text.parse().ok().or_else(|| text.parse().ok().map(whole));
                self.integer(value.unwrap_or(OUT_OF_RANGE))
            }
            _ => self.wrong(),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { encoder, field, element } = self;
        if element || !field.repeated {
            return encoder.refuse(JsonError::Type(field.name));
        }
        let packed = field.kind.is_varint().then(|| encoder.start(field));
        while list.next_element_seed(Value { encoder, field, element: true })?.is_some() {}
        if let Some(start) = packed {
            encoder.end(&start, true);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Some(Kind::Message(message)) = self.kind() else { return self.wrong() };
        let start = self.encoder.start(self.field);
        self.encoder.fields(message, map)?;
        self.encoder.end(&start, false);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.fields.iter().find(|it| it.json == key || it.name == key))
    }
}

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Skip {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Skip)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(Skip)?;
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Skip {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

fn number(values: &Enum, name: &str) -> Option<i128> {
    values.values.iter().find(|it| it.1 == name).map(|it| it.0.into())
}

/// Stands for what is no integer that any field holds.
const OUT_OF_RANGE: i128 = i128::MAX;

/// The integer that a number with a fraction or an exponent is.
fn whole(value: f64) -> i128 {
    let whole = value as i128;
    // A number just below -2^63 comes as -2^63.
    if whole as f64 == value && value > i64::MIN as f64 { whole } else { OUT_OF_RANGE }
}

/// Unused bits of the last character may be set: parsers must accept them.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

fn decode_base64(text: &str, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let engine = if text.contains(['-', '_']) { BASE64_URL } else { BASE64 };
    engine.decode_vec(text, out)
}
