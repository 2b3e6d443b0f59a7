//! A connection's place among those that are let in.

use std::net::IpAddr;
use std::sync::Arc;

use conclave_core::admission::NotAdmitted;

use super::Shared;

/// A connection that was let in. Dropping it gives its place back.
pub struct Guest {
    pub(super) shared: Arc<Shared>,
    /// Under which address it was admitted; none yet if a trusted proxy is to name it.
    address: Option<IpAddr>,
    state: &'static str,
    /// Whether it could not prove who it is.
    pub(super) failed: bool,
}

impl Guest {
    /// Lets a connection from `peer` in.
    ///
    /// # Errors
    /// The bound that it met: drop it.
    pub fn admit(shared: &Arc<Shared>, peer: IpAddr) -> Result<Self, NotAdmitted> {
        let address = (!shared.trusts(peer)).then_some(peer);
        if let Some(address) = address {
            shared.enter(address)?;
        }
        shared.engine.metrics().connection("upgrading", 1);
        Ok(Self { shared: shared.clone(), address, state: "upgrading", failed: false })
    }

    /// Takes the address that a trusted proxy named.
    pub(super) fn named(&mut self, address: impl FnOnce() -> IpAddr) -> Result<(), NotAdmitted> {
        if self.address.is_none() {
            let address = address();
            self.shared.enter(address)?;
            self.address = Some(address);
        }
        Ok(())
    }

    pub(super) fn enter(&mut self, state: &'static str) {
        self.shared.engine.metrics().connection(self.state, -1);
        self.shared.engine.metrics().connection(state, 1);
        self.state = state;
    }

    pub(super) fn leave(&mut self) {
        if let Some(address) = self.address.take() {
            self.shared.leave(address, self.failed);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.leave();
        self.shared.engine.metrics().connection(self.state, -1);
    }
}
