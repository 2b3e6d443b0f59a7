//! Connections between clients and the server: ordered, delayed, of limited room, and sometimes broken.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use conclave_core::engine;
use conclave_core::fanout::Item;
use conclave_core::mailbox::{Pushed, Queue};
use conclave_core::memory::Account;
use conclave_core::pump::Pump;
use conclave_core::wire::edge::Edge;
use conclave_core::wire::websocket::Kind;

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
    /// Bytes that the network took from the server.
    pub taken: u64,
    /// The client does not read before this time.
    pub stalled_until: u64,
    /// What arrived while the client did not read.
    pub held: VecDeque<Down>,
    /// The start of a message whose rest has not come.
    pub partial: Vec<u8>,
    /// The server's goodbye has come: nothing may follow.
    pub parted: bool,
}

/// What arrives at a client.
#[derive(Clone, Debug)]
pub(super) enum Down {
    /// Bytes.
    Bytes(Vec<u8>),
    /// The end, in order or not.
    End(&'static str),
}

/// The server's end of a connection: the pump, and what it works with.
pub(super) struct ServerEnd {
    pub(super) pump: Pump,
    pub(super) outside: Outside,
    /// Its task will be run.
    pub(super) woken: bool,
}

/// What a pump works with.
pub(super) struct Outside {
    pub(super) mailbox: Mailbox,
    /// How the client's messages are framed.
    pub(super) kind: Kind,
    /// It speaks version 2.
    pub(super) resumes: bool,
    pub(super) arrived: VecDeque<Vec<u8>>,
    /// The peer has sent its end.
    pub(super) ended: bool,
    /// The server has sent its end.
    pub(super) shut_down: bool,
}

/// A mailbox, as the engine and the connection hold it.
#[derive(Clone)]
pub(super) struct Mailbox(Rc<Inner>);

struct Inner {
    wire: usize,
    queue: RefCell<Queue>,
    overflows: Cell<u64>,
}

impl Mailbox {
    fn new(wire: usize, queue: Queue) -> Self {
        let (queue, overflows) = (RefCell::new(queue), Cell::default());
        Self(Rc::new(Inner { wire, queue, overflows }))
    }

    /// Whose it is.
    pub(super) fn wire(&self) -> usize {
        self.0.wire
    }

    /// Bytes that are queued.
    pub(super) fn bytes(&self) -> usize {
        self.0.queue.borrow().bytes()
    }

    /// How often it was full.
    pub(super) fn overflows(&self) -> u64 {
        self.0.overflows.get()
    }

    pub(super) fn take(&self, room: bool, into: &mut Vec<Item>) -> bool {
        self.0.queue.borrow_mut().take(room, into)
    }
}

impl engine::Mailbox for Mailbox {
    fn push(&self, item: Item) -> Pushed {
        // What a session of version 2 has no room for it reads later.
        let resumable = matches!(&item, Item::Burst(burst) if burst.resumable().is_some());
        let pushed = self.0.queue.borrow_mut().push(item);
        if pushed == Pushed::Full && !resumable {
            self.0.overflows.set(self.0.overflows.get() + 1);
        }
        pushed
    }

    fn count_for(&self, account: Arc<Account>) {
        self.0.queue.borrow_mut().count_for(account);
    }
}

impl Wire {
    /// A connection that was just made, the `number`th. While `room` bytes wait to be written, its pump takes no more.
    pub(super) fn new(number: usize, client: usize, edge: Edge, room: usize, queue: Queue) -> Self {
        Self {
            client,
            server: Some(Box::new(ServerEnd {
                outside: Outside {
                    mailbox: Mailbox::new(number, queue),
                    kind: edge.kind(),
                    resumes: matches!(edge, Edge::V2(_)),
                    arrived: VecDeque::new(),
                    ended: false,
                    shut_down: false,
                },
                pump: Pump::new(edge, room),
                woken: false,
            })),
            open: true,
            cut: false,
            up_last: 0,
            down_last: 0,
            unread: 0,
            taken: 0,
            stalled_until: 0,
            held: VecDeque::new(),
            partial: Vec::new(),
            parted: false,
        }
    }
}
