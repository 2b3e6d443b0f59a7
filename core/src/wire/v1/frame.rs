//! Version 1 of the wire, frame by frame. Frames borrow their content: from the input when decoded, from the
//! domain when encoded.
//!
//! The tags are positions: the order of variants and fields is the format.

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::codec::{self, Malformed, bytes, list};

/// The version that `Hello` carries.
pub const VERSION: u32 = 1;

/// One frame. `C`: a client sends it; `S`: the server does.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's, named as its specification names them")]
pub enum Frame<'a> {
    /// C: opens the handshake.
    Hello { protocol_version: u32, session: &'a str },
    /// S: 32 bytes to sign.
    Challenge {
        #[serde(with = "bytes")]
        nonce: &'a [u8],
    },
    /// C: the proof.
    Auth {
        #[serde(with = "bytes")]
        pubkey: &'a [u8],
        #[serde(with = "bytes")]
        signature: &'a [u8],
    },
    /// S: the session lives.
    Established {
        #[serde(borrow)]
        path: Path<'a>,
    },
    /// C: claims a new user's name before `Auth`.
    Register {
        username: &'a str,
        machine: &'a str,
        #[serde(with = "bytes")]
        pubkey: &'a [u8],
    },
    /// C.
    Join { channel: &'a str, token: Option<&'a str> },
    /// C.
    Leave { channel: &'a str },
    /// C.
    Who { channel: Option<&'a str> },
    /// C.
    Admin(#[serde(borrow)] AdminOp<'a>),
    /// C, S: a client's `from` is ignored.
    ChannelMsg {
        channel: &'a str,
        #[serde(borrow)]
        from: Path<'a>,
        #[serde(borrow)]
        payload: Payload<'a>,
    },
    /// C, S: a client's `from` is ignored.
    Whisper {
        #[serde(borrow)]
        from: Path<'a>,
        #[serde(borrow)]
        target: Path<'a>,
        #[serde(borrow)]
        payload: Payload<'a>,
    },
    /// S.
    Presence {
        channel: Option<&'a str>,
        #[serde(borrow, deserialize_with = "list")]
        sessions: Vec<Path<'a>>,
    },
    /// S.
    Error(#[serde(borrow)] ProtocolError<'a>),
    /// C.
    ListChannels,
    /// S.
    ChannelList {
        #[serde(borrow, deserialize_with = "list")]
        channels: Vec<ChannelInfo<'a>>,
    },
    /// S.
    Joined { channel: &'a str },
    /// S.
    Ack { detail: Option<&'a str> },
    /// S.
    InviteToken { token: &'a str },
    /// C.
    Ping,
    /// S.
    Pong,
    /// S: right after `Established`.
    ServerInfo { admin: bool },
    /// C.
    ListMachines,
    /// S.
    MachineList {
        #[serde(borrow, deserialize_with = "list")]
        machines: Vec<MachineInfo<'a>>,
    },
    /// C.
    ListUsers,
    /// S.
    UserList {
        #[serde(borrow, deserialize_with = "list")]
        users: Vec<&'a str>,
    },
    /// S.
    InviteList {
        #[serde(borrow, deserialize_with = "list")]
        invites: Vec<InviteInfo<'a>>,
    },
    /// C: `since_ms` is exclusive.
    ReadSince { channel: &'a str, since_ms: i64 },
    /// S: oldest first.
    History {
        channel: &'a str,
        #[serde(borrow, deserialize_with = "list")]
        messages: Vec<HistoryMessage<'a>>,
    },
}

/// The operations inside `Admin`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as the wire's specification names them")]
pub enum AdminOp<'a> {
    CreateChannel {
        name: &'a str,
        visibility: Visibility,
    },
    DeleteChannel {
        name: &'a str,
    },
    RenameChannel {
        name: &'a str,
        new_name: &'a str,
    },
    SetVisibility {
        name: &'a str,
        visibility: Visibility,
    },
    AclAdd {
        channel: &'a str,
        user: &'a str,
    },
    AclRemove {
        channel: &'a str,
        user: &'a str,
    },
    InviteCreate {
        channel: &'a str,
        uses: Option<u32>,
        expires_in_secs: Option<u64>,
    },
    InviteRevoke {
        token: &'a str,
    },
    Kick {
        channel: &'a str,
        target: &'a str,
    },
    Ban {
        channel: &'a str,
        user: &'a str,
    },
    UserRemove {
        username: &'a str,
    },
    MachineRemove {
        name: &'a str,
    },
    MachineAdd {
        name: &'a str,
        #[serde(with = "bytes")]
        pubkey: &'a [u8],
    },
    AclList {
        channel: &'a str,
    },
    Unban {
        channel: &'a str,
        user: &'a str,
    },
    BanList {
        channel: &'a str,
    },
    InviteList {
        channel: &'a str,
    },
}

/// A session's path, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as the wire's specification names them")]
pub struct Path<'a> {
    pub user: &'a str,
    pub machine: &'a str,
    pub session: &'a str,
}

/// Who sees a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as the wire's specification names them")]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    Public,
    Unlisted,
    Private,
}

/// A message's content.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload<'a> {
    /// Text.
    Plain(&'a str),
    /// Bytes that the server does not look into.
    Encrypted(#[serde(borrow)] Envelope<'a>),
}

/// Ciphertext and its key's name.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as the wire's specification names them")]
pub struct Envelope<'a> {
    #[serde(with = "bytes")]
    pub ciphertext: &'a [u8],
    pub key_id: Option<&'a str>,
}

/// A channel as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as the wire's specification names them")]
pub struct ChannelInfo<'a> {
    pub name: &'a str,
    pub visibility: Visibility,
    pub member: bool,
}

/// A machine as it is listed: its key in URL-safe base64 without padding, its time in RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as the wire's specification names them")]
pub struct MachineInfo<'a> {
    pub name: &'a str,
    pub pubkey: &'a str,
    pub added_at: &'a str,
}

/// An invite as it is listed, its time in RFC 3339.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as the wire's specification names them")]
pub struct InviteInfo<'a> {
    pub token: &'a str,
    pub uses_remaining: Option<i64>,
    pub expires_at: Option<&'a str>,
}

/// A message of a page of history.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as the wire's specification names them")]
pub struct HistoryMessage<'a> {
    #[serde(borrow)]
    pub from: Path<'a>,
    pub ts_ms: i64,
    #[serde(borrow)]
    pub payload: Payload<'a>,
}

/// Why something was refused or a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as the wire's specification names them")]
pub enum ProtocolError<'a> {
    VersionMismatch { ours: u32, theirs: u32 },
    MalformedFrame(&'a str),
    Unauthorized(&'a str),
    NotFound(&'a str),
    Internal(&'a str),
}

// Frames carry bodies and tokens, which no log may show: `Debug` tells the kind only.
impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

impl<'a> Frame<'a> {
    /// The frame's name, for errors and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "Hello",
            Self::Challenge { .. } => "Challenge",
            Self::Auth { .. } => "Auth",
            Self::Established { .. } => "Established",
            Self::Register { .. } => "Register",
            Self::Join { .. } => "Join",
            Self::Leave { .. } => "Leave",
            Self::Who { .. } => "Who",
            Self::Admin(_) => "Admin",
            Self::ChannelMsg { .. } => "ChannelMsg",
            Self::Whisper { .. } => "Whisper",
            Self::Presence { .. } => "Presence",
            Self::Error(_) => "Error",
            Self::ListChannels => "ListChannels",
            Self::ChannelList { .. } => "ChannelList",
            Self::Joined { .. } => "Joined",
            Self::Ack { .. } => "Ack",
            Self::InviteToken { .. } => "InviteToken",
            Self::Ping => "Ping",
            Self::Pong => "Pong",
            Self::ServerInfo { .. } => "ServerInfo",
            Self::ListMachines => "ListMachines",
            Self::MachineList { .. } => "MachineList",
            Self::ListUsers => "ListUsers",
            Self::UserList { .. } => "UserList",
            Self::InviteList { .. } => "InviteList",
            Self::ReadSince { .. } => "ReadSince",
            Self::History { .. } => "History",
        }
    }

    /// Reads the frame that `bytes` are.
    ///
    /// # Errors
    /// [`Malformed`] if they are none, or more than one.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.len() > crate::wire::MAX_FRAME {
            return Err(Malformed);
        }
        codec::decode(bytes)
    }

    /// Reads the frame that a client sent as `bytes`. Frames that only a server sends are malformed here and not
    /// looked into: they hold lists, whose elements take more room than their bytes. So what a client sends
    /// allocates nothing.
    ///
    /// # Errors
    /// [`Malformed`] if they are no frame of a client.
    pub fn decode_from_client(bytes: &'a [u8]) -> Result<Self, Malformed> {
        match bytes.first() {
            Some(0 | 2 | 4..=10 | 13 | 18 | 21 | 23 | 26) => Self::decode(bytes),
            _ => Err(Malformed),
        }
    }

    /// Appends the frame's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        codec::encode(self, out);
    }

    /// The frame's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use proptest::prelude::*;
    use serde_json::Value;

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// The vectors as (name, bytes, fields). A long text stands as `{repeat, times}`, its bytes as a prefix.
    fn vectors() -> Vec<(String, Vec<u8>, Value)> {
        let file: Value = serde_json::from_str(include_str!("../../../../tests/vectors-v1.json")).unwrap();
        let mut vectors = Vec::new();
        for vector in file["frames"].as_array().unwrap() {
            let mut fields = vector["frame"].clone();
            let bytes = if let Some(hex) = vector["hex"].as_str() {
                unhex(hex)
            } else {
                let text = &mut fields["ChannelMsg"]["payload"]["Plain"];
                let (repeat, times) =
                    (String::from(text["repeat"].as_str().unwrap()), text["times"].as_u64().unwrap());
                *text = repeat.repeat(times as usize).into();
                let mut bytes = unhex(vector["prefix_hex"].as_str().unwrap());
                bytes.resize(vector["length"].as_u64().unwrap() as usize, repeat.as_bytes()[0]);
                bytes
            };
            vectors.push((vector["name"].as_str().unwrap().into(), bytes, fields));
        }
        vectors
    }

    #[test]
    fn every_golden_vector_decodes_to_its_fields_and_encodes_to_its_bytes() {
        let vectors = vectors();
        assert_eq!(vectors.len(), 68);
        for (name, bytes, fields) in vectors {
            let frame = Frame::decode(&bytes).unwrap_or_else(|_| panic!("{name} does not decode"));
            assert_eq!(serde_json::to_value(&frame).unwrap(), fields, "{name}");
            assert_eq!(frame.to_bytes(), bytes, "{name}");
        }
    }

    #[test]
    fn leftovers_make_a_frame_malformed() {
        let mut bytes = Frame::Ping.to_bytes();
        bytes.push(0);
        assert_eq!(Frame::decode(&bytes), Err(Malformed));
        assert_eq!(Frame::decode(&[]), Err(Malformed));
    }

    #[test]
    fn a_frame_of_the_largest_size_decodes_and_a_larger_one_does_not() {
        let name = "n".repeat(100);
        let mut users = alloc::vec![name.as_str(); 166_000];
        let rest = "r"
            .repeat(crate::wire::MAX_FRAME - Frame::UserList { users: users.clone() }.to_bytes().len() - 3);
        users.push(&rest);
        let frame = Frame::UserList { users };
        let mut bytes = frame.to_bytes();
        assert_eq!(bytes.len(), crate::wire::MAX_FRAME);
        assert_eq!(Frame::decode(&bytes), Ok(frame));
        bytes.push(0);
        assert_eq!(Frame::decode(&bytes), Err(Malformed));
    }

    #[test]
    fn a_length_that_lies_is_malformed() {
        // Tag 7 (Who), Some, and a text that claims to be 2^60 bytes long: what aborted an earlier server.
        let bytes = [7, 1, 253, 0, 0, 0, 0, 0, 0, 0, 16];
        assert_eq!(Frame::decode(&bytes), Err(Malformed));
        // Tag 11 (Presence), None, and a list that claims 2^32 sessions.
        assert_eq!(Frame::decode(&[11, 0, 253, 0, 0, 0, 0, 1, 0, 0, 0]), Err(Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_to_a_frame_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(frame) = Frame::decode(&bytes) {
                let encoded = frame.to_bytes();
                prop_assert_eq!(Frame::decode(&encoded), Ok(frame));
            }
        }

        #[test]
        fn a_mutated_vector_decodes_to_a_frame_or_an_error(at in any::<prop::sample::Index>(), which in 0..68usize, byte in any::<u8>()) {
            let mut bytes = vectors().swap_remove(which).1;
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(frame) = Frame::decode(&bytes) {
                let encoded = frame.to_bytes();
                prop_assert_eq!(Frame::decode(&encoded), Ok(frame));
            }
        }
    }
}
