//! What proves or contradicts the server's word: the disk, and what readers claimed.

use conclave_core::payload::Payload;

use super::super::super::notation::{Node, Said};
use super::super::super::store::Row;
use super::super::super::world::World;
use super::judge::Verdict;
use super::{Claims, channel};

const STATES: [&str; 5] = [
    "RECEIPT_STATE_UNSPECIFIED",
    "RECEIPT_STATE_STORED",
    "RECEIPT_STATE_DELIVERED",
    "RECEIPT_STATE_SEEN",
    "RECEIPT_STATE_ACKNOWLEDGED",
];

/// Whether a message is what the disk has in its place.
pub(super) fn same(world: &World, number: u64, message: Node<'_>) -> Verdict {
    let seq = message.number(1, "seq");
    let rows = world.store.rows(channel(number));
    let Some(row) = seq.checked_sub(1).and_then(|at| rows.get(at as usize)) else {
        return Err(format!("message {seq} of stream {number} is not on the disk"));
    };
    let from = message.child(3, "from").ok_or("a message from nobody")?;
    let path = (from.text(1, "user"), from.text(2, "machine"), from.text(3, "handle"));
    let sender = row.origin.sender.map_or((0, 0), |(user, machine)| (user.0 + 1, machine.0 + 1));
    let signed = row.origin.signed.as_deref();
    let is_same = message.number(2, "stampMs") as i64 == row.stamp.ts.0
        && path == (row.from.user.to_string(), row.from.machine.to_string(), row.from.session.to_string())
        && (from.number(4, "userId"), from.number(5, "machineId")) == sender
        && message.bytes(4, "messageId") == signed.map_or(&[][..], |signed| &signed.id.0)
        && message.bytes(6, "signature") == signed.map_or(&[][..], |signed| &signed.signature.0)
        && message.flag(7, "acknowledge") == signed.is_some_and(|signed| signed.acknowledge)
        && message.child(5, "body").and_then(Said::read) == said(row);
    if is_same { Ok(()) } else { Err(format!("message {seq} of stream {number} is not what is on the disk")) }
}

fn said(row: &Row) -> Option<Said> {
    said_by(&row.payload)
}

/// What a message says.
pub(in crate::sim::client) fn said_by(payload: &Payload) -> Option<Said> {
    match payload {
        Payload::Plain(text) => Some(Said { text: text.clone(), ..Said::default() }),
        Payload::Encrypted(envelope) => Some(Said {
            sealed: true,
            ciphertext: envelope.ciphertext.clone(),
            text: envelope.key_id.clone().unwrap_or_default(),
            ..Said::default()
        }),
        Payload::Body(body) => Said::read(Node::Proto(body)),
    }
}

/// What a reader that the server names has claimed.
pub(super) fn claims(world: &World, stream: u64, of: Node<'_>) -> Claims {
    let reader = of.child(1, "reader");
    let path = reader
        .map(|reader| {
            format!("{}/{}/{}", reader.text(1, "user"), reader.text(2, "machine"), reader.text(3, "handle"))
        })
        .unwrap_or_default();
    world.claims.get(&(path, channel(stream))).cloned().unwrap_or_default()
}

/// A receipt claims what its reader claimed, and nothing else.
pub(super) fn receipt(world: &mut World, (stream, seq): (u64, u64), receipt: Node<'_>) -> Verdict {
    world.coverage.receipts += 1;
    let claims = claims(world, stream, receipt);
    let state = receipt.member(2, "state", &STATES);
    let claimed = match state {
        1 => true,
        2 => seq <= claims.delivered,
        3 => seq <= claims.seen,
        4 => claims.acknowledged.contains(&seq),
        _ => false,
    };
    if claimed {
        Ok(())
    } else {
        Err(format!("{} of message {seq} is told, and its reader claimed {claims:?}", STATES[state.min(4)]))
    }
}
