//! What the sender of a message signs. The server neither makes nor checks these signatures: it relays them, and a
//! reader that knows the sender's key finds out a server that forges, alters or misattributes a message.

use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use super::convert;
use crate::key::{self, PublicKey};
use crate::record::ChannelId;
use crate::stream::MessageId;

/// Sets these signatures apart from all others that the same key makes.
const CONTEXT: &[u8] = b"conclave v2 message\0";

/// The bytes that the sender's machine signs with its key at this server: the context, the server's key, the stream's
/// number on the wire (64 bits, big-endian), the message's id, and the SHA-256 of the encoded `Body`.
///
/// So a signature holds for one message in one stream of one server, and a server cannot show the message elsewhere.
pub fn to_sign(server: &PublicKey, stream: ChannelId, id: &MessageId, body: &[u8]) -> Vec<u8> {
    let number = convert::number(stream.0).to_be_bytes();
    let body = Sha256::digest(body);
    [CONTEXT, server.as_bytes(), &number, &id.0, body.as_slice()].concat()
}

/// Whether the machine with the key `sender` signed this message.
pub fn verify(
    sender: &PublicKey,
    server: &PublicKey,
    stream: ChannelId,
    id: &MessageId,
    body: &[u8],
    signature: &[u8],
) -> bool {
    key::verify(sender.as_bytes(), &to_sign(server, stream, id, body), signature).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;
    use crate::key::SecretKey;

    const ID: MessageId = MessageId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    const STREAM: ChannelId = ChannelId(2);

    /// Made with Python's `hashlib` and `cryptography` 50: the server's seed is 32 bytes of 1, the sender's 32 of 7, the
    /// stream has the number 3 on the wire, the body is the text `hello`.
    const SIGNED: [&str; 5] = [
        "636f6e636c617665207632206d65737361676500",
        "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c",
        "0000000000000003",
        "000102030405060708090a0b0c0d0e0f",
        "2fa776ecd5ce9e8b64dd05ed2507ebe5f96b3993f442fdf4a696b602021ed748",
    ];
    const SIGNATURE: &str = "0dfc2ec3af6e3996b6e110058d5f99466113b2411a8326e0a8adcb8bcabf238d\
                             b2830dc5f422daceeec103ea42dcb3f2ab43e91aeee8432b3f993c4bfb321807";

    fn bytes(hex: &str) -> Vec<u8> {
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(byte).collect()
    }

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32])
    }

    #[test]
    fn the_signed_bytes_and_the_signature_are_those_of_another_implementation() {
        let (server, body) = (key(1).public(), body::of_text("hello"));
        let signed = to_sign(&server, STREAM, &ID, &body);
        assert_eq!(signed, bytes(&SIGNED.concat()));
        assert_eq!(key(7).sign(&signed)[..], bytes(SIGNATURE));
        assert!(verify(&key(7).public(), &server, STREAM, &ID, &body, &bytes(SIGNATURE)));
    }

    #[test]
    fn a_signature_holds_for_one_message_in_one_place_from_one_sender() {
        let (sender, server, body) = (key(7), key(1).public(), body::of_text("pay ann"));
        let signature = sender.sign(&to_sign(&server, STREAM, &ID, &body));
        let holds = |sender: &SecretKey, server: &SecretKey, stream, id: &MessageId, text: &str| {
            verify(&sender.public(), &server.public(), stream, id, &body::of_text(text), &signature)
        };
        assert!(holds(&sender, &key(1), STREAM, &ID, "pay ann"));
        assert!(!holds(&key(8), &key(1), STREAM, &ID, "pay ann"), "another sender");
        assert!(!holds(&sender, &key(2), STREAM, &ID, "pay ann"), "another server");
        assert!(!holds(&sender, &key(1), ChannelId(3), &ID, "pay ann"), "another stream");
        assert!(!holds(&sender, &key(1), STREAM, &MessageId([0; 16]), "pay ann"), "another message");
        assert!(!holds(&sender, &key(1), STREAM, &ID, "pay bob"), "another text");
        assert!(!verify(&sender.public(), &server, STREAM, &ID, &body, &signature[..63]), "a part of it");
        assert!(!verify(&sender.public(), &server, STREAM, &ID, &body, &[]), "none");
    }
}
