//! Invites to the server: how they are made, listed, and used.

use alloc::vec::Vec;
use core::time::Duration;

use super::Hub;
use super::admin::expiry;
use super::decide::Asker;
use crate::directory::TokenHash;
use crate::handshake::{Claim, Format};
use crate::hub::Registration;
use crate::protocol::{Limit, Refusal, Reply, Token, UserInviteInfo};
use crate::record::Record;
use crate::time::{Now, UnixMillis};

impl Hub {
    /// What makes an invite to the server, and its answer.
    pub(super) fn invite_user(
        &self,
        now: Now,
        asker: &Asker,
        uses: Option<u32>,
        lifetime: Option<Duration>,
        fresh: Option<Token>,
    ) -> Result<(Vec<Record>, Reply), Refusal> {
        if !asker.admin {
            return Err(Refusal::NotServerAdmin);
        }
        if self.config.registration != Registration::Invite {
            return Err(Refusal::InviteUseless);
        }
        if uses == Some(0) {
            return Err(Refusal::InviteWithoutUses);
        }
        let expires = lifetime.map(|lifetime| expiry(now.wall, lifetime)).transpose()?;
        let all = self.directory.user_invites();
        let most = self.config.limits.user_invites;
        let ended = all.filter(|(_, one)| !one.invite.is_valid(now.wall));
        let mut records: Vec<Record> =
            ended.map(|(invite, _)| Record::UserInviteRevoked { invite: *invite }).collect();
        if self.directory.user_invites().len() - records.len() >= most {
            return Err(Refusal::Full { limit: Limit::ServerInvites, most });
        }
        let Some((invite, token)) = fresh
            .map(|token| (TokenHash::of(&token), token))
            .filter(|(hash, _)| self.directory.user_invite(hash).is_none())
        else {
            return Err(Refusal::NoFreshToken);
        };
        records.push(Record::UserInviteCreated { invite, by: asker.user, uses, expires, at: now.wall });
        Ok((records, Reply::Invite(token)))
    }

    pub(super) fn list_user_invites(&self, now: Now, asker: &Asker) -> Result<Reply, Refusal> {
        if !asker.admin {
            return Err(Refusal::NotServerAdmin);
        }
        let all = self.directory.user_invites();
        let mut valid: Vec<_> = all.filter(|(_, one)| one.invite.is_valid(now.wall)).collect();
        valid.sort_by_key(|(_, one)| one.invite.created);
        let listed = valid.into_iter().filter_map(|(hash, one)| {
            Some(UserInviteInfo {
                id: hash.id(),
                by: self.directory.user(one.by)?.name.clone(),
                uses: one.invite.uses,
                expires: one.invite.expires,
            })
        });
        Ok(Reply::UserInvites(listed.collect()))
    }

    /// The invite to the server that a server admin calls by its token or its id.
    pub(super) fn user_invite_named(&self, asker: &Asker, token: &Token) -> Option<TokenHash> {
        if !asker.admin {
            return None;
        }
        let hash = TokenHash::of(token);
        let mut all = self.directory.user_invites().map(|(hash, _)| *hash);
        all.find(|other| *other == hash || other.id() == token.expose())
    }

    /// The invite by which somebody may register, where it takes one.
    pub(super) fn admits_claim(
        &self,
        claim: &Claim,
        format: Format,
        wall: UnixMillis,
    ) -> Result<Option<TokenHash>, Refusal> {
        if self.config.admins.contains_key(&claim.user) {
            return Ok(None);
        }
        match self.config.registration {
            Registration::Open => Ok(None),
            Registration::Closed => Err(Refusal::RegistrationClosed),
            Registration::Invite if format == Format::V1 => Err(Refusal::InviteNeedsVersion2),
            Registration::Invite => {
                let hash = claim.invite.as_ref().map(TokenHash::of);
                let found = hash.and_then(|hash| Some((hash, self.directory.user_invite(&hash)?)));
                match found {
                    Some((hash, found)) if found.invite.is_valid(wall) => Ok(Some(hash)),
                    _ => Err(Refusal::InviteNeeded),
                }
            }
        }
    }
}
