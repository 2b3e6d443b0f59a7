use alloc::vec::Vec;

use conclave_core::key::{PublicKey, SecretKey, verify};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

/// How many changes a roster has at most.
pub const MAX_CHANGES: usize = 10_000;

/// Where a user's roster stands: how many changes, and the hash of the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RosterHead {
    /// The user's number at the server.
    pub user: u64,
    /// How many changes.
    pub length: u64,
    /// The last change's hash.
    pub hash: [u8; 32],
}

/// What a change of a roster does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RosterChange {
    /// A machine comes in. The first one of a roster signs for itself.
    Add(PublicKey),
    /// A machine goes.
    Remove(PublicKey),
}

/// A change with its signature, as the server stores and relays it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedChange {
    /// What is signed.
    pub bytes: Vec<u8>,
    /// Over the bytes, by a machine that was in the roster before.
    pub signature: [u8; 64],
}

/// Why a change is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RosterError {
    /// Its bytes are no change.
    #[error("it cannot be read")]
    Malformed,
    /// It is about another user or server.
    #[error("it belongs to another user or server")]
    Foreign,
    /// It does not continue this roster: the server showed another one before, or hides a change.
    #[error("it does not continue the roster that is known; compare keys with this user")]
    Forked,
    /// Nobody in the roster signed it.
    #[error("no machine of the roster signed it")]
    Unsigned,
    /// It adds what is there, removes what is not, or removes the last machine.
    #[error("it changes nothing, or leaves no machine")]
    Pointless,
    /// The roster has as many changes as it may.
    #[error("the roster has {MAX_CHANGES} changes, and no more are allowed")]
    Full,
}

/// A user's machines: a hash chain of changes, each signed by a machine that was in it before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    server: PublicKey,
    user: u64,
    machines: Vec<PublicKey>,
    /// Of every change, so that an older head can be compared.
    hashes: Vec<[u8; 32]>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Change {
    #[prost(bytes = "vec", tag = "1")]
    server: Vec<u8>,
    #[prost(uint64, tag = "2")]
    user: u64,
    #[prost(bytes = "vec", tag = "3")]
    previous: Vec<u8>,
    #[prost(bool, tag = "4")]
    removes: bool,
    #[prost(bytes = "vec", tag = "5")]
    machine: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    signer: Vec<u8>,
}

const SIGNED: &[u8] = b"conclave roster change\0";

impl Roster {
    /// A roster without machines. Its first change decides what it is, so compare the keys once
    /// (`conclave verify`).
    pub fn new(server: PublicKey, user: u64) -> Self {
        Self { server, user, machines: Vec::new(), hashes: Vec::new() }
    }

    /// The machines' keys, in the order in which they came.
    pub fn machines(&self) -> &[PublicKey] {
        &self.machines
    }

    /// Whether a machine of the roster vouches for this key.
    pub fn vouches_for(&self, key: &PublicKey) -> bool {
        self.machines.contains(key)
    }

    /// Where the roster stands.
    pub fn head(&self) -> RosterHead {
        RosterHead { user: self.user, length: self.hashes.len() as u64, hash: self.last() }
    }

    /// Signs the next change. It counts once [`apply`](Self::apply) takes it.
    pub fn sign(&self, key: &SecretKey, change: RosterChange) -> SignedChange {
        let (removes, machine) = match change {
            RosterChange::Add(machine) => (false, machine),
            RosterChange::Remove(machine) => (true, machine),
        };
        let bytes = Change {
            server: self.server.as_bytes().to_vec(),
            user: self.user,
            previous: self.last().to_vec(),
            removes,
            machine: machine.as_bytes().to_vec(),
            signer: key.public().as_bytes().to_vec(),
        }
        .encode_to_vec();
        let signature = key.sign(&[SIGNED, &bytes].concat());
        SignedChange { bytes, signature }
    }

    /// Takes the next change.
    ///
    /// # Errors
    /// [`RosterError`]; the roster stays as it is.
    pub fn apply(&mut self, signed: &SignedChange) -> Result<RosterChange, RosterError> {
        let change = Change::decode(signed.bytes.as_slice()).map_err(|_| RosterError::Malformed)?;
        let machine = PublicKey::new(&change.machine).map_err(|_| RosterError::Malformed)?;
        let signer = PublicKey::new(&change.signer).map_err(|_| RosterError::Malformed)?;
        if change.server != self.server.as_bytes() || change.user != self.user {
            return Err(RosterError::Foreign);
        }
        if change.previous != self.last() {
            return Err(RosterError::Forked);
        }
        if self.hashes.len() >= MAX_CHANGES {
            return Err(RosterError::Full);
        }
        let first = self.hashes.is_empty() && !change.removes && signer == machine;
        if !first && !self.vouches_for(&signer) {
            return Err(RosterError::Unsigned);
        }
        verify(signer.as_bytes(), &[SIGNED, &signed.bytes].concat(), &signed.signature)
            .ok_or(RosterError::Unsigned)?;
        if change.removes != self.vouches_for(&machine) || (change.removes && self.machines.len() == 1) {
            return Err(RosterError::Pointless);
        }
        self.hashes.push(Sha256::digest(&signed.bytes).into());
        if change.removes {
            self.machines.retain(|known| *known != machine);
            Ok(RosterChange::Remove(machine))
        } else {
            self.machines.push(machine);
            Ok(RosterChange::Add(machine))
        }
    }

    /// Whether another one's view of this user's roster contradicts this one: the server shows different people different
    /// rosters. A longer one does not contradict; fetch the changes and compare again.
    pub fn contradicts(&self, other: &RosterHead) -> bool {
        let position = usize::try_from(other.length).unwrap_or(usize::MAX);
        match position.checked_sub(1).map(|last| self.hashes.get(last)) {
            None => other.hash != [0; 32],
            Some(None) => false,
            Some(Some(hash)) => *hash != other.hash,
        }
    }

    fn last(&self) -> [u8; 32] {
        self.hashes.last().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32])
    }

    fn roster() -> Roster {
        let mut roster = Roster::new(key(200).public(), 7);
        let first = roster.sign(&key(1), RosterChange::Add(key(1).public()));
        roster.apply(&first).unwrap();
        roster
    }

    #[test]
    fn only_a_machine_that_was_there_before_brings_another_in() {
        let mut roster = roster();
        let stranger = roster.sign(&key(2), RosterChange::Add(key(2).public()));
        assert_eq!(roster.apply(&stranger), Err(RosterError::Unsigned));
        let second = roster.sign(&key(1), RosterChange::Add(key(2).public()));
        assert_eq!(roster.apply(&second), Ok(RosterChange::Add(key(2).public())));
        let gone = roster.sign(&key(2), RosterChange::Remove(key(1).public()));
        roster.apply(&gone).unwrap();
        let late = roster.sign(&key(1), RosterChange::Add(key(3).public()));
        assert_eq!(roster.apply(&late), Err(RosterError::Unsigned));
        assert_eq!(roster.machines(), [key(2).public()]);
    }

    #[test]
    fn a_change_fits_one_place_of_one_roster_only() {
        let mut first = roster();
        let second = first.sign(&key(1), RosterChange::Add(key(2).public()));
        first.apply(&second).unwrap();
        assert_eq!(first.apply(&second), Err(RosterError::Forked));
        let mut foreign = Roster::new(key(201).public(), 7);
        assert_eq!(foreign.apply(&second), Err(RosterError::Foreign));
        let mut altered = second.clone();
        altered.signature[0] ^= 1;
        assert_eq!(roster().apply(&altered), Err(RosterError::Unsigned));
    }

    #[test]
    fn two_views_of_one_roster_that_differ_are_found() {
        let (mut left, mut right) = (roster(), roster());
        let old = left.head();
        for (view, seed) in [(&mut left, 2), (&mut right, 3)] {
            let change = view.sign(&key(1), RosterChange::Add(key(seed).public()));
            view.apply(&change).unwrap();
        }
        assert!(left.contradicts(&right.head()) && right.contradicts(&left.head()));
        assert!(!left.contradicts(&old), "an older view is no fork");
        assert!(!roster().contradicts(&left.head()), "a newer view is no fork");
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_get_in(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut roster = roster();
            let before = roster.clone();
            let refused = roster.apply(&SignedChange { bytes, signature: [1; 64] }).is_err();
            prop_assert!(refused);
            prop_assert_eq!(roster, before);
        }
    }
}
