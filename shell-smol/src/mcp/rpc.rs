//! JSON-RPC messages, read without building more than they say: what nobody asked for is passed over, and the
//! memory taken stays in proportion to the line.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The codes of JSON-RPC's errors.
pub(crate) mod code {
    pub(crate) const PARSE: i64 = -32700;
    pub(crate) const INVALID: i64 = -32600;
    pub(crate) const METHOD: i64 = -32601;
    pub(crate) const PARAMS: i64 = -32602;
}

/// A request's id, text or number, kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id(String);

/// Longer ids are not taken: they would be held for as long as their call lasts.
const MAX_ID: usize = 256;

impl Id {
    /// The id in JSON.
    pub(crate) fn raw(&self) -> &str {
        &self.0
    }

    /// Takes `raw` JSON as an id, if it is text or a number.
    pub(crate) fn new(raw: &RawValue) -> Option<Self> {
        let raw = raw.get();
        let fits =
            raw.len() <= MAX_ID && raw.starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit());
        fits.then(|| Self(raw.to_owned()))
    }
}

/// A message, its parameters not yet read.
#[derive(Clone)]
pub(crate) enum Message<'a> {
    Request {
        id: Id,
        method: String,
        params: Option<&'a RawValue>,
    },
    Notification {
        method: String,
        params: Option<&'a RawValue>,
    },
    Response {
        id: Id,
        result: Option<&'a RawValue>,
    },
    /// No message: what is wrong, and the id if it has one.
    Invalid {
        id: Option<Id>,
        code: i64,
        why: &'static str,
    },
}

#[derive(Deserialize)]
struct Envelope<'a> {
    jsonrpc: Option<Scalar>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    method: Option<Scalar>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

/// `null` is there, too: it is not the same as nothing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Messages in one batch at most.
const MAX_BATCH: usize = 64;

/// The messages on a line: one, or a batch of them.
pub(crate) fn read(line: &str) -> Vec<Message<'_>> {
    let invalid = |code, why| vec![Message::Invalid { id: None, code, why }];
    if line.trim_start().starts_with('[') {
        return match serde_json::from_str::<Batch<'_>>(line) {
            Ok(Batch(messages)) if messages.is_empty() => invalid(code::INVALID, "an empty batch"),
            Ok(Batch(messages)) => messages.into_iter().map(|raw| one(raw.get())).collect(),
            Err(error) if error.is_data() => invalid(code::INVALID, "a batch has at most 64 messages"),
            Err(_) => invalid(code::PARSE, "the line is no JSON"),
        };
    }
    vec![one(line)]
}

fn one(text: &str) -> Message<'_> {
    let envelope = match serde_json::from_str::<Envelope<'_>>(text) {
        Ok(envelope) => envelope,
        Err(error) if error.is_data() => {
            return Message::Invalid { id: None, code: code::INVALID, why: "not a JSON-RPC message" };
        }
        Err(_) => return Message::Invalid { id: None, code: code::PARSE, why: "the line is no JSON" },
    };
    let id = envelope.id.and_then(Id::new);
    let invalid = |why| Message::Invalid { id: id.clone(), code: code::INVALID, why };
    if !matches!(&envelope.jsonrpc, Some(Scalar::Text(version)) if version == "2.0") {
        return invalid("`jsonrpc` must be \"2.0\"");
    }
    if envelope.id.is_some() && id.is_none() {
        return invalid("`id` must be a text or a number, and short");
    }
    match (envelope.method, id.clone(), envelope.result, envelope.error) {
        (Some(Scalar::Text(method)), Some(id), ..) => {
            Message::Request { id, method, params: envelope.params }
        }
        (Some(Scalar::Text(method)), None, ..) => Message::Notification { method, params: envelope.params },
        (Some(_), ..) => invalid("`method` must be a text"),
        (None, Some(id), Some(result), None) => Message::Response { id, result: Some(result) },
        (None, Some(id), None, Some(_)) => Message::Response { id, result: None },
        (None, ..) => invalid("neither a request nor a response"),
    }
}

struct Batch<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Batch<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Messages;
        impl<'de> Visitor<'de> for Messages {
            type Value = Batch<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a batch")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Batch<'de>, A::Error> {
                let mut messages = Vec::new();
                while let Some(message) = seq.next_element()? {
                    if messages.len() >= MAX_BATCH {
                        return Err(de::Error::custom("too many"));
                    }
                    messages.push(message);
                }
                Ok(Batch(messages))
            }
        }
        deserializer.deserialize_seq(Messages)
    }
}

/// A value without parts, or a list of texts. Objects and other lists are read to their end and forgotten.
#[derive(Clone, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Flag(bool),
    Number(f64),
    Text(String),
    Texts(Vec<String>),
    Other,
}

/// Texts that are kept of a list: no tool takes more.
const MAX_TEXTS: usize = 64;

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar::Flag(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Number(value as f64))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar::Number(value as f64))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar::Number(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
                let mut texts = Some(Vec::new());
                while let Some(value) = seq.next_element::<Scalar>()? {
                    match (&mut texts, value) {
                        (Some(texts), Scalar::Text(text)) if texts.len() < MAX_TEXTS => texts.push(text),
                        _ => texts = None,
                    }
                }
                Ok(texts.map_or(Scalar::Other, Scalar::Texts))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
                while map.next_entry::<de::IgnoredAny, de::IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// An object of scalars, the few first of them.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Object(pub(crate) Vec<(String, Scalar)>);

/// Members that are kept: no tool takes more.
const MAX_MEMBERS: usize = 32;

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members: Vec<(String, Scalar)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Scalar>()? {
                    if members.len() >= MAX_MEMBERS || members.iter().any(|(known, _)| *known == name) {
                        return Err(de::Error::custom("too many members, or one twice"));
                    }
                    members.push((name, value));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(line: &str) -> Option<i64> {
        match &read(line)[..] {
            [Message::Invalid { code, .. }] => Some(*code),
            _ => None,
        }
    }

    #[test]
    fn what_is_no_message_is_told_so() {
        for (line, expected) in [
            ("{", code::PARSE),
            ("nonsense", code::PARSE),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping"} trailing"#, code::PARSE),
            ("7", code::INVALID),
            ("[]", code::INVALID),
            (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, code::INVALID),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, code::INVALID),
            (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, code::INVALID),
            (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, code::INVALID),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, code::INVALID),
            (r#"{"jsonrpc":"2.0","id":1}"#, code::INVALID),
            (r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{}}"#, code::INVALID),
        ] {
            assert_eq!(code_of(line), Some(expected), "{line}");
        }
        assert_eq!(code_of(&"[".repeat(100_000)), Some(code::PARSE));
        assert_eq!(code_of(&format!("[{}1]", "1,".repeat(100))), Some(code::INVALID));
    }

    #[test]
    fn ids_are_kept_as_they_are_written() {
        for id in ["1", "-7", "1.50", "18446744073709551616", r#""a\u0062""#] {
            let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
            assert!(
                matches!(&read(&line)[..], [Message::Request { id: read, .. }] if read.raw() == id),
                "{id}"
            );
        }
    }

    #[test]
    fn a_batch_is_read_one_by_one() {
        let line = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},3,{"jsonrpc":"2.0","method":"x"}]"#;
        assert!(matches!(
            &read(line)[..],
            [Message::Request { .. }, Message::Invalid { .. }, Message::Notification { .. }]
        ));
    }
}
