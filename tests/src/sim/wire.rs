//! Connections between clients and the server: ordered, delayed, of limited room, and sometimes broken.

use std::collections::VecDeque;

use conclave_core::fanout::WriteQueue;
use conclave_core::hub::ConnId;
use conclave_core::wire::edge::Edge;
use conclave_shell::server::mailbox::Mailbox;

/// A connection.
pub(super) struct Wire {
    /// Whose it is.
    pub client: usize,
    /// The server's end; `None` once it is gone.
    pub server: Option<Box<ServerEnd>>,
    /// The client's end is open.
    pub open: bool,
    /// Nothing passes any more, and nobody is told.
    pub cut: bool,
    /// When the last thing sent up arrives.
    pub up_last: u64,
    /// When the last thing sent down arrives.
    pub down_last: u64,
    /// Bytes sent down that the client has not taken.
    pub unread: usize,
    /// The client does not read before this time.
    pub stalled_until: u64,
    /// What arrived while the client did not read.
    pub held: VecDeque<Down>,
    /// The start of a message whose rest has not come.
    pub partial: Vec<u8>,
}

/// What arrives at a client.
#[derive(Clone, Debug)]
pub(super) enum Down {
    /// Bytes.
    Bytes(Vec<u8>),
    /// The end, in order or not.
    End(&'static str),
}

/// The server's end of a connection, driven as the shell's `Connection` drives its own.
pub(super) struct ServerEnd {
    pub(super) edge: Edge,
    pub(super) queue: WriteQueue,
    pub(super) mailbox: Mailbox,
    pub(super) arrived: VecDeque<Vec<u8>>,
    /// The peer has sent its end.
    pub(super) ended: bool,
    pub(super) conn: Option<ConnId>,
    pub(super) parting: bool,
    /// Its task will be run.
    pub(super) woken: bool,
}

impl Wire {
    /// A connection that was just made.
    pub(super) fn new(client: usize, nonce: [u8; 32], queue: usize) -> Self {
        Self {
            client,
            server: Some(Box::new(ServerEnd {
                edge: Edge::new(nonce),
                queue: WriteQueue::default(),
                mailbox: Mailbox::new(queue),
                arrived: VecDeque::new(),
                ended: false,
                conn: None,
                parting: false,
                woken: false,
            })),
            open: true,
            cut: false,
            up_last: 0,
            down_last: 0,
            unread: 0,
            stalled_until: 0,
            held: VecDeque::new(),
            partial: Vec::new(),
        }
    }
}
