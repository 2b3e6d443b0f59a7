//! A message, as a person's client keeps it.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::body::{self, View};
use crate::link::Proof;
use crate::name::SessionPath;
use crate::payload::Payload;
use crate::record::UserId;
use crate::stream::{Receipt, ReceiptState};
use crate::time::UnixMillis;

/// Bytes of a text that are kept.
pub const MAX_TEXT: usize = 64 * 1024;

/// What a message says.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// Text; nothing in it is safe to print as it is.
    Text {
        /// Its beginning, if it is long.
        text: String,
        /// How many bytes are left out.
        cut: usize,
    },
    /// Only the holders of a key can read it.
    Sealed {
        /// Its size in bytes.
        size: usize,
    },
    /// A change of who is in a sealed channel's group.
    Group,
    /// It is no message that this program understands.
    Broken,
}

// A text never reaches a log.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { text, .. } => write!(f, "Text({} bytes)", text.len()),
            Self::Sealed { size } => write!(f, "Sealed({size} bytes)"),
            Self::Group => f.write_str("Group"),
            Self::Broken => f.write_str("Broken"),
        }
    }
}

/// A message of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number in the stream.
    pub seq: u64,
    /// Who wrote it.
    pub from: SessionPath,
    /// When the server took it, or when it came.
    pub at: UnixMillis,
    /// What it says.
    pub content: Content,
    /// This session wrote it.
    pub own: bool,
    /// It mentions this session's user.
    pub mentions_you: bool,
    /// The message that it answers.
    pub reply_to: Option<u64>,
    /// An agent wrote it.
    pub agent: bool,
    /// Agents wrote so many in a row that they may write no more until a person does.
    pub exhausted: bool,
    /// What its signature is worth.
    pub proof: Proof,
    /// Who has it, for an own message.
    pub receipts: Receipts,
}

impl Message {
    /// Reads a payload. `user` is who reads it.
    pub(super) fn new(
        (seq, from, at): (u64, SessionPath, UnixMillis),
        payload: &Payload,
        (own, user): (bool, Option<UserId>),
        proof: Proof,
    ) -> Self {
        let context = match payload {
            Payload::Body(body) => body::context(body),
            _ => body::Context::default(),
        };
        let content = match payload.view() {
            Ok(View::Text(text)) => {
                let end = text.floor_char_boundary(MAX_TEXT);
                Content::Text { text: text[..end].into(), cut: text.len() - end }
            }
            Ok(View::Sealed { ciphertext, .. }) => Content::Sealed { size: ciphertext.len() },
            Ok(View::Commit { .. }) => Content::Group,
            Err(_) => Content::Broken,
        };
        Self {
            seq,
            from,
            at,
            content,
            own,
            mentions_you: user.is_some_and(|user| context.mentions.contains(&user)),
            reply_to: context.reply_to,
            agent: context.hops > 0,
            exhausted: context.budget != 0 && context.hops >= context.budget,
            proof,
            receipts: Receipts::Unknown,
        }
    }

    /// The text, if it has one.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text { text, .. } => Some(text),
            _ => None,
        }
    }

    /// About how much memory it takes.
    pub(super) fn size(&self) -> usize {
        self.text().map_or(0, str::len) + 256
    }
}

/// What is known of who has an own message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Receipts {
    /// The server was not asked yet.
    #[default]
    Unknown,
    /// It was asked.
    Asked,
    /// What it said, and whether somebody has come further since.
    Known {
        /// The readers.
        readers: Vec<Receipt>,
        /// Whether to ask again.
        stale: bool,
    },
}

impl Receipts {
    /// How many readers have the message, have seen it, and how many there are.
    pub fn tally(&self) -> Option<(usize, usize, usize)> {
        let Self::Known { readers, .. } = self else { return None };
        let reached = |state| readers.iter().filter(|it| it.state >= state).count();
        Some((reached(ReceiptState::Delivered), reached(ReceiptState::Seen), readers.len()))
    }

    /// Whether the server is to be asked.
    pub(super) fn are_due(&self) -> bool {
        matches!(self, Self::Unknown | Self::Known { stale: true, .. })
    }
}
