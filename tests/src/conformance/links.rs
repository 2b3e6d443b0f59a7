//! Links over real sockets: what a shell's client must keep up.

use conclave_core::body::View;
use conclave_core::link::{Action, JoinFrom, Loss};
use conclave_core::payload::Payload;
use conclave_core::protocol::{Code, Command, Refusal, Reply};
use conclave_core::time::UnixMillis;
use conclave_core::wire::v1::{AdminOp, Visibility};

use super::shell::{ClientShell, RunningLink, ServerShell};
use super::{Test, World, list};
use crate::client::{Door, key, whisper};

pub(super) fn tests<S: ServerShell, C: ClientShell>() -> Vec<Test> {
    list![links "links":
        a_link_comes_up_and_is_answered_in_order,
        a_link_hands_on_each_post_once_and_in_order_across_drops,
        a_link_hands_on_each_post_once_and_in_order_across_restarts,
        a_link_reads_history_first_when_asked_to,
        a_link_hands_on_whispers,
        a_link_is_told_that_its_channel_is_lost,
    ]
}

/// Waits for what `pick` takes; everything else is passed over.
pub(super) fn until<T>(link: &RunningLink, mut pick: impl FnMut(Action) -> Option<T>) -> T {
    loop {
        if let Some(picked) = pick(link.next()) {
            return picked;
        }
    }
}

pub(super) fn text_of(payload: &Payload) -> String {
    match payload.view() {
        Ok(View::Text(text)) => text.into(),
        other => panic!("{:?}", other.err()),
    }
}

fn up(link: &RunningLink) -> String {
    until(link, |told| match told {
        Action::Up { path, .. } => Some(path.to_string()),
        _ => None,
    })
}

pub(super) fn caught_up(link: &RunningLink) {
    until(link, |told| matches!(told, Action::CaughtUp { .. }).then_some(()));
}

/// The texts of the next posts, however many times the link drops between them.
pub(super) fn texts(link: &RunningLink, count: usize) -> Vec<String> {
    (0..count)
        .map(|_| {
            until(link, |told| match told {
                Action::Deliver { payload, .. } => Some(text_of(&payload)),
                _ => None,
            })
        })
        .collect()
}

fn a_link_comes_up_and_is_answered_in_order<S: ServerShell, C: ClientShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    let link = C::open(world.address(), key("ann"), "link");
    assert_eq!(up(&link), "ann/m/link");
    let name = |name: &str| name.parse().unwrap();
    link.ask(1, Command::ListChannels);
    link.ask(2, Command::Post { channel: name("absent"), payload: Payload::Plain("text".into()) });
    link.ask(3, Command::Who { channel: None });
    let mut replied = Vec::new();
    while replied.len() < 3 {
        replied.push(until(&link, |told| match told {
            Action::Replied { id, result } => Some((id.0, result)),
            _ => None,
        }));
    }
    // Version 2 answers as answers are ready.
    replied.sort_unstable_by_key(|(id, _)| *id);
    let [(1, Ok(Reply::Channels(channels))), (2, Ok(refused)), (3, Ok(Reply::Presence { sessions, .. }))] =
        &replied[..]
    else {
        panic!("{replied:?}")
    };
    assert_eq!(channels.len(), 1);
    assert!(matches!(refused, Reply::Refused(Refusal::NoChannel(_) | Refusal::NotSubscribed(_))));
    assert_eq!(sessions.len(), 2);
}

fn a_link_hands_on_each_post_once_and_in_order_across_drops<S: ServerShell, C: ClientShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    let door = Door::to(world.address());
    let link = C::open(door.address(), key("ann"), "link");
    link.join("c", JoinFrom::Live);
    caught_up(&link);
    let mut expected = Vec::new();
    for round in 0..4 {
        for nth in 0..40 {
            let text = format!("{round} {nth}");
            ann.post("c", &text);
            expected.push(text);
            if nth == 20 {
                door.cut();
            }
        }
    }
    assert_eq!(texts(&link, expected.len()), expected);
    // Nothing of it comes again.
    ann.post("c", "end");
    assert_eq!(texts(&link, 1), ["end"]);
}

fn a_link_hands_on_each_post_once_and_in_order_across_restarts<S: ServerShell, C: ClientShell>() {
    let mut world = World::<S>::start();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    let door = Door::to(world.address());
    let link = C::open(door.address(), key("ann"), "link");
    link.join("c", JoinFrom::Live);
    caught_up(&link);
    let mut expected = Vec::new();
    for round in 0..3 {
        let text = format!("{round} before");
        ann.post("c", &text);
        expected.push(text);
        world.restart(|_| {});
        ann = world.connect("ann", "s");
        ann.join("c");
        // Missed, and to be read from the history.
        for nth in 0..30 {
            let text = format!("{round} {nth}");
            ann.post("c", &text);
            expected.push(text);
        }
        door.lead_to(world.address());
    }
    assert_eq!(texts(&link, expected.len()), expected);
    ann.post("c", "end");
    assert_eq!(texts(&link, 1), ["end"]);
}

fn a_link_reads_history_first_when_asked_to<S: ServerShell, C: ClientShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    let mut expected: Vec<String> = (0..700).map(|nth| nth.to_string()).collect();
    for text in &expected {
        ann.post("c", text);
    }
    let link = C::open(world.address(), key("ann"), "link");
    link.join("c", JoinFrom::Since(UnixMillis(0)));
    ann.post("c", "live");
    expected.push("live".into());
    assert_eq!(texts(&link, expected.len()), expected);
}

fn a_link_hands_on_whispers<S: ServerShell, C: ClientShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    let _bob = world.register("bob");
    let link = C::open(world.address(), key("bob"), "link");
    assert_eq!(up(&link), "bob/m/link");
    let target = conclave_core::wire::v1::Path { user: "bob", machine: "m", session: "link" };
    ann.ask(&whisper(target, "psst"));
    let (from, payload) = until(&link, |told| match told {
        Action::Whispered { from, payload } => Some((from.to_string(), payload)),
        _ => None,
    });
    assert_eq!((&*from, &*text_of(&payload)), ("ann/m/s", "psst"));
}

fn a_link_is_told_that_its_channel_is_lost<S: ServerShell, C: ClientShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    let _bob = world.register("bob");
    ann.create("c", Visibility::Private);
    let link = C::open(world.address(), key("bob"), "link");
    link.join("c", JoinFrom::Live);
    let lost = |link: &RunningLink| {
        until(link, |told| match told {
            Action::Lost { channel, why } => Some((channel.to_string(), why)),
            _ => None,
        })
    };
    let (channel, why) = lost(&link);
    assert_eq!(channel, "c");
    assert!(matches!(why, Loss::Refused(refusal) if refusal.code() == Code::NotFound));
    ann.admin(AdminOp::AclAdd { channel: "c", user: "bob" });
    link.join("c", JoinFrom::Live);
    caught_up(&link);
    ann.post("c", "text");
    assert_eq!(texts(&link, 1), ["text"]);
}
