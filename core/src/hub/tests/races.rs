//! What the store does before the hub knows of it, and what else is under way meanwhile.

use alloc::sync::Arc;

use super::world::{World, proven};
use crate::body;
use crate::handshake::{Format, Terms};
use crate::hub::ConnId;
use crate::name::ChannelName;
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{Command, Reply};
use crate::stream::{MessageId, Signed, Start, StreamCommand, StreamRef, StreamReply};

fn c() -> StreamRef {
    StreamRef::Channel(ChannelName::new("c").unwrap())
}

fn post(id: u8) -> Command {
    Command::Stream(StreamCommand::Post {
        stream: c(),
        payload: Payload::Body(body::of_text("x")),
        signed: Arc::new(Signed { id: MessageId([id; 16]), signature: Opaque([id; 64]), acknowledge: false }),
    })
}

fn subscribe(world: &mut World, conn: ConnId, from: Start) {
    let subscribe = StreamCommand::Subscribe { stream: c(), from, invite: None };
    world.submit_command(conn, Command::Stream(subscribe));
}

/// A public channel that a session of version 1 is in, and a session of version 2.
fn world() -> (World, ConnId, ConnId) {
    let mut world = World::new();
    let ann = world.register("ann");
    world.must(ann, "create public c");
    world.must(ann, "join c");
    let mut proven = proven("bea", "m", "s", true);
    proven.terms = Terms { format: Format::V2, keep: false };
    let bea = world.connect(proven);
    world.settle();
    (world, ann, bea)
}

#[test]
fn a_change_that_was_decided_while_posts_came_back_is_kept() {
    let (mut world, ann, bea) = world();
    subscribe(&mut world, bea, Start::Latest);
    let first = world.submit_command(bea, post(1));
    world.settle();
    let Some(Reply::Stream(StreamReply::Stored { stamp, .. })) = world.raw_reply(bea, first) else {
        panic!()
    };
    // The post comes again, and while it is on its way to the store, somebody makes a channel.
    let again = world.submit_command(bea, post(1));
    assert!(world.seal());
    let created = world.submit(ann, "create public d");
    let behind = world.submit(ann, "create public e");
    world.already_stored(&[(0, stamp)]);
    world.settle();
    assert_eq!(world.raw_reply(bea, again), world.raw_reply(bea, first));
    assert_eq!(world.reply(ann, created).as_deref(), Some("done d"));
    assert_eq!(world.reply(ann, behind).as_deref(), Some("done e"));
}
