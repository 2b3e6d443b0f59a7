//! What the store does before the hub knows of it, and what else is under way meanwhile.

use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::world::{World, proven};
use crate::body;
use crate::handshake::{Format, Terms};
use crate::hub::{ConnId, Input};
use crate::name::ChannelName;
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{Command, Reply};
use crate::record::{ChannelId, Stamp};
use crate::stream::{MessageId, Notice, Signed, Start, StreamCommand, StreamRef, StreamReply};
use crate::time::UnixMillis;

fn c() -> StreamRef {
    StreamRef::Channel(ChannelName::new("c").unwrap())
}

fn post(id: u8) -> Command {
    Command::Stream(StreamCommand::Post {
        stream: c(),
        payload: Payload::Body(body::of_text("x")),
        signed: Arc::new(Signed { id: MessageId([id; 16]), signature: Opaque([id; 64]), acknowledge: false }),
        lifetime: None,
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

/// The sequence numbers that a session was told of.
fn told(world: &mut World, conn: ConnId) -> Vec<String> {
    let notices = world.notices.remove(&conn).unwrap_or_default();
    let each = notices.into_iter().flat_map(|notice| match notice {
        Notice::Deliveries { messages, .. } => messages.iter().map(|one| one.seq.to_string()).collect(),
        Notice::Live { seq, .. } => alloc::vec![alloc::format!("live {seq}")],
        Notice::Gap { from, to, .. } => alloc::vec![alloc::format!("gap {from}-{to}")],
        other => alloc::vec![alloc::format!("{other:?}")],
    });
    each.collect()
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

#[test]
fn a_page_that_is_ahead_of_the_hub_is_not_delivered_twice() {
    for purged in [false, true] {
        let (mut world, ann, bea) = world();
        world.must(ann, "post c 1");
        subscribe(&mut world, bea, Start::After(0));
        let wanted = world.take_read();
        // The next message is in the store before the hub hears of it, and a page is read in between.
        world.submit(ann, "post c 2");
        assert!(world.seal());
        let mut page = world.page(&wanted);
        let ahead = Stamp { seq: 2, ts: UnixMillis(page[0].ts.0 + 1) };
        let mut second = page[0].clone();
        (second.seq, second.ts) = (ahead.seq, ahead.ts);
        page.push(second);
        if purged {
            page.remove(0);
        }
        world.answer(&wanted, Ok(page));
        let first = if purged { "gap 1-1" } else { "1" };
        assert_eq!(told(&mut world, bea), [first, "live 1"]);
        world.persist();
        assert_eq!(world.received(bea).len(), 1, "it is delivered as it is posted");
    }
}

#[test]
fn a_subscription_that_was_moved_is_not_dragged_back_by_what_had_no_room_before() {
    let (mut world, ann, bea) = world();
    subscribe(&mut world, bea, Start::Latest);
    world.must(ann, "post c 1");
    // In one round the message is delivered and the subscription moved; then it turns out that there was no room.
    subscribe(&mut world, bea, Start::Latest);
    assert_eq!(told(&mut world, bea), ["live 0", "live 1"]);
    world.handle(Input::Lagged { conn: bea, channel: ChannelId(0), seq: 1 });
    world.must(ann, "post c 2");
    world.handle(Input::Ready { conn: bea });
    world.settle();
    assert_eq!(told(&mut world, bea), ["2", "live 2"], "its start is behind the first message");
}

#[test]
fn a_session_that_ends_for_one_that_waited_in_its_users_line_is_counted_once() {
    let mut world = World::new();
    let ann = world.register("ann");
    let mut proven = proven("ann", "m", "s", false);
    proven.terms = Terms { format: Format::V2, keep: true };
    // A reader is made for the session's own path, and who asked for it hangs up.
    let first = world.connect(proven.clone());
    world.close(first);
    // Both stand in the user's line until the reader is durable; then the second is let in, and ends the session.
    world.submit(ann, "create public c");
    let second = world.connect(proven);
    world.settle();
    assert!(world.lives(second) && !world.lives(ann));
    assert_eq!(world.hub.gauges().waiting, 0);
}
