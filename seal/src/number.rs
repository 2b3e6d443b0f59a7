use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use conclave_core::key::PublicKey;
use sha2::{Digest as _, Sha512};

/// Hashed this often, so that somebody who looks for keys with a number of their choice pays for each try.
const ROUNDS: u32 = 5_200;

/// The number that two users compare over another way: six groups of five digits for each of them, over the server's key,
/// the user's number and all of the user's machine keys. Both see the same one. A machine that only the server knows of
/// makes it differ.
pub fn verify_number(server: &PublicKey, one: (u64, &[PublicKey]), other: (u64, &[PublicKey])) -> String {
    let mut halves = [half(server, one), half(server, other)];
    halves.sort();
    let mut text = String::new();
    for (at, group) in halves.iter().flatten().enumerate() {
        let _ = write!(text, "{}{group:05}", if at == 0 { "" } else { " " });
    }
    text
}

fn half(server: &PublicKey, (user, machines): (u64, &[PublicKey])) -> [u64; 6] {
    let mut machines: Vec<_> = machines.iter().map(PublicKey::as_bytes).collect();
    machines.sort();
    machines.dedup();
    let mut hash = Sha512::new().chain_update(b"conclave verify\0").chain_update(server.as_bytes());
    hash.update(user.to_be_bytes());
    machines.iter().for_each(|key| hash.update(key));
    let mut digest = hash.finalize();
    for _ in 1..ROUNDS {
        digest = Sha512::new().chain_update(digest).chain_update(server.as_bytes()).finalize();
    }
    let mut groups = [0; 6];
    for (group, bytes) in groups.iter_mut().zip(digest.chunks_exact(5)) {
        *group = bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)) % 100_000;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use conclave_core::key::SecretKey;

    #[test]
    fn both_see_one_number_and_another_machine_changes_it() {
        let key = |seed| SecretKey::from_seed(&[seed; 32]).public();
        let (one, other, ghost) = ([key(1), key(2)], [key(3)], [key(3), key(4)]);
        let number = verify_number(&key(9), (1, &one), (2, &other));
        assert_eq!(number, verify_number(&key(9), (2, &other), (1, &[key(2), key(1)])));
        assert_eq!(number.split(' ').count(), 12);
        assert_ne!(number, verify_number(&key(9), (1, &one), (2, &ghost)));
        assert_ne!(number, verify_number(&key(8), (1, &one), (2, &other)));
        assert_ne!(number, verify_number(&key(9), (1, &one), (3, &other)));
    }
}
