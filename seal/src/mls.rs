//! The only module that knows the MLS library.
//!
//! Commits are public messages: the server knows who is in a group, and a commit that is refused and made again must not
//! use up message keys. No proposal travels by itself, so the library's support for those is not compiled in. Messages of
//! past epochs need not be opened (the server refuses them), so no past epoch is kept.

use alloc::vec::Vec;
use core::time::Duration;

use conclave_core::key::SecretKey;
use mls_rs::client_builder::{
    BaseConfig, ClientBuilder, PaddingMode, WithCryptoProvider, WithIdentityProvider, WithMlsRules,
};
use mls_rs::error::IntoAnyError;
use mls_rs::group::proposal::Proposal;
use mls_rs::group::{CommitEffect, ReceivedMessage, Roster};
use mls_rs::identity::basic::BasicCredential;
use mls_rs::identity::{Credential, CredentialType, SigningIdentity};
use mls_rs::mls_rs_codec::{MlsDecode, MlsEncode};
use mls_rs::mls_rules::{CommitDirection, CommitOptions, CommitSource, EncryptionOptions, ProposalBundle};
use mls_rs::time::MlsTime;
use mls_rs::{
    CipherSuite, Client, ExtensionList, GroupStateStorage as _, IdentityProvider, MlsMessage, MlsRules,
};
use mls_rs_core::crypto::SignatureSecretKey;
use mls_rs_core::group::{GroupContext, GroupState, Member as Leaf};
use mls_rs_core::identity::MemberValidationContext;
use mls_rs_core::key_package::KeyPackageData;
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use zeroize::Zeroizing;

use crate::{Error, Member};

/// X25519, ChaCha20-Poly1305, SHA-256, Ed25519.
pub const SUITE: u16 = 0x0003;
/// How long a key package may be used, in seconds.
pub const KEY_PACKAGE_LIFETIME: u64 = 90 * 24 * 3600;

type Config = WithIdentityProvider<
    Credentials,
    WithCryptoProvider<RustCryptoProvider, WithMlsRules<Rules, BaseConfig>>,
>;

/// Bytes of a group, with every secret of its current epoch.
pub(crate) type Snapshot = Zeroizing<Vec<u8>>;

pub(crate) struct Made {
    pub(crate) commit: Vec<u8>,
    pub(crate) group_info: Vec<u8>,
    pub(crate) welcome: Option<Vec<u8>>,
}

pub(crate) enum Opened {
    Text { sender: Member, content: Zeroizing<Vec<u8>> },
    Commit(Applied),
}

pub(crate) struct Applied {
    pub(crate) by: Member,
    pub(crate) added: Vec<Member>,
    pub(crate) removed: Vec<Member>,
    pub(crate) external: bool,
    pub(crate) is_out: bool,
}

/// A key package of this machine: the public half for others, the secret one to be kept until it is used.
pub struct KeyPackage {
    /// What identifies it.
    pub id: Vec<u8>,
    /// What the server hands out.
    pub public: Vec<u8>,
    /// What this machine keeps.
    pub secret: Zeroizing<Vec<u8>>,
}

pub(crate) struct Group {
    inner: mls_rs::Group<Config>,
    client: Client<Config>,
    /// The state before the last change, where it has been written since.
    clean: Option<Snapshot>,
}

fn client(me: &Member, key: &SecretKey) -> Client<Config> {
    let suite = CipherSuite::from(SUITE);
    let identity = SigningIdentity::new(
        BasicCredential::new(me.credential()).into_credential(),
        me.key.as_bytes().to_vec().into(),
    );
    let mut secret = Zeroizing::new(key.seed().to_vec());
    secret.extend_from_slice(me.key.as_bytes());
    ClientBuilder::new()
        .mls_rules(Rules)
        .crypto_provider(RustCryptoProvider::with_enabled_cipher_suites([suite].into()))
        .identity_provider(Credentials { server: *me.server.as_bytes() })
        .key_package_lifetime(Duration::from_secs(KEY_PACKAGE_LIFETIME))
        .signing_identity(identity, SignatureSecretKey::new(secret.to_vec()), suite)
        .build()
}

fn library(what: &'static str) -> impl Fn(mls_rs::error::MlsError) -> Error {
    move |_| Error::Library(what)
}

/// Makes a key package. `last_resort` marks one that the server may hand out again.
pub fn key_package(me: &Member, key: &SecretKey, now: u64, last_resort: bool) -> Result<KeyPackage, Error> {
    let client = client(me, key);
    let mut extensions = ExtensionList::new();
    if last_resort {
        let marked = extensions.set_from(mls_rs::extension::recommended::LastResortKeyPackageExt);
        marked.map_err(|_| Error::Library("a key package was not marked"))?;
    }
    let message = client
        .generate_key_package_message(extensions, ExtensionList::new(), Some(MlsTime::from(now)))
        .map_err(library("no key package could be made"))?;
    let public = message.to_bytes().map_err(library("a key package could not be written"))?;
    let (id, data) =
        client.key_package_store().key_packages().pop().ok_or(Error::Library("no key package was made"))?;
    let secret =
        data.mls_encode_to_vec().map_err(|_| Error::Library("a key package could not be written"))?;
    Ok(KeyPackage { id, public, secret: Zeroizing::new(secret) })
}

/// Whose a key package is, if it is one for this server that can be added now.
pub(crate) fn owner(package: &[u8], server: &[u8; 32]) -> Option<Member> {
    let package = message(package)?.into_key_package()?;
    let member = member(package.signing_identity())?;
    (member.server.as_bytes() == server).then_some(member)
}

/// The key packages that a welcome names.
pub(crate) fn wanted(welcome: &[u8]) -> Option<Vec<Vec<u8>>> {
    Some(message(welcome)?.welcome_key_package_references().into_iter().map(|found| found.to_vec()).collect())
}

fn message(bytes: &[u8]) -> Option<MlsMessage> {
    let mut rest = bytes;
    let read = MlsMessage::mls_decode(&mut rest).ok()?;
    rest.is_empty().then_some(read)
}

fn member(identity: &SigningIdentity) -> Option<Member> {
    let Credential::Basic(basic) = &identity.credential else { return None };
    Member::of_leaf(basic.identifier(), identity.signature_key.as_bytes())
}

impl Group {
    pub(crate) fn create(me: &Member, key: &SecretKey, id: &[u8], now: u64) -> Result<Self, Error> {
        let client = client(me, key);
        let none = ExtensionList::new;
        let inner = client
            .create_group_with_id(id.to_vec(), none(), none(), Some(MlsTime::from(now)))
            .map_err(library("the group could not be made"))?;
        Ok(Self { inner, client, clean: None })
    }

    pub(crate) fn load(me: &Member, key: &SecretKey, id: &[u8], kept: &Snapshot) -> Result<Self, Error> {
        let client = client(me, key);
        let inner = restored(&client, id, kept)?;
        Ok(Self { inner, client, clean: Some(kept.clone()) })
    }

    pub(crate) fn join(
        me: &Member,
        key: &SecretKey,
        welcome: &[u8],
        package: &KeyPackage,
        now: u64,
    ) -> Result<Self, Error> {
        let client = client(me, key);
        let data = KeyPackageData::mls_decode(&mut &package.secret[..]).map_err(|_| Error::Damaged)?;
        client.key_package_store().insert(package.id.clone(), data);
        let welcome = message(welcome).ok_or(Error::Welcome("it is not an MLS message"))?;
        let (inner, _) = client
            .join_group(None, &welcome, Some(MlsTime::from(now)))
            .map_err(|_| Error::Welcome("it does not open with this machine's key package"))?;
        Ok(Self { inner, client, clean: None })
    }

    /// Joins by an external commit that replaces this machine's leaf.
    pub(crate) fn rejoin(
        me: &Member,
        key: &SecretKey,
        group_info: &[u8],
        now: u64,
    ) -> Result<(Self, Made), Error> {
        let client = client(me, key);
        let info = message(group_info).ok_or(Error::GroupInfo("it is not an MLS message"))?;
        let index = old_leaf(group_info, me)?;
        let built = client.external_commit_builder().map_err(library("no external commit could be made"))?;
        let (inner, commit) = built
            .with_removal(index)
            .commit_time(MlsTime::from(now))
            .build(info)
            .map_err(|_| Error::GroupInfo("it is not valid for this machine"))?;
        let fresh = inner
            .group_info_message_allowing_ext_commit(true)
            .map_err(library("no group info could be made"))?;
        let made = Made { commit: bytes(&commit)?, group_info: bytes(&fresh)?, welcome: None };
        Ok((Self { inner, client, clean: None }, made))
    }

    pub(crate) fn id(&self) -> &[u8] {
        self.inner.group_id()
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.inner.current_epoch()
    }

    pub(crate) fn authenticator(&self) -> Option<Vec<u8>> {
        self.inner.epoch_authenticator().ok().map(|secret| secret.as_bytes().to_vec())
    }

    pub(crate) fn members(&self) -> Vec<Member> {
        self.inner.roster().members_iter().filter_map(|leaf| member(&leaf.signing_identity)).collect()
    }

    pub(crate) fn snapshot(&mut self) -> Result<Snapshot, Error> {
        if let Some(clean) = &self.clean {
            return Ok(clean.clone());
        }
        self.inner.write_to_storage().map_err(library("the group could not be written"))?;
        let kept = self.client.group_state_storage().state(self.inner.group_id()).ok().flatten();
        let kept = kept.ok_or(Error::Library("the group could not be written"))?;
        self.clean = Some(kept.clone());
        Ok(kept)
    }

    pub(crate) fn seal(&mut self, content: &[u8]) -> Result<Vec<u8>, Error> {
        self.clean = None;
        let sealed = self.inner.encrypt_application_message(content, Vec::new());
        bytes(&sealed.map_err(library("the message could not be sealed"))?)
    }

    /// Makes a commit and keeps it until [`Group::open`] meets it or another one.
    pub(crate) fn commit(&mut self, adds: &[&[u8]], removes: &[u64], now: u64) -> Result<Made, Error> {
        self.clean = None;
        let leaves: Vec<(u64, u32)> = self
            .inner
            .roster()
            .members_iter()
            .filter_map(|leaf| Some((member(&leaf.signing_identity)?.machine, leaf.index)))
            .collect();
        let mut builder = self.inner.commit_builder().commit_time(MlsTime::from(now));
        for package in adds {
            let package = message(package).ok_or(Error::Library("a key package is not an MLS message"))?;
            builder = builder.add_member(package).map_err(library("a key package was refused"))?;
        }
        for machine in removes {
            let found =
                leaves.iter().find(|(known, _)| known == machine).ok_or(Error::NotAMember(*machine))?;
            builder = builder.remove_member(found.1).map_err(library("a removal was refused"))?;
        }
        let made = builder.build().map_err(library("the commit could not be made"))?;
        let info = made
            .external_commit_group_info
            .as_ref()
            .ok_or(Error::Library("a commit came without group info"))?;
        Ok(Made {
            commit: bytes(&made.commit_message)?,
            group_info: bytes(info)?,
            welcome: made.welcome_messages.first().map(bytes).transpose()?,
        })
    }

    pub(crate) fn clear_commit(&mut self) {
        self.clean = None;
        self.inner.clear_pending_commit();
    }

    /// Opens a message or applies a commit. `None`: it is not valid, and the group is as it was, so that a damaged copy
    /// does not use up the key of the message it was made of.
    pub(crate) fn open(&mut self, sealed: &[u8]) -> Result<Option<Opened>, Error> {
        let Some(incoming) = message(sealed) else { return Ok(None) };
        let before = self.snapshot()?;
        let members: Vec<Leaf> = self.inner.roster().members();
        self.clean = None;
        let opened = self
            .inner
            .process_incoming_message(incoming)
            .ok()
            .and_then(|received| self.read(&members, received));
        if opened.is_none() {
            self.inner = restored(&self.client, self.id(), &before)?;
            self.clean = Some(before);
        }
        Ok(opened)
    }

    fn read(&self, before: &[Leaf], received: ReceivedMessage) -> Option<Opened> {
        let at = |leaves: &[Leaf], index| {
            leaves.iter().find(|leaf| leaf.index == index).and_then(|leaf| member(&leaf.signing_identity))
        };
        match received {
            ReceivedMessage::ApplicationMessage(text) => Some(Opened::Text {
                sender: at(before, text.sender_index)?,
                content: Zeroizing::new(text.data().to_vec()),
            }),
            ReceivedMessage::Commit(commit) => {
                let (epoch, is_out) = match commit.effect {
                    CommitEffect::NewEpoch(epoch) => (epoch, false),
                    CommitEffect::Removed { new_epoch, .. } => (new_epoch, true),
                    CommitEffect::ReInit(_) => return None,
                };
                let (mut added, mut removed) = (Vec::new(), Vec::new());
                for change in epoch.applied_proposals() {
                    match &change.proposal {
                        Proposal::Add(add) => added.push(member(add.signing_identity())?),
                        Proposal::Remove(remove) => removed.push(at(before, remove.to_remove())?),
                        _ => {}
                    }
                }
                let by = if commit.is_external {
                    self.inner
                        .member_at_index(commit.committer)
                        .and_then(|leaf| member(&leaf.signing_identity))?
                } else {
                    at(before, commit.committer)?
                };
                Some(Opened::Commit(Applied { by, added, removed, external: commit.is_external, is_out }))
            }
            _ => None,
        }
    }
}

/// What a group info from the server is about: the group's id and epoch.
pub(crate) fn described(group_info: &[u8]) -> Option<(Vec<u8>, u64)> {
    let info = message(group_info)?.into_group_info()?;
    let context = info.group_context();
    Some((context.group_id().to_vec(), context.epoch()))
}

fn old_leaf(group_info: &[u8], me: &Member) -> Result<u32, Error> {
    let info = message(group_info)
        .and_then(MlsMessage::into_group_info)
        .ok_or(Error::GroupInfo("it is no group info"))?;
    let tree = info
        .extensions()
        .get_as::<mls_rs::extension::built_in::RatchetTreeExt>()
        .ok()
        .flatten()
        .ok_or(Error::GroupInfo("it comes without the group's tree"))?;
    let leaves = tree.tree_data.roster();
    leaves
        .members_iter()
        .find(|leaf| {
            member(&leaf.signing_identity)
                .is_some_and(|found| found.machine == me.machine && found.key == me.key)
        })
        .map(|leaf| leaf.index)
        .ok_or(Error::GroupInfo("this machine is not in the group; ask a member to add it"))
}

fn restored(client: &Client<Config>, id: &[u8], kept: &Snapshot) -> Result<mls_rs::Group<Config>, Error> {
    let state = GroupState { id: id.to_vec(), data: kept.clone() };
    client.group_state_storage().write(state, Vec::new(), Vec::new()).map_err(|_| Error::Damaged)?;
    client.load_group(id).map_err(|_| Error::Damaged)
}

fn bytes(message: &MlsMessage) -> Result<Vec<u8>, Error> {
    message.to_bytes().map_err(library("a message could not be written"))
}

/// Why a leaf or a commit is against the rules of sealed channels.
#[derive(Debug)]
struct AgainstTheRules;

impl IntoAnyError for AgainstTheRules {}

/// Leaves are machines of one server, named by their numbers.
#[derive(Clone)]
struct Credentials {
    server: [u8; 32],
}

impl Credentials {
    fn check(&self, identity: &SigningIdentity) -> Result<Member, AgainstTheRules> {
        member(identity).filter(|member| member.server.as_bytes() == &self.server).ok_or(AgainstTheRules)
    }
}

impl IdentityProvider for Credentials {
    type Error = AgainstTheRules;

    fn validate_member(
        &self,
        identity: &SigningIdentity,
        _: Option<MlsTime>,
        _: MemberValidationContext<'_>,
    ) -> Result<(), AgainstTheRules> {
        self.check(identity).map(drop)
    }

    fn validate_external_sender(
        &self,
        _: &SigningIdentity,
        _: Option<MlsTime>,
        _: Option<&ExtensionList>,
    ) -> Result<(), AgainstTheRules> {
        Err(AgainstTheRules)
    }

    fn identity(&self, identity: &SigningIdentity, _: &ExtensionList) -> Result<Vec<u8>, AgainstTheRules> {
        self.check(identity).map(|member| member.machine.to_be_bytes().to_vec())
    }

    fn valid_successor(
        &self,
        before: &SigningIdentity,
        after: &SigningIdentity,
        _: &ExtensionList,
    ) -> Result<bool, AgainstTheRules> {
        Ok(same_machine(before, after))
    }

    fn supported_types(&self) -> Vec<CredentialType> {
        [BasicCredential::credential_type()].into()
    }
}

fn same_machine(before: &SigningIdentity, after: &SigningIdentity) -> bool {
    match (member(before), member(after)) {
        (Some(before), Some(after)) => {
            (before.user, before.machine, before.key) == (after.user, after.machine, after.key)
        }
        _ => false,
    }
}

/// Commits add, remove and update. From outside comes only a machine that is in the group: whoever has the group info,
/// as the server does, could otherwise let anybody in.
#[derive(Clone)]
struct Rules;

impl MlsRules for Rules {
    type Error = AgainstTheRules;

    fn filter_proposals(
        &self,
        _: CommitDirection,
        source: CommitSource,
        roster: &Roster<'_>,
        _: &GroupContext,
        proposals: ProposalBundle,
    ) -> Result<ProposalBundle, AgainstTheRules> {
        if let CommitSource::NewMember(joiner) = &source
            && !roster.members_iter().any(|leaf| same_machine(&leaf.signing_identity, joiner))
        {
            return Err(AgainstTheRules);
        }
        let plain =
            proposals.group_context_ext_proposals().is_empty() && proposals.reinit_proposals().is_empty();
        if plain { Ok(proposals) } else { Err(AgainstTheRules) }
    }

    fn commit_options(
        &self,
        _: &Roster<'_>,
        _: &GroupContext,
        _: &ProposalBundle,
    ) -> Result<CommitOptions, AgainstTheRules> {
        Ok(CommitOptions::new().with_path_required(true).with_allow_external_commit(true))
    }

    fn encryption_options(
        &self,
        _: &Roster<'_>,
        _: &GroupContext,
    ) -> Result<EncryptionOptions, AgainstTheRules> {
        // Content is padded before it is sealed.
        Ok(EncryptionOptions::new(false, PaddingMode::None))
    }
}
