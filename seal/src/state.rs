use alloc::vec::Vec;

use prost::Message as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::Error;

/// What a channel keeps between steps. Holds secrets: message keys, texts that wait to be sent, the machine's key.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct State {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) group_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) group: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub(crate) position: u64,
    #[prost(message, repeated, tag = "4")]
    pub(crate) outbox: Vec<Waiting>,
    #[prost(message, optional, tag = "5")]
    pub(crate) pending: Option<Pending>,
    #[prost(bool, tag = "6")]
    pub(crate) is_out: bool,
    #[prost(bool, tag = "7")]
    pub(crate) update_due: bool,
}

/// A message that has not arrived in the stream.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct Waiting {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Vec<u8>,
    /// Padded.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) plain: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) sealed: Vec<u8>,
    #[prost(uint64, tag = "4")]
    pub(crate) epoch: u64,
}

/// A commit that has not arrived in the stream, with what is needed to make it again.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct Pending {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub(crate) epoch: u64,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) commit: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) group_info: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub(crate) welcome: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) adds: Vec<Package>,
    #[prost(uint64, repeated, tag = "7")]
    pub(crate) removes: Vec<u64>,
    #[prost(bool, tag = "8")]
    pub(crate) external: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct Package {
    #[prost(uint64, tag = "1")]
    pub(crate) machine: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) bytes: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub(crate) user: u64,
    /// The machine's key, by its user's roster.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) key: Vec<u8>,
}

impl State {
    pub(crate) fn at(group_id: &[u8], position: u64) -> Self {
        let mut state = Self::default();
        (state.group_id, state.position) = (group_id.to_vec(), position);
        state
    }

    pub(crate) fn write(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.encoded_len()));
        // A vector grows as it is written to.
        let written = self.encode(&mut *bytes);
        debug_assert!(written.is_ok());
        bytes
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Error> {
        Self::decode(bytes).map_err(|_| Error::Damaged)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.group.zeroize();
        self.outbox.iter_mut().for_each(|waiting| waiting.plain.zeroize());
    }
}
