//! A connection's write queue: what waits to be written to its socket, in order. Bursts are pieces of memory that
//! connections share; only a connection's own messages are its own.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::wire::websocket;

/// See the module.
#[derive(Default)]
pub struct WriteQueue {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are written.
    written: usize,
    own: Vec<u8>,
    len: usize,
    /// Bytes of pieces that are the connection's own.
    own_len: usize,
}

struct Piece {
    bytes: Bytes,
    own: bool,
}

impl WriteQueue {
    /// Where the connection's own messages are appended. Call [`WriteQueue::settle`] when done.
    pub fn own(&mut self) -> &mut Vec<u8> {
        &mut self.own
    }

    /// Appends what was written to [`WriteQueue::own`].
    pub fn settle(&mut self) {
        if !self.own.is_empty() {
            let own = core::mem::take(&mut self.own);
            self.len += own.len();
            self.own_len += own.len();
            self.pieces.push_back(Piece { bytes: own.into(), own: true });
        }
    }

    /// Appends a shared piece.
    pub fn push(&mut self, piece: Bytes) {
        self.settle();
        self.len += piece.len();
        self.pieces.push_back(Piece { bytes: piece, own: false });
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes that are held for this connection alone.
    pub fn own_len(&self) -> usize {
        self.own_len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a message is written in part: nothing else may be written now.
    pub fn is_midway(&self) -> bool {
        self.written > 0
    }

    /// The waiting pieces, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.written;
        self.pieces.iter().map(move |piece| &piece.bytes[core::mem::take(&mut skip)..])
    }

    /// Notes that `count` bytes were written.
    pub fn advance(&mut self, count: usize) {
        self.len = self.len.saturating_sub(count);
        let mut done = self.written + count;
        while let Some(first) = self.pieces.front()
            && done >= first.bytes.len()
        {
            done -= first.bytes.len();
            self.own_len -= if first.own { first.bytes.len() } else { 0 };
            self.pieces.pop_front();
        }
        self.written = if self.pieces.is_empty() { 0 } else { done };
        if self.pieces.is_empty() && self.pieces.capacity() > 16 {
            self.pieces = VecDeque::new();
        }
    }

    /// Drops all that waits but the rest of a message that is written in part, so that a last word can follow.
    pub fn abandon(&mut self) {
        self.own.clear();
        self.pieces.truncate(usize::from(self.written > 0));
        self.len = 0;
        self.own_len = 0;
        if let Some(Piece { bytes: first, own }) = self.pieces.front_mut() {
            let mut end = 0;
            while end < self.written {
                match websocket::content(&first[end..]) {
                    Some(content) => end += content.end,
                    None => break,
                }
            }
            first.truncate(end);
            self.own_len = if *own { end } else { 0 };
            self.len = end.saturating_sub(self.written);
            if self.len == 0 {
                self.pieces.clear();
                self.own_len = 0;
                self.written = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_is_written_in_parts_is_written_in_order_and_whole(
            messages in proptest::collection::vec((any::<bool>(), 0..300usize), 1..20),
            writes in proptest::collection::vec(1..400usize, 0..60),
            abandon in any::<bool>(),
        ) {
            let mut queue = WriteQueue::default();
            let mut expected = Vec::new();
            for (nth, (shared, len)) in messages.iter().enumerate() {
                let mut message = Vec::new();
                websocket::append(&mut message, |out| out.resize(out.len() + len, nth as u8));
                expected.extend_from_slice(&message);
                if *shared {
                    queue.push(message.into());
                } else {
                    queue.own().extend_from_slice(&message);
                }
            }
            queue.settle();
            prop_assert_eq!(queue.len(), expected.len());
            prop_assert!(queue.own_len() <= queue.len());
            let mut written = Vec::new();
            let mut write = |queue: &mut WriteQueue, mut count: usize| {
                let mut taken = 0;
                for piece in queue.pieces() {
                    let part = &piece[..piece.len().min(count)];
                    written.extend_from_slice(part);
                    taken += part.len();
                    count -= part.len();
                }
                queue.advance(taken);
            };
            for count in writes {
                write(&mut queue, count);
            }
            if abandon {
                queue.abandon();
                write(&mut queue, usize::MAX);
                prop_assert!(queue.is_empty() && !queue.is_midway() && queue.own_len() == 0);
                prop_assert!(expected.starts_with(&written));
                let mut at = 0;
                while at < written.len() {
                    at += websocket::content(&written[at..]).unwrap().end;
                }
                prop_assert_eq!(at, written.len(), "what was written ends with a whole message");
            } else {
                write(&mut queue, usize::MAX);
                prop_assert_eq!(written, expected);
                prop_assert!(queue.is_empty() && !queue.is_midway() && queue.own_len() == 0);
            }
        }
    }
}
