/// Why a step was refused. After an error, drop the [`Channel`](crate::Channel) and load what was kept: nothing of the
/// step has happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was kept cannot be read back.
    #[error("what this machine kept of the sealed channel is damaged; rejoin the channel")]
    Damaged,
    /// More bytes than a message of this kind may have.
    #[error("{what} has {size} bytes, and {most} are allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        most: usize,
    },
    /// The outbox is full.
    #[error("{0} messages wait to be sent already; wait until the server takes them")]
    OutboxFull(usize),
    /// The id belongs to another message or commit that has not arrived yet.
    #[error("this message id is in use for another message; take a new one")]
    IdReused,
    /// A commit of this machine is on its way.
    #[error("a change of this channel is on its way; wait for its outcome")]
    CommitPending,
    /// A key package that cannot be added.
    #[error("the key package of machine {machine} is not valid: {why}")]
    KeyPackage {
        /// The machine it was taken for.
        machine: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A machine to remove that is not in the group.
    #[error("machine {0} is not in this channel's group")]
    NotAMember(u64),
    /// The welcome is not for this machine, or not for this channel.
    #[error("the welcome cannot be used: {0}")]
    Welcome(&'static str),
    /// The group's state for a rejoin cannot be used.
    #[error("the group's state from the server cannot be used: {0}")]
    GroupInfo(&'static str),
    /// This machine is not in the group (any more).
    #[error("this machine was removed from the channel")]
    Removed,
    /// This machine's rejoin has not been confirmed yet.
    #[error("this machine is still rejoining the channel; wait for its outcome")]
    Rejoining,
    /// The MLS library refused what this machine asked of it.
    #[error("the encryption library refused: {0}")]
    Library(&'static str),
}
