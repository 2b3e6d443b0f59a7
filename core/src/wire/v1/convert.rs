//! Version 1's types and the domain's, one into the other: what both ends of a connection need.

use crate::body::View;
use crate::name::SessionPath;
use crate::payload::{Envelope, Payload};
use crate::protocol::Visibility;
use crate::wire::v1;

impl<'a> From<&'a SessionPath> for v1::Path<'a> {
    fn from(path: &'a SessionPath) -> Self {
        Self { user: path.user.as_str(), machine: path.machine.as_str(), session: path.session.as_str() }
    }
}

impl<'a> From<&'a Payload> for v1::Payload<'a> {
    fn from(payload: &'a Payload) -> Self {
        match payload.view() {
            Ok(View::Text(text)) => Self::Plain(text),
            Ok(View::Sealed { ciphertext, key_id, .. }) => {
                Self::Encrypted(v1::Envelope { ciphertext, key_id })
            }
            // Version 2's edge takes no such body.
            Ok(View::Commit { .. }) | Err(_) => Self::Plain(""),
        }
    }
}

impl From<&v1::Payload<'_>> for Payload {
    fn from(payload: &v1::Payload<'_>) -> Self {
        match payload {
            v1::Payload::Plain(text) => Self::Plain((*text).into()),
            v1::Payload::Encrypted(envelope) => Self::Encrypted(Envelope {
                ciphertext: envelope.ciphertext.into(),
                key_id: envelope.key_id.map(Into::into),
            }),
        }
    }
}

impl From<Visibility> for v1::Visibility {
    fn from(visibility: Visibility) -> Self {
        match visibility {
            Visibility::Public => Self::Public,
            Visibility::Unlisted => Self::Unlisted,
            Visibility::Private => Self::Private,
        }
    }
}

impl From<v1::Visibility> for Visibility {
    fn from(visibility: v1::Visibility) -> Self {
        match visibility {
            v1::Visibility::Public => Self::Public,
            v1::Visibility::Unlisted => Self::Unlisted,
            v1::Visibility::Private => Self::Private,
        }
    }
}
