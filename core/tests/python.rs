//! Python's `protobuf` package reads and writes random messages as we do. Needs Python with the packages that
//! tests/vectors-v2.py names: `.ci/run schema`.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use conclave_core::wire::v2::json::{Field, Kind, Message, messages, to_json, to_protobuf};
use serde_json::{Value, json};

mod random;

use random::Random;

/// Messages of each type and kind.
const ROUNDS: usize = 40;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

fn text(message: &'static Message, bytes: &[u8]) -> Option<String> {
    let mut out = Vec::new();
    to_json(message, bytes, &mut out).ok()?;
    Some(String::from_utf8(out).expect("JSON in UTF-8"))
}

fn from_bytes(message: &'static Message, bytes: &[u8]) -> Value {
    let text = text(message, bytes);
    let mut canonical = Vec::new();
    if let Some(text) = &text {
        to_protobuf(message, text, &mut canonical).expect("what we write, we read");
    }
    json!({ "message": message.name, "hex": hex(bytes), "json": text, "canonical": hex(&canonical) })
}

/// None if the text is refused: Python accepts more.
fn from_text(message: &'static Message, text: &str) -> Option<Value> {
    let mut bytes = Vec::new();
    to_protobuf(message, text, &mut bytes).ok()?;
    Some(json!({ "message": message.name, "text": text, "hex": hex(&bytes) }))
}

fn damage<T: Copy>(random: &mut Random, content: &mut Vec<T>, replacement: T) {
    let at = random.below(content.len() + 1);
    match random.below(3) {
        0 => content.insert(at, replacement),
        1 if at < content.len() => drop(content.remove(at)),
        _ if at < content.len() => content[at] = replacement,
        _ => {}
    }
}

/// Whether the message, or one in it, has no fields. Python does not look at the bytes of such a message, we do.
fn holds_nothing(message: &Message) -> bool {
    let inner = |it: &Field| matches!(it.kind, Kind::Message(message) if holds_nothing(message));
    message.fields.is_empty() || message.fields.iter().any(inner)
}

#[test]
fn python_agrees() {
    const PIECES: &[u8] = b"{}[]:,\"\\ 019.-eEntu_+=/Az";
    let mut random = Random(1);
    let mut cases = String::new();
    let mut push = |case: Value| writeln!(cases, "{case}").expect("memory");
    for message in messages() {
        for _ in 0..ROUNDS {
            let bytes = random.message(message);
            push(from_bytes(message, &bytes));
            let mut odd = random.odd_message(message);
            push(from_bytes(message, &odd));
            let replacement = random.next() as u8;
            damage(&mut random, &mut odd, replacement);
            if !holds_nothing(message) {
                push(from_bytes(message, &odd));
            }
            let mut chars: Vec<char> = text(message, &bytes).expect("a message").chars().collect();
            let replacement = PIECES[random.below(PIECES.len())].into();
            damage(&mut random, &mut chars, replacement);
            from_text(message, &String::from_iter(chars)).into_iter().for_each(&mut push);
        }
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("cases");
    fs::write(&path, cases).expect("the cases are written");
    let python = env::var_os("PYTHON").unwrap_or("python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors-v2.py");
    let status = Command::new(python)
        .arg(script)
        .arg("agree")
        .stdin(File::open(&path).expect("the cases"))
        .status()
        .expect("Python runs");
    assert!(status.success(), "Python disagrees");
}
