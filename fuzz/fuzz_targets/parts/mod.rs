//! What the targets of the edge share: an input cut into parts, a generator, and a look at what was sent.

#![allow(dead_code, reason = "each target uses a part")]

use std::convert::Infallible;

use conclave_core::wire::v1::Frame;
use conclave_core::wire::websocket;
use rand_core::{TryCryptoRng, TryRng};

/// Takes the next part off: a byte that says what it is, two of length, content.
pub fn next<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let [kind, low, high, rest @ ..] = *input else { return None };
    let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
    let (content, rest) = rest.split_at(len);
    *input = rest;
    Some((*kind, content))
}

#[derive(Default)]
pub struct Counter(u8);

impl TryRng for Counter {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.try_next_u64()? as u32)
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_add(1);
        Ok(u64::from(self.0))
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0 = self.0.wrapping_add(1);
        bytes.fill(self.0);
        Ok(())
    }
}
impl TryCryptoRng for Counter {}

/// Hands over each frame of `out`, which must be whole WebSocket messages of whole frames.
pub fn frames(out: &[u8], mut each: impl FnMut(&Frame<'_>)) {
    let mut rest = out;
    while !rest.is_empty() {
        let content = websocket::content(rest).expect("a whole head");
        each(&Frame::decode(&rest[content.clone()]).expect("a frame"));
        rest = &rest[content.end..];
    }
}
