//! Invites to the server: with one, a new user may register where registration takes one.
//!
//! Their secrets are not kept, only what they hash to: whoever reads a backup registers nobody.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;

use sha2::{Digest as _, Sha256};

use super::{Directory, Invite, hold};
use crate::protocol::Token;
use crate::record::UserId;
use crate::time::UnixMillis;

/// What an invite's secret hashes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// The hash of a secret.
    pub fn of(token: &Token) -> Self {
        let hash = Sha256::new_with_prefix(b"conclave invite\0").chain_update(token.expose());
        Self(hash.finalize().into())
    }

    /// What people call the invite by: too little of the hash to be mistaken for a secret.
    pub fn id(&self) -> String {
        alloc::format!("{self}")
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({self})")
    }
}

/// An invite to the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UserInvite {
    /// The server admin who made it; it goes with them.
    pub by: UserId,
    /// Its uses and its time.
    pub invite: Invite,
}

/// The invites to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct UserInvites(BTreeMap<TokenHash, UserInvite>);

impl UserInvites {
    pub(super) fn create(
        &mut self,
        invite: TokenHash,
        by: UserId,
        uses: Option<u32>,
        (expires, created): (Option<UnixMillis>, UnixMillis),
    ) {
        self.0.insert(invite, UserInvite { by, invite: Invite { uses, expires, created } });
    }

    pub(super) fn used(&mut self, invite: &TokenHash) {
        if let Some(uses) = self.0.get_mut(invite).and_then(|found| found.invite.uses.as_mut()) {
            *uses = uses.saturating_sub(1);
            if *uses == 0 {
                self.0.remove(invite);
            }
        }
    }

    pub(super) fn revoke(&mut self, invite: &TokenHash) {
        self.0.remove(invite);
    }

    pub(super) fn forget(&mut self, user: UserId) {
        self.0.retain(|_, invite| invite.by != user);
    }
}

impl Directory {
    /// The invite to the server with this hash.
    pub fn user_invite(&self, invite: &TokenHash) -> Option<&UserInvite> {
        self.user_invites.0.get(invite)
    }

    /// The invites to the server, in the order of their hashes.
    pub fn user_invites(&self) -> impl ExactSizeIterator<Item = (&TokenHash, &UserInvite)> {
        self.user_invites.0.iter()
    }

    pub(super) fn check_user_invites(&self) -> Result<(), String> {
        for (hash, invite) in self.user_invites() {
            hold!(self.users.contains_key(&invite.by), "invite {hash} was made by nobody");
            hold!(invite.invite.uses != Some(0), "invite {hash} is used up and there");
        }
        Ok(())
    }
}
