//! Machine keys: Ed25519 (RFC 8032), verified strictly, weak points refused.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

/// Why bytes are not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("a key is 32 bytes, URL-safe base64 without padding, and a point of Ed25519 that is not weak")]
pub struct InvalidKey;

/// A machine's public key: 32 bytes that are a valid, not weak point.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Checks that `bytes` are a key.
    ///
    /// # Errors
    /// [`InvalidKey`] for another length, an invalid point, or one of small order.
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidKey> {
        verifying(bytes).map(|key| Self(key.to_bytes()))
    }

    /// Takes a key from storage that only ever held checked ones: decompressing a hundred thousand points is
    /// most of a server's start. A signature is checked against the point again, so a false one proves nothing.
    pub fn from_trusted(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// From URL-safe base64, with or without padding.
impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        Self::new(&from_base64(text)?)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// The bytes of URL-safe base64, with or without padding.
pub(crate) fn from_base64(text: &str) -> Result<Vec<u8>, InvalidKey> {
    URL_SAFE_NO_PAD.decode(text.trim().trim_end_matches('=')).map_err(|_| InvalidKey)
}

fn verifying(bytes: &[u8]) -> Result<VerifyingKey, InvalidKey> {
    let bytes: &[u8; 32] = bytes.try_into().map_err(|_| InvalidKey)?;
    let key = VerifyingKey::from_bytes(bytes).map_err(|_| InvalidKey)?;
    if key.is_weak() { Err(InvalidKey) } else { Ok(key) }
}

/// Checks that the holder of `key` signed `message`, by RFC 8032 and strictly:
/// canonical scalars and no points of small order. Returns the key if so.
pub fn verify(key: &[u8], message: &[u8], signature: &[u8]) -> Option<PublicKey> {
    let key = verifying(key).ok()?;
    let signature = Signature::from_slice(signature).ok()?;
    key.verify_strict(message, &signature).ok()?;
    Some(PublicKey(key.to_bytes()))
}

/// A machine's secret: the seed of its key. Wiped from memory when dropped; never shown.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of a 32-byte seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// A new key from the caller's generator.
    pub fn generate(generator: &mut impl rand_core::CryptoRng) -> Self {
        let mut seed = [0; 32];
        generator.fill_bytes(&mut seed);
        let key = Self::from_seed(&seed);
        seed.zeroize();
        key
    }

    /// Reads a seed from URL-safe base64, with or without padding.
    ///
    /// # Errors
    /// [`InvalidKey`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let mut bytes = from_base64(text)?;
        let key = <&[u8; 32]>::try_from(bytes.as_slice()).map(Self::from_seed).map_err(|_| InvalidKey);
        bytes.zeroize();
        key
    }

    /// The seed as URL-safe base64 without padding: the content of a key file.
    pub fn expose(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.as_bytes())
    }

    /// The seed, for a library that signs by itself.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The machine's key at one server, derived from this one: no server sees a key that another knows, so a proof made for
    /// one is worthless at another. HKDF-SHA-256 (RFC 5869) with the server's key as `info`.
    #[must_use]
    pub fn at_server(&self, server: &PublicKey) -> Self {
        let mut seed = [0; 32];
        let expanded = Hkdf::<Sha256>::new(Some(b"conclave v2 machine key"), self.0.as_bytes())
            .expand(server.as_bytes(), &mut seed);
        debug_assert!(expanded.is_ok(), "32 bytes are no more than HKDF gives");
        let key = Self::from_seed(&seed);
        seed.zeroize();
        key
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_proves_its_key_and_message_only() {
        let key = SecretKey::from_seed(&[7; 32]);
        let signature = key.sign(b"nonce");
        let public = key.public();
        assert_eq!(verify(public.as_bytes(), b"nonce", &signature), Some(public));
        assert_eq!(verify(public.as_bytes(), b"other", &signature), None);
        assert_eq!(verify(SecretKey::from_seed(&[8; 32]).public().as_bytes(), b"nonce", &signature), None);
        assert_eq!(verify(public.as_bytes(), b"nonce", &signature[..63]), None);
        assert_eq!(verify(&[], b"nonce", &signature), None);
    }

    #[test]
    fn weak_keys_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        for bytes in [[0; 32], identity] {
            assert_eq!(PublicKey::new(&bytes), Err(InvalidKey));
            assert_eq!(verify(&bytes, b"", &[0; 64]), None);
        }
        assert_eq!(PublicKey::new(&[2; 31]), Err(InvalidKey));
    }

    #[test]
    fn each_server_has_a_key_of_its_own() {
        let key = SecretKey::from_seed(&[7; 32]);
        let server = |seed| SecretKey::from_seed(&[seed; 32]).public();
        let derived = key.at_server(&server(1)).public();
        assert_eq!(derived, key.at_server(&server(1)).public());
        let others = [key.public(), key.at_server(&server(2)).public()];
        assert!(!others.contains(&derived));
        assert_ne!(derived, SecretKey::from_seed(&[8; 32]).at_server(&server(1)).public());
        // By an implementation of HKDF that is not ours (Python's cryptography 48).
        assert_eq!(key.at_server(&server(1)).expose(), "vHpAVNCjwKc61sVYVCGfDfhMl-SKjFNyCZEI9Zt5VXU");
    }

    #[test]
    fn a_secret_is_not_shown() {
        let key = SecretKey::from_seed(&[7; 32]);
        assert!(!alloc::format!("{key:?}").contains(&key.expose()));
        assert_eq!(SecretKey::parse(&key.expose()).unwrap().public(), key.public());
    }
}
