//! The JSON mapping of version 2 under hostile and random inputs. tests/vectors-v2.json holds the plain ones.

use allocation_counter::measure;
use conclave_core::wire::v2::json::{
    JsonError, Message, ProtobufError, client_frame_from_json, client_frame_to_json, message, messages,
    server_frame_from_json, server_frame_to_json, to_json, to_protobuf,
};
use proptest::prelude::*;

mod random;

use random::Random;

fn bytes_of(name: &str, text: &str) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::new();
    to_protobuf(message(name).expect("a known message"), text, &mut out)?;
    Ok(out)
}

fn text_of(message: &'static Message, bytes: &[u8]) -> Result<String, ProtobufError> {
    let mut out = Vec::new();
    to_json(message, bytes, &mut out)?;
    Ok(String::from_utf8(out).expect("JSON in UTF-8"))
}

#[test]
fn a_refusal_names_the_field_and_the_fault() {
    for (name, text, error) in [
        ("Stored", r#"{"seq":1,"seq":1}"#, JsonError::Duplicate("seq")),
        ("Stored", r#"{"stampMs":1,"stamp_ms":1}"#, JsonError::Duplicate("stamp_ms")),
        ("Stored", r#"{"seq":-1}"#, JsonError::Range("seq")),
        ("Stored", r#"{"seq":true}"#, JsonError::Type("seq")),
        ("Stored", "[]", JsonError::NoObject),
        ("Stored", "\n {\"seq\":}", JsonError::Malformed { line: 2, column: 9 }),
        ("Body", r#"{"content":{},"sealed":{}}"#, JsonError::Oneof("sealed")),
        ("Body", r#"{"content":[]}"#, JsonError::Type("content")),
        ("Proof", r#"{"signature":"%"}"#, JsonError::Base64("signature")),
        ("Error", r#"{"code":"ERROR_CODE_OTHER"}"#, JsonError::EnumValue("code")),
        ("ClientFrame", r#"{"request":{"read":{"limit":1e10}}}"#, JsonError::Range("limit")),
    ] {
        assert_eq!(bytes_of(name, text), Err(error), "{text}");
    }
}

// Python accepts all of these; the documentation of `to_protobuf` says so.
#[test]
fn what_python_accepts_by_accident_is_refused() {
    for (name, text) in [
        ("Stored", r#"{"seq":"1_000"}"#),
        ("Stored", r#"{"stampMs":-9223372036854775808.0}"#),
        ("Stored", r#"{"unknown":NaN}"#),
        ("Proof", r#"{"signature":"+_"}"#),
        ("Proof", r#"{"signature":"!!!!"}"#),
        ("Error", r#"{"code":"error_code_internal"}"#),
        ("Error", r#"{"code":1.5}"#),
        ("Error", r#"{"code":true}"#),
        ("Body", r#"{"content":""}"#),
    ] {
        assert!(bytes_of(name, text).is_err(), "{text}");
    }
}

#[test]
fn errors_quote_nothing_of_the_text() {
    let long = "secret".repeat(1_000);
    for text in [
        format!(r#"{{"seq":"{long}"}}"#),
        format!(r#"{{"stampMs":"{long}"}}"#),
        format!(r#"{{"seq":1,"{long}"#),
        long,
    ] {
        let error = bytes_of("Stored", &text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
}

#[test]
fn frames_of_both_sides_go_both_ways() {
    let (text, bytes) = (r#"{"request":{"id":"1","ping":{}}}"#, [0x22, 4, 8, 1, 0x12, 0]);
    assert_eq!(client_frame_from_json(text).unwrap(), bytes);
    let mut out = Vec::new();
    client_frame_to_json(&bytes, &mut out).unwrap();
    assert_eq!(out, text.as_bytes());
    let (text, bytes) = (r#"{"reply":{"id":"1","done":{}}}"#, [0x22, 4, 8, 1, 0x12, 0]);
    assert_eq!(server_frame_from_json(text).unwrap(), bytes);
    out.clear();
    server_frame_to_json(&bytes, &mut out).unwrap();
    assert_eq!(out, text.as_bytes());
}

fn nested(open: &str, close: &str, depth: usize) -> String {
    format!(r#"{{"unknown":{}1{}}}"#, open.repeat(depth), close.repeat(depth))
}

#[test]
fn unknown_values_nest_to_a_bound_and_no_deeper() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        assert_eq!(bytes_of("Stored", &nested(open, close, 100)), Ok(Vec::new()));
        for depth in [127, 1_000, 1_000_000] {
            let error = bytes_of("Stored", &nested(open, close, depth)).unwrap_err();
            assert!(matches!(error, JsonError::Malformed { .. }));
        }
    }
}

/// Megabytes of one thing, where a naive parser takes more memory than came, or quadratic time: hours.
fn hostile_texts() -> Vec<String> {
    const MANY: usize = 1 << 20;
    vec![
        " ".repeat(MANY) + "{}",
        format!(r#"{{"seq":1{}}}"#, "0".repeat(MANY)),
        format!(r#"{{"seq":0.{}1}}"#, "0".repeat(MANY)),
        format!(r#"{{"seq":1e{}}}"#, "9".repeat(MANY)),
        format!(r#"{{"seq":"1{}"}}"#, "0".repeat(MANY)),
        format!(r#"{{"seq":"0.{}1"}}"#, "0".repeat(MANY)),
        format!(r#"{{"unknown":-{}}}"#, "12345678".repeat(MANY / 8)),
        format!(r#"{{"unknown":"{}"}}"#, "\\u0001".repeat(MANY / 6)),
        format!(r#"{{"unknown":[{}0]}}"#, "{},".repeat(MANY / 3)),
        format!(r#"{{"{}":1}}"#, "\\n".repeat(MANY / 2)),
        format!(r#"{{{}"seq":1}}"#, "\"a\":0,".repeat(MANY / 6)),
        format!(r#"{{"stampMs":"{}"}}"#, "\u{1b}".repeat(MANY)),
        format!(r#"{{"stampMs":"{}"}}"#, "\u{7f}".repeat(MANY)),
        nested("[", "", MANY),
        nested("{\"a\":", "", MANY / 5),
    ]
}

#[test]
fn hostile_texts_take_no_more_memory_than_they_bring() {
    for text in hostile_texts() {
        let used = measure(|| drop(bytes_of("Stored", &text)));
        let what = &text[..text.len().min(40)];
        assert!(used.bytes_total <= 4 * text.len() as u64 + 4_096, "{what}: {used:?}");
    }
}

#[test]
fn many_small_values_take_memory_in_proportion() {
    let lists =
        [("Content", "mentions", "0"), ("Deliveries", "messages", "{}"), ("UserList", "users", "\"\"")];
    for (name, field, element) in lists {
        let text = format!(r#"{{"{field}":[{}]}}"#, vec![element; 50_000].join(","));
        let mut bytes = Vec::new();
        let used = measure(|| bytes = bytes_of(name, &text).unwrap());
        assert!(used.bytes_total <= 4 * text.len() as u64 + 4_096, "{name}: {used:?}");
        let used = measure(|| drop(text_of(message(name).expect("a known message"), &bytes)));
        assert!(used.bytes_total <= 16 * bytes.len() as u64 + 8_192, "{name}: {used:?}");
    }
}

#[test]
fn hostile_bytes_take_memory_in_proportion() {
    const MANY: usize = 50_000;
    let delivery = [&[0x12, 6, 0x2a, 4, 0x0a, 2, 8, 1][..]].concat();
    for (name, piece) in [
        // A number, a message and both members of a oneof, again and again.
        ("Stored", vec![8, 1]),
        ("Body", vec![0x0a, 0]),
        ("Body", vec![0x0a, 0, 0x12, 0]),
        ("Body", vec![0x0a, 2, 0x22, 0]),
        ("Content", vec![0x22, 0]),
        ("Content", vec![0x22, 1, 1, 0x20, 1]),
        ("Content", vec![0x12, 1, 1]),
        ("Stored", vec![0x7b, 0x7c]),
        ("Deliveries", delivery),
        ("Welcome", vec![0x0a, 3, 0x0a, 1, 1]),
    ] {
        let bytes = piece.repeat(MANY);
        let used = measure(|| drop(text_of(message(name).expect("a known message"), &bytes).unwrap()));
        assert!(used.bytes_total <= 24 * bytes.len() as u64 + 8_192, "{name} {piece:x?}: {used:?}");
    }
}

#[test]
fn a_large_text_is_translated_with_few_allocations() {
    let text = format!(r#"{{"content":{{"text":"{}","mentions":["1","2"]}}}}"#, "x".repeat(1 << 20));
    let mut out = Vec::with_capacity(text.len());
    let used = measure(|| to_protobuf(message("Body").unwrap(), &text, &mut out).unwrap());
    assert!(used.count_total <= 4 && used.bytes_total <= 1_024, "{used:?}");
    let bytes = std::mem::replace(&mut out, Vec::with_capacity(2 * text.len()));
    let used = measure(|| to_json(message("Body").unwrap(), &bytes, &mut out).unwrap());
    assert_eq!(out, text.as_bytes());
    assert!(used.count_total <= 4 && used.bytes_total <= 4_096, "{used:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn canonical_bytes_come_back_from_json(kind: prop::sample::Index, seed: u64) {
        let kind = kind.get(messages());
        let bytes = Random(seed).message(kind);
        let text = text_of(kind, &bytes).unwrap();
        prop_assert_eq!(bytes_of(kind.name, &text), Ok(bytes), "{}", text);
    }

    #[test]
    fn odd_bytes_come_back_in_canonical_form(kind: prop::sample::Index, seed: u64) {
        let kind = kind.get(messages());
        let odd = Random(seed).odd_message(kind);
        let text = text_of(kind, &odd).unwrap();
        let canonical = bytes_of(kind.name, &text).unwrap();
        prop_assert_eq!(text_of(kind, &canonical), Ok(text));
    }

    #[test]
    fn the_order_of_the_fields_in_json_does_not_matter(kind: prop::sample::Index, seed: u64) {
        fn reversed(value: &serde_json::Value) -> String {
            match value {
                serde_json::Value::Object(fields) => {
                    let fields: Vec<String> =
                        fields.iter().rev().map(|(name, it)| format!("\"{name}\":{}", reversed(it))).collect();
                    format!("{{{}}}", fields.join(","))
                }
                serde_json::Value::Array(list) => {
                    format!("[{}]", list.iter().map(reversed).collect::<Vec<_>>().join(","))
                }
                other => other.to_string(),
            }
        }
        let kind = kind.get(messages());
        let bytes = Random(seed).message(kind);
        let text = text_of(kind, &bytes).unwrap();
        // `serde_json` has sorted the fields by their names.
        let reversed = reversed(&serde_json::from_str(&text).unwrap());
        prop_assert_eq!(bytes_of(kind.name, &reversed), Ok(bytes), "{}", reversed);
    }

    #[test]
    fn any_bytes_and_texts_are_translated_or_refused(
        kind: prop::sample::Index, bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,200}",
    ) {
        let kind = kind.get(messages());
        let _ = text_of(kind, &bytes);
        let _ = bytes_of(kind.name, &text);
    }

    #[test]
    fn a_damaged_message_is_translated_or_refused(
        kind: prop::sample::Index, seed: u64, at: prop::sample::Index, byte: u8, piece in "[{}\\[\\]:,\"\\\\019.eEntu-]{0,2}",
    ) {
        let kind = kind.get(messages());
        let mut bytes = Random(seed).odd_message(kind);
        let mut text = text_of(kind, &bytes).unwrap();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let start = text.floor_char_boundary(at.index(text.len()));
        text.replace_range(start..text.ceil_char_boundary(start + 1), &piece);
        for text in text_of(kind, &bytes).into_iter().chain([text]) {
            if let Ok(canonical) = bytes_of(kind.name, &text) {
                let again = text_of(kind, &canonical).unwrap();
                prop_assert_eq!(bytes_of(kind.name, &again), Ok(canonical));
            }
        }
    }
}
