//! A channel as one link follows it, compared with the channel's log message by message.
//!
//! Texts repeat, so what is handed on may stand at several places of the log: all of them are kept until one
//! remains. What must be handed on is every message from the start on but the link's own.

use std::borrow::Cow;

use conclave_core::link::JoinFrom;
use conclave_core::name::SessionPath;
use conclave_core::payload::Payload;
use conclave_core::record::ChannelId;
use conclave_core::time::UnixMillis;

use super::notation::{Node, Said};
use super::store::Row;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Follow {
    from: JoinFrom,
    /// What the server took the name for; unknown before it took the subscription.
    pub channel: Option<ChannelId>,
    /// It cannot be compared any more: the name means another channel now.
    pub incomparable: bool,
    /// The server ended the subscription, and the link cannot know yet.
    pub ended: bool,
    /// The channel goes by another name; so much of it was durable when that began.
    away: Option<usize>,
    /// Where in the log the next message may stand.
    places: Vec<usize>,
    /// Messages before this one may be left out.
    loose_until: usize,
}

/// The log and who reads it.
pub(super) struct Reader<'a> {
    /// The channel's durable messages.
    pub rows: &'a [Row],
    /// Every path that the link had: its own messages need not be handed on.
    pub own: &'a [SessionPath],
    /// So many of them are purged.
    pub purged: usize,
}

impl Reader<'_> {
    fn is_own(&self, row: &Row) -> bool {
        self.own.iter().any(|own| *own == *row.from)
    }
}

impl Follow {
    /// A channel that a link is told to follow.
    pub(super) fn new(from: JoinFrom) -> Self {
        let loose_until = if from == JoinFrom::Live { usize::MAX } else { 0 };
        Self {
            from,
            channel: None,
            incomparable: false,
            ended: false,
            away: None,
            places: Vec::new(),
            loose_until,
        }
    }

    /// The server subscribed the link: `next` is the place of the first message that will be delivered for it;
    /// `stood` if the subscription stood already, under an older name.
    pub(super) fn subscribed(&mut self, channel: ChannelId, rows: &[Row], next: usize, stood: bool) {
        self.ended = false;
        match self.channel {
            Some(known) => self.incomparable |= known != channel,
            None => {
                self.channel = Some(channel);
                self.places = vec![match self.from {
                    // From a time that is still to come, what is delivered meanwhile may be handed on.
                    JoinFrom::Since(since) => rows.partition_point(|row| row.stamp.ts <= since).min(next),
                    JoinFrom::Live if stood => 0,
                    JoinFrom::Live | JoinFrom::After { .. } => next,
                }];
            }
        }
    }

    /// The channel was renamed: `back` to the name that is followed, or away from it. What is posted meanwhile comes
    /// under a name that is not followed, and is told to be astray.
    pub(super) fn renamed(&mut self, back: bool, durable: usize) {
        if back {
            self.incomparable |= self.away.take().is_some_and(|then| then != durable);
        } else {
            self.away.get_or_insert(durable);
        }
    }

    /// The link tells that it has caught up: from here on nothing may be left out.
    pub(super) fn caught_up(&mut self, durable: usize) {
        self.loose_until = self.loose_until.min(durable);
    }

    /// The link hands on a message.
    ///
    /// # Errors
    /// It does not stand where it could.
    pub(super) fn handed_on(
        &mut self,
        reader: &Reader<'_>,
        from: &SessionPath,
        payload: &Payload,
        ts: Option<UnixMillis>,
    ) -> Result<(), String> {
        if self.incomparable {
            return Ok(());
        }
        if self.channel.is_none() {
            // Deliveries of a subscription that stood under an older name.
            self.incomparable = true;
            return Ok(());
        }
        let matches = |row: &Row| {
            *row.from == *from
                && says(&row.payload) == says(payload)
                && ts.is_none_or(|ts| ts == row.stamp.ts)
        };
        let mut places = Vec::new();
        for &place in &self.places {
            let mut at = place;
            let mut found_loose = false;
            while let Some(row) = reader.rows.get(at) {
                let loose = self.is_loose(at, row, reader);
                if matches(row) && !(loose && found_loose) {
                    // Of those that may be left out, the earliest allows everything that later ones do.
                    found_loose |= loose;
                    places.push(at + 1);
                    if self.loose_until == usize::MAX {
                        break;
                    }
                }
                if !loose && !reader.is_own(row) {
                    break;
                }
                at += 1;
            }
        }
        places.sort_unstable();
        places.dedup();
        if places.is_empty() {
            let next = self.places.first().copied().unwrap_or_default();
            return Err(format!(
                "{payload:?} of {from} (stamp {ts:?}) was handed on, which is not next: {next} of {} in the log",
                reader.rows.len()
            ));
        }
        self.places = places;
        Ok(())
    }

    /// Whether a message may be left out.
    fn is_loose(&self, at: usize, row: &Row, reader: &Reader<'_>) -> bool {
        at < self.loose_until.max(reader.purged)
            || matches!(self.from, JoinFrom::Since(since) if row.stamp.ts <= since)
    }

    /// At rest: everything was handed on.
    ///
    /// # Errors
    /// Something was not.
    pub(super) fn complete(&self, reader: &Reader<'_>) -> Result<(), String> {
        let complete = self.places.iter().any(|&place| {
            let mut rest = reader.rows.iter().enumerate().skip(place);
            rest.all(|(at, row)| self.is_loose(at, row, reader) || reader.is_own(row))
        });
        let next = self.places.last().copied().unwrap_or_default();
        if complete { Ok(()) } else { Err(format!("ends before {next} of {} in the log", reader.rows.len())) }
    }
}

/// What version 1 shows of a message: a text, or a ciphertext and the name of its key.
fn says(payload: &Payload) -> (bool, Cow<'_, str>, Cow<'_, [u8]>) {
    match payload {
        Payload::Plain(text) => (false, text.into(), Cow::default()),
        Payload::Encrypted(envelope) => {
            let key = envelope.key_id.as_deref().unwrap_or_default();
            (true, key.into(), envelope.ciphertext[..].into())
        }
        Payload::Body(body) => {
            let Said { sealed, text, ciphertext, .. } = Said::read(Node::Proto(body)).unwrap_or_default();
            (sealed, text.into(), ciphertext.into())
        }
    }
}
