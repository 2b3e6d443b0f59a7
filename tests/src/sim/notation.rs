//! Frames of version 2, read and written without the core's code: protobuf by hand, JSON by `serde_json`. Each field is
//! named by its number for the one and by its name for the other, as the schema has them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// A message that was received.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node<'a> {
    /// Encoded as protobuf.
    Proto(&'a [u8]),
    /// A JSON value.
    Json(&'a Value),
}

/// A field of a protobuf message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a protobuf message, `None` where it is malformed.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Option<(u64, Field<'_>)>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest);
        if field.is_none() {
            rest = &[];
        }
        Some(field)
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let tag = varint(rest)?;
    let field = match tag & 7 {
        0 => Field::Number(varint(rest)?),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            let (bytes, left) = rest.split_at_checked(length)?;
            *rest = left;
            Field::Bytes(bytes)
        }
        _ => return None,
    };
    Some((tag >> 3, field))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, left) = rest.split_first()?;
        *rest = left;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

impl<'a> Node<'a> {
    /// Whether it is well-formed as far as this reader looks.
    pub(super) fn is_sound(self) -> bool {
        match self {
            Self::Proto(bytes) => fields(bytes).all(|field| field.is_some()),
            Self::Json(value) => value.is_object(),
        }
    }

    fn found(self, number: u64) -> impl Iterator<Item = Field<'a>> {
        let bytes = match self {
            Self::Proto(bytes) => bytes,
            Self::Json(_) => &[],
        };
        fields(bytes).flatten().filter(move |(found, _)| *found == number).map(|(_, field)| field)
    }

    /// A number; 0 if it is left out.
    pub(super) fn number(self, number: u64, name: &str) -> u64 {
        match self {
            Self::Proto(_) => match self.found(number).last() {
                Some(Field::Number(value)) => value,
                _ => 0,
            },
            Self::Json(value) => match &value[name] {
                Value::String(text) => text.parse().unwrap_or(u64::MAX),
                other => other.as_u64().unwrap_or(0),
            },
        }
    }

    /// A truth.
    pub(super) fn flag(self, number: u64, name: &str) -> bool {
        match self {
            Self::Proto(_) => self.number(number, name) != 0,
            Self::Json(value) => value[name].as_bool().unwrap_or(false),
        }
    }

    /// A member of an enumeration, by its place among `names`; 0 if it is left out, or is none of them.
    pub(super) fn member(self, number: u64, name: &str, names: &[&str]) -> usize {
        match self {
            Self::Proto(_) => self.number(number, name) as usize,
            Self::Json(value) => {
                let word = value[name].as_str().unwrap_or_default();
                names.iter().position(|known| *known == word).unwrap_or(0)
            }
        }
    }

    /// Bytes.
    pub(super) fn bytes(self, number: u64, name: &str) -> Vec<u8> {
        match self {
            Self::Proto(_) => match self.found(number).last() {
                Some(Field::Bytes(bytes)) => bytes.to_vec(),
                _ => Vec::new(),
            },
            Self::Json(value) => {
                STANDARD.decode(value[name].as_str().unwrap_or_default()).unwrap_or_default()
            }
        }
    }

    /// A text.
    pub(super) fn text(self, number: u64, name: &str) -> String {
        match self {
            Self::Proto(_) => String::from_utf8(self.bytes(number, name)).unwrap_or_default(),
            Self::Json(value) => value[name].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// Repeated numbers.
    pub(super) fn numbers(self, number: u64, name: &str) -> Vec<u64> {
        match self {
            Self::Proto(_) => {
                let mut all = Vec::new();
                for field in self.found(number) {
                    match field {
                        Field::Number(value) => all.push(value),
                        Field::Bytes(mut packed) => {
                            all.extend(std::iter::from_fn(|| {
                                if packed.is_empty() { None } else { varint(&mut packed) }
                            }));
                        }
                    }
                }
                all
            }
            Self::Json(value) => {
                let read = |one: &Value| one.as_str().and_then(|text| text.parse().ok()).or(one.as_u64());
                value[name].as_array().into_iter().flatten().filter_map(read).collect()
            }
        }
    }

    /// A message inside of this one.
    pub(super) fn child(self, number: u64, name: &str) -> Option<Node<'a>> {
        match self {
            Self::Proto(_) => match self.found(number).last() {
                Some(Field::Bytes(bytes)) => Some(Self::Proto(bytes)),
                _ => None,
            },
            Self::Json(value) => value.get(name).map(Self::Json),
        }
    }

    /// Repeated messages.
    pub(super) fn children(self, number: u64, name: &str) -> Vec<Node<'a>> {
        match self {
            Self::Proto(_) => self
                .found(number)
                .filter_map(|field| match field {
                    Field::Bytes(bytes) => Some(Self::Proto(bytes)),
                    Field::Number(_) => None,
                })
                .collect(),
            Self::Json(value) => value[name].as_array().into_iter().flatten().map(Self::Json).collect(),
        }
    }

    /// Which of several members is set, and what it says.
    pub(super) fn one_of(self, members: &[(u64, &'static str)]) -> Option<(&'static str, Node<'a>)> {
        members.iter().find_map(|(number, name)| Some((*name, self.child(*number, name)?)))
    }
}

/// A message that is written.
#[derive(Clone, Debug)]
pub(super) enum Pen {
    /// As protobuf.
    Proto(Vec<u8>),
    /// As JSON.
    Json(Map<String, Value>),
}

impl Pen {
    /// An empty message in JSON or in protobuf.
    pub(super) fn new(json: bool) -> Self {
        if json { Self::Json(Map::new()) } else { Self::Proto(Vec::new()) }
    }

    /// A frame's bytes.
    pub(super) fn finish(self) -> Vec<u8> {
        match self {
            Self::Proto(bytes) => bytes,
            Self::Json(map) => Value::Object(map).to_string().into_bytes(),
        }
    }

    /// A number that is written even if it is 0, as members of a choice are.
    pub(super) fn chosen(mut self, number: u64, name: &str, value: u64) -> Self {
        match &mut self {
            Self::Proto(bytes) => {
                put(bytes, number << 3);
                put(bytes, value);
            }
            Self::Json(map) => {
                map.insert(name.into(), value.to_string().into());
            }
        }
        self
    }

    /// A number.
    pub(super) fn number(self, number: u64, name: &str, value: u64) -> Self {
        if value == 0 { self } else { self.chosen(number, name, value) }
    }

    /// A truth.
    pub(super) fn flag(mut self, number: u64, name: &str, value: bool) -> Self {
        match &mut self {
            Self::Json(map) if value => {
                map.insert(name.into(), true.into());
                self
            }
            Self::Json(_) => self,
            Self::Proto(_) => self.number(number, name, value.into()),
        }
    }

    /// A member of an enumeration.
    pub(super) fn member(mut self, number: u64, name: &str, value: usize, names: &[&str]) -> Self {
        match &mut self {
            Self::Json(map) => {
                map.insert(name.into(), names[value].into());
                self
            }
            Self::Proto(_) => self.number(number, name, value as u64),
        }
    }

    fn piece(mut self, number: u64, name: &str, bytes: &[u8], json: impl FnOnce() -> Value) -> Self {
        match &mut self {
            Self::Proto(out) => {
                put(out, number << 3 | 2);
                put(out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Self::Json(map) => {
                map.insert(name.into(), json());
            }
        }
        self
    }

    /// Bytes.
    pub(super) fn bytes(self, number: u64, name: &str, bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            self
        } else {
            self.piece(number, name, bytes, || STANDARD.encode(bytes).into())
        }
    }

    /// A text.
    pub(super) fn text(self, number: u64, name: &str, text: &str) -> Self {
        if text.is_empty() { self } else { self.piece(number, name, text.as_bytes(), || text.into()) }
    }

    /// A text that is written even if it is empty, as members of a choice are.
    pub(super) fn chosen_text(self, number: u64, name: &str, text: &str) -> Self {
        self.piece(number, name, text.as_bytes(), || text.into())
    }

    /// Repeated numbers, packed.
    pub(super) fn numbers(self, number: u64, name: &str, numbers: &[u64]) -> Self {
        if numbers.is_empty() {
            return self;
        }
        let mut packed = Vec::new();
        numbers.iter().for_each(|value| put(&mut packed, *value));
        self.piece(number, name, &packed, || numbers.iter().map(|value| value.to_string()).collect())
    }

    /// A message inside of this one.
    pub(super) fn message(self, number: u64, name: &str, inner: Self) -> Self {
        match inner {
            Self::Proto(bytes) => self.piece(number, name, &bytes, || Value::Null),
            Self::Json(map) => self.piece(number, name, &[], || Value::Object(map)),
        }
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// What a body says: the kind of the message, its text, and all else that a sender of version 2 can give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// A ciphertext and not a readable text.
    pub sealed: bool,
    /// The text, or the name of the key.
    pub text: String,
    /// The text's media type.
    pub media_type: String,
    /// The ciphertext.
    pub ciphertext: Vec<u8>,
    /// The message that this answers.
    pub reply_to: u64,
    /// Who is meant.
    pub mentions: Vec<u64>,
    /// Structured data.
    pub data: String,
}

impl Said {
    /// Reads a body.
    pub(super) fn read(body: Node<'_>) -> Option<Self> {
        if let Some(content) = body.child(1, "content") {
            return Some(Self {
                media_type: content.text(1, "mediaType"),
                text: content.text(2, "text"),
                reply_to: content.number(3, "replyTo"),
                mentions: content.numbers(4, "mentions"),
                data: content.text(5, "data"),
                ..Self::default()
            });
        }
        let sealed = body.child(2, "sealed")?;
        let (ciphertext, text) = (sealed.bytes(1, "ciphertext"), sealed.text(2, "keyId"));
        Some(Self { sealed: true, ciphertext, text, ..Self::default() })
    }

    /// Writes a body.
    pub(super) fn write(&self, json: bool) -> Pen {
        let (body, inner) = (Pen::new(json), Pen::new(json));
        if self.sealed {
            let sealed = inner.bytes(1, "ciphertext", &self.ciphertext).text(2, "keyId", &self.text);
            return body.message(2, "sealed", sealed);
        }
        let content = inner
            .text(1, "mediaType", &self.media_type)
            .text(2, "text", &self.text)
            .number(3, "replyTo", self.reply_to)
            .numbers(4, "mentions", &self.mentions)
            .text(5, "data", &self.data);
        body.message(1, "content", content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_in_either_encoding() {
        let said = Said {
            text: "\u{e9} \"x\"".into(),
            media_type: "text/markdown".into(),
            reply_to: 300,
            mentions: vec![1, 500],
            data: "{}".into(),
            ..Said::default()
        };
        let sealed = Said { sealed: true, ciphertext: vec![0, 255], text: "k".into(), ..Said::default() };
        for said in [said, sealed, Said::default()] {
            let proto = said.write(false).finish();
            assert_eq!(Said::read(Node::Proto(&proto)), Some(said.clone()));
            let json: Value = serde_json::from_slice(&said.write(true).finish()).unwrap_or_default();
            assert_eq!(Said::read(Node::Json(&json)), Some(said));
        }
    }

    #[test]
    fn the_golden_vectors_are_read_alike_in_both_encodings() {
        let vectors: Value = serde_json::from_str(include_str!("../../vectors-v2.json")).unwrap_or_default();
        let mut compared = 0;
        let bodies = vectors["messages"].as_array().into_iter().flatten();
        for vector in bodies.filter(|vector| vector["message"] == "Body") {
            let hex = vector["hex"].as_str().unwrap_or_default();
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap_or_default();
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            assert_eq!(Said::read(Node::Proto(&bytes)), Said::read(Node::Json(&vector["json"])), "{vector}");
            compared += 1;
        }
        assert!(compared > 2, "{compared}");
    }
}
