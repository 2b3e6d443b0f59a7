//! The golden vectors of version 2, which Python's `protobuf` package wrote: tests/vectors-v2.py.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use conclave_core::wire::v2::json::{Message, message, messages, to_json, to_protobuf};
use serde_json::Value;

#[rustfmt::skip]
#[path = "vectors_v2/types.rs"]
mod types;

fn vectors(kind: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors-v2.json");
    let mut vectors: Value =
        serde_json::from_str(&fs::read_to_string(path).expect("sound vectors")).expect("sound vectors");
    let Value::Array(list) = vectors[kind].take() else { panic!("no {kind}") };
    assert!(!list.is_empty());
    list
}

fn kind(vector: &Value) -> &'static Message {
    message(vector["message"].as_str().expect("sound vectors")).expect("sound vectors")
}

fn bytes(vector: &Value) -> Vec<u8> {
    let hex = vector["hex"].as_str().expect("sound vectors");
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("sound vectors"))
        .collect()
}

fn encoded(message: &'static Message, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    to_protobuf(message, text, &mut out).unwrap_or_else(|error| panic!("{text}: {error}"));
    out
}

fn printed(message: &'static Message, bytes: &[u8]) -> String {
    let mut out = Vec::new();
    to_json(message, bytes, &mut out).unwrap_or_else(|error| panic!("{} {bytes:x?}: {error}", message.name));
    String::from_utf8(out).expect("sound vectors")
}

#[test]
fn every_message_of_the_schema_has_a_vector() {
    let vectors = vectors("messages");
    let covered: BTreeSet<&str> = vectors.iter().map(|it| it["message"].as_str().unwrap()).collect();
    let all: BTreeSet<&str> = messages().iter().map(|it| it.name).collect();
    assert_eq!(covered, all);
}

#[test]
fn every_field_of_the_schema_is_in_a_vector() {
    let vectors = vectors("messages");
    for message in messages() {
        for field in message.fields {
            let covered = vectors
                .iter()
                .any(|it| it["message"] == message.name && it["json"].get(field.json).is_some());
            assert!(covered, "{}.{}", message.name, field.name);
        }
    }
}

#[test]
fn both_encodings_of_a_message_are_those_of_the_vectors() {
    for vector in vectors("messages") {
        let (kind, bytes) = (kind(&vector), bytes(&vector));
        assert_eq!(encoded(kind, &vector["json"].to_string()), bytes, "{vector}");
        let ours: Value = serde_json::from_str(&printed(kind, &bytes)).unwrap();
        assert_eq!(ours, vector["json"]);
        // Our own types do not tell an empty body from none: they hold its bytes.
        if !vector["json"].to_string().contains("\"body\":{}") {
            assert_eq!(types::round_trip(kind.name, &bytes).unwrap(), bytes, "{vector}");
        }
    }
}

#[test]
fn texts_that_parsers_must_accept_are_accepted() {
    for vector in vectors("texts") {
        assert_eq!(encoded(kind(&vector), vector["text"].as_str().unwrap()), bytes(&vector), "{vector}");
    }
}

#[test]
fn bytes_that_parsers_must_accept_are_accepted() {
    for vector in vectors("bytes") {
        assert_eq!(printed(kind(&vector), &bytes(&vector)), vector["json"].as_str().unwrap(), "{vector}");
    }
}

#[test]
fn what_python_refuses_is_refused_and_leaves_the_output_alone() {
    for vector in vectors("refused_texts") {
        let mut out = b"before".to_vec();
        assert!(to_protobuf(kind(&vector), vector["text"].as_str().unwrap(), &mut out).is_err(), "{vector}");
        assert_eq!(out, b"before");
    }
    for vector in vectors("refused_bytes") {
        let mut out = b"before".to_vec();
        assert!(to_json(kind(&vector), &bytes(&vector), &mut out).is_err(), "{vector}");
        assert_eq!(out, b"before");
    }
}
