//! Fan-out: from the hub's actions to the bytes that each connection is written.
//!
//! A delivery is encoded once, whoever receives it. What one commit releases on a channel becomes one [`Burst`],
//! queued once for each subscriber and written to it in one piece, so that the cost per recipient is that of
//! the commit, not of the message.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::hub::{Action, BatchId, ConnId, Read, RequestId};
use crate::name::SessionPath;
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{CloseReason, Reply};
use crate::record::Record;
use crate::wire::edge;

/// What is queued to a connection's edge.
#[derive(Clone, Debug)]
pub enum Item {
    /// The connection is a session now.
    Established {
        /// Its path.
        path: Arc<SessionPath>,
        /// Whether its user is an admin of the server.
        admin: bool,
    },
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
    /// The end.
    Close(CloseReason),
}

impl Item {
    /// About how many bytes it will be on the wire: what a queue is bounded by.
    pub fn size(&self) -> usize {
        const PATH: usize = 128;
        match self {
            Self::Reply { reply, .. } => match reply {
                Reply::History { messages, .. } => {
                    messages.iter().map(|message| message.payload.size() + PATH).sum::<usize>() + PATH
                }
                Reply::Presence { sessions, .. } => sessions.len() * PATH + PATH,
                Reply::Users(users) => users.len() * 32 + PATH,
                Reply::Channels(channels) => channels.len() * 40 + PATH,
                Reply::Machines(machines) => machines.len() * PATH + PATH,
                Reply::Invites(invites) => invites.len() * PATH + PATH,
                _ => 16,
            },
            Self::Whisper { payload, .. } => payload.size() + PATH,
            Self::Burst(burst) => burst.bytes.len(),
            Self::Established { .. } | Self::Close(_) => PATH,
        }
    }
}

/// Deliveries on one channel, encoded once as WebSocket messages, for all who were subscribed to it.
#[derive(Debug)]
pub struct Burst {
    bytes: Opaque<Bytes>,
    /// Who posted each message, and where it ends.
    messages: Vec<(ConnId, usize)>,
}

impl Burst {
    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Hands over what `conn` receives, in order: everything but its own posts, in as few pieces as that takes.
    pub fn pieces(&self, conn: ConnId, mut piece: impl FnMut(Bytes)) {
        let (mut start, mut end) = (0, 0);
        for (from, next) in &self.messages {
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
    to: Arc<Vec<ConnId>>,
    bytes: Vec<u8>,
    messages: Vec<(ConnId, usize)>,
}

impl Fanout {
    /// Carries out `actions`. Each channel's deliveries keep their order, and nothing but [`Reply::Sent`] overtakes a
    /// delivery to its own connection; of two channels, one's deliveries may go before the other's.
    pub fn carry_out(&mut self, actions: &mut Vec<Action>, out: &mut impl Outbound) {
        for action in actions.drain(..) {
            match action {
                Action::Deliver { channel, from, payload, to, except } => {
                    let at = *self.by_list.entry(Arc::as_ptr(&to) as usize).or_insert_with(|| {
                        self.open.push(Open { to, bytes: Vec::new(), messages: Vec::new() });
                        self.open.len() - 1
                    });
                    let open = &mut self.open[at];
                    edge::encode_delivery(&channel, &from, &payload, &mut open.bytes);
                    open.messages.push((except, open.bytes.len()));
                }
                // An acknowledgement tells nothing about deliveries: it may overtake them.
                Action::Reply { conn, request, reply: Reply::Sent } => {
                    out.send(conn, Item::Reply { request, reply: Reply::Sent });
                }
                Action::Persist { batch, records } => out.persist(batch, records),
                Action::Reply { conn, request, reply } => {
                    self.flush(out);
                    out.send(conn, Item::Reply { request, reply });
                }
                Action::Established { conn, path, admin } => {
                    out.send(conn, Item::Established { path, admin });
                }
                Action::Whisper { conn, from, target, payload } => {
                    self.flush(out);
                    out.send(conn, Item::Whisper { from, target, payload });
                }
                Action::Close { conn, reason } => {
                    self.flush(out);
                    out.send(conn, Item::Close(reason));
                }
                Action::ReadHistory(read) => out.read(read),
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
        for Open { to, bytes, messages } in self.open.drain(..) {
            let first = messages.first().map(|(from, _)| *from);
            let only = first.filter(|first| messages.iter().all(|(from, _)| from == first));
            let burst = Arc::new(Burst { bytes: Opaque(bytes.into()), messages });
            for conn in to.iter().filter(|conn| only != Some(**conn)) {
                out.send(*conn, Item::Burst(burst.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ChannelName;
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
        fn drained(&mut self) {}
    }

    fn path() -> Arc<SessionPath> {
        Arc::new(SessionPath::new("u", "m", "s").unwrap())
    }

    fn delivery(to: &Arc<Vec<ConnId>>, except: u64, text: &str) -> Action {
        Action::Deliver {
            channel: ChannelName::new("c").unwrap(),
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
        let to = Arc::new(alloc::vec![ConnId(1), ConnId(2), ConnId(3)]);
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
        let to = Arc::new(alloc::vec![ConnId(1)]);
        let answer = Action::Reply { conn: ConnId(1), request: RequestId(0), reply: Reply::Pong };
        let mut actions = alloc::vec![delivery(&to, 2, "a"), answer, delivery(&to, 2, "b")];
        let mut recorder = Recorder::default();
        Fanout::default().carry_out(&mut actions, &mut recorder);
        let kinds: Vec<bool> = recorder.0.iter().map(|(_, item)| matches!(item, Item::Burst(_))).collect();
        assert_eq!(kinds, [true, false, true]);
    }

    #[test]
    fn debug_shows_no_bodies() {
        let to = Arc::new(alloc::vec![ConnId(1)]);
        let mut recorder = Recorder::default();
        Fanout::default().carry_out(&mut alloc::vec![delivery(&to, 2, "a secret body")], &mut recorder);
        let Item::Burst(burst) = &recorder.0[0].1 else { panic!("{:?}", recorder.0) };
        let shown = alloc::format!("{:?}", recorder.0);
        assert!(!burst.is_empty() && !shown.contains("secret") && !shown.contains("115, 101, 99"), "{shown}");
    }
}
