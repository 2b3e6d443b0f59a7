use alloc::vec::Vec;

use conclave_core::key::PublicKey;

use crate::{Content, Member};

/// What a [`Channel`](crate::Channel) takes.
pub enum Input<'a> {
    /// A message to send. The same id with the same content is the same message.
    Seal {
        /// The message's id.
        id: [u8; 16],
        /// What it says.
        content: &'a Content,
    },
    /// Machines to add, with their key packages, and to remove; neither is an update of this machine's keys.
    Change {
        /// The commit's id.
        id: [u8; 16],
        /// Machines to add.
        adds: &'a [Addition<'a>],
        /// Machines.
        removes: &'a [u64],
    },
    /// What the server answered to a post.
    Answer(Answer<'a>),
    /// Asks for everything that has not arrived in the stream: after a start or a new connection.
    Resume,
    /// An entry of the channel's stream, in its order.
    Entry(Entry<'a>),
}

/// A machine to add. Who it is must come from its user's roster, or from what was compared by hand: the server, which hands
/// out the key package, could put another key into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addition<'a> {
    /// The user's number.
    pub user: u64,
    /// The machine's number.
    pub machine: u64,
    /// The machine's key.
    pub key: PublicKey,
    /// The key package that the server has of it.
    pub package: &'a [u8],
}

/// What the server answered to a post.
pub enum Answer<'a> {
    /// It is in the stream.
    Stored,
    /// It was made for another epoch than the current one.
    StaleEpoch {
        /// The current one.
        current: u64,
    },
    /// Machines must be removed first.
    RemovalsDue {
        /// An id for the commit that removes them.
        id: [u8; 16],
        /// The machines.
        machines: &'a [u64],
    },
}

/// An entry of the stream, from whom the server says it is.
pub struct Entry<'a> {
    /// Its number in the stream.
    pub seq: u64,
    /// Its id.
    pub id: [u8; 16],
    /// The sender's user number.
    pub user: u64,
    /// The sender's machine number.
    pub machine: u64,
    /// The sender's handle.
    pub session: &'a str,
    /// What it is.
    pub kind: Kind<'a>,
}

/// What an entry of the stream is.
pub enum Kind<'a> {
    /// A sealed message.
    Sealed {
        /// The epoch that it was posted for.
        epoch: u64,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// A commit.
    Commit {
        /// The epoch that it ends.
        epoch: u64,
        /// Its bytes.
        bytes: &'a [u8],
        /// The machines that it is said to add.
        adds: &'a [u64],
        /// The machines that it is said to remove.
        removes: &'a [u64],
    },
    /// Anything else; only its number counts.
    Other,
}

/// What is to be done, once the step is on disk.
#[derive(Clone, PartialEq, Eq)]
pub enum Output {
    /// Post a sealed message.
    Post {
        /// Its id.
        id: [u8; 16],
        /// The epoch it is for.
        epoch: u64,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// Post a commit.
    PostCommit(PostCommit),
    /// A message from a machine of the group, authenticated. This machine's own ones come when the stream has them.
    Message {
        /// Its number in the stream.
        seq: u64,
        /// Its id.
        id: [u8; 16],
        /// The machine that sealed it.
        sender: Member,
        /// What it says.
        content: Content,
    },
    /// The group has changed.
    Changed {
        /// The commit's number in the stream.
        seq: u64,
        /// The epoch that it led to.
        epoch: u64,
        /// The machine that made the commit.
        by: Member,
        /// Who came in. Compare them with their users' rosters.
        added: Vec<Member>,
        /// Who is out.
        removed: Vec<Member>,
        /// Whether `by` came back with an external commit; show it.
        external: bool,
    },
    /// A message that was sealed while this machine was rejoining. It cannot be opened.
    Missed {
        /// Its number in the stream.
        seq: u64,
    },
    /// Read the stream on: it has a commit that this machine has not seen.
    CatchUp,
    /// What this machine wanted to change has been changed by others.
    Superseded {
        /// The id of this machine's commit.
        id: [u8; 16],
    },
    /// Another commit was faster than the rejoin: get the new group info and rejoin again.
    RejoinAgain,
    /// This machine was removed.
    Out,
    /// Somebody cheats, or something is broken. Show it.
    Alarm(Alarm),
}

/// Shows no bodies.
impl core::fmt::Debug for Output {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Post { epoch, bytes, .. } => write!(f, "Post(epoch {epoch}, {} bytes)", bytes.len()),
            Self::PostCommit(commit) => {
                write!(f, "PostCommit(epoch {}, {} bytes)", commit.epoch, commit.commit.len())
            }
            Self::Message { seq, sender, .. } => write!(f, "Message({seq} from machine {})", sender.machine),
            Self::Changed { seq, epoch, .. } => write!(f, "Changed({seq} to epoch {epoch})"),
            Self::Missed { seq } => write!(f, "Missed({seq})"),
            Self::CatchUp => f.write_str("CatchUp"),
            Self::Superseded { .. } => f.write_str("Superseded"),
            Self::RejoinAgain => f.write_str("RejoinAgain"),
            Self::Out => f.write_str("Out"),
            Self::Alarm(alarm) => write!(f, "Alarm({alarm:?})"),
        }
    }
}

/// A commit to post, with all that belongs to it.
#[derive(Clone, PartialEq, Eq)]
pub struct PostCommit {
    /// Its id.
    pub id: [u8; 16],
    /// The epoch that it ends.
    pub epoch: u64,
    /// The commit.
    pub commit: Vec<u8>,
    /// The group info of the epoch after it.
    pub group_info: Vec<u8>,
    /// The welcome for all machines in `adds`.
    pub welcome: Option<Vec<u8>>,
    /// The machines that it adds.
    pub adds: Vec<u64>,
    /// The machines that it removes.
    pub removes: Vec<u64>,
    /// Whether it is an external commit.
    pub external: bool,
}

/// What is shown to the person, because the server or a member cheats, or something is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Alarm {
    /// It does not open: altered, replayed, of another epoch, or from a group that the server split off.
    #[error(
        "message {seq} cannot be opened: the server altered or repeated it, or shows this machine another channel than others"
    )]
    Unreadable {
        /// Its number in the stream.
        seq: u64,
    },
    /// What the server says of the sender or the id is not what the seal proves.
    #[error("message {seq} is forged: {} of user {} sealed it, and the server says somebody else did", proven.machine_name, proven.user_name)]
    Forged {
        /// Its number in the stream.
        seq: u64,
        /// The machine that made it.
        proven: Member,
    },
    /// A message under an id of this machine that is not the one it sent.
    #[error("message {seq} is not what this machine sent under its id; it will be sent again")]
    Altered {
        /// Its number in the stream.
        seq: u64,
    },
    /// A commit that does not apply.
    #[error(
        "change {seq} of the channel's machines is not valid here: the server altered, dropped or repeated a change, or shows this machine another channel than others"
    )]
    BadCommit {
        /// Its number in the stream.
        seq: u64,
    },
    /// A commit adds or removes other machines than the server was told.
    #[error("change {seq} of the channel's machines is not what it was announced as; look at `conclave who`")]
    Misdeclared {
        /// Its number in the stream.
        seq: u64,
    },
    /// The server is behind what it had confirmed.
    #[error(
        "the server says that epoch {current} is current and had confirmed {known}: it lost data, or was set back"
    )]
    RolledBack {
        /// What the server says.
        current: u64,
        /// What this machine has seen.
        known: u64,
    },
}
