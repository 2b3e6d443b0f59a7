//! Fan-out: from the hub's actions to the bytes that each connection is written.
//!
//! A delivery is encoded once, whoever receives it. What one commit releases on a channel becomes one [`Burst`],
//! queued once for each subscriber and written to it in one piece, so that the cost per recipient is that of
//! the commit, not of the message.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::handshake::Format;
use crate::hub::{Action, Audience, AuditRead, BatchId, ConnId, Read, RequestId, SessionInfo};
use crate::name::SessionPath;
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::size::{PATH, page};
use crate::protocol::{CloseReason, Reply};
use crate::record::{ChannelId, Record};
use crate::stream::{Notice, StreamReply};
use crate::wire::edge::{Delivery, Encoder};

/// What is queued to a connection's edge.
#[derive(Clone, Debug)]
pub enum Item {
    /// The connection is a session now.
    Established(SessionInfo),
    /// The answer to a request.
    Reply {
        /// The request.
        request: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// A whisper.
    Whisper {
        /// Who whispers.
        from: Arc<SessionPath>,
        /// To whom.
        target: Arc<SessionPath>,
        /// What.
        payload: Payload,
    },
    /// Deliveries.
    Burst(Arc<Burst>),
    /// Something that the session did not ask for.
    Notice(Notice),
    /// Say when everything before this is written, or nearly.
    Mark,
    /// The end.
    Close(CloseReason),
}

impl Item {
    /// About how many bytes it will be on the wire: what a queue is bounded by.
    pub fn size(&self) -> usize {
        match self {
            Self::Reply { reply, .. } => reply.size(),
            Self::Whisper { payload, .. } => payload.size() + PATH,
            Self::Burst(burst) => burst.bytes.len(),
            Self::Notice(notice) => match notice {
                Notice::Deliveries { messages, .. } => page(messages),
                Notice::ReceiptsMoved { readers, .. } => readers.len() * PATH + PATH,
                Notice::PresenceChanged { comings, .. } => {
                    (comings.joined.len() + comings.left.len()) * PATH + PATH
                }
                _ => PATH,
            },
            Self::Established(_) | Self::Close(_) => PATH,
            Self::Mark => 0,
        }
    }
}

/// Deliveries on one channel, encoded once as WebSocket messages, for all of one format who were subscribed to it.
#[derive(Debug)]
pub struct Burst {
    format: Format,
    stream: ChannelId,
    /// The first message.
    first: u64,
    count: usize,
    bytes: Opaque<Bytes>,
    /// Who posted each message, and where it ends. Version 1 only: a session of version 2 receives its own posts, too.
    own: Vec<(ConnId, usize)>,
}

impl Burst {
    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// If a session that has no room for it can read it later: the channel and the first message.
    pub fn resumable(&self) -> Option<(ChannelId, u64)> {
        self.format.resumes().then_some((self.stream, self.first))
    }

    /// Hands over what `conn` receives, in order, in as few pieces as that takes.
    pub fn pieces(&self, conn: ConnId, mut piece: impl FnMut(Bytes)) {
        if self.own.is_empty() {
            return piece(self.bytes.0.clone());
        }
        let (mut start, mut end) = (0, 0);
        for (from, next) in &self.own {
            if *from == conn {
                if start < end {
                    piece(self.bytes.slice(start..end));
                }
                start = *next;
            }
            end = *next;
        }
        if start < end {
            piece(self.bytes.slice(start..end));
        }
    }
}

/// Where the hub's actions go.
pub trait Outbound {
    /// Queue an item to a connection, which may be gone.
    fn send(&mut self, conn: ConnId, item: Item);

    /// Hand records to the store.
    fn persist(&mut self, batch: BatchId, records: Vec<Record>);

    /// Have a page of history read.
    fn read(&mut self, read: Read);

    /// Have a page of the audit trail read.
    fn read_audit(&mut self, read: AuditRead);

    /// Have the hub told how much a connection's peer has taken.
    fn probe(&mut self, conn: ConnId);

    /// The hub is drained.
    fn drained(&mut self);
}

/// Carries the hub's actions to an [`Outbound`], gathering deliveries into bursts.
#[derive(Default)]
pub struct Fanout {
    open: Vec<Open>,
    /// Which of `open` gathers for a list of subscribers, by that list's address: it is held, so it is no
    /// other's.
    by_list: BTreeMap<usize, usize>,
}

struct Open {
    stream: ChannelId,
    to: Arc<Audience>,
    first: u64,
    count: usize,
    /// One for each format that somebody in `to` has.
    encoders: [Option<Encoder>; Format::ALL.len()],
    own: Vec<(ConnId, usize)>,
}

impl Open {
    fn new(stream: ChannelId, to: Arc<Audience>, first: u64) -> Self {
        let encoders =
            Format::ALL.map(|format| (!to.of(format).is_empty()).then(|| Encoder::new(format, stream)));
        Self { stream, to, first, count: 0, encoders, own: Vec::new() }
    }
}

impl Fanout {
    /// Carries out `actions`. Each channel's deliveries keep their order, and nothing but [`Reply::Sent`] overtakes a
    /// delivery to its own connection; of two channels, one's deliveries may go before the other's.
    pub fn carry_out(&mut self, actions: &mut Vec<Action>, out: &mut impl Outbound) {
        for action in actions.drain(..) {
            match action {
                Action::Deliver { channel, stream, stamp, from, payload, origin, to, except } => {
                    let at = *self.by_list.entry(Arc::as_ptr(&to) as usize).or_insert_with(|| {
                        self.open.push(Open::new(stream, to, stamp.seq));
                        self.open.len() - 1
                    });
                    let open = &mut self.open[at];
                    open.count += 1;
                    let delivery = Delivery {
                        channel: &channel,
                        stamp,
                        from: &from,
                        payload: &payload,
                        origin: &origin,
                    };
                    for (format, encoder) in Format::ALL.into_iter().zip(&mut open.encoders) {
                        let Some(encoder) = encoder else { continue };
                        let end = encoder.push(delivery);
                        if format == Format::V1 {
                            open.own.push((except, end));
                        }
                    }
                }
                // An acknowledgement tells nothing about deliveries: it may overtake them.
                Action::Reply {
                    conn,
                    request,
                    reply: reply @ (Reply::Sent | Reply::Stream(StreamReply::Stored { .. })),
                } => out.send(conn, Item::Reply { request, reply }),
                Action::Persist { batch, records } => out.persist(batch, records),
                Action::Reply { conn, request, reply } => {
                    self.flush(out);
                    out.send(conn, Item::Reply { request, reply });
                }
                Action::Established { conn, session } => out.send(conn, Item::Established(session)),
                Action::Notify { conn, notice } => {
                    self.flush(out);
                    out.send(conn, Item::Notice(notice));
                }
                Action::Mark { conn } => {
                    self.flush(out);
                    out.send(conn, Item::Mark);
                }
                Action::Probe { conn } => out.probe(conn),
                Action::Whisper { conn, from, target, payload } => {
                    self.flush(out);
                    out.send(conn, Item::Whisper { from, target, payload });
                }
                Action::Close { conn, reason } => {
                    self.flush(out);
                    out.send(conn, Item::Close(reason));
                }
                Action::ReadHistory(read) => out.read(read),
                Action::ReadAudit(read) => out.read_audit(read),
                Action::Drained => {
                    self.flush(out);
                    out.drained();
                }
            }
        }
        self.flush(out);
    }

    fn flush(&mut self, out: &mut impl Outbound) {
        self.by_list.clear();
        for Open { stream, to, first, count, encoders, mut own } in self.open.drain(..) {
            let poster = own.first().map(|(from, _)| *from);
            let only = poster.filter(|poster| own.iter().all(|(from, _)| from == poster));
            for (format, encoder) in Format::ALL.into_iter().zip(encoders) {
                let Some(encoder) = encoder else { continue };
                let bytes = Opaque(encoder.finish().into());
                let (own, only) =
                    if format == Format::V1 { (core::mem::take(&mut own), only) } else { (Vec::new(), None) };
                let burst = Arc::new(Burst { format, stream, first, count, bytes, own });
                for conn in to.of(format).iter().filter(|conn| only != Some(**conn)) {
                    out.send(*conn, Item::Burst(burst.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ChannelName;
    use crate::record::Stamp;
    use crate::stream::Origin;
    use crate::wire::websocket;
    use alloc::string::String;

    #[derive(Default)]
    struct Recorder(Vec<(ConnId, Item)>);

    impl Outbound for Recorder {
        fn send(&mut self, conn: ConnId, item: Item) {
            self.0.push((conn, item));
        }
        fn persist(&mut self, _: BatchId, _: Vec<Record>) {}
        fn read(&mut self, _: Read) {}
        fn read_audit(&mut self, _: AuditRead) {}
        fn probe(&mut self, _: ConnId) {}
        fn drained(&mut self) {}
    }

    fn path() -> Arc<SessionPath> {
        Arc::new(SessionPath::new("u", "m", "s").unwrap())
    }

    fn audience(format: Format, conns: &[u64]) -> Arc<Audience> {
        let mut audience = Audience::default();
        conns.iter().for_each(|conn| audience.insert(format, ConnId(*conn)));
        Arc::new(audience)
    }

    fn delivery(to: &Arc<Audience>, except: u64, text: &str) -> Action {
        Action::Deliver {
            channel: ChannelName::new("c").unwrap(),
            stream: ChannelId(0),
            stamp: Stamp::default(),
            origin: Origin::default(),
            from: path(),
            payload: Arc::new(Payload::Plain(String::from(text))),
            to: to.clone(),
            except: ConnId(except),
        }
    }

    fn texts(bytes: &[u8]) -> Vec<String> {
        let mut texts = Vec::new();
        let mut rest = bytes;
        while let Some(content) = websocket::content(rest) {
            match crate::wire::v1::Frame::decode(&rest[content.clone()]).unwrap() {
                crate::wire::v1::Frame::ChannelMsg {
                    payload: crate::wire::v1::Payload::Plain(text), ..
                } => {
                    texts.push(text.into());
                }
                other => panic!("{other:?}"),
            }
            rest = &rest[content.end..];
        }
        assert!(rest.is_empty());
        texts
    }

    #[test]
    fn nobody_receives_its_own_post_and_everybody_the_rest_in_order() {
        let to = audience(Format::V1, &[1, 2, 3]);
        let mut actions = alloc::vec![
            delivery(&to, 1, "a"),
            delivery(&to, 2, "b"),
            delivery(&to, 2, "c"),
            delivery(&to, 9, "d")
        ];
        let mut recorder = Recorder::default();
        Fanout::default().carry_out(&mut actions, &mut recorder);
        for (conn, expected) in [(1, "bcd"), (2, "ad"), (3, "abcd")] {
            let mut got = String::new();
            for (to, item) in &recorder.0 {
                let Item::Burst(burst) = item else { panic!("{item:?}") };
                if to.0 == conn {
                    burst.pieces(*to, |piece| got.extend(texts(&piece)));
                }
            }
            assert_eq!(got, expected, "connection {conn}");
        }
        assert_eq!(recorder.0.len(), 3, "one burst for each subscriber");
    }

    #[test]
    fn an_answer_stays_behind_the_deliveries_before_it() {
        let to = audience(Format::V1, &[1]);
        let answer = Action::Reply { conn: ConnId(1), request: RequestId(0), reply: Reply::Pong };
        let mut actions = alloc::vec![delivery(&to, 2, "a"), answer, delivery(&to, 2, "b")];
        let mut recorder = Recorder::default();
        Fanout::default().carry_out(&mut actions, &mut recorder);
        let kinds: Vec<bool> = recorder.0.iter().map(|(_, item)| matches!(item, Item::Burst(_))).collect();
        assert_eq!(kinds, [true, false, true]);
    }

    #[test]
    fn debug_shows_no_bodies() {
        let to = audience(Format::V1, &[1]);
        let mut recorder = Recorder::default();
        Fanout::default().carry_out(&mut alloc::vec![delivery(&to, 2, "a secret body")], &mut recorder);
        let Item::Burst(burst) = &recorder.0[0].1 else { panic!("{:?}", recorder.0) };
        let shown = alloc::format!("{:?}", recorder.0);
        assert!(!burst.is_empty() && !shown.contains("secret") && !shown.contains("115, 101, 99"), "{shown}");
    }
}
