//! What the server says, compared with the disk and with what the protocol promises.

use super::super::super::notation::{Node, Said};
use super::super::super::world::World;
use super::evidence::{claims, receipt, same};
use super::{Asked, Speaker, Stage, Start, Stream, channel};

/// Codes of errors, by their numbers.
const CODES: [&str; 11] = [
    "ERROR_CODE_UNSPECIFIED",
    "ERROR_CODE_INVALID_ARGUMENT",
    "ERROR_CODE_NOT_FOUND",
    "ERROR_CODE_PERMISSION_DENIED",
    "ERROR_CODE_ALREADY_EXISTS",
    "ERROR_CODE_RATE_LIMITED",
    "ERROR_CODE_QUOTA_EXCEEDED",
    "ERROR_CODE_FAILED_PRECONDITION",
    "ERROR_CODE_UNAUTHENTICATED",
    "ERROR_CODE_UNAVAILABLE",
    "ERROR_CODE_INTERNAL",
];
const INVALID_ARGUMENT: usize = 1;
const NOT_FOUND: usize = 2;
pub(super) const RATE_LIMITED: usize = 5;
pub(super) const UNAVAILABLE: usize = 9;
pub(super) const INTERNAL: usize = 10;
const ENDS: [&str; 6] = [
    "END_REASON_UNSPECIFIED",
    "END_REASON_KICKED",
    "END_REASON_BANNED",
    "END_REASON_REMOVED",
    "END_REASON_DELETED",
    "END_REASON_UNAVAILABLE",
];
const GOODBYES: [&str; 10] = [
    "GOODBYE_REASON_UNSPECIFIED",
    "GOODBYE_REASON_SUPERSEDED",
    "GOODBYE_REASON_KEY_REVOKED",
    "GOODBYE_REASON_USER_REMOVED",
    "GOODBYE_REASON_IDLE",
    "GOODBYE_REASON_SLOW",
    "GOODBYE_REASON_SHUTDOWN",
    "GOODBYE_REASON_HANDSHAKE_TIMEOUT",
    "GOODBYE_REASON_REFUSED",
    "GOODBYE_REASON_MALFORMED",
];

const FRAMES: [(u64, &str); 9] = [
    (1, "challenge"),
    (2, "proof"),
    (3, "welcome"),
    (4, "reply"),
    (5, "deliveries"),
    (6, "live"),
    (7, "gap"),
    (8, "event"),
    (9, "goodbye"),
];
const EVENTS: [(u64, &str); 7] = [
    (1, "subscriptionEnded"),
    (2, "channelRenamed"),
    (3, "receiptsMoved"),
    (4, "whisper"),
    (5, "presenceChanged"),
    (6, "machineAdded"),
    (7, "draining"),
];
const REPLIES: [(u64, &str); 12] = [
    (2, "done"),
    (3, "error"),
    (4, "subscribed"),
    (5, "page"),
    (6, "stored"),
    (7, "receipts"),
    (8, "sessions"),
    (9, "channels"),
    (11, "users"),
    (12, "invite"),
    (13, "invites"),
    (14, "machines"),
];

pub(super) type Verdict = Result<(), String>;

/// An error's code.
pub(super) fn code(node: Node<'_>) -> usize {
    node.member(1, "code", &CODES)
}

impl Speaker {
    /// The server's next message.
    pub(crate) fn message(&mut self, world: &mut World, wire: usize, bytes: &[u8]) {
        if self.wire != Some(wire) {
            return;
        }
        self.heard = world.at;
        let value =
            if self.json { serde_json::from_slice(bytes).unwrap_or_default() } else { Default::default() };
        let node = if self.json { Node::Json(&value) } else { Node::Proto(bytes) };
        let verdict = match node.one_of(&FRAMES) {
            Some((kind, inner)) if node.is_sound() => self.frame(world, kind, inner, bytes),
            _ => Err("what it is sent is no frame".into()),
        };
        if let Err(what) = verdict {
            self.fail(world, &what);
        }
    }

    fn frame(&mut self, world: &mut World, kind: &str, node: Node<'_>, bytes: &[u8]) -> Verdict {
        if kind == "goodbye" {
            return self.goodbye(world, node);
        }
        match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Opening(mut opening) => {
                if self.open(world, &mut opening, (kind, node, bytes))? {
                    self.stage = Stage::Open;
                    self.turned_away = false;
                    world.coverage.spoken += 1;
                    self.catch_up(world);
                } else {
                    self.stage = Stage::Opening(opening);
                }
                return Ok(());
            }
            Stage::Closed => return Err("a frame after the goodbye".into()),
            Stage::Open => self.stage = Stage::Open,
        }
        if kind != "reply" {
            self.search(world, bytes);
        }
        match kind {
            "reply" => self.reply(world, node),
            "deliveries" => {
                let stream = node.number(1, "stream");
                let messages = node.children(2, "messages");
                if messages.is_empty() {
                    return Err("a delivery of nothing".into());
                }
                messages.into_iter().try_for_each(|message| self.delivered(world, stream, message))
            }
            "live" => {
                let seq = node.number(2, "seq");
                let stream = self.stream(node.number(1, "stream"))?;
                stream.live = true;
                if seq + 1 == stream.next { Ok(()) } else { Err(format!("live at {seq}, and {stream:?}")) }
            }
            "gap" => self.gap(world, node),
            "event" => match node.one_of(&EVENTS) {
                Some((kind, node)) => self.event(world, kind, node),
                None => Err("an event of no kind".into()),
            },
            other => Err(format!("an unexpected {other}")),
        }
    }

    fn stream(&mut self, number: u64) -> Result<&mut Stream, String> {
        self.streams
            .get_mut(&number)
            .ok_or_else(|| format!("told of stream {number}, to which it is not subscribed"))
    }

    /// A message must be the next one, and what the disk has in its place.
    fn delivered(&mut self, world: &mut World, number: u64, message: Node<'_>) -> Verdict {
        let seq = message.number(1, "seq");
        let stream = self.stream(number)?;
        if seq != stream.next {
            return Err(format!("{seq} of stream {number} was delivered, and {} is next", stream.next));
        }
        stream.next += 1;
        if let Some(follow) = self.follows.get_mut(&number) {
            follow.kept = follow.kept.max(seq);
        }
        world.coverage.delivered += 1;
        same(world, number, message)
    }

    fn gap(&mut self, world: &mut World, node: Node<'_>) -> Verdict {
        let number = node.number(1, "stream");
        let (from, to) = (node.number(2, "from"), node.number(3, "to"));
        let channel = channel(number);
        let (gone, purged) = (world.store.is_gone(channel), world.store.purged(channel) as u64);
        let stream = self.stream(number)?;
        if from != stream.next || to < from {
            return Err(format!("a gap from {from} to {to}, and {} is next", stream.next));
        }
        if to > purged && !gone {
            return Err(format!("a gap from {from} to {to}, and the store keeps all behind {purged}"));
        }
        stream.next = to + 1;
        if let Some(follow) = self.follows.get_mut(&number) {
            follow.kept = follow.kept.max(to);
        }
        world.coverage.gaps += 1;
        Ok(())
    }

    fn event(&mut self, world: &mut World, kind: &str, node: Node<'_>) -> Verdict {
        match kind {
            "subscriptionEnded" => {
                let (number, reason) = (node.number(1, "stream"), node.member(2, "reason", &ENDS));
                self.stream(number)?;
                self.streams.remove(&number);
                world.coverage.ends += 1;
                match reason {
                    0 => return Err("a subscription ended for no reason".into()),
                    5 => {}
                    // It may come in again, but does not rely on it.
                    _ => drop(self.follows.remove(&number)),
                }
                Ok(())
            }
            "channelRenamed" => self.stream(node.number(1, "stream")).map(drop),
            "receiptsMoved" => {
                let number = node.number(1, "stream");
                if !self.stream(number)?.watched {
                    return Err("told of receipts that it does not watch".into());
                }
                for reader in node.children(2, "readers") {
                    world.coverage.moves += 1;
                    let since = reader.number(6, "since");
                    let claims = claims(world, number, reader);
                    let (delivered, seen) = (reader.number(2, "delivered"), reader.number(3, "seen"));
                    let acknowledged = reader.number(4, "acknowledged");
                    let beyond = |place: u64, claim: u64| place > since && place > claim;
                    let unsaid = acknowledged != 0 && !claims.acknowledged.contains(&acknowledged);
                    if beyond(delivered, claims.delivered) || beyond(seen, claims.seen) || unsaid {
                        let place = (since, delivered, seen, acknowledged);
                        return Err(format!("a reader is told to be at {place:?}, and claimed {claims:?}"));
                    }
                }
                Ok(())
            }
            "presenceChanged" => Err("told who joins, and watches nothing".into()),
            // Whether they are true, the hub's observer says.
            "machineAdded" | "draining" => Ok(()),
            _ => {
                let said = node.child(2, "body").and_then(Said::read).unwrap_or_default();
                world.coverage.whispers += 1;
                let meant = said.text == format!("to {}", self.path) || said.text.starts_with("to ");
                if meant { Ok(()) } else { Err(format!("a whisper that nobody sent: {}", said.text)) }
            }
        }
    }

    fn reply(&mut self, world: &mut World, node: Node<'_>) -> Verdict {
        let id = node.number(1, "id");
        let Some(asked) = self.asked.remove(&id) else {
            return Err(format!("request {id} is answered, and was answered before or never sent"));
        };
        let Some((kind, inner)) = node.one_of(&REPLIES) else { return Err("a reply of no kind".into()) };
        if let Asked::Question { pair, hidden } = asked {
            self.compare(world, (pair, hidden), kind, inner);
            return Ok(());
        }
        if kind == "error" {
            return self.refused(world, &asked, code(inner));
        }
        match (asked, kind) {
            (Asked::Subscribe { stream, start }, "subscribed") => {
                self.subscribed(world, stream, start, inner)
            }
            (Asked::Unsubscribe { stream }, "done") => {
                self.streams.remove(&stream);
                self.follows.remove(&stream);
                Ok(())
            }
            (Asked::Post { id }, "stored") => self.stored(world, id, inner),
            (Asked::Read { stream, after, at, newest }, "page") => {
                Self::page(world, (stream, after, at, newest), inner)
            }
            (Asked::Receipts { stream, seq }, "receipts") => {
                if (inner.number(1, "stream"), inner.number(2, "seq")) != (stream, seq) {
                    return Err("receipts of another message".into());
                }
                inner
                    .children(3, "receipts")
                    .into_iter()
                    .try_for_each(|one| receipt(world, (stream, seq), one))
            }
            (Asked::Watch { stream, on }, "done") => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.watched = on;
                }
                Ok(())
            }
            (Asked::Report | Asked::Acknowledge, "done") => {
                world.coverage.reports += 1;
                Ok(())
            }
            (Asked::Other(wanted), kind) if wanted == kind || kind == "done" => Ok(()),
            (asked, kind) => Err(format!("{asked:?} was answered {kind}")),
        }
    }

    fn subscribed(
        &mut self,
        world: &mut World,
        stream: Option<u64>,
        start: Start,
        node: Node<'_>,
    ) -> Verdict {
        let (number, after, last) =
            (node.number(1, "stream"), node.number(2, "after"), node.number(3, "last"));
        if stream.is_some_and(|stream| stream != number) {
            return Err(format!("subscribed to {number} instead of {stream:?}"));
        }
        let durable = world.store.rows(channel(number)).len() as u64;
        let reached = self.reached.get(&number).copied();
        let sound = last <= durable
            && match start {
                Start::Latest => after == last,
                Start::After(at) => after == at,
                // What was reported may be lost by a crash: a position moves back, never forward.
                Start::Cursor => {
                    let forward = !self.unsure && reached.is_some_and(|reached| after > reached);
                    // A crash may lose even the first position, though it is written at once.
                    let lost = forward && after == last && !world.had_position(self.reader, channel(number));
                    world.coverage.positions_lost += u64::from(lost);
                    after <= last && (!forward || lost)
                }
            };
        if !sound {
            return Err(format!("{start:?} of stream {number}, at {reached:?}: after {after}, last {last}"));
        }
        world.coverage.subscribed += 1;
        let watched = self.streams.get(&number).is_some_and(|stream| stream.watched);
        self.streams.insert(number, Stream { next: after + 1, live: false, watched });
        self.reach(number, after);
        let follow = self.follows.entry(number).or_default();
        follow.kept = follow.kept.max(after);
        Ok(())
    }

    fn stored(&mut self, world: &mut World, id: [u8; 16], node: Node<'_>) -> Verdict {
        let (stream, seq, stamp) =
            (node.number(1, "stream"), node.number(2, "seq"), node.number(3, "stampMs"));
        self.outbox.retain(|other| *other != id);
        let (purged, rows) = (world.store.purged(channel(stream)) as u64, world.store.rows(channel(stream)));
        let row = |seq: u64| seq.checked_sub(1).and_then(|at| rows.get(at as usize));
        // Who has the name of a user that was removed is another one.
        let user = |seq| row(seq).and_then(|row| row.origin.sender).map(|(user, _)| user);
        let Some(draft) = world.drafts.get_mut(&id) else { return Err("a post that was never made".into()) };
        world.coverage.acknowledged += 1;
        let place = (seq, stamp as i64);
        let before = draft.stored.replace(place);
        let before = before.filter(|(old, _)| *old > purged && user(*old) == user(seq));
        if draft.stream != stream || before.is_some_and(|before| before != place) {
            return Err(format!("{draft:?} was stored at {before:?}, and is now said to be at {place:?}"));
        }
        let is_there = row(seq).is_some_and(|row| {
            row.origin.signed.as_ref().is_some_and(|signed| signed.id.0 == id) && row.stamp.ts.0 == place.1
        });
        if is_there { Ok(()) } else { Err(format!("{draft:?} is acknowledged at {place:?} and not durable")) }
    }

    /// A page has the messages next to the place that was asked for, without holes.
    fn page(
        world: &mut World,
        (stream, after, at, newest): (u64, bool, u64, u64),
        node: Node<'_>,
    ) -> Verdict {
        world.coverage.pages += 1;
        let messages = node.children(2, "messages");
        let seqs: Vec<u64> = messages.iter().map(|message| message.number(1, "seq")).collect();
        let dense = seqs.windows(2).all(|two| two[1] == two[0] + 1);
        let purged = world.store.purged(channel(stream)) as u64;
        let adjoins = match (seqs.first(), seqs.last()) {
            (Some(first), _) if after => *first == at + 1 || *first <= purged + 1,
            (_, Some(last)) => *last < at && *last >= (at - 1).min(newest),
            _ => true,
        };
        if node.number(1, "stream") != stream || !dense || !adjoins {
            return Err(format!("a page of stream {stream} next to {at} (after: {after}) has {seqs:?}"));
        }
        messages.into_iter().try_for_each(|message| same(world, stream, message))
    }

    fn refused(&mut self, world: &mut World, asked: &Asked, code: usize) -> Verdict {
        let passing = matches!(code, RATE_LIMITED | UNAVAILABLE | INTERNAL);
        match asked {
            Asked::Post { id } => {
                if passing {
                    // It is sent again under its id.
                    return Ok(());
                }
                self.outbox.retain(|other| other != id);
                if let Some(draft) = world.drafts.get_mut(id) {
                    draft.denied = draft.sent == 1;
                }
                Ok(())
            }
            Asked::Subscribe { stream: Some(stream), start } if !passing => {
                let durable = world.store.rows(channel(*stream)).len() as u64;
                self.follows.remove(stream);
                let lost = matches!(start, Start::After(at) if *at > durable);
                if lost && code == NOT_FOUND {
                    Err("its position is ahead of the store".into())
                } else {
                    Ok(())
                }
            }
            Asked::Other("ping") if !passing => Err(format!("a ping was refused: {}", CODES[code])),
            _ if code == 0 => Err("refused for no reason".into()),
            // Only a report may be ahead of what was sent.
            Asked::Unsubscribe { .. } | Asked::Read { .. } if code == INVALID_ARGUMENT => {
                Err(format!("{asked:?} is called invalid"))
            }
            _ => Ok(()),
        }
    }

    fn goodbye(&mut self, world: &mut World, node: Node<'_>) -> Verdict {
        let reason = node.member(1, "reason", &GOODBYES);
        let opening = matches!(self.stage, Stage::Opening(_));
        self.forget();
        match GOODBYES[reason].trim_start_matches("GOODBYE_REASON_") {
            "MALFORMED" | "UNSPECIFIED" => Err(format!("a goodbye: {}", node.text(2, "message"))),
            "KEY_REVOKED" | "USER_REMOVED" => {
                self.turned_away = true;
                Ok(())
            }
            "REFUSED" => {
                self.turned_away = true;
                let unknown = node.member(3, "code", &CODES) == 8;
                if unknown
                    && opening
                    && self.is_enrolled(world)
                    && !super::super::link::enrolled_later(world, &super::super::key(self.key).public())
                {
                    return Err("it is refused though its key is enrolled".into());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
