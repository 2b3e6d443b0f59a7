//! A connection's place among those that are let in.

use std::net::IpAddr;
use std::sync::Arc;

use conclave_core::admission::NotAdmitted;

use super::Shared;

/// A connection that was let in. Dropping it gives its place back.
pub struct Guest {
    pub(super) shared: Arc<Shared>,
    place: Place,
    state: &'static str,
    /// Whether it could not prove who it is.
    pub(super) failed: bool,
}

/// What a connection counts among until it is a session.
#[derive(Clone, Copy)]
enum Place {
    /// Those whose address a trusted proxy is still to name.
    Arriving,
    /// Those of an address.
    Of(IpAddr),
    /// None.
    Nowhere,
}

impl Guest {
    /// Lets a connection from `peer` in.
    ///
    /// # Errors
    /// The bound that it met: drop it.
    pub fn admit(shared: &Arc<Shared>, peer: IpAddr) -> Result<Self, NotAdmitted> {
        let place = if shared.trusts(peer) {
            shared.arrive(peer)?;
            Place::Arriving
        } else {
            shared.enter(peer)?;
            Place::Of(peer)
        };
        shared.engine.metrics().connection("upgrading", 1);
        Ok(Self { shared: shared.clone(), place, state: "upgrading", failed: false })
    }

    /// Takes the address that a trusted proxy named.
    pub(super) fn named(&mut self, address: impl FnOnce() -> IpAddr) -> Result<(), NotAdmitted> {
        if let Place::Arriving = self.place {
            let address = address();
            self.shared.enter(address)?;
            // Only now: who is refused goes on counting among those who arrive.
            self.leave();
            self.place = Place::Of(address);
        }
        Ok(())
    }

    /// Whether a user more may be registered from this connection's address, which counts then.
    pub(super) fn registrar(&self) -> Box<dyn Fn() -> bool + Send> {
        let (shared, place) = (self.shared.clone(), self.place);
        Box::new(move || match place {
            Place::Of(address) => shared.register(address).is_ok(),
            Place::Arriving | Place::Nowhere => true,
        })
    }

    pub(super) fn enter(&mut self, state: &'static str) {
        self.shared.engine.metrics().connection(self.state, -1);
        self.shared.engine.metrics().connection(state, 1);
        self.state = state;
    }

    pub(super) fn leave(&mut self) {
        match std::mem::replace(&mut self.place, Place::Nowhere) {
            Place::Arriving => self.shared.named(),
            Place::Of(address) => self.shared.leave(address, self.failed),
            Place::Nowhere => {}
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.leave();
        self.shared.engine.metrics().connection(self.state, -1);
    }
}
