use alloc::string::String;
use alloc::vec::Vec;

use conclave_core::key::PublicKey;
use prost::Message as _;

/// Longest user or machine name in a credential, in bytes.
pub const MAX_NAME: usize = 384;

/// A machine in a group: a leaf, with what its credential says. The credential is signed with `key`; that the numbers and
/// names belong to the key is for rosters and the server's directory to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The user's number at the server.
    pub user: u64,
    /// The machine's number at the server, unique there.
    pub machine: u64,
    /// The user's name when the leaf was made.
    pub user_name: String,
    /// The machine's name when the leaf was made.
    pub machine_name: String,
    /// The server's key.
    pub server: PublicKey,
    /// The machine's key at that server.
    pub key: PublicKey,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Credential {
    #[prost(uint64, tag = "1")]
    user: u64,
    #[prost(uint64, tag = "2")]
    machine: u64,
    #[prost(string, tag = "3")]
    user_name: String,
    #[prost(string, tag = "4")]
    machine_name: String,
    #[prost(bytes = "vec", tag = "5")]
    server: Vec<u8>,
}

impl Member {
    /// The credential's bytes.
    pub(crate) fn credential(&self) -> Vec<u8> {
        Credential {
            user: self.user,
            machine: self.machine,
            user_name: self.user_name.clone(),
            machine_name: self.machine_name.clone(),
            server: self.server.as_bytes().to_vec(),
        }
        .encode_to_vec()
    }

    /// Reads a leaf's credential and signature key. Only the canonical encoding is taken.
    pub(crate) fn of_leaf(credential: &[u8], key: &[u8]) -> Option<Self> {
        if credential.len() > 2 * MAX_NAME + 64 {
            return None;
        }
        let read = Credential::decode(credential).ok()?;
        let member = Self {
            user: read.user,
            machine: read.machine,
            user_name: read.user_name,
            machine_name: read.machine_name,
            server: PublicKey::new(&read.server).ok()?,
            key: PublicKey::new(key).ok()?,
        };
        let fits = member.user_name.len() <= MAX_NAME && member.machine_name.len() <= MAX_NAME;
        (fits && member.credential() == credential).then_some(member)
    }
}
