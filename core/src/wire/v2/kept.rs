//! One message as bytes, for a client that keeps it between runs: a `Delivery` of the schema.

use alloc::vec::Vec;

use prost::Message as _;

use super::client::decode;
use super::convert;
use super::encoding::Malformed;
use super::schema::Delivery;
use crate::protocol::Stamped;

/// Encodes a message. A payload of version 1 becomes the body that version 2 would have sent.
pub fn encode(message: &Stamped) -> Vec<u8> {
    convert::delivery(message).encode_to_vec()
}

/// Reads an encoded message, with the care that a server's frame gets: the bytes may come from anywhere. Allocates no more
/// than a small multiple of their number.
///
/// # Errors
/// [`Malformed`] for what is no message.
pub fn decode(bytes: &[u8]) -> Result<Stamped, Malformed> {
    let delivery = Delivery::decode(bytes).map_err(|_| Malformed)?;
    decode::message(delivery).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;
    use crate::opaque::Opaque;
    use crate::payload::Payload;
    use crate::record::{MachineId, UserId};
    use crate::stream::{MessageId, Origin, Signed};
    use crate::time::UnixMillis;
    use alloc::string::String;
    use alloc::sync::Arc;
    use proptest::prelude::*;

    fn messages() -> impl Strategy<Value = Stamped> {
        let sender = prop::option::of((0..u64::MAX - 1, 0..u64::MAX - 1));
        let signed = prop::option::of((any::<[u8; 16]>(), any::<[u8; 32]>(), any::<bool>()));
        (any::<String>(), any::<u64>(), any::<i64>(), sender, signed).prop_map(
            |(text, seq, ts, sender, signed)| Stamped {
                from: "ann/laptop/site".parse().unwrap(),
                ts: UnixMillis(ts),
                payload: Payload::Body(body::of_text(&text)),
                seq,
                origin: Origin {
                    sender: sender.map(|(user, machine)| (UserId(user), MachineId(machine))),
                    signed: signed.map(|(id, half, acknowledge)| {
                        let mut signature = [0; 64];
                        signature[32..].copy_from_slice(&half);
                        Arc::new(Signed { id: MessageId(id), signature: Opaque(signature), acknowledge })
                    }),
                    expires: Some(UnixMillis(ts)).filter(|at| at.0 % 2 == 1),
                },
            },
        )
    }

    proptest! {
        #[test]
        fn a_message_reads_back_as_it_was(message in messages()) {
            prop_assert_eq!(decode(&encode(&message)), Ok(message));
        }

        #[test]
        fn any_bytes_are_a_message_or_refused(message in messages(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = encode(&message);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(read) = decode(&bytes) {
                prop_assert_eq!(decode(&encode(&read)), Ok(read));
            }
            let _ = decode(&bytes[..at]);
        }
    }

    #[test]
    fn a_payload_of_version_1_is_kept_as_a_body() {
        let from = "ann/laptop/site".parse().unwrap();
        let plain = Stamped::without_origin(from, UnixMillis(7), Payload::Plain("hello".into()));
        let read = decode(&encode(&plain)).unwrap();
        assert_eq!(read, Stamped { payload: Payload::Body(body::of_text("hello")), ..plain });
        assert_eq!(decode(&[]), Err(Malformed), "a message has a sender");
    }
}
