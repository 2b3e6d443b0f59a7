//! What a message carries.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use crate::body::{self, NotABody, View};

/// The content of a message, relayed and stored as it came.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Text.
    Plain(String),
    /// Bytes that only the receivers can read; the server never looks into them.
    Encrypted(Envelope),
    /// A body of version 2, as its sender encoded it. See [`body`].
    Body(Bytes),
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
    /// What it says, in place.
    ///
    /// # Errors
    /// [`NotABody`] for a body of version 2 that is none: a server that we do not trust may send one.
    pub fn view(&self) -> Result<View<'_>, NotABody> {
        match self {
            Self::Plain(text) => Ok(View::Text(text)),
            Self::Encrypted(envelope) => {
                let key_id = envelope.key_id.as_deref();
                Ok(View::Sealed { ciphertext: &envelope.ciphertext, key_id, epoch: 0 })
            }
            Self::Body(body) => body::view(body),
        }
    }

    /// It as a body of version 2: a body that is one stays as its sender encoded it.
    pub fn to_body(&self) -> Bytes {
        match self {
            Self::Plain(text) => body::of_text(text),
            Self::Encrypted(envelope) => {
                body::of_ciphertext(&envelope.ciphertext, envelope.key_id.as_deref())
            }
            Self::Body(body) => body.clone(),
        }
    }

    /// The content's size in bytes, for limits and metrics.
    pub fn size(&self) -> usize {
        match self {
            Self::Plain(text) => text.len(),
            Self::Encrypted(envelope) => {
                envelope.ciphertext.len() + envelope.key_id.as_ref().map_or(0, String::len)
            }
            Self::Body(body) => body.len(),
        }
    }
}

// A body never reaches a log: `Debug` tells its size only.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Plain(_) => "Plain",
            Self::Encrypted(_) => "Encrypted",
            Self::Body(_) => "Body",
        };
        write!(f, "{kind}({} bytes)", self.size())
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelope({} bytes)", self.ciphertext.len())
    }
}
