//! Any bytes are a frame or none; a frame is encoded to bytes that are that frame again.

#![no_main]

use conclave_core::wire::v1::Frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let frame = Frame::decode(bytes);
    if let Ok(from_client) = Frame::decode_from_client(bytes) {
        assert_eq!(frame.as_ref(), Ok(&from_client));
    }
    let Ok(frame) = frame else { return };
    let encoded = frame.to_bytes();
    assert!(encoded.len() <= bytes.len(), "the shortest writing is the one that is sent");
    assert_eq!(Frame::decode(&encoded), Ok(frame));
});
