//! What `chat` keeps between runs, in `state.db`: what was read, and the keys of senders' machines.

use std::collections::BTreeMap;

use conclave_core::desk::{Followed, Keep, Kept};
use conclave_core::key::PublicKey;
use conclave_core::link::{Input, OwnMailbox};
use conclave_core::name::{ChannelName, Handle, UserName};
use conclave_core::record::{MachineId, UserId};
use conclave_shell_tokio::client::LinkDriver;
use conclave_store::state::{Pinned, Reader, State, StateError};

use crate::{Context, Failure};

/// The state for one server.
pub(super) struct Store {
    state: State,
    handle: Handle,
    server: Option<PublicKey>,
    /// What came before the server proved its key.
    early: Vec<Keep>,
}

impl Store {
    /// Opens the state. `server` is the key that the server is known by.
    pub(super) fn open(
        context: &Context,
        handle: Handle,
        server: Option<PublicKey>,
    ) -> Result<Self, Failure> {
        let state = State::open(context.dir()?)?;
        Ok(Self { state, handle, server, early: Vec::new() })
    }

    fn reader(&self) -> Option<Reader> {
        Some(Reader { server: self.server?, handle: self.handle.clone() })
    }

    /// What the last run left.
    pub(super) fn kept(&self, wanted: Option<ChannelName>) -> Result<Kept, Failure> {
        let Some(reader) = self.reader() else { return Ok(Kept { wanted, ..Kept::default() }) };
        let mut channels = Vec::new();
        for it in self.state.followed(&reader)? {
            let given_up = self.state.skipped(&reader, it.stream)?;
            channels.push((it.name, Followed { stream: it.stream, read: it.delivered, given_up }));
        }
        let mut mailboxes = BTreeMap::new();
        for mailbox in [OwnMailbox::User, OwnMailbox::Session] {
            if let Some((stream, read, _)) = self.state.mailbox(&reader, mailbox)? {
                let given_up = self.state.skipped(&reader, stream)?;
                mailboxes.insert(mailbox, Followed { stream, read, given_up });
            }
        }
        Ok(Kept { channels, mailboxes, wanted })
    }

    /// The server proved its key: from now on positions are written down, and senders' keys are known.
    pub(super) fn up(&mut self, found: Option<PublicKey>, driver: &mut LinkDriver) -> Result<(), StateError> {
        if found.is_some() && self.server != found {
            self.server = found;
        }
        for keep in std::mem::take(&mut self.early) {
            self.keep(keep)?;
        }
        self.pins(driver)
    }

    /// Hands the keys that are known to the link: it accepts no others for their machines.
    pub(super) fn pins(&self, driver: &mut LinkDriver) -> Result<(), StateError> {
        let Some(server) = &self.server else { return Ok(()) };
        for (user, machine, key) in self.state.machines(server)? {
            driver.input(Input::Pin { user, machine, key });
        }
        Ok(())
    }

    /// The keys that are known.
    pub(super) fn machines(&self) -> Vec<(UserId, MachineId, PublicKey)> {
        let known = self.server.as_ref().and_then(|server| self.state.machines(server).ok());
        known.unwrap_or_default()
    }

    /// Writes one thing down.
    pub(super) fn keep(&mut self, keep: Keep) -> Result<(), StateError> {
        let Some(reader) = self.reader() else {
            self.early.push(keep);
            return Ok(());
        };
        match keep {
            Keep::Follow(channel, stream, after) => self.state.follow(&reader, stream, &channel, after),
            Keep::Open(mailbox, stream, after) => self.state.open_mailbox(&reader, mailbox, stream, after),
            Keep::Unfollow(stream) => self.state.unfollow(&reader, stream),
            Keep::Position { stream, read, seen, given_up } => {
                self.state.advance(&reader, stream, read)?;
                if let Some(first) = given_up {
                    self.state.skip(&reader, stream, first, first)?;
                }
                self.state.seen(&reader, stream, seen).map(drop)
            }
        }
    }

    /// Remembers the key of a sender's machine at first sight. Returns what the user should know.
    pub(super) fn sender(
        &self,
        driver: &mut LinkDriver,
        (user, name): (UserId, &UserName),
        machine: MachineId,
        key: &PublicKey,
    ) -> Result<Option<String>, StateError> {
        let Some(server) = &self.server else { return Ok(None) };
        let others = self.state.pinned(server, user)?.len();
        match self.state.pin(server, user, machine, key, driver.now().wall)? {
            Pinned::First if others > 0 => {
                Ok(Some(format!("{name} writes from a new machine: conclave verify {name}")))
            }
            Pinned::Same | Pinned::First => Ok(None),
            Pinned::Changed { was } => {
                driver.input(Input::Pin { user, machine, key: was });
                Ok(None)
            }
        }
    }
}
