//! What `tail` and `inbox` keep between runs, in `state.db`: how far they came, and the keys of senders' machines.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};

use conclave_core::key::PublicKey;
use conclave_core::link::{Input, JoinFrom, OwnMailbox};
use conclave_core::name::{ChannelName, Handle, UserName};
use conclave_core::record::{ChannelId, MachineId, UserId};
use conclave_shell_tokio::client::LinkDriver;
use conclave_store::state::{Pinned, Reader, State};

use crate::{Context, Failure};

/// The state of one run. Without a handle it keeps keys only.
pub(super) struct Kept {
    state: Option<State>,
    handle: Option<Handle>,
    server: Option<PublicKey>,
    /// What was shown and is not written down yet, by streams.
    moved: BTreeMap<ChannelId, u64>,
    /// What is passed over is not reported: the server learns of it by where the next run begins, and that run claims
    /// nothing about it.
    silent: bool,
    /// How far each stream came in this run: delivered, and seen.
    reached: BTreeMap<ChannelId, (u64, u64)>,
    /// Whether what is shown is put before a person.
    seen: bool,
}

impl Kept {
    /// Opens the state. Without a handle it is only an aid: then a state that cannot be used is a note.
    pub(super) fn open(
        context: &Context,
        handle: Option<Handle>,
        server: Option<PublicKey>,
        silent: bool,
    ) -> Result<Self, Failure> {
        let state = match State::open(context.dir()?) {
            Ok(state) => Some(state),
            Err(error) if handle.is_some() => return Err(error.into()),
            Err(error) => {
                context
                    .output
                    .note(format_args!("keys of senders are not kept: {error}; {}", error.advice()));
                None
            }
        };
        let (moved, reached) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { state, handle, server, moved, silent, reached, seen: io::stdout().is_terminal() })
    }

    /// The state, and whose positions it has.
    fn reader(&self) -> Option<(&State, Reader)> {
        let (state, server, handle) = (self.state.as_ref()?, self.server?, self.handle.clone()?);
        Some((state, Reader { server, handle }))
    }

    /// Hands the keys that are known to the link: it accepts no others for their machines.
    pub(super) fn pins(&self, driver: &mut LinkDriver) -> Result<(), Failure> {
        let (Some(state), Some(server)) = (&self.state, &self.server) else { return Ok(()) };
        for (user, machine, key) in state.machines(server)? {
            driver.input(Input::Pin { user, machine, key });
        }
        Ok(())
    }

    /// The server proved its key.
    pub(super) fn up(&mut self, found: Option<PublicKey>, driver: &mut LinkDriver) -> Result<(), Failure> {
        if found.is_some() && self.server != found {
            self.server = found;
            self.pins(driver)?;
        }
        Ok(())
    }

    /// Where a mailbox was read to.
    pub(super) fn mailbox(&self, mailbox: OwnMailbox) -> Result<Option<(ChannelId, u64)>, Failure> {
        let Some((state, reader)) = self.reader() else { return Ok(None) };
        Ok(state.mailbox(&reader, mailbox)?.map(|(stream, delivered, _)| (stream, delivered)))
    }

    /// Where a channel was read to.
    pub(super) fn channel(&self, channel: &ChannelName) -> Result<Option<(ChannelId, u64)>, Failure> {
        let Some((state, reader)) = self.reader() else { return Ok(None) };
        let followed = state.followed(&reader)?;
        let found = followed.into_iter().rev().find(|it| it.name == *channel);
        Ok(found.map(|it| (it.stream, it.delivered)))
    }

    /// From where to follow a stream that is followed from behind this message, but was read before and not so far.
    pub(super) fn before(&self, position: Option<(ChannelId, u64)>) -> Option<JoinFrom> {
        let ((state, reader), (stream, after)) = (self.reader()?, position?);
        let followed = state.followed(&reader).ok()?;
        let known = followed.iter().find(|it| it.stream == stream && it.delivered < after)?;
        Some(JoinFrom::After { stream, seq: known.delivered })
    }

    /// A channel is followed, from behind this message if none was read before.
    pub(super) fn joined(
        &self,
        channel: &ChannelName,
        position: Option<(ChannelId, u64)>,
    ) -> Result<(), Failure> {
        if let (Some((state, reader)), Some((stream, after))) = (self.reader(), position) {
            state.follow(&reader, stream, channel, after)?;
        }
        Ok(())
    }

    /// As [`Kept::joined`], for a mailbox.
    pub(super) fn opened(
        &self,
        mailbox: OwnMailbox,
        position: Option<(ChannelId, u64)>,
    ) -> Result<(), Failure> {
        if let (Some((state, reader)), Some((stream, after))) = (self.reader(), position) {
            state.open_mailbox(&reader, mailbox, stream, after)?;
        }
        Ok(())
    }

    /// The channel that had this name is gone.
    pub(super) fn forget(&self, channel: &ChannelName) -> Result<(), Failure> {
        if let (Some((state, reader)), Some((stream, _))) = (self.reader(), self.channel(channel)?) {
            state.unfollow(&reader, stream)?;
        }
        Ok(())
    }

    /// Everything up to here was shown, or is not to be.
    pub(super) fn shown(&mut self, stream: ChannelId, seq: u64) {
        if self.handle.is_some() {
            self.moved.insert(stream, seq);
        }
    }

    /// Writes down what was shown, then reports it. In this order a crash shows a message twice rather than never.
    pub(super) fn flush(&mut self, driver: &mut LinkDriver) -> Result<(), Failure> {
        for (stream, seq) in std::mem::take(&mut self.moved) {
            let mut seen = if self.seen { seq } else { 0 };
            if let Some((state, reader)) = self.reader() {
                state.advance(&reader, stream, seq)?;
                if self.seen {
                    seen = state.seen(&reader, stream, seq)?;
                }
            }
            if self.silent {
                continue;
            }
            self.reached.insert(stream, (seq, seen));
            driver.input(Input::Report { stream, delivered: seq, seen });
        }
        Ok(())
    }

    /// How far each stream came: delivered, and seen.
    pub(super) fn reports(&self) -> impl Iterator<Item = (ChannelId, u64, u64)> {
        self.reached.iter().map(|(stream, (delivered, seen))| (*stream, *delivered, *seen))
    }

    /// Remembers the key of a sender's machine at first sight. Returns what its reader should know.
    pub(super) fn sender(
        &self,
        driver: &mut LinkDriver,
        (user, name): (UserId, &UserName),
        machine: MachineId,
        key: &PublicKey,
    ) -> Result<Option<String>, Failure> {
        let (Some(state), Some(server)) = (&self.state, &self.server) else { return Ok(None) };
        let others = state.pinned(server, user)?.len();
        match state.pin(server, user, machine, key, driver.now().wall)? {
            Pinned::Same => Ok(None),
            Pinned::First if others == 0 => Ok(None),
            Pinned::First => Ok(Some(format!(
                "{name} writes from a machine that was not known: compare its key with `conclave verify {name}`"
            ))),
            // Another process pinned another key meanwhile: that one goes first.
            Pinned::Changed { was } => {
                driver.input(Input::Pin { user, machine, key: was });
                Ok(None)
            }
        }
    }
}
