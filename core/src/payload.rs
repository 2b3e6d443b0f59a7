//! What a message carries.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// The content of a message, relayed and stored as it came.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Text.
    Plain(String),
    /// Bytes that only the receivers can read; the server never looks into them.
    Encrypted(Envelope),
}

/// Ciphertext and the name of its key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// The encrypted bytes.
    pub ciphertext: Vec<u8>,
    /// Which key opens them, as the participants name it.
    pub key_id: Option<String>,
}

impl Payload {
    /// The content's size in bytes, for limits and metrics.
    pub fn size(&self) -> usize {
        match self {
            Self::Plain(text) => text.len(),
            Self::Encrypted(envelope) => {
                envelope.ciphertext.len() + envelope.key_id.as_ref().map_or(0, String::len)
            }
        }
    }
}

// A body never reaches a log: `Debug` tells its size only.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Plain(_) => "Plain",
            Self::Encrypted(_) => "Encrypted",
        };
        write!(f, "{kind}({} bytes)", self.size())
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelope({} bytes)", self.ciphertext.len())
    }
}
