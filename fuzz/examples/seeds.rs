//! Writes the committed seeds of the corpus: `cargo run --manifest-path fuzz/Cargo.toml --example seeds`.

use std::error::Error;
use std::fs;
use std::num::ParseIntError;
use std::path::{Path, PathBuf};

use conclave_core::wire::v2::json::messages;

/// Longer vectors repeat one character.
const LONGEST: usize = 4_096;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let vectors: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(root.join("../tests/vectors-v1.json"))?)?;
    let mut frames = Vec::new();
    for vector in vectors["frames"].as_array().into_iter().flatten() {
        if let (Some(name), Some(hex)) = (vector["name"].as_str(), vector["hex"].as_str()) {
            let bytes = unhex(hex)?;
            let name: String =
                name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            frames.push((name, bytes));
        }
    }
    frames.retain(|(_, bytes)| bytes.len() <= LONGEST);
    let dir = |target: &str| -> Result<PathBuf, Box<dyn Error>> {
        let dir = root.join("corpus").join(target);
        fs::create_dir_all(&dir)?;
        Ok(dir)
    };
    for (name, bytes) in &frames {
        fs::write(dir("decode")?.join(name), bytes)?;
        // As a message of its own kind, behind a post and before an answer to it.
        let mut edge = part(1, b"hello");
        edge.extend(part(3, bytes));
        edge.extend(part(0, b""));
        edge.extend(part(0, b"x"));
        fs::write(dir("edge")?.join(name), edge)?;
        // To a link that is up and follows a channel.
        let mut link: Vec<u8> = [14, 0, 1, 2, 18, 6].iter().flat_map(|kind| part(*kind, b"")).collect();
        link.extend(part(31, bytes));
        fs::write(dir("link")?.join(name), link)?;
    }
    for (name, parts) in [
        ("enrolled", vec![part(0, b"session"), part(3, b"")]),
        ("registers", vec![part(0, b"session"), part(2, b"user"), part(3, b"")]),
        ("another-key", vec![part(0, b"session"), part(2, b"user"), part(11, b"")]),
        ("another-nonce", vec![part(0, b"session"), part(3, &[8; 32])]),
        ("short-key", vec![part(0, b"session"), part(5, &[8; 31])]),
        ("no-signature", vec![part(0, b"session"), part(4, &[0; 64])]),
        ("nothing", vec![part(7, b"")]),
    ] {
        fs::write(dir("handshake")?.join(name), parts.concat())?;
    }
    for (name, text) in [
        ("lines", "\x03{\"id\":1}\r\n\n  \nlast"),
        ("long", &format!("\x10{}\nnext\n", "x".repeat(70))),
        ("markup", "\x01</message><message from=\"u/m/s\">&amp;\u{202e}\u{1b}[2J"),
    ] {
        fs::write(dir("bridge_text")?.join(name), text)?;
    }
    let vectors: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(root.join("../tests/vectors-v2.json"))?)?;
    for (name, kind) in [("text", "texts"), ("refused-text", "refused_texts")] {
        for (nth, vector) in vectors[kind].as_array().into_iter().flatten().enumerate() {
            let text = vector["text"].as_str().unwrap_or_default();
            fs::write(dir("json")?.join(format!("{name}-{nth:02}")), message(vector, text.as_bytes()))?;
        }
    }
    for (name, kind) in [("bytes", "bytes"), ("refused-bytes", "refused_bytes")] {
        for (nth, vector) in vectors[kind].as_array().into_iter().flatten().enumerate() {
            let bytes = unhex(vector["hex"].as_str().unwrap_or_default())?;
            fs::write(dir("json")?.join(format!("{name}-{nth:02}")), message(vector, &bytes))?;
        }
    }
    // Version 2's frames, in both encodings: sent by a client, and by a server.
    for (nth, vector) in vectors["messages"].as_array().into_iter().flatten().enumerate() {
        let target = match vector["message"].as_str() {
            Some("ClientFrame") => "edge_v2",
            Some("ServerFrame") => "client_v2",
            _ => continue,
        };
        let forms =
            [unhex(vector["hex"].as_str().unwrap_or_default())?, vector["json"].to_string().into_bytes()];
        for (choice, frame) in forms.into_iter().enumerate().filter(|(_, frame)| frame.len() <= LONGEST) {
            let (ask, say) = if target == "edge_v2" { (part(0, b""), 1) } else { (part(0, b""), 7) };
            let input =
                [&[choice as u8][..], &ask, &part(say, &frame), &part(4, b""), &part(8, b"xyz")].concat();
            fs::write(dir(target)?.join(format!("frame-{nth:03}-{choice}")), input)?;
        }
    }
    for choice in 0..2u8 {
        for (name, side, parts) in [
            ("enrolled", 0, vec![part(0, b"client"), part(66, b"handle"), part(4, b"")]),
            ("registers", 0, vec![part(0, b"client"), part(130, b"user"), part(132, b"")]),
            ("another-key", 0, vec![part(0, b"client"), part(2, b"handle"), part(12, b"")]),
            ("no-signature", 0, vec![part(0, b"client"), part(2, b"handle"), part(5, &[0; 64])]),
            ("proven", 2, vec![part(8, b""), part(2, b""), part(5, b"")]),
            ("another-server", 2, vec![part(136, b""), part(130, b""), part(5, b"")]),
            ("unproven", 2, vec![part(8, b""), part(4, &[0; 64]), part(5, b"")]),
            ("another-level", 2, vec![part(16, b""), part(2, b""), part(5, b"")]),
        ] {
            let input = [&[choice | side][..], &parts.concat()].concat();
            fs::write(dir("handshake_v2")?.join(format!("{name}-{choice}")), input)?;
        }
    }
    // Steps drawn by a small generator: what they are is for the fuzzer to find out.
    let mut state = 1u64;
    for nth in 0..40 {
        let mut steps = vec![nth % 2];
        for _ in 0..600 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            steps.push((state >> 56) as u8);
        }
        fs::write(dir("hub")?.join(format!("steps-{nth:02}")), &steps)?;
        fs::write(dir("hub_v2")?.join(format!("steps-{nth:02}")), steps)?;
    }
    Ok(())
}

fn part(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut part = vec![kind];
    part.extend((content.len() as u16).to_le_bytes());
    part.extend(content);
    part
}

/// The choice of the message type, and its content.
fn message(vector: &serde_json::Value, content: &[u8]) -> Vec<u8> {
    let choice = messages().iter().position(|it| vector["message"] == it.name);
    let mut input = vec![choice.unwrap_or_default() as u8];
    input.extend(content);
    input
}

fn unhex(hex: &str) -> Result<Vec<u8>, ParseIntError> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16)).collect()
}
