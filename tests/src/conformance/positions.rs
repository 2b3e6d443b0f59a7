//! Links of version 2 over real sockets: positions, ends that are told, signatures, receipts.

use conclave_core::body::{self, View};
use conclave_core::link::{Action, JoinFrom, Loss, Place, Proof};
use conclave_core::opaque::Opaque;
use conclave_core::payload::Payload;
use conclave_core::protocol::{self, Admin, Command, Reply};
use conclave_core::record::ChannelId;
use conclave_core::sealed::{NewGroup, SealedCommand, SealedNotice, SealedReply};
use conclave_core::stream::{
    EndReason, MessageId, ReceiptState, Signed, StreamCommand, StreamRef, StreamReply,
};
use conclave_core::time::UnixMillis;
use conclave_core::wire::v1::{AdminOp, Visibility};
use conclave_core::wire::v2::encoding::Encoding;
use conclave_core::wire::v2::schema::{self as pb, subscribe};

use super::links::{caught_up, text_of, texts, until};
use super::shell::{ClientShell, RunningLink, ServerShell};
use super::{Test, World, list};
use crate::client::v2::Session;
use crate::client::{Door, key};

pub(super) fn tests<S: ServerShell, C: ClientShell>() -> Vec<Test> {
    list![links "positions":
        a_new_link_goes_on_behind_the_position_of_an_old_one,
        a_post_is_stored_once_whatever_drops,
        posts_of_links_are_verified_and_those_of_version_1_unsigned,
        a_reported_position_is_in_the_receipts,
        a_link_is_told_that_it_was_kicked,
        a_renamed_channel_is_followed_on,
        history_is_read_by_time,
        a_link_posts_commits_and_hears_what_is_due,
    ]
}

/// The commit comes back to its sender, signed by the link, and so does what is due.
fn a_link_posts_commits_and_hears_what_is_due<S: ServerShell, C: ClientShell>() {
    let world = World::<S>::start();
    let ann = world.register("ann");
    let link = C::open(world.address(), key("ann"), "link");
    let group = NewGroup::new(3, "group".into()).unwrap();
    let (name, visibility) = ("c".parse().unwrap(), protocol::Visibility::Public);
    link.ask(1, Command::Admin(Admin::CreateSealedChannel { name, visibility, group }));
    assert!(matches!(reply(&link), Reply::Done(_)));
    link.join("c", JoinFrom::Live);
    caught_up(&link);
    let commit = body::Commit { epoch: 0, commit: b"commit", adds: vec![], removes: vec![], external: false };
    let id = MessageId([7; 16]);
    link.ask(
        2,
        Command::Stream(StreamCommand::Sealed(SealedCommand::Commit {
            stream: StreamRef::Channel("c".parse().unwrap()),
            body: Payload::Body(body::of_commit(&commit)),
            signed: Signed { id, signature: Opaque([0; 64]), acknowledge: false }.into(),
            group_info: Opaque("info".into()),
            welcomes: vec![],
        })),
    );
    let (mut replied, mut delivered) = (None, None);
    while replied.is_none() || delivered.is_none() {
        match until(&link, Some) {
            Action::Replied { result, .. } => replied = Some(result.unwrap()),
            Action::Deliver { payload, place, .. } => delivered = Some((payload, place.unwrap())),
            _ => {}
        }
    }
    let Some(Reply::Stream(StreamReply::Sealed(reply))) = replied else { panic!("{replied:?}") };
    assert!(matches!(*reply, SealedReply::Committed { epoch: 1, .. }), "{reply:?}");
    let (payload, place) = delivered.unwrap();
    assert!(payload.view() == Ok(View::Commit { epoch: 0, commit: b"commit" }));
    let signed = place.origin.signed.unwrap();
    assert_eq!((place.seq, place.proof, signed.id), (1, Proof::Verified, id));
    drop(ann);
    let mut bob = Session::register(world.address(), Encoding::Protobuf, "bob");
    bob.subscribe("c", subscribe::From::Latest(pb::Latest {}));
    let stream = place.stream;
    until(&link, |told| (told == Action::Sealed(SealedNotice::Due { stream })).then_some(()));
}

fn place(link: &RunningLink) -> (String, Place) {
    until(link, |told| match told {
        Action::Deliver { payload, place, .. } => Some((text_of(&payload), place.unwrap())),
        _ => None,
    })
}

fn reply(link: &RunningLink) -> Reply {
    until(link, |told| match told {
        Action::Replied { result, .. } => Some(result.unwrap()),
        _ => None,
    })
}

fn post(text: &str) -> Command {
    Command::Post { channel: "c".parse().unwrap(), payload: Payload::Plain(text.into()) }
}

fn a_new_link_goes_on_behind_the_position_of_an_old_one<S: ServerShell, C: ClientShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    let link = C::open(world.address(), key("ann"), "link");
    link.join("c", JoinFrom::Live);
    caught_up(&link);
    ann.post("c", "one");
    ann.post("c", "two");
    let (_, Place { stream, seq, .. }) = place(&link);
    drop(link);
    ann.post("c", "three");
    let link = C::open(world.address(), key("ann"), "link");
    link.join("c", JoinFrom::After { stream, seq });
    assert_eq!(texts(&link, 2), ["two", "three"]);
}

fn a_post_is_stored_once_whatever_drops<S: ServerShell, C: ClientShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    let _bob = world.register("bob");
    ann.create("c", Visibility::Public);
    let door = Door::to(world.address());
    let (writer, reader) =
        (C::open(door.address(), key("ann"), "writer"), C::open(world.address(), key("bob"), "reader"));
    for link in [&writer, &reader] {
        link.join("c", JoinFrom::Live);
        caught_up(link);
    }
    let expected: Vec<String> = (0..60).map(|nth| nth.to_string()).collect();
    for (text, id) in expected.iter().zip(0..) {
        writer.ask(id, post(text));
        if id % 20 == 10 {
            door.cut();
        }
    }
    let mut stored: Vec<u64> = expected
        .iter()
        .map(|_| match reply(&writer) {
            Reply::Stream(StreamReply::Stored { stamp, .. }) => stamp.seq,
            other => panic!("{other:?}"),
        })
        .collect();
    stored.sort_unstable();
    assert_eq!(stored, (1..=60).collect::<Vec<u64>>());
    assert_eq!(texts(&reader, expected.len()), expected);
}

fn posts_of_links_are_verified_and_those_of_version_1_unsigned<S: ServerShell, C: ClientShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    let _bob = world.register("bob");
    ann.create("c", Visibility::Public);
    let (writer, reader) =
        (C::open(world.address(), key("ann"), "writer"), C::open(world.address(), key("bob"), "reader"));
    for link in [&writer, &reader] {
        link.join("c", JoinFrom::Live);
        caught_up(link);
    }
    writer.ask(1, post("signed"));
    reply(&writer);
    ann.post("c", "unsigned");
    let judged = [place(&reader), place(&reader)].map(|(text, place)| (text, place.proof));
    assert_eq!(judged, [("signed".into(), Proof::Verified), ("unsigned".into(), Proof::Unsigned)]);
}

fn a_reported_position_is_in_the_receipts<S: ServerShell, C: ClientShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    let _bob = world.register("bob");
    ann.create("c", Visibility::Public);
    let (writer, reader) =
        (C::open(world.address(), key("ann"), "writer"), C::open(world.address(), key("bob"), "reader"));
    for link in [&writer, &reader] {
        link.join("c", JoinFrom::Live);
        caught_up(link);
    }
    let watch = |stream| StreamCommand::WatchReceipts { stream: StreamRef::Number(stream), on: true };
    writer.ask(0, post("text"));
    let Reply::Stream(StreamReply::Stored { stream, .. }) = reply(&writer) else { panic!("not stored") };
    writer.ask(1, Command::Stream(watch(stream)));
    reply(&writer);
    let (_, Place { seq, .. }) = place(&reader);
    let mut told = ReceiptState::Stored;
    for (delivered, seen, state) in [(seq, 0, ReceiptState::Delivered), (seq, seq, ReceiptState::Seen)] {
        reader.report(stream, delivered, seen);
        while told < state {
            until(&writer, |told| matches!(told, Action::ReceiptsMoved { .. }).then_some(()));
            told = state_of(&writer, stream, seq, "bob/m/reader");
        }
        assert_eq!(told, state);
    }
}

fn state_of(link: &RunningLink, stream: ChannelId, seq: u64, reader: &str) -> ReceiptState {
    link.ask(2, Command::Stream(StreamCommand::Receipts { stream: StreamRef::Number(stream), seq }));
    let Reply::Stream(StreamReply::Receipts { readers, .. }) = reply(link) else { panic!("no receipts") };
    readers.iter().find(|it| it.reader.to_string() == reader).map_or(ReceiptState::Stored, |it| it.state)
}

fn a_link_is_told_that_it_was_kicked<S: ServerShell, C: ClientShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    let _bob = world.register("bob");
    ann.create("c", Visibility::Public);
    let link = C::open(world.address(), key("bob"), "link");
    link.join("c", JoinFrom::Live);
    caught_up(&link);
    ann.admin(AdminOp::Kick { channel: "c", target: "bob" });
    let why = until(&link, |told| match told {
        Action::Lost { why, .. } => Some(why),
        _ => None,
    });
    assert_eq!(why, Loss::Ended(EndReason::Kicked));
}

fn a_renamed_channel_is_followed_on<S: ServerShell, C: ClientShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    let link = C::open(world.address(), key("ann"), "link");
    link.join("c", JoinFrom::Live);
    caught_up(&link);
    ann.admin(AdminOp::RenameChannel { name: "c", new_name: "d" });
    let (from, to) = until(&link, |told| match told {
        Action::ChannelRenamed { from, to, .. } => Some((from.to_string(), to.to_string())),
        _ => None,
    });
    assert_eq!((&*from, &*to), ("c", "d"));
    ann.post("d", "text");
    assert_eq!(texts(&link, 1), ["text"]);
}

fn history_is_read_by_time<S: ServerShell, C: ClientShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    let link = C::open(world.address(), key("ann"), "link");
    link.join("c", JoinFrom::Live);
    caught_up(&link);
    for nth in 0..600 {
        ann.post("c", &nth.to_string());
    }
    let mut since = UnixMillis(0);
    let mut read = Vec::new();
    loop {
        link.ask(1, Command::ReadSince { channel: "c".parse().unwrap(), since });
        let Reply::History { messages, .. } = reply(&link) else { panic!("no history") };
        let Some(last) = messages.last() else { break };
        since = last.ts;
        read.extend(messages.into_iter().map(|message| (message.ts, text_of(&message.payload))));
    }
    let expected: Vec<String> = (0..600).map(|nth| nth.to_string()).collect();
    assert_eq!(read.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>(), expected);
    // From the middle, which no page before has ended at.
    let (middle, _) = read[333];
    link.ask(2, Command::ReadSince { channel: "c".parse().unwrap(), since: middle });
    let Reply::History { messages, .. } = reply(&link) else { panic!("no history") };
    assert_eq!(messages.first().map(|message| text_of(&message.payload)), Some("334".into()));
}
