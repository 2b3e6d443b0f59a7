//! Version 2's JSON mapping: any bytes and any text are translated or refused, and what was translated comes back.
//! The first byte chooses the message type.

#![no_main]

use conclave_core::wire::v2::json::{Message, messages, to_json, to_protobuf};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((choice, input)) = input.split_first() else { return };
    let message = &messages()[usize::from(*choice) % messages().len()];
    let mut canonical = Vec::new();
    if let Ok(text) = str::from_utf8(input)
        && to_protobuf(message, text, &mut canonical).is_ok()
    {
        comes_back(message, &canonical);
    }
    let mut text = Vec::new();
    if to_json(message, input, &mut text).is_ok() {
        let text = str::from_utf8(&text).expect("JSON in UTF-8");
        let mut canonical = Vec::new();
        to_protobuf(message, text, &mut canonical).expect("what was printed is read");
        comes_back(message, &canonical);
    }
});

fn comes_back(message: &'static Message, canonical: &[u8]) {
    let (mut text, mut again) = (Vec::new(), Vec::new());
    to_json(message, canonical, &mut text).expect("what was encoded is read");
    let text = str::from_utf8(&text).expect("JSON in UTF-8");
    to_protobuf(message, text, &mut again).expect("what was printed is read");
    assert_eq!(again, canonical, "canonical bytes are the same after both ways");
}
