//! What one link keeps on disk: positions, unread messages, the keys of others. A message is reported as delivered once
//! it is kept, so that no crash loses it.

use std::collections::BTreeMap;
use std::rc::Rc;

use conclave_core::bridge::Bound;
use conclave_core::key::PublicKey;
use conclave_core::link::{Action, Input, JoinFrom, OwnMailbox, Place, Proof};
use conclave_core::name::{ChannelName, Handle};
use conclave_core::protocol::Stamped;
use conclave_core::record::{ChannelId, MachineId, UserId};
use conclave_core::time::UnixMillis;
use conclave_store::state::{Pinned, Reader, State, StateError};

use crate::log;

/// Bytes of unread messages that are loaded at once.
const LOAD: u64 = 1 << 20;
/// A stream that was paused because too much is unread goes on below this.
const RESUME_BYTES: u64 = 8 << 20;

/// What a link keeps. Without a state it keeps nothing, and claims nothing.
pub(crate) struct Kept {
    state: Option<Rc<State>>,
    handle: Handle,
    server: Option<PublicKey>,
    /// Followed channels, by their streams.
    names: BTreeMap<ChannelId, ChannelName>,
    /// Streams that are not followed for now, since too much of them is unread.
    paused: BTreeMap<ChannelId, ChannelName>,
}

/// A channel or a mailbox of an earlier run.
pub(crate) struct Resumed {
    /// `None` for a mailbox.
    pub(crate) channel: Option<ChannelName>,
    pub(crate) stream: ChannelId,
    pub(crate) unread: bool,
    /// The first message that was given up.
    pub(crate) skipped: Option<u64>,
}

impl Kept {
    pub(crate) fn new(state: Option<Rc<State>>, handle: Handle, server: Option<PublicKey>) -> Self {
        Self { state, handle, server, names: BTreeMap::new(), paused: BTreeMap::new() }
    }

    /// The server's key, as far as it is known.
    pub(super) fn server(&self) -> Option<PublicKey> {
        self.server
    }

    fn reader(&self) -> Option<(Rc<State>, Reader)> {
        let (state, server) = (self.state.clone()?, self.server?);
        Some((state, Reader { server, handle: self.handle.clone() }))
    }

    /// What the link is to follow again, and the channels that the agent is on.
    pub(crate) fn resume(
        &mut self,
        mailboxes: &[OwnMailbox],
        inputs: &mut Vec<Input<'static>>,
    ) -> Vec<Resumed> {
        let mut resumed = Vec::new();
        for mailbox in mailboxes.iter().copied() {
            let known = self.reader().and_then(|(state, reader)| tell(state.mailbox(&reader, mailbox))?);
            if let Some((stream, delivered, seen)) = known {
                let skipped = self.skipped(stream);
                resumed.push(Resumed { channel: None, stream, unread: delivered > seen, skipped });
            }
            let after = known.map(|(stream, delivered, _)| (stream, delivered));
            inputs.push(Input::Open { mailbox, after });
        }
        let Some((state, reader)) = self.reader() else { return resumed };
        let machines = tell(state.machines(&reader.server)).unwrap_or_default();
        let pin = |(user, machine, key)| Input::Pin { user, machine, key };
        inputs.extend(machines.into_iter().map(pin));
        let followed = tell(state.followed(&reader)).unwrap_or_default();
        for it in followed {
            let (stream, seq, channel) = (it.stream, it.delivered, it.name);
            let from = JoinFrom::After { stream, seq };
            inputs.push(Input::Join { channel: channel.clone(), token: None, from });
            self.names.insert(stream, channel.clone());
            let (unread, skipped) = (it.delivered > it.seen, self.skipped(stream));
            resumed.push(Resumed { channel: Some(channel), stream, unread, skipped });
        }
        resumed
    }

    /// Keeps what a link has to say, before it is handed on. `actions` are left without what is to be handed on later.
    pub(crate) fn take(
        &mut self,
        actions: Vec<Action>,
        now: UnixMillis,
        inputs: &mut Vec<Input<'static>>,
    ) -> Vec<Action> {
        let mut out = Vec::with_capacity(actions.len());
        let mut actions = actions.into_iter().peekable();
        while let Some(action) = actions.next() {
            let Some(stream) = kept_in(&action) else {
                out.extend(self.note(action, now, inputs));
                continue;
            };
            let mut run = vec![action];
            while let Some(next) = actions.next_if(|next| kept_in(next) == Some(stream)) {
                run.push(next);
            }
            out.extend(self.keep(stream, run, inputs));
        }
        out
    }

    /// Keeps messages of one stream; returns those that are kept.
    fn keep(&mut self, stream: ChannelId, run: Vec<Action>, inputs: &mut Vec<Input<'static>>) -> Vec<Action> {
        let Some((state, reader)) = self.reader() else { return run };
        if self.paused.contains_key(&stream) {
            return Vec::new();
        }
        let messages: Vec<Stamped> = run.iter().filter_map(stamped).collect();
        let last = messages.last().map_or(0, |message| message.seq);
        let delivered = match state.keep(&reader, stream, &messages) {
            Ok(delivered) => delivered,
            Err(error) => {
                complain(&error);
                return run;
            }
        };
        if delivered > 0 {
            inputs.push(Input::Report { stream, delivered, seen: 0 });
        }
        if delivered < last
            && let Some(channel) = self.names.get(&stream)
        {
            // The server keeps the rest.
            self.paused.insert(stream, channel.clone());
            inputs.push(Input::Leave { channel: channel.clone() });
        }
        let is_kept = |action: &Action| match action {
            Action::Deliver { place: Some(place), .. } => place.seq <= delivered,
            _ => true,
        };
        run.into_iter().filter(is_kept).collect()
    }

    /// Notes what else a link says.
    fn note(&mut self, action: Action, now: UnixMillis, inputs: &mut Vec<Input<'static>>) -> Option<Action> {
        match &action {
            Action::Up { server_key: Some(key), .. } => self.server = Some(*key),
            Action::Joined { channel, position: Some((stream, after)) } => {
                self.names.insert(*stream, channel.clone());
                if let Some((state, reader)) = self.reader() {
                    tell(state.follow(&reader, *stream, channel, *after));
                }
            }
            Action::Opened { mailbox, position: Some((stream, after)) } => {
                if let Some((state, reader)) = self.reader() {
                    tell(state.open_mailbox(&reader, *mailbox, *stream, *after));
                }
            }
            Action::Lost { channel, .. } => self.forget(channel),
            Action::ChannelRenamed { stream, to, .. } => {
                self.names.insert(*stream, to.clone());
                if let Some((state, reader)) = self.reader() {
                    tell(state.follow(&reader, *stream, to, 0));
                }
            }
            Action::Passed { stream, to, .. } => self.advance(*stream, *to, inputs),
            Action::Deliver { place: Some(Place { stream, seq, .. }), .. } => {
                // Forged: it is never shown.
                self.advance(*stream, *seq, inputs);
            }
            Action::Renamed { to, .. } => self.rename(to.clone()),
            Action::SenderKey { user, machine, key, .. } => {
                return self.pin(*user, *machine, key, now, inputs).then_some(action);
            }
            _ => {}
        }
        Some(action)
    }

    fn advance(&self, stream: ChannelId, to: u64, inputs: &mut Vec<Input<'static>>) {
        let Some((state, reader)) = self.reader() else { return };
        if let Some(delivered) = tell(state.advance(&reader, stream, to)) {
            inputs.push(Input::Report { stream, delivered, seen: 0 });
        }
    }

    /// The agent leaves a channel, or lost it.
    pub(crate) fn forget(&mut self, channel: &ChannelName) {
        let Some(stream) = self.names.iter().find(|(_, name)| *name == channel).map(|(stream, _)| *stream)
        else {
            return;
        };
        self.names.remove(&stream);
        self.paused.remove(&stream);
        if let Some((state, reader)) = self.reader() {
            tell(state.unfollow(&reader, stream));
        }
    }

    /// Another session has the handle: what was followed goes on under the new one.
    fn rename(&mut self, to: Handle) {
        let old = self.reader();
        self.handle = to;
        if let (Some((state, old)), Some((_, new))) = (old, self.reader()) {
            for it in tell(state.followed(&old)).unwrap_or_default() {
                tell(state.follow(&new, it.stream, &it.name, it.delivered));
            }
        }
    }

    /// Remembers a key at first sight. False if another one is remembered, which goes first.
    fn pin(
        &self,
        user: UserId,
        machine: MachineId,
        key: &PublicKey,
        now: UnixMillis,
        inputs: &mut Vec<Input<'static>>,
    ) -> bool {
        let Some((state, Reader { server, .. })) = self.reader() else { return true };
        match tell(state.pin(&server, user, machine, key, now)) {
            Some(Pinned::Changed { was }) => {
                inputs.push(Input::Pin { user, machine, key: was });
                false
            }
            Some(Pinned::First | Pinned::Same) | None => true,
        }
    }

    /// The agent has seen a stream so far.
    pub(crate) fn seen(&mut self, stream: ChannelId, seq: u64, inputs: &mut Vec<Input<'static>>) {
        let Some((state, reader)) = self.reader() else {
            inputs.push(Input::Report { stream, delivered: seq, seen: seq });
            return;
        };
        // What was given up in an earlier run is not reported.
        if let Some(seen) = tell(state.seen(&reader, stream, seq)) {
            inputs.push(Input::Report { stream, delivered: seen, seen });
        }
        self.go_on(&state, &reader, inputs);
    }

    /// These were put before the agent while older ones wait.
    pub(crate) fn shown(&mut self, stream: ChannelId, seqs: &[u64], inputs: &mut Vec<Input<'static>>) {
        if let Some((state, reader)) = self.reader() {
            tell(state.shown(&reader, stream, seqs));
            self.go_on(&state, &reader, inputs);
        }
    }

    /// Messages are given up unshown.
    pub(crate) fn skip(
        &mut self,
        stream: ChannelId,
        (from, to): (u64, u64),
        inputs: &mut Vec<Input<'static>>,
    ) {
        if let Some((state, reader)) = self.reader() {
            tell(state.skip(&reader, stream, from, to));
            self.go_on(&state, &reader, inputs);
        }
    }

    /// Writes down what a name means.
    pub(super) fn bind(&self, bound: &Bound) {
        if let Some((state, reader)) = self.reader() {
            tell(state.bind(&reader.server, bound));
        }
    }

    /// The names that are bound on this server.
    pub(super) fn bindings(&self) -> Vec<Bound> {
        let bindings = self.reader().and_then(|(state, reader)| tell(state.bindings(&reader.server)));
        bindings.unwrap_or_default()
    }

    fn skipped(&self, stream: ChannelId) -> Option<u64> {
        let (state, reader) = self.reader()?;
        tell(state.skipped(&reader, stream)).flatten()
    }

    /// Follows paused streams again once there is room.
    fn go_on(&mut self, state: &State, reader: &Reader, inputs: &mut Vec<Input<'static>>) {
        if self.paused.is_empty() || tell(state.unread_bytes(reader)).is_none_or(|bytes| bytes > RESUME_BYTES)
        {
            return;
        }
        let followed = tell(state.followed(reader)).unwrap_or_default();
        for (stream, channel) in std::mem::take(&mut self.paused) {
            if let Some(it) = followed.iter().find(|it| it.stream == stream) {
                let from = JoinFrom::After { stream, seq: it.delivered };
                inputs.push(Input::Join { channel, token: None, from });
            }
        }
    }

    fn delivered(&self, state: &State, reader: &Reader, stream: ChannelId) -> u64 {
        let mailboxes =
            [OwnMailbox::User, OwnMailbox::Session].map(|it| tell(state.mailbox(reader, it)).flatten());
        let mailboxes = mailboxes.into_iter().flatten().map(|(stream, delivered, _)| (stream, delivered));
        let followed = tell(state.followed(reader)).unwrap_or_default();
        let channels = followed.into_iter().map(|it| (it.stream, it.delivered));
        mailboxes.chain(channels).find(|(it, _)| *it == stream).map_or(0, |(_, delivered)| delivered)
    }

    /// The oldest messages of a stream behind `after` that are kept and not seen, what their signatures prove, and whether there are
    /// more.
    pub(crate) fn unread(&self, stream: ChannelId, after: u64) -> (Vec<(Stamped, Proof)>, bool) {
        let Some((state, reader)) = self.reader() else { return (Vec::new(), false) };
        let messages = tell(state.unread(&reader, stream, after, LOAD)).unwrap_or_default();
        let last = messages.last().map(|message| message.seq);
        let more = last.is_some_and(|last| last < self.delivered(&state, &reader, stream));
        (prove(&state, &reader.server, stream, messages), more)
    }
}

/// What the signatures of messages prove, by the keys that are known.
pub(crate) fn prove(
    state: &State,
    server: &PublicKey,
    stream: ChannelId,
    messages: Vec<Stamped>,
) -> Vec<(Stamped, Proof)> {
    let mut keys = BTreeMap::new();
    let judged = messages.into_iter().map(|message| {
        let key = message.origin.sender.and_then(|(user, machine)| {
            let known =
                keys.entry(user).or_insert_with(|| tell(state.pinned(server, user)).unwrap_or_default());
            known.iter().find(|it| it.machine == machine).map(|it| it.key)
        });
        let signed = message.origin.signed.as_deref();
        let proof = Proof::of(signed, &message.payload, (server, stream), key.as_ref());
        (message, proof)
    });
    judged.collect()
}

/// The stream in which a message is to be kept; none for one that is never shown.
fn kept_in(action: &Action) -> Option<ChannelId> {
    match action {
        Action::Deliver { place: Some(place), .. } if place.proof != Proof::Forged => Some(place.stream),
        _ => None,
    }
}

fn stamped(action: &Action) -> Option<Stamped> {
    match action {
        Action::Deliver { from, payload, ts: Some(ts), place: Some(place), .. } => Some(Stamped {
            from: from.clone(),
            ts: *ts,
            payload: payload.clone(),
            seq: place.seq,
            origin: place.origin.clone(),
        }),
        _ => None,
    }
}

fn tell<T>(result: Result<T, StateError>) -> Option<T> {
    result.inspect_err(complain).ok()
}

fn complain(error: &StateError) {
    log(&format!("{error}; {}", error.advice()));
}
